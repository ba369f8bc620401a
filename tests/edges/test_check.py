"""`rchd check`: every kind of damage is named with its place and its remedy, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.homes import copy_of, keep, queued
from support.lab import lab

from rch.contract.errors import Failure
from rch.files.locks import FileLock
from rch.files.paths import HostPaths, host_paths
from rchd.core.compare import Finding, exit_code
from rchd.edges.check import Report, check
from rchd.edges.store import SqliteStore

PAGE = 4096


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which one run succeeded and one failed, its daemon stopped."""
    with lab(tmp_path_factory.mktemp("made")) as user:
        assert user.rchctl("verify", cwd=user.project()).returncode == 0
        assert user.rchctl("verify", cwd=user.project("red", build="exit 1")).returncode == 50
        user.stop()
        yield user.home


@pytest.fixture(name="paths")
def fixture_paths(made: Path, tmp_path: Path) -> HostPaths:
    return copy_of(made, tmp_path / "home")


def runs_of(paths: HostPaths) -> list[Path]:
    """The folders of the runs, the one that succeeded first."""
    return sorted(paths.artifacts.iterdir())


def set_of_test(paths: HostPaths) -> Path:
    """The published set of the step `test` of the run that succeeded."""
    return next(iter((runs_of(paths)[0] / "steps" / "test").iterdir()))


def only(report: Report) -> Finding:
    """The one thing that is wrong."""
    assert len(report.findings) == 1, report.findings
    found = report.findings[0]
    assert found.remedy
    assert "\n" not in found.what + found.remedy
    return found


@pytest.mark.spec("4")
def test_where_nothing_is_wrong_nothing_is_told_and_nothing_is_changed(paths: HostPaths) -> None:
    before = {path: path.read_bytes() for path in paths.data_dir.rglob("*") if path.is_file()}
    state = paths.database.read_bytes()
    for read_data in (False, True):
        report = check(paths, read_data=read_data)
        assert report.findings == []
        assert exit_code(report.findings) == 0
        assert (report.runs, report.sets) == (2, 3)
        assert (report.bytes_read > 0) is read_data
    assert {path: path.read_bytes() for path in paths.data_dir.rglob("*") if path.is_file()} == before
    assert paths.database.read_bytes() == state


def test_a_home_that_was_never_used_is_sound(tmp_path: Path) -> None:
    report = check(host_paths({"RCH_HOME": str(tmp_path)}), read_data=True)
    assert (report.findings, report.runs) == ([], 0)
    assert list(tmp_path.iterdir()) == []


# --- records --------------------------------------------------------------------------


def _missing(run: Path) -> str:
    (run / "run_state.json").unlink()
    return "run_state.json: is missing"


def _late(run: Path) -> str:
    path = run / "run_state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "state": "RUNNING", "seq": 2}))
    return "run_state.json: says RUNNING (seq 2), the database says SUCCEEDED (seq 3)"


def _foreign(run: Path) -> str:
    other = next(each for each in run.parent.iterdir() if each != run)
    shutil.copy(other / "run_plan.json", run / "run_plan.json")
    return f"run_plan.json: speaks of run {other.name}"


