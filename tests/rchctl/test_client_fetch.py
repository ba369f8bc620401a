"""`rchctl fetch`: copies of verified files, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.run_folder import RunFolder

from rchctl.__main__ import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run of one test step whose manifest lists its files, a result bundle among them."""
    monkeypatch.setenv("RCH_HOME", str(tmp_path))
    monkeypatch.setenv("RCH_NO_AUTOSTART", "1")
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(tmp_path / "data" / "artifacts" / "xcode").write()
    step = step_of(folder)
    (step / "result.xcresult" / "Data").mkdir(parents=True)
    (step / "result.xcresult" / "Data" / "d").write_bytes(b"data")
    index = json.loads((step / "job_index.json").read_bytes())
    index["files"]["result_xcresult"] = "result.xcresult"
    (step / "job_index.json").write_text(json.dumps(index))
    entries = [
        {
            "path": path.relative_to(step).as_posix(),
            "type": "file",
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(step.rglob("*"))
        if path.is_file() and path.name not in {"manifest.json", "job_index.json", "attestation.json"}
    ]
    (step / "manifest.json").write_text(
        json.dumps({"schema_id": "rch-xcode/manifest@1", "entries": entries})
    )
    return folder


def step_of(folder: RunFolder) -> Path:
    (index,) = folder.path.glob("steps/*/*/job_index.json")
    return index.parent


def said(argv: list[str], capfd: Captured) -> tuple[int, Any]:
    code = main([*argv, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_all_files_or_one_are_copied_by_their_step(run: RunFolder, tmp_path: Path, capfd: Captured) -> None:
    code, answer = said(["fetch", "latest"], capfd)
    assert code == 0, answer
    there = tmp_path / f"rch-{run.run_id}"
    assert answer["data"]["to"] == str(there)
    assert (there / "test" / "result.xcresult" / "Data" / "d").read_bytes() == b"data"
    assert (there / "run" / "run_summary.json").read_bytes() == (run.path / "run_summary.json").read_bytes()
    assert sorted(each["path"] for each in answer["data"]["files"]) == sorted(
        str(path.relative_to(tmp_path)) for path in there.rglob("*") if path.is_file()
    )
    code, answer = said(["fetch", str(run.path), "junit.xml", "--to", "out"], capfd)
    assert (code, [each["path"] for each in answer["data"]["files"]]) == (0, ["out/test/junit.xml"])
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["junit.xml"]


def test_what_is_there_is_written_over_only_where_that_was_asked_for(
    run: RunFolder, tmp_path: Path, capfd: Captured
) -> None:
    place = tmp_path / "out" / "test" / "junit.xml"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    code, answer = said(["fetch", "latest", "junit.xml", "--to", "out"], capfd)
    assert (code, place.read_text()) == (2, "mine")
    assert answer["error"]["message"] == "out/test/junit.xml is there already"
    assert said(["fetch", "latest", "junit.xml", "--to", "out", "--force"], capfd)[0] == 0
    assert place.read_bytes() == (step_of(run) / "junit.xml").read_bytes()


@pytest.mark.spec("8")
@pytest.mark.parametrize("name", ["junit.xml", "result.xcresult/Data/d"])
def test_a_file_that_is_not_the_verified_one_is_not_copied(
    run: RunFolder, tmp_path: Path, capfd: Captured, name: str
) -> None:
    (step_of(run) / name).write_bytes(b"other")
    code, answer = said(["fetch", "latest", name.partition("/")[0], "--to", "out"], capfd)
    assert (code, answer["error"]["subkind"]) == (70, "INTEGRITY_MISMATCH")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_link_in_the_place_of_a_file_is_not_followed(
    run: RunFolder, tmp_path: Path, capfd: Captured
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (step_of(run) / "junit.xml").unlink()
    (step_of(run) / "junit.xml").symlink_to(secret)
    code, _ = said(["fetch", "latest", "junit.xml", "--to", "out"], capfd)
    assert code == 70
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_name_that_is_none_gets_the_nearest(run: RunFolder, capfd: Captured) -> None:
    code, answer = said(["fetch", run.run_id, "junit.xm"], capfd)
    assert code == 2
    assert (
        answer["error"]["message"] == f"run {run.run_id} has no file 'junit.xm': did you mean 'junit.xml'?"
    )
