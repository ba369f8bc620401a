"""The daemon on a full disk: a waiting client is told why, and has its verdict when there is space.

That is, the whole of it: real programs, real disks.

Each part (state, spool, artifacts) lies on a small disk of its own in turn, while a run is under way.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.lab import Lab, lab
from support.small_disk import fill, small_disk
from support.until import until, waiting_project

from rch.files.paths import host_paths

pytestmark = [pytest.mark.spec("4"), pytest.mark.fault("H12")]

KIBIBYTES = 24 * 1024


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def disk(user: Lab) -> Iterator[Callable[[Path], Path]]:
    """Mounts a small disk at a place of the user's that is not there yet; gone after the daemon."""
    with ExitStack() as mounted:

        def mount(place: Path) -> Path:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return mounted.enter_context(small_disk(place, KIBIBYTES))

        yield mount
        user.stop()


def heard(client: subprocess.Popen[str], words: str) -> str:
    """What the client says until `words` are in it."""
    assert client.stderr is not None
    told = ""
    while words not in told:
        ready, _, _ = select.select([client.stderr], [], [], 60)
        assert ready, f"not said: {words!r}, but: {told}"
        piece = os.read(client.stderr.fileno(), 1 << 16).decode()
        assert piece, told
        told += piece
    return told


@pytest.mark.parametrize("place", ["state", "artifacts"])
def test_a_client_that_waits_is_told_and_gets_its_verdict_when_there_is_space(
    user: Lab, disk: Callable[[Path], Path], place: str
) -> None:
    paths = host_paths(user.env)
    folder = disk({"state": paths.state_dir, "artifacts": paths.data_dir}[place])
    project, marker, gate = waiting_project(user)
    client = user.start("verify", cwd=project)
    until(marker.exists, 90)
    pid = user.daemon_pid
    ballast = fill(folder)
    gate.touch()
    # Of the artifacts: the set stays at its worker until it can be fetched.
    words = {"state": "cannot be written", "artifacts": "waits for space on this machine's disk"}[place]
    assert str(folder) in heard(client, words)
    status = user.json("daemon", "status")
    assert (status["exit_code"], status["data"]["pid"]) == (0, pid)
    assert user.json("list")["exit_code"] == 0
    ballast.unlink()
    _, err = client.communicate(timeout=90)
    assert client.returncode == 0, err
    assert user.daemon_pid == pid, "without a restart"
    run = user.json("status", "latest")["data"]
    assert run["state"] == "SUCCEEDED"
    state = json.loads((Path(run["run_dir"]) / "run_state.json").read_text())
    assert (state["state"], state["seq"]) == (run["state"], run["seq"])


def test_a_run_can_be_cancelled_while_the_disk_is_full(user: Lab, disk: Callable[[Path], Path]) -> None:
    folder = disk(host_paths(user.env).state_dir)
    project, marker, _gate = waiting_project(user)
    client = user.start("verify", cwd=project)
    until(marker.exists, 90)
    ballast = fill(folder)
    assert user.rchctl("cancel", "latest").returncode in {0, 80}
    _, err = client.communicate(timeout=60)
    assert client.returncode == 80, err
    assert user.json("status", "latest")["data"]["state"] == "CANCELLED"
    ballast.unlink()
    assert user.json("verify", cwd=user.project("other"))["exit_code"] == 0


def test_a_submit_without_room_for_its_bundle_is_refused_in_words_and_works_later(
    user: Lab, disk: Callable[[Path], Path]
) -> None:
    folder = disk(host_paths(user.env).state_dir / "spool")
    project = user.project(data="x" * (64 << 10))
    assert user.json("verify", cwd=project)["exit_code"] == 0
    ballast = fill(folder)
    refused = user.json("verify", cwd=user.project("other", **{"data.bin": os.urandom(32 << 10).hex()}))
    assert refused["exit_code"] == 92
    assert "No space left" in refused["error"]["message"]
    assert user.json("daemon", "status")["exit_code"] == 0
    ballast.unlink()
    assert user.json("verify", cwd=user.root / "other")["exit_code"] == 0
