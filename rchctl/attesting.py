"""Artifact sets as they lie on disk, examined without a daemon (spec section 10).

Imported by `attest` alone: the records' types cost the common verbs too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rch.config.inventory import load_inventory
from rch.contract.errors import Failure, Kind
from rch.contract.manifest import UNLISTED
from rch.contract.records import Attestation, DsseEnvelope, RunSummary, decode_record
from rch.contract.sets import Examined, Found, examine
from rch.files.known import REJECTED, Beside, beside, fetched_jobs, hosts_own, place_in_run
from rch.files.regular import open_regular
from rch.files.sets import read_set

_MOST_SUMMARY = 1 << 20
UNSEEN = "it was kept as rejected, and what was wrong with it is neither on record nor seen in it"


class Pins(NamedTuple):
    """The keys that may have signed a set, and in words where that is from. `given`: one of them has to."""

    keys: tuple[str, ...]
    origin: str
    given: bool = False


PinsOf = Callable[[str | None], Pins]


@dataclass(slots=True)
class Looked:
    """A set, what is wrong with it, and what its signature is worth.

    `result` is failed, or as in `rch.contract.attestation.Trust`; `host` is a step that has no set of a
    worker's: the host's own words stand there.
    """

    path: Path
    result: str
    detail: str
    pins: Pins
    worker: str | None = None
    errors: list[str] = field(default_factory=list)
    distrust: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statements: tuple[str, ...] = ()
    envelopes: tuple[DsseEnvelope, ...] = ()
    job_id: str = ""
    action: str = ""
    fingerprint: str | None = None
    simulated: bool = False
    files: int = 0
    size: int = 0

    @property
    def kind(self) -> Kind | None:
        """What kind of failure it is, if it is one."""
        if self.errors:
            return Kind.ARTIFACTS
        unsure = self.pins.given and self.result != "verified"
        return Kind.ATTESTATION if self.distrust or unsure else None

    def as_json(self) -> dict[str, Any]:
        """For the envelope."""
        return {
            "path": str(self.path),
            "action": self.action,
            "job_id": self.job_id,
            "result": self.result,
            "detail": self.detail,
            "kind": None if self.kind is None else str(self.kind),
            "errors": [*self.errors, *self.distrust],
            "notes": self.notes,
            "worker": self.worker,
            "fingerprint": self.fingerprint,
            "pins": list(self.pins.keys),
            "pins_from": self.pins.origin,
            "statements": list(self.statements),
            "files": self.files,
            "bytes": self.size,
            "simulated": self.simulated,
        }


def pins_given(keys: tuple[str, ...], workers_toml: Path) -> PinsOf:
    """What may sign: the keys of the command line, else those of the inventory for the set's worker."""
    if keys:
        return lambda _: Pins(keys, "--pin", given=True)
    entries = {}
    if workers_toml.exists():
        entries = {entry.name: entry for entry in load_inventory(workers_toml).workers}

    def of(worker: str | None) -> Pins:
        if worker is None:
            return Pins((), "no record beside the set says which worker made it: give its key with --pin")
        if worker not in entries:
            return Pins((), f"workers.toml has no {worker}: give its key with --pin")
        keys = entries[worker].attestation_pubkey_fingerprint
        return Pins(keys, "workers.toml" if keys else f"workers.toml pins no key of {worker}")

    return of


def look(place: Path, pins_of: PinsOf) -> list[Looked]:
    """Every set at `place`: a job's set, or a run's folder. `Failure` USAGE where there is none."""
    place = place_in_run(place) or place.resolve()
    if _is_set(place):
        return [_look_at(place, pins_of)]
    if not _is_run(place):
        raise Failure(Kind.USAGE, f"{place} is no artifact set and no run's folder")
    found = list(_of_run(place, pins_of))
    if not found:
        raise Failure(Kind.USAGE, f"the run at {place} has no artifact set: {_why_none(place)}")
    return found


def _why_none(run: Path) -> str:
    """In the words of its summary; it has none while it goes on."""
    try:
        with open_regular(run / "run_summary.json") as file:
            summary = decode_record(file.read(_MOST_SUMMARY), RunSummary)
    except FileNotFoundError:
        return "it has not ended"
    except (OSError, ValueError):
        return "its run_summary.json cannot be read"
    kind = " / ".join(
        each for each in (summary.failure_kind, summary.failure_subkind) if isinstance(each, str)
    )
    return f"{kind}: {summary.human_summary}" if kind else summary.human_summary


