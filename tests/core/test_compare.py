"""A run's row against its files: what differs is told in one line, other words for the same are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.playbook import SOURCE, T0, Playbook, accepted, report, summary, unreachable

from rch.contract.ids import timestamp
from rch.contract.records import Entry, JobStateRecord, SourceManifest, encode_record
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import step_dir
from rchd.core.compare import (
    NEWER,
    Finding,
    compare_records,
    compare_set,
    exit_code,
    published_steps,
    record_paths,
    set_finding,
)
from rchd.core.projections import projections

pytestmark = [pytest.mark.spec("4"), pytest.mark.fault("H10")]

RUN = "run-00000001"
Files = dict[str, bytes | None]


def live() -> m.Run:
    play = Playbook()
    run = play.accept(accepted())
    reports = (report(), unreachable("b"), unreachable("a"))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.finish_step(run, 0)
    return run


def over() -> m.Run:
    play = Playbook()
    run = play.accept(accepted())
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    return run


def source(**changes: Any) -> bytes:
    entries = tuple(Entry(path=f"f{n}", type="file", size=1, sha256="0" * 64) for n in range(7))
    members: dict[str, Any] = {"run_id": RUN, "source_sha256": SOURCE, "entries": entries}
    manifest = {"created_at": timestamp(T0), **members, **changes}
    return encode_record(msgspec.convert(manifest, SourceManifest, from_attributes=True))


def files_of(run: m.Run) -> Files:
    return {**projections(run), f"{RUN}/source_manifest.json": source()}


def found(run: m.Run, files: Files) -> list[tuple[str, str]]:
    published = published_steps(run)
    return [(each.path.partition("/")[2], each.what) for each in compare_records(run, files, published)]


@pytest.mark.parametrize("made", [live, over])
def test_a_run_whose_files_say_what_its_row_says_has_no_findings(made: Callable[[], m.Run]) -> None:
    run = made()
    assert found(run, files_of(run)) == []
    assert record_paths(run) == [*projections(run), f"{RUN}/source_manifest.json"]


def members(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("run_state.json", lambda _: None, "is missing"),
        ("run_state.json", lambda data: data[:-20], "cannot be read: "),
        ("run_state.json", members(run_id="run-00000009"), "speaks of run run-00000009"),
        (
            "run_state.json",
            members(state="QUEUED", seq=1),
            "says QUEUED (seq 1), the database says RUNNING (seq 2)",
        ),
        (
            "run_state.json",
            members(updated_at="x", state="FAILED"),
            "does not say what the database says of state, updated_at",
        ),
        (
            "run_plan.json",
            members(selected_worker="other"),
            "does not say what the database says of selected",
        ),
        ("source_manifest.json", lambda _: None, "is missing"),
        ("source_manifest.json", lambda _: b"{}", "cannot be read: "),
        ("source_manifest.json", lambda _: source(run_id="x"), f"speaks of 7 files of source {'a' * 12}"),
        ("source_manifest.json", lambda _: source(entries=()), "speaks of 0 files of source"),
        (
            "source_manifest.json",
            lambda _: source(source_sha256="b" * 64),
            f"speaks of 7 files of source {'b' * 12}",
        ),
    ],
)
def test_a_file_that_does_not_say_what_the_row_says_is_told_with_the_difference(
    name: str, change: Callable[[bytes], bytes | None], what: str
) -> None:
    run = live()
    files = files_of(run)
    data = files[f"{RUN}/{name}"]
    assert data is not None
    files[f"{RUN}/{name}"] = change(data)
    ((path, told),) = found(run, files)
    assert path == name
    assert told.startswith(what)


@pytest.mark.parametrize(
    "change", [members(new_in_a_later_version=1), lambda data: json.dumps(json.loads(data)).encode()]
)
def test_other_words_for_the_same_are_no_difference(change: Callable[[bytes], bytes]) -> None:
    run = live()
    files = {path: change(data) for path, data in files_of(run).items() if data is not None}
    assert found(run, {**files}) == []


def test_of_the_order_of_workers_that_do_not_serve_nothing_is_said() -> None:
    run = live()
    files = files_of(run)
    path = f"{RUN}/worker_selection.json"
    told = json.loads(files[path] or b"")
    files[path] = json.dumps({**told, "candidates": told["candidates"][::-1]}).encode()
    assert len(told["candidates"]) == 3
    assert found(run, files) == []
    files[path] = json.dumps({**told, "candidates": told["candidates"][1:]}).encode()
    assert found(run, files) == [
        ("worker_selection.json", "does not say what the database says of candidates")
    ]


def test_stages_that_are_timed_on_are_no_difference_until_the_run_is_over() -> None:
    run = live()
    name = next(path for path in projections(run) if path.endswith("/host_metrics.json"))
    files = files_of(run)
    files[name] = members(stages_ms={"fetch": 99_999})(files[name] or b"")
    assert found(run, files) == []
    files[name] = b"{}"
    assert len(found(run, files)) == 1
    files = files_of(run)
    files[name] = members(stages_ms={"fetch": 99_999})(files[name] or b"")
    run.state = run.state.__class__.SUCCEEDED
    assert name.partition("/")[2] in [path for path, _ in found(run, files)]


def test_a_folder_in_which_a_workers_set_stands_is_compared_by_itself() -> None:
    run = live()
    place = step_dir(run, 0)
    assert published_steps(run) == {place: 0}
    harmed = {**files_of(run), f"{place}/job_state.json": b"{}"}
    assert found(run, harmed) == []
    run.steps[0].host_made = True
    assert published_steps(run) == {}
    assert [path.endswith("/job_state.json") for path, _ in found(run, harmed)].count(True) == 1


def test_the_remedy_depends_on_whether_the_run_lives() -> None:
    for run, words in (
        (live(), "the records of a live run are written anew"),
        (over(), "run_index.json, then"),
    ):
        files = {**files_of(run), f"{RUN}/run_state.json": None}
        (finding,) = compare_records(run, files, ())
        assert words in finding.remedy
        assert (finding.severity, finding.area, finding.run_id) == ("error", "record", RUN)


# --- a published set's last word ----------------------------------------------------------


def last_words(**changes: Any) -> list[str]:
    run = live()
    step = run.steps[0]
    assert step.summary is not None
    said = msgspec.structs.replace(summary(run, 0), **changes.pop("summary", {}))
    state = JobStateRecord(
        created_at="",
        run_id=RUN,
        job_id=said.job_id,
        job_key=said.job_key,
        updated_at="",
        **{"state": "SUCCEEDED", "seq": 3, **changes},
    )
    return list(compare_set(run, 0, encode_record(said), encode_record(state)))


@pytest.mark.spec("8")
def test_the_sets_own_summary_and_state_are_the_rows() -> None:
    assert last_words() == []
    assert last_words(summary={"exit_code": 50, "status": "failed"}) == [
        "summary.json says failed, exit 50; the database has another summary"
    ]
    line = "job_state.json says {} (seq {}), the database says SUCCEEDED (seq 3)"
    assert last_words(state="FAILED") == [line.format("FAILED", 3)]
    assert last_words(seq=4) == [line.format("SUCCEEDED", 4)]


@pytest.mark.spec("8")
def test_what_is_missing_of_a_set_is_found_elsewhere_and_what_cannot_be_read_is_told() -> None:
    run = live()
    assert list(compare_set(run, 0, None, None)) == []
    (line,) = compare_set(run, 0, b"{}", None)
    assert line.startswith("cannot be read: ")
    (line,) = compare_set(run, 0, None, b"{}")
    assert line.startswith("cannot be read: ")
    run.steps[0].summary = None
    assert list(compare_set(run, 0, encode_record(summary(run, 0)), None)) == []


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    ("areas", "code"),
    [
        ((), 0),
        ((("warning", "record"), ("warning", "database")), 0),
        ((("error", "record"),), 70),
        ((("error", "set"), ("warning", "database")), 70),
        ((("error", "set"), ("error", "database")), 4),
    ],
)
def test_the_exit_code_is_that_of_the_worst(areas: tuple[tuple[str, str], ...], code: int) -> None:
    findings = [Finding(severity=each, area=area, path="p", what="w", remedy="r") for each, area in areas]
    assert exit_code(findings) == code


def test_a_finding_of_a_set_is_an_error_with_a_remedy() -> None:
    finding = set_finding(RUN, "p", "is missing")
    assert (finding.severity, finding.area, finding.run_id, finding.what) == (
        "error",
        "set",
        RUN,
        "is missing",
    )
    assert "rchctl verify" in finding.remedy


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run_summary.json", b"run_summary@1", b"run_summary@2"),
        ("run_plan.json", b'"schema_version": "1.0.0"', b'"schema_version": "2.0.0"'),
        ("run_index.json", b'"schema_version": "1.0.0"', b'"schema_version": "2.1.0"'),
    ],
)
def test_a_record_of_another_major_is_not_to_be_thrown_away(name: str, old: bytes, new: bytes) -> None:
    run = over() if name == "run_summary.json" else live()
    files, path = files_of(run), f"{RUN}/{name}"
    data = files[path]
    assert data is not None
    assert old in data
    (found,) = compare_records(run, {**files, path: data.replace(old, new, 1)}, ())
    assert (found.path, found.remedy) == (path, NEWER)
    assert found.what.startswith("cannot be read: schema ")
    (other,) = compare_records(run, {**files, path: data.replace(b"rch-xcode/", b"rch-xcodf/", 1)}, ())
    assert other.remedy != NEWER
