from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from support.xcresults import LAYOUT, make_bundle, make_database

from worker_agent.results import xcresult_db
from worker_agent.results.xcresult_db import NAME, DatabaseRead, read_database

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
MIXED = {
    "S/a()": "Success",
    "S/b()": "Failure",
    "S/c()": "Skipped",
    "S/d()": "Expected Failure",
    "e()": "Odd",
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "result.xcresult")


def problem(bundle: Path) -> str:
    found = read_database(bundle)
    assert found is not None
    assert (found.total, found.foreign) == (0, False)
    return str(found.problem)


@pytest.mark.spec("9")
@pytest.mark.parametrize("name", ["test-swift-mix", "test-swift"])
def test_a_real_bundle_holds_what_its_label_says(name: str, tmp_path: Path) -> None:
    archive = FIXTURES / "xcresult_bundles" / f"{name}.xcresult.tar.gz"
    if not archive.is_file():
        pytest.skip(f"the recorded bundles are not at {FIXTURES}")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    label = json.loads((FIXTURES / "LABELS.json").read_text())[f"xcresult_bundles/{name}.xcresult.tar.gz"]
    before = sorted((tmp_path / f"{name}.xcresult").iterdir())
    found = read_database(tmp_path / f"{name}.xcresult")
    assert found is not None
    assert found.problem is None
    assert (found.passed, found.failed) == (label["success"], label["failure"])
    assert (found.expected, found.skipped, found.other) == (label.get("expected_failure", 0), 0, 0)
    assert len(found.failing) == label["failure"]
    assert all("Invalid" in one for one in found.failing)
    assert sorted((tmp_path / f"{name}.xcresult").iterdir()) == before


def test_sums_over_destinations_are_not_counted_again(bundle: Path) -> None:
    make_database(bundle, MIXED)
    found = DatabaseRead(passed=1, failed=1, skipped=1, expected=1, other=1, failing=("S/b()",))
    assert read_database(bundle) == found


def test_a_bundle_without_one_has_none(bundle: Path) -> None:
    assert read_database(bundle) is None
    assert read_database(bundle / "nowhere") is None


@pytest.mark.spec("9")
def test_a_layout_that_is_not_known_proves_nothing(bundle: Path) -> None:
    for layout in ("CREATE TABLE Other (a);", LAYOUT.replace("result TEXT", "outcome TEXT")):
        make_database(bundle, {}, layout=layout).touch()
        found = read_database(bundle)
        assert found is not None
        assert found.foreign
        assert found.problem is not None
        (bundle / NAME).unlink()


@pytest.mark.spec("9")
def test_what_is_no_database_is_a_problem(bundle: Path) -> None:
    path = bundle / NAME
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    assert problem(bundle).startswith("cannot be read")
    path.write_bytes(b"<html>" * 1000)
    assert problem(bundle) == "cannot be read: file is not a database"
    path.unlink()
    path.mkdir()
    assert problem(bundle) == "is no regular file"
    path.rmdir()
    path.symlink_to("/etc/passwd")
    assert problem(bundle) == "is no regular file"
    path.unlink()
    os.mkfifo(path)
    assert problem(bundle) == "is no regular file"


def test_a_database_that_is_cut_or_flipped_is_a_problem_or_read(bundle: Path) -> None:
    path = make_database(bundle, {f"S/t{n}()": "Success" for n in range(500)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert problem(bundle).startswith("cannot be read")
    for at in range(100, len(whole), 997):  # whatever the bit does, it costs neither time nor life
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = read_database(bundle, seconds=5)
        assert found is not None


def test_a_lock_of_another_holds_nobody_up(bundle: Path) -> None:
    path = make_database(bundle, MIXED)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        found = read_database(bundle)  # the lock is held all the while: who waited for it would fail
    assert found is not None
    assert found.problem is None


def test_a_database_in_the_midst_of_being_written_is_not_believed(bundle: Path) -> None:
    path = make_database(bundle, MIXED)
    (bundle / f"{NAME}-wal").write_bytes(b"x")
    assert problem(bundle) == "is in the midst of being written"
    (bundle / f"{NAME}-wal").write_bytes(b"")
    assert path.exists()
    assert (read_database(bundle) or DatabaseRead()).total == 5


VIEW = """
CREATE TABLE TestCases (identifier, name, testSuite_fk);
CREATE VIEW TestCaseResultsByDestinationAndConfiguration AS
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
  SELECT 1 AS destination_fk, 1 AS configuration_fk, 'Success' AS result, i AS testCase_fk FROM n;
"""
VIRTUAL = (
    "CREATE VIRTUAL TABLE TestCases USING fts5(identifier, name, testSuite_fk);" + LAYOUT.partition(";")[2]
)


@pytest.mark.spec("9")
@pytest.mark.parametrize("layout", [VIEW, VIRTUAL])
def test_a_view_in_place_of_a_table_is_refused(bundle: Path, layout: str) -> None:
    with closing(sqlite3.connect(bundle / NAME)) as database:
        database.executescript(layout)
    assert problem(bundle).startswith("has something else than a table as TestCase")


def test_a_query_has_a_deadline_and_a_number_of_rows(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database(bundle, {f"S/t{n}()": "Success" for n in range(2000)})
    found = read_database(bundle, seconds=-1)
    assert found is not None
    assert found.problem == "took too long"
    monkeypatch.setattr(xcresult_db, "MAX_ROWS", 3)
    monkeypatch.setattr(xcresult_db, "MAX_BYTES", 1 << 30)
    assert problem(bundle) == "holds more than 3 results"
    monkeypatch.setattr(xcresult_db, "MAX_BYTES", 10)
    assert problem(bundle) == "is over 10 bytes"


def test_values_of_other_kinds_and_long_ones_are_borne(bundle: Path) -> None:
    path = make_database(bundle, {"S/" + "n" * 100_000: "Failure"})
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE TestCases SET name = x'ff00'")
        database.execute(
            "INSERT INTO TestCaseResultsByDestinationAndConfiguration VALUES (1, 1, x'ff', 99)"
        )
        database.execute("INSERT INTO TestCaseResultsByDestinationAndConfiguration VALUES (1, 1, 7, NULL)")
        database.commit()
    found = read_database(bundle)
    assert found is not None
    assert (found.failed, found.other, len(found.failing[0])) == (1, 2, 1000)


def test_a_name_with_marks_of_a_uri_is_opened_as_it_stands(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a?mode=rwc&b#c%20d.xcresult")
    make_database(bundle, MIXED)
    assert (read_database(bundle) or DatabaseRead()).total == 5
    shutil.rmtree(bundle)
    assert list(tmp_path.iterdir()) == []
