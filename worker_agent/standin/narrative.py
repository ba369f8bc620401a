"""Plans what a build or a test prints, stores and ends with (see `plan`). Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from worker_agent.standin import build_lines, bundle, console, devices
from worker_agent.standin.building import Build, remember
from worker_agent.standin.facts import MACOS_VERSION
from worker_agent.standin.model import FAILED, Case, Issue, Outcome
from worker_agent.standin.plan import Do, Flood, Orphan, Plan, Say, Step, Wait, says
from worker_agent.standin.scenario import Scenario
from worker_agent.standin.session import Session
from worker_agent.standin.texts import INFRASTRUCTURE, Trouble

FAILED_EXIT = 65
_FELT_SECONDS = 0.05
_BROKEN_TEXT = b"caf\xe9 \xff\xfe\x80 \xf0\x9f\x95 wick\n"


def plan(session: Session, build: Build | None, cases: tuple[Case, ...]) -> Plan:
    """The whole call; `build` is None where another build holds the database."""
    code = FAILED_EXIT
    if build is None or session.scenario.broken_build is not None:
        told = _elsewhere(session, build, session.scenario.broken_build or "locked-database")
    elif build.broken:
        told = [*_compiled(session, build), *_broken(session, build)]
    elif session.action == "build":
        told, code = [*_compiled(session, build), *_succeeded(session, build)], 0
    else:
        tested, code = _tested(session, build, cases)
        told = [*_compiled(session, build), *tested]
    wanted = session.scenario.exit_code
    return Plan(
        steps=(*says(build_lines.heading(session)), *told),
        exit_code=code if wanted is None else wanted,
        ignore_interrupt=session.scenario.ignore_interrupt,
    )


# --- building -----------------------------------------------------------------------------


def _compiled(session: Session, build: Build) -> list[Step]:
    steps = says(build_lines.graph([each.target for each in build.targets]))
    if session.action == "build":
        steps += _midst(session.scenario)
    for each in build.targets:
        for line in build_lines.target_lines(session, each):
            steps.append(Say(line, always=": error: " in line or ": warning: " in line))
    return [*steps, Do(partial(remember, session.derived, build))]


def _succeeded(session: Session, build: Build) -> list[Step]:
    outcome = _outcome(session, succeeded=True, issues=build_lines.issues(build))
    return [*_stored(session, outcome), *says(["** BUILD SUCCEEDED **", ""])]


def _broken(session: Session, build: Build) -> list[Step]:
    found = build_lines.issues(build)
    messages = [one.message[:1].upper() + one.message[1:] for one in found if one.severity == "error"]
    commands = build_lines.failed_commands(session, build)
    return _build_failed(session, found, messages, commands)


def _elsewhere(session: Session, build: Build | None, name: str) -> list[Step]:
    targets = [each.target for each in build.targets] if build else []
    lines, commands = build_lines.broken_elsewhere(session, name, targets[0] if targets else None)
    before = build_lines.graph(targets) if name == "script-phase" else ()
    message = next((line.partition("error: ")[2] for line in lines if line.startswith("error: ")), "")
    said = message or "Command PhaseScriptExecution failed with a nonzero exit code"
    issue = Issue("error", "", 0, 0, said, targets[0].name if targets else session.scheme.name)
    failed = _build_failed(session, (issue,), [said], commands)
    return [*says(before), *says(lines, always=True), *failed]


def _build_failed(
    session: Session, issues: tuple[Issue, ...], messages: Sequence[str], commands: Sequence[str]
) -> list[Step]:
    outcome = _outcome(session, succeeded=False, issues=issues)
    steps = _stored(session, outcome)
    if session.action == "build":
        steps += says(["", "** BUILD FAILED **"], always=True)
    else:
        block = ["", "Testing failed:", *(f"\t{message}" for message in messages)]
        steps += says([*block, "\tTesting cancelled because the build failed.", ""], always=True)
        steps += says(["** TEST FAILED **"], always=True)
    return [*steps, *says(build_lines.failures(commands), always=True), Say()]


# --- testing ------------------------------------------------------------------------------


def _tested(session: Session, build: Build, cases: tuple[Case, ...]) -> tuple[list[Step], int]:
    scenario = session.scenario
    trouble = INFRASTRUCTURE.get(scenario.infrastructure or "")
    if trouble is not None and not trouble.before:
        cases = ()
    failed = trouble is not None or any(case.result == FAILED for case in cases)
    code = FAILED_EXIT if failed else 0
    good = code == 0 if scenario.exit_code is None else scenario.exit_code == 0
    outcome = _outcome(session, succeeded=good, issues=build_lines.issues(build), cases=cases)
    lines = [] if trouble is not None and not trouble.before else _lines(session, cases)
    steps = [*_boot(session), *_orphan(scenario)]
    during = _with_midst(_paced(lines), _midst(scenario))
    if not scenario.late_lines:
        steps += [Say("Testing started"), *during]
    if trouble is not None:
        steps += says(console.own_line(session.at, session.pid, note) for note in _notes(session, trouble))
    steps += _observed(session)
    steps += _stored(session, outcome)
    steps += says(_verdict(session, outcome, trouble, good=good), always=True)
    if scenario.late_lines:
        steps += [Say("Testing started"), *during]
    return steps, code


def _lines(session: Session, cases: tuple[Case, ...]) -> list[console.Item]:
    lines: list[console.Item] = []
    for number, testable in enumerate(session.scheme.tests):
        inside = [case for case in cases if case.target == testable.target]
        if session.request.only and not inside:
            continue
        asked = session.request.yes("-parallel-testing-enabled")
        if session.scenario.parallel or (testable.parallel if asked is None else asked):
            host = session.container.name
            lines += console.parallel(inside, host, session.device, session.pid + number + 1)
        else:
            release = session.context.release
            everything = not session.request.only and not session.request.skip
            lines += console.serial(
                inside, testable.target, session.device, release, session.at, all_tests=everything
            )
    return lines


def _paced(items: Iterable[console.Item]) -> list[Step]:
    """The lines, with a pause for every test that takes its time; the others cost none."""
    steps: list[Step] = []
    for item in items:
        if isinstance(item, str):
            steps.append(Say(item))
        elif item.seconds >= _FELT_SECONDS:
            steps.append(Wait(item.seconds))
    return steps


def _with_midst(steps: Sequence[Step], midst: Sequence[Step]) -> list[Step]:
    half = (len(steps) + 1) // 2
    return [*steps[:half], *midst, *steps[half:]]


def _midst(scenario: Scenario) -> list[Step]:
    """What happens in the midst of things."""
    steps: list[Step] = []
    if scenario.invalid_utf8:
        steps.append(Say(_BROKEN_TEXT.rstrip(b"\n")))
    if scenario.flood_bytes:
        steps.append(Flood(scenario.flood_bytes))
    if scenario.stall_seconds:
        steps.append(Wait(scenario.stall_seconds))
    return steps


def _boot(session: Session) -> list[Step]:
    """A simulator that is off is booted, and stays so; that costs what the scenario says."""
    scenario = session.scenario
    if scenario.no_boot or not session.device.simulator:
        return []
    steps: list[Step] = [Do(partial(devices.boot, session.context.root, session.device.udid))]
    return [*steps, Wait(scenario.boot_seconds)] if scenario.boot_seconds else steps


def _orphan(scenario: Scenario) -> list[Step]:
    return [Orphan(scenario.orphan_seconds)] if scenario.orphan_seconds else []


def _notes(session: Session, trouble: Trouble) -> Iterator[str]:
    for note in trouble.notes:
        yield note.format(**_names(session))


def _names(session: Session) -> dict[str, str]:
    target = session.scheme.tests[-1].target if session.scheme.tests else session.scheme.name
    return {"derived": str(session.derived), "target": target, "udid": session.device.udid}


def _observed(session: Session) -> list[Step]:
    took = 1.408  # no reader looks at it
    words = "[MT] IDETestOperationsObserverDebug: "
    lines = [
        f"{words}{took:.3f} elapsed -- Testing started completed.",
        f"{words}0.000 sec, +0.000 sec -- start",
        f"{words}{took:.3f} sec, +{took:.3f} sec -- end",
    ]
    return says(console.own_line(session.at, session.pid, line) for line in lines)


def _verdict(session: Session, outcome: Outcome, trouble: Trouble | None, *, good: bool) -> Iterator[str]:
    yield from ("", "Test session results, code coverage, and logs:", f"\t{session.bundle}", "")
    failing = [case for case in outcome.cases or () if case.result == FAILED]
    if failing:
        yield "Failing tests:"
        yield from (f"\t{'.'.join(filter(None, (case.suite, case.function)))}" for case in failing)
        yield ""
    if trouble is not None:
        names = _names(session)
        yield "Testing failed:"
        yield f"\t{names['target']}:"
        yield f"\t\t{names['target']} encountered an error ({trouble.message.format(**names)})"
        yield ""
    yield f"** TEST {'SUCCEEDED' if good else 'FAILED'} **"
    yield ""


# --- results ------------------------------------------------------------------------------


def _outcome(
    session: Session,
    *,
    succeeded: bool,
    issues: tuple[Issue, ...] = (),
    cases: tuple[Case, ...] | None = None,
) -> Outcome:
    return Outcome(
        action=session.action,
        scheme=session.scheme.name,
        container=session.container.name,
        root=str(session.container.path),
        device=session.device,
        started=session.at,
        finished=session.at,
        succeeded=succeeded,
        issues=issues,
        cases=cases,
        system=MACOS_VERSION,
    )


def _stored(session: Session, outcome: Outcome) -> list[Step]:
    """Write the result bundle, and say so where a build was asked to."""
    folder = session.bundle
    if folder is None:
        return []

    def write() -> None:
        bundle.write(
            folder,
            replace(outcome, finished=time.time()),
            session.context.release,
            localised=session.scenario.localised,
            fault=session.scenario.bundle_fault,
        )

    steps: list[Step] = [Do(write)]
    if session.action == "build":
        steps += says(["", "Result bundle written to path:", f"\t{folder}", ""])
    return steps
