"""A worker that is low on disk takes no new run, says so by name, and lets go of nobody."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import sshd
from support.lab import Lab, lab
from support.small_disk import small_disk
from support.worker_deaths import hook, programs, tools
from support.worker_pipe import Bench, Refused, a_bench
from support.worker_remote import WORKER

from worker_agent.worker import LOW_DISK_BYTES

_LOW = """
import sys
if "worker_agent" in " ".join(getattr(sys, "orig_argv", ())):
    import worker_agent.worker
    worker_agent.worker.LOW_DISK_BYTES = 1 << 60
"""

pytestmark = [pytest.mark.fault("W9"), pytest.mark.spec("3.4")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as made, small_disk(made.data, 1024):
        yield made


def make_room(disk: Path) -> None:
    """Somebody frees space."""
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)


def test_a_disk_with_little_room_is_told_and_refuses_new_runs_alone(bench: Bench) -> None:
    with bench.pipe() as pipe:
        assert pipe.ask("probe")["capabilities"]["capacity"]["disk_free_bytes"] < LOW_DISK_BYTES
        with pytest.raises(Refused, match="NO_SPACE") as refused:
            pipe.ask("reserve", run_id="run-0000000001", host_id="host-1")
        assert "low on disk" in refused.value.message
        assert str(LOW_DISK_BYTES) in refused.value.message
        assert str(bench.root) not in refused.value.message
        make_room(bench.data)  # it takes no restart
        lease = pipe.ask("reserve", run_id="run-0000000001", host_id="host-1")
        (bench.data / "ballast").touch()
        subprocess.run(["mount", "-o", "remount,size=1m", str(bench.data)], check=True)
        # Who is in stays in.
        again = pipe.ask("reserve", run_id="run-0000000001", host_id="host-1")
        named = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        renewed = pipe.ask("reserve", run_id="run-0000000001", host_id="host-1", **named)
        assert {again["fence"], renewed["fence"]} == {lease["fence"]}
        pipe.ask("release", **named)


@contextmanager
def low_lab(root: Path) -> Iterator[Lab]:
    with lab(root) as user:
        hook(user, _LOW)
        yield user


def test_a_run_that_only_a_low_worker_could_serve_ends_by_the_name_of_it(tmp_path: Path) -> None:
    with low_lab(tmp_path) as user:
        answer = user.json("verify", cwd=user.project())
        assert answer["exit_code"] == 40
        run = answer["data"]
        assert (run["failure_kind"], run["failure_subkind"]) == ("EXECUTOR", "NO_SPACE")
        assert "low on disk" in run["human_summary"]
        assert programs(user, "supervise") == tools(user) == []


@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
def test_another_worker_serves_while_the_first_is_low_on_disk(tmp_path: Path) -> None:
    with low_lab(tmp_path) as user:
        other = tmp_path / "other"
        shutil.copytree(user.worker_home / "config", other / "config")
        env = {"PATH": user.env["PATH"], "HOME": user.env["HOME"], "RCH_WORKER_HOME": str(other)}
        with sshd.SshdServer(tmp_path / "sshd", command=WORKER, env=env) as server:
            user.workers(
                '[[worker]]\nname = "low"\ntransport = "local"\npriority = 1\n'
                f'[[worker]]\nname = "roomy"\nhost = "{server.host}"\nport = {server.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            run = user.json("verify", cwd=user.project())["data"]
            assert (run["state"], run["worker"]) == ("SUCCEEDED", "roomy")