def _is_set(place: Path) -> bool:
    return place.is_dir() and (
        place.name.endswith(REJECTED) or any((place / name).exists() for name in UNLISTED)
    )


def _is_run(place: Path) -> bool:
    return place.is_dir() and any((place / name).exists() for name in ("run_index.json", "steps"))


def _of_run(run: Path, pins_of: PinsOf) -> Iterator[Looked]:
    """The sets of a run, also those that its index promises and that are not there."""
    places, problems = fetched_jobs(run)
    if pins_of(None).given and not (run / "run_index.json").exists():
        problems = []  # a copy of the sets alone: each must be signed by a key that was given
    wanted = set(places)
    for folder in sorted(run.glob("steps/*/*")):
        name = folder.relative_to(run).as_posix()
        worker_made = name in wanted or (folder / "manifest.json").exists() or name.endswith(REJECTED)
        wanted.discard(name)
        if folder.resolve() != run / name:
            problems.append(f"{name}: is a link, and no folder that a set was published to")
        elif worker_made:
            yield _look_at(folder, pins_of)
        elif (folder / "job_index.json").exists():
            yield _hosts_word(folder, pins_of(None))
    for name in sorted(wanted):
        problems.append(f"{name}: is missing: the index says that it was fetched")
    if problems:
        yield Looked(path=run, result="failed", detail=problems[0], pins=Pins((), ""), errors=problems)


def _hosts_word(folder: Path, pins: Pins) -> Looked:
    errors = hosts_own(folder)
    return Looked(
        path=folder,
        result="failed" if errors else "host",
        detail=errors[0] if errors else "no worker's set: what stands here is the host's own word",
        pins=Pins((), "", given=pins.given),
        errors=errors,
        job_id=folder.name,
        action=folder.parent.name,
    )


def _look_at(folder: Path, pins_of: PinsOf) -> Looked:
    told = beside(folder)
    pins = pins_of(told.worker)
    try:
        found = read_set(folder)
    except OSError as error:
        raise Failure(
            Kind.ARTIFACTS, f"{error.filename}: {error.strerror or error}", subkind="INTEGRITY_MISMATCH"
        ) from error
    looked = examine(found, replace(told.known, pins=pins.keys))
    if told.alone and pins.given:
        looked.notes += told.problems
    else:
        looked.errors += told.problems
    if folder.name.endswith(REJECTED):
        _add_refusal(looked, told)
    return _result(folder, found, looked, pins, told.worker)


def _add_refusal(looked: Examined, told: Beside) -> None:
    """What the host found may have lain in what came before the set: a rejected one is never good."""
    if told.refused is None:
        if looked.good:
            looked.errors.append(UNSEEN)
        return
    lines, is_trust = told.refused
    known = {*looked.errors, *looked.distrust}
    where = looked.distrust if is_trust else looked.errors
    where += [f"when it was fetched: {line}" for line in lines if line not in known]
    if not where:
        where.append(f"when it was fetched: {lines[0]}")


def _result(folder: Path, found: Found, looked: Examined, pins: Pins, worker: str | None) -> Looked:
    lines, _ = looked.failure()
    trust = looked.trust
    files = [entry for entry in found.entries if entry.type == "file"]
    good = looked.good and trust is not None
    return Looked(
        path=folder,
        result=trust.result if good and trust else "failed",
        detail=trust.detail if good and trust else (lines or ["it could not be examined"])[0],
        pins=pins,
        worker=worker,
        errors=looked.errors,
        distrust=looked.distrust,
        notes=looked.notes,
        statements=looked.statements,
        envelopes=_envelopes(found),
        job_id=looked.job.job_id if looked.job else folder.name.removesuffix(REJECTED),
        action=looked.job.action if looked.job else "",
        fingerprint=None if trust is None else trust.fingerprint,
        simulated=bool(looked.summary and looked.summary.simulated),
        files=len(files),
        size=sum(entry.size for entry in files),
    )


def _envelopes(found: Found) -> tuple[DsseEnvelope, ...]:
    """As they lie in the attestation; whether they are good is told beside."""
    try:
        said = decode_record(found.records["attestation.json"], Attestation)
    except (KeyError, ValueError):
        return ()
    return said.dsse or ()
