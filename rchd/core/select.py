"""Who serves a run, and why (spec section 7): pure over probe reports."""

from __future__ import annotations

from collections.abc import Iterable

from rch.contract.destinations import destination_change
from rch.contract.errors import Failure, Kind, lookup
from rch.contract.records import ProbeFailure, RunOptions, Weighed
from rch.contract.toolchain import NO_XCODE, toolchain_change, toolchain_inputs
from rch.contract.worker_envelope import negotiate
from rch.contract.worker_rpc import PROTOCOL_MAX, PROTOCOL_MIN, Feature, ProbeResult
from rchd.core.events import ProbeReport
from rchd.core.fit import SIMULATED, fit, require_kind
from rchd.core.model import Choice, Selection

ADAPTIVE = "adaptive"
NOBODY = "none: workers.toml pins no key any more that it pinned when the worker was selected"


def select(options: RunOptions, reports: Iterable[ProbeReport]) -> Selection:
    """Every worker that could serve, in the order in which they are asked, and why each other could not."""
    choices: list[tuple[ProbeReport, Choice]] = []
    refused: dict[str, str] = {}
    kinds: dict[str, str] = {}
    hosts: dict[str, str] = {}
    failures: list[ProbeFailure] = []
    drained: list[str] = []
    for report in sorted(reports, key=lambda each: (each.priority, each.worker)):
        if not is_meant(options, report):
            continue
        hosts[report.worker] = report.host
        missing = [tag for tag in options.tags if tag not in report.tags]
        if missing:
            refused[report.worker] = f"{_LACKS_TAG} {missing[0]!r}"
        elif report.drained is not None and _could(options, report):
            refused[report.worker] = drained_text(report.drained)
            drained.append(report.worker)
        elif report.result is None:
            error = report.error or "no answer"
            failed = ProbeFailure(
                worker=report.worker, probe_error=error, probe_duration_ms=report.duration_ms
            )
            failures.append(failed)
            refused[report.worker] = error if report.aside else f"probe failed: {error}"
            if report.error_subkind:
                kinds[report.worker] = report.error_subkind
        else:
            try:
                choices.append((report, _choice(options, report)))
            except Failure as failure:
                refused[report.worker] = failure.message
                if (kind := _kind_of(failure)) is not None:
                    kinds[report.worker] = kind
    weighed: dict[str, Weighed] = {}
    if options.selection_mode == ADAPTIVE:
        weighed = {choice.worker: _weighed(choice) for _, choice in choices}
        choices.sort(key=lambda each: (each[0].priority, *_rank(weighed[each[1].worker]), each[1].worker))
    return Selection(
        choices=tuple(choice for _, choice in choices),
        refused=refused,
        hosts=hosts,
        probe_failures=tuple(failures),
        kinds=kinds,
        weighed=weighed,
        drained=tuple(drained),
    )


def drained_text(reason: str) -> str:
    """Why a worker that could is given no new run."""
    return f"drained: {reason}" if reason else "drained"


def _could(options: RunOptions, report: ProbeReport) -> bool:
    """Whether it could serve, were it not drained; who says nothing, as while it restarts, might."""
    try:
        return report.result is None or bool(_choice(options, report))
    except Failure:
        return False


def all_drained(selection: Selection) -> Failure:
    """Nobody is left but who is drained: a run waits for them, if it may wait."""
    listed = "; ".join(f"{name}: {selection.refused[name]}" for name in selection.drained)
    return Failure(Kind.WORKER_BUSY, listed, hint=f"rchctl workers undrain {selection.drained[0]}")


def _kind_of(failure: Failure) -> str | None:
    if failure.kind is Kind.ATTESTATION:
        return str(failure.kind)
    return failure.subkind if failure.kind is Kind.WORKER_INCOMPATIBLE else None


def is_meant(options: RunOptions, report: ProbeReport) -> bool:
    """Whether a worker is there for such a run at all: who stands by for simulations serves them alone."""
    return options.simulate or not report.standby


def may_serve(options: RunOptions, report: ProbeReport) -> bool:
    """Whether a worker might serve such a run for all that its entry says."""
    return is_meant(options, report) and set(options.tags) <= set(report.tags)


