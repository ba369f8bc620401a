"""Each bound of what all programs share: at it all is read, one beyond it is not (docs/limits.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rch.config import discover, sources
from rch.config.sources import parse_toml
from rch.contract import junit_names, provenance
from rch.contract.canonical import _MAX_SAFE, jcs_sha256
from rch.contract.errors import Failure
from rch.contract.junit_names import names_in
from rch.contract.neutral import one_line
from rch.contract.odd_text import MOST_MARKS
from rch.contract.records import RunStateRecord, encode_record
from rch.doctor.findings import Level
from rch.doctor.workers import FEW_BYTES, _disk
from rch.files import known, sets

pytestmark = pytest.mark.spec("12")

Patch = pytest.MonkeyPatch
Holds = Callable[[int, Path, Patch], bool]


def junit_of(names: list[str]) -> bytes:
    cases = "".join(f'<testcase classname="S" name="{name}"/>' for name in names)
    return f"<testsuites>{cases}</testsuites>".encode()


def names_of_tests(count: int, *_: Any) -> bool:
    found = names_in(junit_of([f"t{number}" for number in range(count)]))
    assert found is not None
    return found.left_out == 0


def bytes_of_test_names(size: int, *_: Any) -> bool:
    found = names_in(junit_of(["a" * 4000] * 5 + ["b" * (size - 5 * 4002 - 2)]))  # each with its suite
    assert found is not None
    return found.left_out == 0


def junit_bytes(size: int, _: Path, patch: Patch) -> bool:
    patch.setattr(junit_names, "MAX_BYTES", 100)
    whole = b"<testsuites></testsuites>"
    return names_in(whole + b" " * (size - len(whole))) is not None


def junit_depth(depth: int, *_: Any) -> bool:
    return names_in(b"<a>" * depth + b"</a>" * depth) is not None


def bundle_subjects(count: int, _: Path, patch: Patch) -> bool:
    patch.setattr(provenance, "_bundle", lambda _told: ["x"] * count)
    return provenance._left_out(SimpleNamespace()) == {}  # type: ignore[arg-type]


def marks_on_a_letter(count: int, *_: Any) -> bool:
    text = "a" + "\u0301" * count
    return one_line(text) == text


def number_in_a_digest(value: int, *_: Any) -> bool:
    try:
        return bool(jcs_sha256({"n": value - 1}))  # 2^53 itself is one too many
    except ValueError:
        return False


def parts_of_a_key(count: int, *_: Any) -> bool:
    try:
        return bool(parse_toml(".".join(["a"] * count).encode() + b" = 1\n", "x.toml"))
    except Failure:
        return False


def project_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(discover, "_MAX_PROJECT", 100)
    (place / "project.pbxproj").write_bytes(b"x" * size)
    return bool(discover._project_text(place))


def bytes_of_a_sets_record(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(sets, "most_bytes", lambda _: 100)
    (place / "manifest.json").write_bytes(b"x" * size)
    return "manifest.json" in sets.read_records(place)


def bytes_of_a_hosts_record(size: int, place: Path, patch: Patch) -> bool:
    """A record that is cut is no record."""
    state = RunStateRecord(
        created_at="x", run_id="run-00000001", state="QUEUED", seq=1, updated_at="x", current_step=None
    )
    patch.setattr(known, "MAX_BYTES", 1000)
    whole = encode_record(state).strip()
    (place / "x.json").write_bytes(b" " * (size - len(whole)) + whole)
    problems: list[str] = []
    return known._record(place / "x.json", RunStateRecord, problems) is not None


def free_disk(missing: int, *_: Any) -> bool:
    """Whether so many bytes less than one more than few are enough."""
    told = {"capacity": {"disk_free_bytes": FEW_BYTES + 1 - missing}}
    return _disk("mini", told).level is Level.OK


Row = tuple[Holds, int]
ROWS: dict[str, Row] = {
    "test names": (names_of_tests, junit_names.MAX_NAMES),
    "bytes of test names": (bytes_of_test_names, junit_names.MAX_NAME_BYTES),
    "a junit.xml": (junit_bytes, 100),
    "depth of a junit.xml": (junit_depth, junit_names._MAX_DEPTH),
    "files of a result bundle": (bundle_subjects, provenance.MAX_BUNDLE_SUBJECTS),
    "marks on a letter": (marks_on_a_letter, MOST_MARKS),
    "a number in a digest": (number_in_a_digest, _MAX_SAFE),
    "parts of a key": (parts_of_a_key, sources._MOST_PARTS),
    "a project": (project_bytes, 100),
    "a record of a set": (bytes_of_a_sets_record, 100),
    "a record of the host": (bytes_of_a_hosts_record, 1000),
    "free disk": (free_disk, 1),
}


@pytest.mark.parametrize("name", ROWS)
def test_at_a_bound_of_what_is_shared_all_is_read(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert holds(limit, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ROWS)
def test_one_beyond_a_bound_of_what_is_shared_it_is_not(
    name: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    holds, limit = ROWS[name]
    assert not holds(limit + 1, tmp_path, monkeypatch)