def _cut(run: Path) -> str:
    data = (run / "run_index.json").read_bytes()
    (run / "run_index.json").write_bytes(data[: len(data) // 2])
    return "run_index.json: cannot be read"


def _other_verdict(run: Path) -> str:
    path = run / "run_summary.json"
    path.write_text(path.read_text().replace('"exit_code": 0', '"exit_code": 1', 1))
    return "run_summary.json: does not say what the database says of exit_code"


def _other_source(run: Path) -> str:
    path = run / "source_manifest.json"
    path.write_text(path.read_text().replace('"source_sha256":"', '"source_sha256":"0', 1))
    return "source_manifest.json: speaks of"


@pytest.mark.spec("4")
@pytest.mark.fault("H10")
@pytest.mark.parametrize("harm", [_missing, _late, _foreign, _cut, _other_verdict, _other_source])
def test_a_record_that_does_not_say_what_the_row_says_is_named(
    paths: HostPaths, harm: Callable[[Path], str]
) -> None:
    run = runs_of(paths)[0]
    wanted = harm(run)
    report = check(paths, read_data=False)
    found = only(report)
    assert f"{Path(found.path).name}: {found.what}".startswith(wanted)
    assert (found.severity, found.area, found.run_id) == ("error", "record", run.name)
    assert exit_code(report.findings) == 70


def test_other_words_for_the_same_are_no_difference(paths: HostPaths) -> None:
    path = runs_of(paths)[0] / "run_summary.json"
    path.write_text(json.dumps({"new_in_a_later_version": 1, **json.loads(path.read_text())}))
    assert check(paths, read_data=False).findings == []


@pytest.mark.spec("4")
@pytest.mark.fault("H10")
def test_a_daemon_that_moves_on_meanwhile_is_given_the_time_to_write(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runs_of(paths)[0] / "run_state.json"
    right = path.read_bytes()
    late = _late(path.parent)
    lock = FileLock(paths.lock, "a daemon")
    assert lock.try_acquire()
    looks: list[float] = []

    def writes_meanwhile(seconds: float) -> None:
        looks.append(seconds)
        path.write_bytes(right)

    monkeypatch.setattr("rchd.edges.check.time.sleep", writes_meanwhile)
    report = check(paths, read_data=False)
    assert (report.findings, len(looks), report.daemon_runs) == ([], 1, True)
    _late(path.parent)
    monkeypatch.setattr("rchd.edges.check.time.sleep", looks.append)
    assert only(check(paths, read_data=False)).what in late
    lock.release()


# --- published sets -------------------------------------------------------------------


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.spec("4")
@pytest.mark.parametrize("name", ["build.log", "summary.json", "metrics.json", "job_key_inputs.json"])
def test_a_flipped_bit_is_found_where_the_data_are_read(paths: HostPaths, name: str) -> None:
    path = set_of_test(paths) / name
    _flip(path, path.read_bytes().rindex(b"0") if name != "build.log" else 3)
    read = check(paths, read_data=True)
    assert any(f"{name}: sha256" in found.what for found in read.findings)
    assert all(found.path == str(path.parent) for found in read.findings)
    assert exit_code(read.findings) == 70
    if name == "build.log":
        assert check(paths, read_data=False).findings == []


def _extra(folder: Path) -> str:
    (folder / "notes.txt").write_text("hello")
    return "notes.txt: not in the manifest"


def _gone(folder: Path) -> str:
    (folder / "build.log").unlink()
    return "build.log: missing"


def _short(folder: Path) -> str:
    os.truncate(folder / "build.log", 1)
    return "build.log: 1 bytes, not"


def _link(folder: Path) -> str:
    (folder / "build.log").rename(folder.parent / "elsewhere")
    (folder / "build.log").symlink_to(folder.parent / "elsewhere")
    return "build.log: is a link or device, not a file"


def _unmarked(folder: Path) -> str:
    (folder / "job_index.json").unlink()
    return "job_index.json: missing"


def _unlisted(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "manifest.json: missing"


def _other_root(folder: Path) -> str:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "artifact_root_sha256": "0" * 64}))
    return "manifest.json: artifact_root_sha256 is not that of its entries"


def _whole(folder: Path) -> str:
    shutil.rmtree(folder)
    return "is missing: the published artifacts are gone"


@pytest.mark.spec("4")
@pytest.mark.parametrize("harm", [_extra, _gone, _short, _link, _unmarked, _unlisted, _other_root, _whole])
def test_names_kinds_and_sizes_are_compared_without_reading(
    paths: HostPaths, harm: Callable[[Path], str]
) -> None:
    folder = set_of_test(paths)
    wanted = harm(folder)
    report = check(paths, read_data=False)
    of_the_set = [found for found in report.findings if found.path == str(folder)]
    assert any(found.what.startswith(wanted) for found in of_the_set), report.findings
    assert all(found.area == "set" for found in of_the_set)
    assert exit_code(report.findings) == 70


# --- the database ---------------------------------------------------------------------


def _zero(path: Path) -> str:
    path.write_bytes(b"")
    return "is empty"


def _no_file(path: Path) -> str:
    path.unlink()
    return "is missing, and 2 folders of runs are there"


def _page(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    path.write_bytes(data)
    return "is damaged"


def _text(path: Path) -> str:
    path.write_text("no database at all\n" * 500)
    return "is damaged"


def _newer(path: Path) -> str:
    with sqlite3.connect(path) as con:
        con.execute("PRAGMA user_version = 99")
    con.close()
    return "has schema version 99, this rchd knows 1"


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize("harm", [_zero, _no_file, _page, _text, _newer])
def test_a_damaged_database_is_named_and_the_sets_are_looked_at_all_the_same(
    paths: HostPaths, harm: Callable[[Path], str]
) -> None:
    wanted = harm(paths.database)
    (set_of_test(paths) / "build.log").unlink()
    report = check(paths, read_data=False)
    first, *rest = [found for found in report.findings if found.area == "database"]
    assert first.what.startswith(wanted)
    assert first.path == str(paths.database)
    assert ("rchd --rebuild" in first.remedy) is (harm is not _newer)
    assert any(found.what == "build.log: missing" for found in report.findings)
    assert exit_code([first, *rest]) == exit_code(report.findings) == 4


@pytest.mark.fault("H9")
def test_a_row_with_a_flipped_bit_is_named_and_the_others_are_compared(paths: HostPaths) -> None:
    victim, other = runs_of(paths)
    with sqlite3.connect(paths.database) as con:
        con.execute("UPDATE runs SET doc = CAST(doc || ' ' AS BLOB) WHERE run_id = ?", (victim.name,))
    con.close()
    (other / "run_plan.json").unlink()
    report = check(paths, read_data=False)
    assert [(found.area, found.run_id) for found in report.findings] == [
        ("database", victim.name),
        ("record", other.name),
    ]
    assert "fails its checksum" in report.findings[0].what


# Commits and dies without closing: all of it stands in the log alone.
DIE = """
import os, pathlib, sys
from support.homes import queued
from rchd.edges.core_rows import rows_of
from rchd.edges.store import SqliteStore
store = SqliteStore.open(pathlib.Path(sys.argv[1]))
for number in range(30):
    store.commit(rows_of([queued(number)], ()))
os._exit(0)
"""


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_cut_log_is_named_and_the_next_start_still_sees_it(tmp_path: Path) -> None:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    tests = str(Path(__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", DIE, str(paths.database)],
        env={**os.environ, "PYTHONPATH": tests},
        check=True,
        timeout=60,
    )
    log = paths.database.with_name("rchd.db-wal")
    os.truncate(log, log.stat().st_size // 2)
    for _ in range(2):
        found = check(paths, read_data=False).findings[0]
        assert found.area == "database"
        assert "is cut or damaged" in found.what
    with pytest.raises(Failure, match="is cut or damaged"):
        SqliteStore.open(paths.database)


def test_beside_a_writer_its_log_is_left_alone(tmp_path: Path) -> None:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    keep(paths, [queued(1)])
    store = SqliteStore.open(paths.database)
    index = paths.database.with_name("rchd.db-shm")
    before = index.read_bytes()[:96]
    assert check(paths, read_data=False).findings == []
    assert index.read_bytes()[:96] == before
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_in_the_state_of_another_user_no_file_is_made(tmp_path: Path) -> None:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    keep(paths, [queued(1)])
    os.chown(paths.state_dir, 65534, 65534)
    before = sorted(paths.state_dir.iterdir())
    found = check(paths, read_data=False).findings[0]
    assert "belongs to uid 65534" in found.what
    assert sorted(paths.state_dir.iterdir()) == before


# --- folders and spool ----------------------------------------------------------------


def test_a_folder_that_no_row_knows_is_named(paths: HostPaths) -> None:
    shutil.copytree(runs_of(paths)[0], paths.artifacts / "run-from-elsewhere")
    (paths.artifacts / "run-half-taken").mkdir()
    report = check(paths, read_data=False)
    assert [(Path(each.path).name, each.severity) for each in report.findings] == [
        ("run-from-elsewhere", "error"),
        ("run-half-taken", "warning"),
    ]
    assert "rchd --rebuild --force" in report.findings[0].remedy


def test_a_run_without_its_folder_is_a_warning_once_it_is_over(paths: HostPaths) -> None:
    shutil.rmtree(runs_of(paths)[0])
    report = check(paths, read_data=False)
    assert only(report).severity == "warning"
    assert exit_code(report.findings) == 0


@pytest.mark.fault("H10")
def test_a_run_that_waits_needs_its_folder_and_its_bundle(tmp_path: Path) -> None:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    keep(paths, [queued(1), queued(2)])
    assert check(paths, read_data=False).findings == []
    # What was spooled is not what the test put there: with its digest, even that is seen.
    assert {each.what for each in check(paths, read_data=True).findings} == {
        "is not the bundle that was spooled: another sha256"
    }
    (paths.spool / "spool.tar.zst").unlink()
    shutil.rmtree(paths.artifacts / "run-queued-0002")
    report = check(paths, read_data=False)
    assert [each.severity for each in report.findings] == ["error"] * 2
    assert exit_code(report.findings) == 70


def test_what_a_crash_left_is_a_warning(paths: HostPaths) -> None:
    (paths.spool / f".rch-{'0' * 16}.tmp").write_bytes(b"half")
    assert only(check(paths, read_data=False)).severity == "warning"


def test_the_report_is_plain_json(paths: HostPaths) -> None:
    _gone(set_of_test(paths))
    plain = msgspec.to_builtins(check(paths, read_data=False))
    assert json.loads(json.dumps(plain))["findings"][0]["severity"] == "error"
