"""The wall clock jumps by a day, either way: leases live by the boot's clock, runs by their `seq`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab, run_files
from support.until import until, waiting_project
from support.worker_pipe import Bench, Pipe, Refused, a_bench

DAY = 86_400
# In the daemon, the client, the worker and the supervisors: the wall clock as a file says.
_JUMPING = """
import os, time
_file, _real = os.environ["RCH_TEST_CLOCK"], time.time
def _jumped():
    with open(_file) as file:
        return _real() + float(file.read() or 0)
time.time = _jumped
"""

pytestmark = [pytest.mark.fault("H14"), pytest.mark.spec("2"), pytest.mark.spec("3.4")]


class Clock:
    """The wall clock of every process that is started with `env`."""

    def __init__(self, root: Path) -> None:
        site = root / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_JUMPING)
        self._file = root / "clock"
        self._file.write_text("0")
        self.env = {"PYTHONPATH": str(site), "RCH_TEST_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Put it forward, or back, by `seconds` from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as made:
        yield made


def reserve(pipe: Pipe, run: int, **more: Any) -> dict[str, Any]:
    return pipe.ask("reserve", run_id=f"run-{run:010}", host_id="host-1", **more)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_neither_ends_a_lease_nor_prolongs_it(bench: Bench, tmp_path: Path, jump: int) -> None:
    clock = Clock(tmp_path)
    bench.env.update(clock.env)
    with bench.process() as pipe:
        held = reserve(pipe, 1, ttl_seconds=60)
        clock.jump(jump)
        with pytest.raises(Refused, match="BUSY"):
            reserve(pipe, 2)
        again = reserve(pipe, 1, lease_id=held["lease_id"], fence=held["fence"], ttl_seconds=1)
        assert (again["lease_id"], again["fence"]) == (held["lease_id"], held["fence"])
        assert str(again["expires_at"])[:10] != str(held["expires_at"])[:10]  # for people: it did jump
        clock.jump(-jump)
        until(lambda: is_expired(pipe, again))


def is_expired(pipe: Pipe, lease: dict[str, Any]) -> bool:
    try:  # another run asks: a renewal would prolong it
        reserve(pipe, 3)
    except Refused as refused:
        if refused.code != "BUSY":
            raise
        return False
    with pytest.raises(Refused, match="LEASE_EXPIRED"):
        reserve(pipe, 1, lease_id=lease["lease_id"], fence=lease["fence"])
    return True


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.mark.parametrize("jumps", [(DAY, -DAY), pytest.param((-DAY, DAY), marks=pytest.mark.faults_long)])
def test_a_run_goes_on_as_if_the_clock_had_not_jumped(user: Lab, jumps: tuple[int, int]) -> None:
    clock = Clock(user.root)
    user.env.update(clock.env)
    project, marker, gate = waiting_project(user)
    run_id = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    clock.jump(jumps[0])
    user.kill_daemon()  # what is taken up again is seen a day off
    assert user.json("status", run_id)["data"]["state"] == "RUNNING"
    clock.jump(jumps[1])
    gate.touch()
    assert user.rchctl("wait", run_id).returncode == 0
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["seq"]) == ("SUCCEEDED", 3)
    files = run_files(Path(run["run_dir"]))
    summary = json.loads(files["build/summary"].read_text())
    assert (summary["attempts"], summary["status"]) == (1, "success")
    table = json.loads((user.worker_home / "state" / "leases" / "table.json").read_text())
    assert [lease["fence"] for lease in table["leases"]] == [1]
