"""Each bound of a worker and of what it reads: kept to at it, and one beyond it (docs/limits.md)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rch.contract.records import Diagnostic
from rch.contract.worker_rpc import GcEntry, RpcError
from worker_agent import gc, leases, requestlog, source_thin, tail, turns, watch
from worker_agent.backends import xcodebuild
from worker_agent.buildfiles import _MOST_EVENT, BuildLog, EventFile
from worker_agent.requestlog import RequestLog
from worker_agent.results import (
    doubts,
    logfacts,
    places,
    signs,
    summaries,
    tool,
    verdict,
    xcodelines,
    xcresult,
    xcresult_summary,
)
from worker_agent.results.cases import MAX_MESSAGE
from worker_agent.results.durations import _MOST, milliseconds
from worker_agent.results.lines import CrashSaid, FailureSaid, TestSaid
from worker_agent.results.logfacts import Seen
from worker_agent.results.places import Places
from worker_agent.results.signs import Sign, sign_of
from worker_agent.results.xcodelines import Blocks
from worker_agent.results.xcresult_summary import parse_build
from worker_agent.results.xcresult_tests import MAX_TEXTS, _distinct
from worker_agent.results.xunit import parse_xunit
from worker_agent.source_thin import MOST_DELTA_SHARE, is_small
from worker_agent.toolchains import versions
from worker_agent.toolchains.versions import Version, VersionCache

pytestmark = pytest.mark.spec("12")

Patch = pytest.MonkeyPatch
Holds = Callable[[int, Path, Patch], bool]
FEW = 5


# --- what a log says ----------------------------------------------------------------------


def diagnostics(count: int, *_: Any) -> bool:
    """Whether each error is listed; all are counted."""
    seen = Seen()
    for number in range(count):
        seen.diagnostic(Diagnostic(path="a", line=number, column=1, severity="error", message="e"))
    facts = seen.facts()
    assert facts.error_count == count
    return len(facts.diagnostics) == count


def distinct_diagnostics(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(logfacts, "MAX_NAMES", FEW)
    seen = Seen()
    for number in range(count):
        seen.diagnostic(Diagnostic(path="a", line=number, column=1, severity="error", message="e"))
    return seen.facts().error_count == count


def assertions(count: int, *_: Any) -> bool:
    seen = Seen()
    for number in range(count):
        seen.failure(FailureSaid("xctest", f"A.t{number}", "no", "/a", 1), "a")
    return len(seen.facts().failures) == count


def crashes(count: int, *_: Any) -> bool:
    seen = Seen()
    for number in range(count):
        seen.crash(CrashSaid(f"crash {number}", "headline"))
    return len(seen.facts().crashes) == count


def names_of_tests(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(logfacts, "MAX_NAMES", FEW)
    seen = Seen()
    for number in range(count):
        for outcome in ("started", "passed"):
            seen.test(TestSaid("xctest", f"A.t{number}", outcome))
    return len(seen.facts().passed) == count


def signs_of_a_kind(count: int, *_: Any) -> bool:
    blocks = Blocks()
    return all(blocks.note(Sign("x", str(number))) for number in range(count))


def failing_tests(count: int, *_: Any) -> bool:
    blocks = Blocks()
    for line in ("Failing tests:", *(f"\tA.t{number}()" for number in range(count))):
        blocks.take(line)
    return len(blocks.failing) == count


def lines_of_a_block(count: int, *_: Any) -> bool:
    """Whether a block is still open after so many lines, its head among them."""
    blocks = Blocks()
    for line in ("Testing failed:", *("\tx" for _number in range(count - 1))):
        blocks.take(line)
    return blocks.open


def lines_of_a_reason(count: int, *_: Any) -> bool:
    """Whether so many lines of a sign, its first among them, are taken together."""
    blocks = Blocks()
    for line in ("error: No signing certificate :", *(f"    why{number}" for number in range(1, count))):
        blocks.take(line)
    return blocks.signs[0].text.endswith(f"why{count - 1}")


def doubts_told(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(doubts, "_CHECKS", [lambda _facts: ["x"] * count])
    return len(doubts.doubts_of(None)) == count  # type: ignore[arg-type]


def failures_listed(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(summaries, "_failure", lambda *_: "x")
    facts: Any = SimpleNamespace(
        log=SimpleNamespace(failures=()), cases=[SimpleNamespace(outcome="failed")] * count
    )
    return len(summaries.failures(facts, Places(Path("/tree")))) == count


def failed_beside_trouble(count: int, _: Path, patch: Patch) -> bool:
    """Whether each test that failed beside trouble of the place is named."""
    patch.setattr(verdict, "_fail", lambda *told: told)
    facts: Any = SimpleNamespace(
        xcode=True,
        action="test",
        last=SimpleNamespace(exit_code=65),
        log=SimpleNamespace(sign=lambda *_kinds: Sign("x", "trouble")),
        failed_tests=["t"] * count,
    )
    told: Any = verdict._infrastructure(facts)
    return len(told) == 5 + count


def message_of_a_case(length: int, *_: Any) -> bool:
    data = f"<testsuite><testcase name='n'><failure>{'m' * length}</failure></testcase></testsuite>"
    (case,) = parse_xunit("x", data.encode()).cases
    return len(case.message) == length


def text_of_a_sign(length: int, *_: Any) -> bool:
    line = "error: No signing certificate "
    found = sign_of(line + "x" * (length - len(line)))
    assert found is not None
    return len(found.text) == length


def issues(count: int, *_: Any) -> bool:
    told = {"errors": [{"message": f"e{number}"} for number in range(count)], "warnings": []}
    found = parse_build(json.dumps(told).encode(), Places(Path("/tree")))
    assert (found.problem, found.error_count) == (None, count)
    return len(found.diagnostics) == count


def texts_of_a_case(count: int, *_: Any) -> bool:
    return len(list(_distinct(iter(range(count))))) == count  # type: ignore[arg-type]


def duration(value: int, *_: Any) -> bool:
    """Whether a duration of so many milliseconds is taken as it is."""
    return milliseconds(f"{value} ms") == value


def plist(size: int, place: Path, _: Patch) -> bool:
    (place / "Info.plist").write_bytes(b"x" * size)
    return xcresult._small(place / "Info.plist") is not None


def said_by_a_tool(size: int, _: Path, patch: Patch) -> bool:
    patch.setattr(tool, "MAX_SAID", 100)
    script = f"import sys; sys.stderr.write('x' * {size}); sys.exit(3)"
    told = tool.run_tool([sys.executable, "-S", "-c", script], {})
    return told.problem == "ended with 3: " + "x" * size


def files_of_a_tree(count: int, place: Path, patch: Patch) -> bool:
    """Whether a bare name is looked up in a tree with so many files."""
    patch.setattr(places, "_MAX_FILES", FEW)
    for number in range(count):
        (place / f"{number}.swift").touch()
    return Places(place).named("0.swift") == "0.swift"


# --- what a worker keeps and tells --------------------------------------------------------


def delta_bytes(size: int, *_: Any) -> bool:
    return is_small(size, 1 << 40)


def delta_share(size: int, *_: Any) -> bool:
    return is_small(size, 100 * MOST_DELTA_SHARE)


def lease_life(seconds: int, *_: Any) -> bool:
    return leases._ttl(seconds) == seconds


def job_time(seconds: int, _: Path, patch: Patch) -> bool:
    patch.setattr(watch, "config_of", lambda _job: {"timeouts": {"overall_seconds": seconds}})
    try:
        return watch.timeouts(None).overall == seconds  # type: ignore[arg-type]
    except RpcError:
        return False


def waiting_runs(count: int, *_: Any) -> bool:
    waiting: turns.Waiting = ()
    for number in range(count):
        waiting = turns.noted(waiting, f"run-{number}", "host", 1.0, "boot")
    return len(waiting) == count


def waiting_time(seconds: int, *_: Any) -> bool:
    """Whether a run that asks again a little before so long keeps its place."""
    waiting = turns.noted((), "run-1", "host", 0.0, "boot")
    return bool(turns.alive(waiting, seconds - 0.5, "boot"))


def listed_by_gc(count: int, *_: Any) -> bool:
    entry = GcEntry(kind="job", name="n", bytes=1, age_seconds=0, reason="")
    return not gc.told([entry] * count, dry_run=True).more


def event_line(size: int, place: Path, _: Patch) -> bool:
    """Whether an event of so many bytes is written whole."""
    path = place / "events.jsonl"

    def write(text: str) -> dict[str, Any]:
        path.unlink(missing_ok=True)
        events = EventFile(path, lambda: "2026-01-02T03:04:05.678Z")
        events.write("note", {"text": text})
        events.close()
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    bare = len(msgspec.json.encode(write("")))
    return "text" in write("x" * (size - bare))["data"]


def events_in_an_answer(size: int, place: Path, _: Patch) -> bool:
    """Whether events of so many bytes come with one answer."""
    (place / "events").write_bytes(b"x" * (size - 1) + b"\n")
    return bool(tail._lines(place / "events", 0, 10))


def log_bytes(size: int, place: Path, _: Patch) -> bool:
    """Whether a log of so many bytes is whole, whose bound leaves room for a line about what is cut."""
    log = BuildLog(place / "build.log", 1128)
    log.write(b"x" * size, final=True)
    log.close()
    return not log.truncated and (place / "build.log").stat().st_size == size


def request_log(size: int, place: Path, patch: Patch) -> bool:
    """Whether a log of so many bytes is gone on with."""
    patch.setattr(requestlog, "_MOST_BYTES", 100)
    (place / "log").write_bytes(b"x" * size)
    RequestLog(place / "log", {}).write("probe", None, "ok", time.monotonic())
    return not (place / "log.log.1").exists()


def command(length: int, place: Path, _: Patch) -> bool:
    asked = RequestLog(place / "log", {"SSH_ORIGINAL_COMMAND": "x " * (length // 2) + "x" * (length % 2)})
    asked.write("probe", None, "ok", time.monotonic())
    return len(json.loads((place / "log").read_bytes())["ssh_original_command"]) == length


def known_tools(count: int, place: Path, patch: Patch) -> bool:
    """Whether the first of so many tools is still known."""
    patch.setattr(versions, "_KEPT", FEW)
    cache, asked = VersionCache(place / "kept"), list[int]()

    def ask() -> Version:
        asked.append(1)
        return Version(version="1")

    for number in range(count):
        (place / f"tool{number}").touch()
        cache.of(place / f"tool{number}", ask)
    cache.of(place / "tool0", ask)
    return len(asked) == count


def projects(count: int, place: Path, patch: Patch) -> bool:
    """Whether so many projects without a package are seen to have none."""
    patch.setattr(xcodebuild, "_MAX_PROJECTS", FEW)
    for number in range(count):
        (place / f"{number}.xcodeproj").mkdir()
        (place / f"{number}.xcodeproj" / "project.pbxproj").touch()
    return not xcodebuild.has_packages(place, (("-project", "0.xcodeproj"),))


def project_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(xcodebuild, "_MAX_PROJECT_BYTES", 100)
    (place / "project.pbxproj").write_bytes(b"x" * size)
    return not xcodebuild._names_packages(place / "project.pbxproj")


Row = tuple[Holds, int]
ROWS: dict[str, Row] = {
    "diagnostics": (diagnostics, logfacts.MAX_DIAGNOSTICS),
    "distinct diagnostics": (distinct_diagnostics, FEW),
    "assertions": (assertions, logfacts.MAX_FAILURES),
    "crashes": (crashes, logfacts.MAX_CRASHES),
    "names of tests": (names_of_tests, FEW),
    "signs of a kind": (signs_of_a_kind, xcodelines.MAX_SIGNS),
    "failing tests": (failing_tests, xcodelines.MAX_KEPT),
    "lines of a block": (lines_of_a_block, xcodelines.MAX_BLOCK),
    "lines of a reason": (lines_of_a_reason, xcodelines.MAX_REASON),
    "doubts": (doubts_told, doubts.MAX_DOUBTS),
    "failures of a summary": (failures_listed, summaries.MAX_FAILURES),
    "failures beside trouble": (failed_beside_trouble, verdict.MAX_NAMED),
    "the message of a case": (message_of_a_case, MAX_MESSAGE),
    "the text of a sign": (text_of_a_sign, signs.MAX_TEXT),
    "issues of a bundle": (issues, xcresult_summary.MAX_ISSUES),
    "texts of a case": (texts_of_a_case, MAX_TEXTS),
    "a duration": (duration, _MOST),
    "a bundle's Info.plist": (plist, xcresult._MAX_PLIST),
    "what a tool says": (said_by_a_tool, 100),
    "files of a tree": (files_of_a_tree, FEW),
    "a delta": (delta_bytes, source_thin.MOST_DELTA_BYTES),
    "a delta's share": (delta_share, 100),
    "a lease's life": (lease_life, leases.MAX_TTL_SECONDS),
    "a job's time": (job_time, watch.MAX_SECONDS),
    "waiting runs": (waiting_runs, turns.MOST_WAITING),
    "a waiting run's pause": (waiting_time, int(turns.PATIENCE_SECONDS)),
    "entries of gc": (listed_by_gc, gc.MOST_ENTRIES),
    "an event": (event_line, _MOST_EVENT),
    "events in an answer": (events_in_an_answer, tail.MAX_EVENT_BYTES),
    "a log": (log_bytes, 1000),
    "the worker's own log": (request_log, 100),
    "an SSH command": (command, requestlog._MOST_COMMAND),
    "versions": (known_tools, FEW),
    "projects": (projects, FEW),
    "a project": (project_bytes, 100),
}


@pytest.mark.parametrize("name", ROWS)
def test_at_a_bound_of_the_worker_all_is_taken(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert holds(limit, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ROWS)
def test_one_beyond_a_bound_of_the_worker_it_is_not(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert not holds(limit + 1, tmp_path, monkeypatch)


def test_where_nobody_says_a_lease_and_a_job_have_their_usual_time(monkeypatch: Patch) -> None:
    monkeypatch.setattr(watch, "config_of", lambda _job: {})
    usual = watch.timeouts(None)  # type: ignore[arg-type]
    assert (usual.overall, usual.idle) == (watch.DEFAULT_OVERALL_SECONDS, watch.DEFAULT_IDLE_SECONDS)
    assert leases._ttl(None) == leases.DEFAULT_TTL_SECONDS
    assert leases._busy("x").data == {"retry_after_seconds": leases.RETRY_AFTER_SECONDS}