def _weighed(choice: Choice) -> Weighed:
    capacity = choice.capabilities.capacity
    return Weighed(
        slots_free=capacity.slots_free,
        load_milli=capacity.load_milli,
        cpus=capacity.cpus,
        disk_free_bytes=capacity.disk_free_bytes,
    )


def _rank(weighed: Weighed) -> tuple[int, int, int]:
    """More free slots first, then less load for each processor, then more free disk."""
    load = weighed.load_milli // max(1, weighed.cpus)
    return -weighed.slots_free, load, -weighed.disk_free_bytes


def _choice(options: RunOptions, report: ProbeReport) -> Choice:
    result = report.result
    if result is None:
        raise AssertionError("a worker without an answer is no choice")
    protocol = negotiate(result)
    require_kind(options, result.capabilities)
    _require_key(report, result)
    found = fit(options, result)
    return Choice(
        worker=report.worker,
        host=report.host,
        protocol=protocol,
        probe=result,
        age_seconds=report.age_seconds,
        fresh=report.fresh,
        toolchain=found.toolchain,
        destination=found.destination,
        warnings=found.warnings,
        xcode_version=found.xcode_version,
        concrete=found.concrete,
        udid=found.udid,
        skew_seconds=report.skew_seconds,
        pins=report.pins,
    )


def _require_key(report: ProbeReport, result: ProbeResult) -> None:
    """A worker whose key is pinned says that it signs, and with which; each set is held to it later."""
    if not report.pins:
        return
    pinned, told = " or ".join(report.pins), result.capabilities.attestation_pubkey_fingerprint
    if Feature.ATTESTATION_SIGNING not in result.features or told is None:
        raise Failure(Kind.ATTESTATION, f"does not sign, and {pinned} is pinned for it")
    if told not in report.pins:
        raise Failure(Kind.ATTESTATION, f"signs with {told}; pinned is {pinned}")


def still_pinned(selected: tuple[str, ...], now: tuple[str, ...] | None) -> tuple[str, ...]:
    """The keys that may sign a set of a worker that was selected under the pins `selected`; none: anybody.

    `now` are those of the inventory when the set has come, None where it does not tell. No edit in the
    middle of a run gives a key a right that it did not have, and any can take it: only one that is in
    both may sign, and where that is none, none may.
    """
    if not now:
        return selected
    if not selected:
        return now
    return tuple(key for key in selected if key in now) or (NOBODY,)


def is_settled(reports: Iterable[ProbeReport]) -> bool:
    """Whether every worker that answered did so just now: what none of them has, none will have soon."""
    return all(report.fresh for report in reports if report.result is not None)


def is_out_of_reach(selection: Selection, reports: Iterable[ProbeReport]) -> bool:
    """Whether a worker that could not be reached might serve when it can be."""
    failed = {failure.worker for failure in selection.probe_failures}
    return any(report.worker in failed and report.error_subkind == "UNREACHABLE" for report in reports)


def unreached(selection: Selection) -> Failure | None:
    """Why nobody was found, where none of those that are meant could be reached."""
    meant = {name: why for name, why in selection.refused.items() if not why.startswith(_LACKS_TAG)}
    failed = {failure.worker for failure in selection.probe_failures}
    if selection.choices or not meant or set(meant) != failed:
        return None
    kinds = {selection.kinds.get(name) for name in meant}
    listed = "; ".join(f"{name}: {why}" for name, why in sorted(meant.items()))
    subkind = kinds.pop() if len(kinds) == 1 else None
    return Failure(Kind.SSH, f"no worker could be reached: {listed}", subkind=subkind)


def warnings_of(choice: Choice) -> list[str]:
    """What the user should know of the worker that serves."""
    found = list(choice.warnings)
    if choice.skew_seconds is not None:
        way = "ahead of" if choice.skew_seconds > 0 else "behind"
        found.append(
            f"the clock of worker {choice.worker} is {abs(choice.skew_seconds)} s {way} this machine's"
        )
    return found


