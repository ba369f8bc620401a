"""The golden digests: made by the product, made by hand, equal whatever the machine (spec 5, 7, 8)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.mock import MockPipe

from rch.contract.canonical import jcs_sha256
from rch.contract.records import JobKeyInputs
from rch_conformance import fixtures
from rch_conformance.fixtures import golden
from rchd.edges.snapshot import SnapshotOptions, take

GOLDEN: dict[str, Any] = json.loads(fixtures.GOLDEN.read_bytes())
PROJECTS = ("package", "app")
ACTIONS = ("build", "test")


def by_hand(project: Path) -> str:
    """`source_sha256` from docs/canonical-tar.md alone: ustar headers, byte by byte."""
    tar = b""
    files = {str(path.relative_to(project)): path for path in project.rglob("*") if path.is_file()}
    for name in sorted(files, key=str.encode):
        data = files[name].read_bytes()
        header = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
        header += b"%011o\0" % len(data) + b"00000000000\0" + b" " * 8 + b"0" + bytes(100)
        header += b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
        header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
        tar += header + data + bytes(-len(data) % 512)
    return hashlib.sha256(tar + bytes(1024)).hexdigest()


@pytest.mark.spec("5", "13")
@pytest.mark.parametrize("name", PROJECTS)
def test_the_golden_source_is_what_the_daemon_bundles(name: str, tmp_path: Path) -> None:
    project = fixtures.copy(golden.PROJECTS[name], tmp_path / "somewhere else")
    assert (
        take(project, SnapshotOptions(), tmp_path / "spool").source_sha256 == GOLDEN[name]["source_sha256"]
    )


@pytest.mark.spec("5", "13")
@pytest.mark.parametrize("name", PROJECTS)
def test_the_golden_source_is_what_the_document_alone_leads_to(name: str, tmp_path: Path) -> None:
    project = fixtures.copy(golden.PROJECTS[name], tmp_path / name)
    assert by_hand(project) == GOLDEN[name]["source_sha256"]


@pytest.mark.spec("7", "13")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", PROJECTS)
def test_the_golden_keys_are_those_of_their_inputs(name: str, action: str) -> None:
    inputs = GOLDEN[name]["job_key_inputs"][action]
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name]["job_key"][action]
    assert jcs_sha256(msgspec.convert(inputs, JobKeyInputs)) == GOLDEN[name]["job_key"][action]


@pytest.mark.spec("8", "13")
@pytest.mark.parametrize("name", PROJECTS)
def test_a_frozen_mock_worker_answers_with_the_golden_sets(name: str, tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state", "--frozen") as worker:
        worker.upload(golden.source_of(golden.PROJECTS[name]))
        for action in ACTIONS:
            submit = golden.submit_of(name, action)
            worker.ask("submit", **msgspec.to_builtins(submit))
            header, body = worker.fetch(submit.job.job_id)
            entries = header["manifest"]["entries"]
            text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
            assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name]["artifact_root_sha256"][action]
            assert hashlib.sha256(body).hexdigest() == GOLDEN[name]["set_sha256"][action]


@pytest.mark.spec("13")
@pytest.mark.parametrize(
    ("env", "umask"),
    [
        ({"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Kathmandu"}, 0o077),
        ({"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "America/New_York"}, 0o000),
    ],
)
def test_nothing_of_the_machine_is_in_a_golden_digest(
    env: Mapping[str, str], umask: int, tmp_path: Path
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "rch_conformance.fixtures.golden"],
        env={**os.environ, **env},
        cwd=tmp_path,
        umask=umask,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert made.stdout == fixtures.GOLDEN.read_bytes()


@pytest.mark.spec("5")
def test_neither_modes_nor_times_of_a_checkout_are_in_the_source(tmp_path: Path) -> None:
    project = fixtures.copy(fixtures.PACKAGE, tmp_path / "package")
    for number, path in enumerate(sorted(project.rglob("*.swift"))):
        path.chmod(0o600)
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    found = take(project, SnapshotOptions(), tmp_path / "spool").source_sha256
    assert found == GOLDEN["package"]["source_sha256"]


def test_the_two_projects_hold_what_their_digests_are_of_and_nothing_more() -> None:
    for name, project in golden.PROJECTS.items():
        assert by_hand(project) == GOLDEN[name]["source_sha256"]
