"""A daemon that has done much: its memory does not tell of it, and its start hardly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from support.lab import Lab, lab
from support.playbook import T0, accepted
from support.until import until

from rch.contract.states import is_terminal
from rch.files.paths import HostPaths, host_paths
from rchctl.client import Client, NoDaemon
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.edges.core_rows import rows_of
from rchd.edges.store import SqliteStore

pytestmark = [
    pytest.mark.spec("4"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process takes"),
]

FLAT = 1.3  # of memory: what comes and goes with each run must not stay
PROCESSOR_PER_RUN = 200e-6  # seconds: SQLite looks over its pages, and nobody at the rows
WORDS = "x" * 4000
# A worker that never answers: whoever is first in line asks it, the others wait behind.
SILENT = '[[worker]]\nname = "w"\ntransport = "local"\ncommand = ["sleep", "1000"]\n'


@dataclass
class Daemon:
    """One that runs, and a client of it."""

    process: subprocess.Popen[bytes]
    client: Client

    @property
    def rss(self) -> int:
        """Its memory now, in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    @property
    def processor(self) -> float:
        """The processor's time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(user: Lab) -> Iterator[Daemon]:
    """A daemon that answers, gone at the end."""
    argv = [sys.executable, "-m", "rchd", "run"]
    with (user.root / "rchd.log").open("ab") as log:
        process = subprocess.Popen(argv, env=user.env, cwd=user.root, stdin=subprocess.DEVNULL, stderr=log)
    try:
        clients: list[Client] = []
        until(lambda: connected(process, host_paths(user.env), clients), 60)
        with closing(clients[0]) as client:
            client.hello()
            client.call("daemon.health", {})
            yield Daemon(process, client)
    finally:
        process.terminate()
        process.wait(30)


def connected(process: subprocess.Popen[bytes], paths: HostPaths, clients: list[Client]) -> bool:
    assert process.poll() is None
    with suppress(NoDaemon):
        clients.append(Client.open(paths))
    return bool(clients)


def past(paths: HostPaths, many: int) -> None:
    """So many runs that are over, as a daemon leaves them."""
    core = Core(str(paths.artifacts))
    core.draining = True
    store = SqliteStore.open(paths.database)
    for number in range(many):
        run = msgspec.structs.replace(accepted(f"run-{number:08d}"), warnings=(WORDS,))
        effects = core.handle(ev.RunAccepted(at=T0, accepted=run))
        effects += core.handle(ev.CancelAsked(at=T0, run_id=run.run_id, reason="USER"))
        (paths.artifacts / run.run_id).mkdir(parents=True)
        (paths.artifacts / run.run_id / "run_index.json").touch()
        if (number + 1) % 500 == 0 or number + 1 == many:
            dirty = core.take_dirty()
            assert all(is_terminal(each.state) for each in dirty)
            store.commit(rows_of(dirty, effects))
            for each in dirty:
                core.forget(each.run_id)
    store.close()


@pytest.mark.fault("H2")
@pytest.mark.parametrize("many", [1_000, pytest.param(10_000, marks=pytest.mark.faults_long)])
@pytest.mark.timeout(300)
def test_runs_that_are_over_add_no_memory_and_little_to_a_start(tmp_path: Path, many: int) -> None:
    found: dict[int, tuple[float, int]] = {}
    for number in (300, many):  # some hundred are looked at in any start
        with lab(tmp_path / str(number)) as user:
            past(host_paths(user.env), number)
            with served(user) as daemon:
                found[number] = daemon.processor, daemon.rss
                newest = daemon.client.call("runs.list", {"limit": 1})["runs"]
                assert [run["run_id"] for run in newest] == [f"run-{number - 1:08d}"]
    (few_seconds, few_bytes), (seconds, size) = found[300], found[many]
    assert size < FLAT * few_bytes
    assert seconds - few_seconds < max(many * PROCESSOR_PER_RUN, 1.0)


@pytest.mark.fault("H15")
@pytest.mark.parametrize("transitions", [100, pytest.param(10_000, marks=pytest.mark.faults_long)])
@pytest.mark.timeout(1800)
def test_memory_stays_flat_over_many_transitions(tmp_path: Path, transitions: int) -> None:
    with lab(tmp_path / "user") as user:
        user.workers(SILENT)
        project = {"start": str(user.project())}
        with served(user) as daemon:
            daemon.client.call("runs.watch", {"run": "all"})

            def pass_by(runs: int) -> None:
                for _ in range(runs):  # each is accepted, and cancelled: two transitions
                    run_id = daemon.client.call("runs.submit", project)["run_id"]
                    daemon.client.call("runs.cancel", {"run": run_id})
                    while daemon.client.notification(0) is not None:
                        pass
                until(lambda: daemon.client.call("daemon.health", {})["runs_queued"] <= 1)

            daemon.client.call("runs.submit", project)
            pass_by(max(transitions // 10, 40) // 2)
            warm = daemon.rss
            pass_by(transitions // 2)
            assert daemon.rss < FLAT * warm
