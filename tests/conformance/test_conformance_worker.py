"""`rch-conformance worker` as it is called: our own worker over pipes and sshd, and what is no worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conformance.mutant_bench import a_mutant_bench
from support import sshd

from rch_conformance.worker.peer import new_id

WORKER = [sys.executable, "-m", "worker_agent", "xcode", "rpc"]
SUITE = [sys.executable, "-m", "rch_conformance", "worker"]


def called(
    *words: str, env: Mapping[str, str] | None = None, timeout: float = 600
) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command."""
    done = subprocess.run(
        [*SUITE, "--json", *words],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def failures(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["id"], each["detail"]) for each in report["results"] if each["verdict"] == "fail"]


@pytest.mark.spec("13")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sections",
    [
        pytest.param(("3.1", "3.2", "4", "8", "10"), id="some"),
        pytest.param((), id="all", marks=pytest.mark.faults_long),
    ],
)
def test_our_own_worker_passes_every_check(sections: tuple[str, ...], tmp_path: Path) -> None:
    words = [word for section in sections for word in ("--section", section)]
    with a_mutant_bench(tmp_path) as bench:
        code, report = called(
            *words, "--require", "all", "--junit", str(tmp_path / "j.xml"), "--", *bench.command("none")
        )
    assert failures(report) == []
    assert code == 0
    assert report["counts"]["not_offered"] == 0
    assert (tmp_path / "j.xml").read_bytes().startswith(b"<?xml")


@pytest.mark.spec("13")
@pytest.mark.swift
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("swift") is None, reason="no Swift toolchain on PATH")
@pytest.mark.faults_long
@pytest.mark.parametrize("sections", [("4", "8"), ()], ids=["jobs", "all"])
def test_our_own_worker_passes_with_a_real_swift(sections: tuple[str, ...], tmp_path: Path) -> None:
    words = [word for section in sections for word in ("--section", section)]
    env = {"RCH_WORKER_HOME": str(tmp_path / "worker"), "HOME": str(tmp_path)}
    code, report = called(*words, "--timeout", "60", "--", *WORKER, env=env, timeout=800)
    assert failures(report) == []
    assert code == 0


@pytest.mark.spec("13")
@pytest.mark.faults_long
@pytest.mark.timeout(400)
def test_our_own_worker_passes_with_stand_ins_of_an_xcode(tmp_path: Path) -> None:
    config = tmp_path / "worker" / "config" / "worker.toml"
    config.parent.mkdir(parents=True)
    config.write_text("simulate = true\n")
    env = {
        "RCH_WORKER_HOME": str(tmp_path / "worker"),
        "HOME": str(tmp_path),
        "RCH_WORKER_KILL_GRACE": "0.3",
    }
    code, report = called("--", *WORKER, env=env)
    assert failures(report) == []
    assert code == 0


@pytest.mark.spec("13")
@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
def test_a_worker_behind_sshd_is_checked(tmp_path: Path) -> None:
    with (
        a_mutant_bench(tmp_path) as bench,
        sshd.SshdServer(tmp_path / "sshd", command=WORKER, env=bench.env) as server,
    ):
        known = tmp_path / "known_hosts"
        known.write_text(f"[{server.host}]:{server.port} {server.host_key_lines['ed25519']}\n")
        options = (
            f"Port={server.port}",
            f"UserKnownHostsFile={known}",
            f"IdentityFile={server.client_key}",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
        )
        words = [word for option in options for word in ("--ssh-option", option)]
        chosen = (
            "one-shot",
            "session-keeps-the-order",
            "plain-upload",
            "job-outlives-its-channel",
            "root-is-right",
        )
        words += [word for check in chosen for word in ("--only", check)]
        code, report = called("--ssh", f"{server.user}@{server.host}", *words)
    assert failures(report) == []
    assert code == 0
    assert report["counts"]["pass"] == len(chosen)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("import time; time.sleep(3600)", id="silent"),
        pytest.param("print('hello')", id="rubbish", marks=pytest.mark.faults_long),
        pytest.param("import sys; sys.stdout.write('x' * 100000)", id="half-a-line"),
        pytest.param("import sys; sys.exit('no such machine')", id="dead", marks=pytest.mark.faults_long),
        pytest.param("print('{\"ok\": true}')", id="no-payload"),
        pytest.param(
            "import sys\nfor line in sys.stdin: print('[' * 5000)", id="deep", marks=pytest.mark.faults_long
        ),
    ],
)
def test_a_peer_that_is_no_worker_fails_and_hangs_nobody(script: str) -> None:
    code, report = called("--timeout", "0.4", "--", sys.executable, "-c", script, timeout=110)
    assert code == 1
    # One of them says a line of JSON, and most of them end with their input.
    assert report["counts"]["pass"] <= 2
    assert "\n" not in failures(report)[0][0]


def test_an_id_is_of_version_7_and_none_sorts_before_an_earlier_one() -> None:
    made = [uuid.UUID(new_id()) for _ in range(500)]
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
    assert len(set(made)) == len(made)
    stamps = [each.int >> 64 for each in made]
    assert stamps == sorted(stamps)
    assert abs((made[-1].int >> 80) / 1000 - time.time()) < 60