def drifted(choice: Choice, now: ProbeResult) -> Failure | None:
    """Why a worker that `choice` names is not the one that it was, if it is not (spec section 4)."""
    low, high = max(PROTOCOL_MIN, now.protocol_min), min(PROTOCOL_MAX, now.protocol_max)
    if not low <= choice.protocol <= high:
        return Failure(
            Kind.WORKER_INCOMPATIBLE,
            f"the run was planned with protocol {choice.protocol}; worker {choice.worker} speaks"
            f" {now.protocol_min} to {now.protocol_max} now, this host {PROTOCOL_MIN} to {PROTOCOL_MAX}",
            subkind="PROTOCOL_DRIFT",
        )
    capabilities = now.capabilities
    if capabilities.simulated != choice.capabilities.simulated:
        became = "simulated" if capabilities.simulated else "no longer simulated"
        lost = f"worker {choice.worker} is {became}: its tools are not those of the plan"
    elif toolchain_change(capabilities, choice.toolchain) is not None:
        kind = "swift" if "swift_version" in choice.toolchain else "xcode"
        there = [
            toolchain_inputs(capabilities, each) for each in capabilities.toolchains if each.kind == kind
        ]
        wanted = " ".join(choice.toolchain.values())
        have = "; ".join(" ".join(each.values()) for each in there) or "none"
        lost = f"the toolchain of the plan is gone from worker {choice.worker}: {wanted}; there is {have}"
    elif (gone := destination_change(capabilities, choice.destination)) is not None:
        lost = f"the destination of the plan is gone from worker {choice.worker}: {gone}"
    else:
        return None
    return Failure(Kind.WORKER_INCOMPATIBLE, lost, subkind="TOOLCHAIN_CHANGED")


def nobody(selection: Selection, reports: Iterable[ProbeReport]) -> Failure:
    """Why no worker is left: `SSH` where none could be asked, else `WORKER_INCOMPATIBLE`."""
    listed = "; ".join(f"{name}: {why}" for name, why in sorted(selection.refused.items()))
    failed = {failure.worker for failure in selection.probe_failures}
    asked = [report for report in reports if report.worker in failed]
    meant = [name for name, why in selection.refused.items() if not why.startswith(_LACKS_TAG)]
    if not selection.refused:
        return Failure(
            Kind.WORKER_INCOMPATIBLE, "the inventory names no worker", hint="add one to workers.toml"
        )
    if asked and len(asked) == len(meant):
        kinds = {(report.error_kind, report.error_subkind) for report in asked}
        kind, subkind = kinds.pop() if len(kinds) == 1 else (Kind.SSH, None)
        hints = {report.hint for report in asked}
        return Failure(
            Kind(kind or Kind.SSH),
            f"no worker could be asked: {listed}",
            subkind=subkind,
            hint=hints.pop() if len(hints) == 1 else None,
        )
    lacking = {selection.kinds.get(name, "") for name in selection.refused}
    if lacking == {str(Kind.ATTESTATION)}:
        return Failure(Kind.ATTESTATION, f"no worker may serve this run: {listed}", hint=_WRONG_KEY)
    subkind = lacking.pop() if len(lacking) == 1 else ""
    # A simulation is no substitute: where one stands beside the others, the way to real tools is told.
    hint = lookup(Kind.WORKER_INCOMPATIBLE, SIMULATED).remedy if SIMULATED in lacking else _LACKING
    if subkind:
        bare = any(words in listed for words in (NO_XCODE, _NO_BACKEND))
        hint = f"{lookup(Kind.WORKER_INCOMPATIBLE, subkind).remedy}; {_TRY}" if bare else ""
    return Failure(
        Kind.WORKER_INCOMPATIBLE,
        f"no worker can serve this run: {listed}",
        subkind=subkind or None,
        hint=hint or None,
    )


_NO_BACKEND = "does not offer the backend xcodebuild"
_TRY = "to try it with stand-ins, without a verdict: --simulate"
_LACKS_TAG = "lacks the tag"
_WRONG_KEY = "learn on the worker itself which key is right: rch-worker key"
_LACKING = "rchctl workers explain has each worker's reason"
