"""Each bound of the client and its reports: at it all is shown, one beyond it is not (docs/limits.md)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rch.contract import framing
from rch.contract.errors import Failure
from rch.contract.records import SourceEntry, SourceManifest
from rchctl import bridge, client, findings, request
from rchctl.commands import bugreport, daemon_logs
from rchctl.commands import list as list_verb
from rchctl.diagnose import finding, gather, merge
from rchctl.diagnose import places as diagnosed_places
from rchctl.parser import UsageError
from rchctl.report import asked, excerpts, past, past_model, records, step_model
from rchctl.report import junit as junit_module
from rchctl.report.excerpts import Place, Sources
from rchctl.report.junit import Case, parse_junit
from rchctl.report.past_model import past_page
from rchctl.report.records import Reading
from rchctl.report.text import cut
from rchctl.report.trends import PastRun
from rchctl.tui.model import MOST_RUNS, Model

pytestmark = pytest.mark.spec("12")

Patch = pytest.MonkeyPatch
Holds = Callable[[int, Path, Patch], bool]
FEW = 3


def taken(act: Callable[[], object]) -> bool:
    try:
        act()
    except (UsageError, OverflowError):
        return False
    return True


# --- reports ------------------------------------------------------------------------------


def record_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(records, "MAX_BYTES", 100)
    (place / "x.json").write_bytes(b"x" * size)
    return Reading(place).data(place / "x.json") is not None


def log_tail(size: int, place: Path, patch: Patch) -> bool:
    """Whether a log of so many bytes is shown from its first line on."""
    patch.setattr(records, "_TAIL_BYTES", 20)
    (place / "x.log").write_bytes(b"first\n" + b"x" * (size - 6))
    return Reading(place).end_of(place / "x.log")[0] == "first"


def log_lines(count: int, place: Path, _: Patch) -> bool:
    (place / "x.log").write_text("".join(f"{number}\n" for number in range(count)))
    return len(Reading(place).end_of(place / "x.log")) == count


def cases(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(junit_module, "MAX_CASES", FEW)
    return parse_junit(b"<testsuites>" + b"<testcase/>" * count + b"</testsuites>").problem is None


def depth(count: int, *_: Any) -> bool:
    return parse_junit(b"<a>" * count + b"</a>" * count).problem is None


def source_of(place: Path, data: bytes) -> Sources:
    (place / "a").write_bytes(data)
    entry = SourceEntry(path="a", type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    return Sources(
        place, SourceManifest(created_at="x", run_id="r", source_sha256="0" * 64, entries=(entry,))
    )


def places_shown(count: int, place: Path, patch: Patch) -> bool:
    patch.setattr(excerpts, "MOST", FEW)
    told = source_of(place, b"x\n")
    return all(not told.excerpt(Place("a", 1)).note for _number in range(count))


def source_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(excerpts, "_MAX_BYTES", 100)
    return not source_of(place, b"x" * size).excerpt(Place("a", 1)).note


def listed_tests(count: int, *_: Any) -> bool:
    _, shown, rest = step_model._test_rows(
        [Case("S", f"t{number}", "passed", 1) for number in range(count)]
    )
    return shown == count and not rest


def messages_listed(count: int, *_: Any) -> bool:
    each = SimpleNamespace(severity="error", path=None, line=None, column=None, message="x")
    build: Any = SimpleNamespace(diagnostics=[each] * count, error_count=count, warning_count=0)
    shown, rest = step_model._diagnostics(build, lambda _place: pytest.fail("no place"))
    return len(shown) == count and not rest


def text_length(length: int, *_: Any) -> bool:
    return cut("x" * length, step_model._LONGEST) == "x" * length


def runs_in_charts(count: int, *_: Any) -> bool:
    run = PastRun(
        run_id="r", run_dir=Path("/r"), created_at="2026-01-01T00:00:00.000Z", project="p", root="/p",
        status="success", exit_code=0, failure_kind=None, failure_subkind=None, duration_ms=1,
        simulated=False, scope=(), worker=None, branch=None, commit=None, steps=(),
    )  # fmt: skip
    return len(past_page([run] * count, "r").bars) == count


def runs_looked_at(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(past, "MOST_FOLDERS", FEW)
    patch.setattr(past, "run_folders", lambda _artifacts: iter(range(count)))
    patch.setattr(past, "_run", lambda folder, _of: folder)
    return len(list(past.past_runs(Path("/x"), lambda *_: True, 100))) == count


# --- the command line ---------------------------------------------------------------------


def past_asked(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(asked, "past_runs", lambda *_: ())
    context: Any = SimpleNamespace(
        verb="history",
        args=SimpleNamespace(limit=str(count), project="p", simulate=False),
        paths=SimpleNamespace(artifacts=Path("/x")),
    )
    return taken(lambda: asked.asked_runs(context))


def listed(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(list_verb, "_newest", lambda *_: [])
    others = dict.fromkeys(("state", "project", "origin", "group", "since", "columns"))
    args = SimpleNamespace(limit=str(count), **others)
    context: Any = SimpleNamespace(args=args, json=True, connect=lambda: SimpleNamespace(close=int))
    return taken(lambda: list_verb.run(context))


def lines_of_the_daemon(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(daemon_logs, "_journal", lambda _context: "unit")
    patch.setattr(daemon_logs, "_from_journal", lambda *_: None)
    context: Any = SimpleNamespace(args=SimpleNamespace(lines=count, follow=False), json=False)
    return taken(lambda: daemon_logs.show(context))


def bytes_of_the_daemon(size: int, place: Path, patch: Patch) -> bool:
    """Whether the first line of so many bytes is among the last 100."""
    patch.setattr(daemon_logs, "_MOST_BYTES", 20)
    patch.setattr(daemon_logs, "_PIECE", 1)
    (place / "log").write_bytes(b"first\n" + b"x" * (size - 7) + b"\n")
    return daemon_logs.last_lines(place / "log", 100)[0].startswith("first")


def reported_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(bugreport, "_MOST_BYTES", 20)
    (place / "x.log").write_bytes(b"x" * size)
    return len(bugreport._read(place / "x.log")) == size


def name_length(length: int, *_: Any) -> bool:
    return taken(lambda: request._name("verify", "--group", "x" * length, "x"))


def number(value: int, *_: Any) -> bool:
    return taken(lambda: request._read(json.dumps({"n": value})))


def answer_of_the_daemon(size: int, _: Path, patch: Patch) -> bool:
    patch.setattr(client, "_MAX_LINE", 100)
    reader = client.Client(None)._lines  # type: ignore[arg-type]
    reader.feed(b"x" * size + b"\n")
    try:
        return reader.line() is not None
    except framing.FrameError:
        return False


def bridged(kind: str) -> Holds:
    """Whether a message of so many bytes passes the bridge, up from stdin or down from the daemon."""

    def holds(size: int, _: Path, patch: Patch) -> bool:
        patch.setattr(bridge, "MAX_MESSAGE" if kind == "up" else "MAX_ANSWER", 100)
        incoming = bridge.Incoming()
        way: Any = incoming if kind == "up" else bridge.Outgoing(incoming)
        try:
            return bool(way.feed(b'{"id":1,"method":"' + b"x" * (size - 20) + b'"}\n'))
        except framing.FrameError:
            return False

    return holds


def open_answers(seconds: int, _: Path, patch: Patch) -> bool:
    """Whether answers are waited for so long after the end of stdin."""
    patch.setattr(bridge, "time", SimpleNamespace(monotonic=lambda: float(seconds)))
    stub: Any = SimpleNamespace(
        _at_end=True, _up=b"", _down=b"", _last=0.0, _incoming=SimpleNamespace(awaited=1)
    )
    try:
        return not bridge.Bridge._is_done(stub)
    except Failure:
        return False


def diagnosed_source(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(diagnosed_places, "MAX_SOURCE", 100)
    (place / "a").write_bytes(b"x" * size)
    return diagnosed_places.Project(str(place))._contents(str(place / "a"), "a")[0] is not None


def diagnosed_record(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(gather, "MAX_BYTES", 100)
    (place / "a.json").write_bytes(b" " * (size - 7) + b'{"a":1}')
    stub: Any = SimpleNamespace(notes=[])
    return bool(gather._Reading.record(stub, place / "a.json"))


def merged_junit(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(merge, "MAX_BYTES", 100)
    whole = b"<testsuites></testsuites>"
    (place / "junit.xml").write_bytes(whole + b" " * (size - len(whole)))
    return merge._read(place / "junit.xml", []) is not None


def failures_named(count: int, *_: Any) -> bool:
    context: Any = SimpleNamespace(console=SimpleNamespace(style=lambda text, _kind: text))
    said = [finding.failure({"name": f"t{number}", "message": "x"}, "test") for number in range(count)]
    return "more: rchctl report" not in findings._list("failed tests", said, context)


def runs_on_screen(count: int, *_: Any) -> bool:
    model = Model()
    model.snapshot([{"run_id": f"run-{number:08}", "state": "FAILED"} for number in range(count)])
    return len(model.runs) == count


Row = tuple[Holds, int]
ROWS: dict[str, Row] = {
    "a record": (record_bytes, 100),
    "the end of a log": (log_tail, 20),
    "lines of a log": (log_lines, records._TAIL_LINES),
    "tests of a junit.xml": (cases, FEW),
    "depth of a junit.xml": (depth, junit_module._DEPTH),
    "places with their source": (places_shown, FEW),
    "a source file": (source_bytes, 100),
    "tests in a list": (listed_tests, step_model.MOST_TESTS),
    "messages of a build": (messages_listed, step_model.MOST_DIAGNOSTICS),
    "a message": (text_length, step_model._LONGEST),
    "runs in a chart": (runs_in_charts, past_model.MOST_RUNS),
    "runs that are looked at": (runs_looked_at, FEW),
    "runs of a history": (past_asked, asked._MOST),
    "runs of a list": (listed, list_verb._MOST),
    "lines of the daemon's log": (lines_of_the_daemon, daemon_logs._MOST_LINES),
    "bytes of the daemon's log": (bytes_of_the_daemon, 20),
    "a file of a bug report": (reported_bytes, 20),
    "a request of the bridge": (bridged("up"), 100),
    "an answer of the bridge": (bridged("down"), 100),
    "answers that are open": (open_answers, int(bridge.EOF_SECONDS)),
    "a source of diagnostics": (diagnosed_source, 100),
    "a record of diagnostics": (diagnosed_record, 100),
    "a junit.xml that is merged": (merged_junit, 100),
    "a name": (name_length, request._LONGEST_NAME),
    "a number": (number, request._MOST),
    "failures before a verdict": (failures_named, findings.MOST),
    "runs on the screen": (runs_on_screen, MOST_RUNS),
    "an answer": (answer_of_the_daemon, 100),
}


@pytest.mark.parametrize("name", ROWS)
def test_at_a_bound_of_the_client_all_is_shown(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert holds(limit, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ROWS)
def test_one_beyond_a_bound_of_the_client_it_is_not(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert not holds(limit + 1, tmp_path, monkeypatch)
