"""Two hosts that know nothing of each other share one worker, and never overfill it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from crash.daemon_life import processes_of
from support.lab import Lab, lab
from support.until import until

from rch.files.paths import host_paths
from rchctl.client import Client

# A line as a job begins and one as it ends, in their order. The first waits until all slots are in use.
_BUILD = """
echo "+ $$" >> "{log}"
while [ "$(grep -c '+' "{log}")" -lt {slots} ]; do sleep 0.02; done
sleep 0.2
echo "- $$" >> "{log}"
"""


@contextmanager
def two_hosts(root: Path, *, slots: int) -> Iterator[tuple[Lab, Lab]]:
    """Two users on two hosts, the one's worker home is the other's, too."""
    with ExitStack() as stack:
        first, second = (root / "first", root / "second")
        first.mkdir()
        second.mkdir()
        one = stack.enter_context(lab(first))
        two = stack.enter_context(lab(second, stand_in=False))
        two.worker_home = one.worker_home
        two.env["RCH_WORKER_HOME"] = str(one.worker_home)
        config = one.worker_home / "config" / "worker.toml"
        one.configure_worker(f"max_concurrent_jobs = {slots}\n{config.read_text()}")
        yield one, two


def submit(user: Lab, script: str, count: int) -> list[str]:
    """Several runs at once, by one client."""
    project = user.project(build=script)
    params = {"start": str(project), "actions": ["build"], "overrides": {"cache.results": False}}
    with closing(Client.open(host_paths(user.env))) as client:
        client.hello()
        asked = [client.send("runs.submit", params) for _ in range(count)]
        return [client.wait(each)["run_id"] for each in asked]


def most_at_once(log: Path) -> int:
    """How many jobs were ever alive together."""
    now = most = 0
    for line in log.read_text().splitlines():
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    assert now == 0
    return most


def fences_of(user: Lab) -> list[int]:
    """The leases that are not released."""
    table = json.loads((user.worker_home / "state" / "leases" / "table.json").read_text())
    assert table["uses"] == []
    return [lease["fence"] for lease in table["leases"] if not lease["released"]]


@pytest.mark.spec("3.3")
@pytest.mark.spec("3.4")
@pytest.mark.parametrize(("slots", "count"), [pytest.param(1, 2, marks=pytest.mark.faults_long), (2, 3)])
def test_two_hosts_never_use_more_slots_than_the_worker_has(tmp_path: Path, slots: int, count: int) -> None:
    log = tmp_path / "log"
    script = _BUILD.format(log=log, slots=slots)
    with two_hosts(tmp_path, slots=slots) as hosts:
        for host in hosts:
            assert host.rchctl("daemon", "start").returncode == 0
        runs = [(host, run_id) for host in hosts for run_id in submit(host, script, count)]
        for host, run_id in runs:
            assert host.rchctl("wait", run_id).returncode == 0
        assert most_at_once(log) == slots
        assert len(log.read_text().splitlines()) == 2 * 2 * count
        assert fences_of(hosts[0]) == []
        for host in hosts:
            host.stop()
            until(lambda host=host: processes_of(host.root) == [])  # type: ignore[misc]
