"""One run under daemons that die, and what must be true when it is over (invariants I1 to I7)."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.lab import PASSING_TEST, Lab, run_files
from support.until import until

from rch.files.durable import is_temp_name
from rch.files.paths import HostPaths, host_paths
from rchctl.client import Client, ConnectionLost, NoDaemon

_DYING = Path(__file__).with_name("dying_daemon.py")
FULL_DAEMON = Path(__file__).with_name("full_daemon.py")
_TOKEN = "the-one-and-only"  # noqa: S105  (an idempotency token)
_TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
_ORDER = ("QUEUED", "RUNNING", "SUCCEEDED")


@dataclass
class Life:
    """A user, a project of two steps, and the daemons that served it one after the other."""

    user: Lab
    project: Path
    paths: HostPaths
    daemon: subprocess.Popen[bytes] | None = None
    run_id: str | None = None  # as it was acknowledged
    traces: list[Path] = field(default_factory=list)

    @property
    def executions(self) -> str:
        """A line for each action that was ever begun."""
        path = self.user.root / "executions"
        return path.read_text() if path.exists() else ""

    def steps(self, number: int = -1) -> list[str]:
        """What one daemon did."""
        trace = self.traces[number]
        return trace.read_text().splitlines() if trace.exists() else []

    # --- daemons ----------------------------------------------------------------------

    def start(self, die_at: int) -> None:
        """A daemon that dies at that step; 0 is a plain one."""
        trace = self.user.root / f"trace-{len(self.traces)}"
        self.traces.append(trace)
        self.serve([sys.executable, str(_DYING), str(die_at), str(trace)] if die_at else _plain())

    def serve(self, argv: list[str]) -> None:
        """Start a daemon by this command line."""
        with (self.user.root / "rchd.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                argv, env=self.user.env, cwd=self.user.root, stdin=subprocess.DEVNULL, stderr=log
            )

    @property
    def is_dead(self) -> bool:
        """Whether the daemon is gone, by its own hand; any other end is a failure."""
        assert self.daemon is not None
        code = self.daemon.poll()
        assert code in {None, -signal.SIGKILL}, f"exit status {code}: {self.log}"
        return code is not None

    def stop(self) -> bool:
        """End the daemon as an administrator does; whether it came to an orderly end."""
        assert self.daemon is not None
        self.daemon.terminate()
        self.daemon.wait(20)
        return self.daemon.returncode == 0 or not self.is_dead

    @property
    def log(self) -> str:
        """What the daemons wrote."""
        return (self.user.root / "rchd.log").read_text()

    # --- the client -------------------------------------------------------------------

    def connect(self) -> Client | None:
        """A greeted connection; None if the daemon dies first."""
        while not self.is_dead:
            with suppress(NoDaemon, ConnectionLost):
                client = Client.open(self.paths)
                try:
                    client.hello()
                except BaseException:
                    client.close()
                    raise
                return client
            with suppress(subprocess.TimeoutExpired):
                self.daemon.wait(0.01)  # type: ignore[union-attr]
        return None

    def use(self, client: Client) -> str:
        """Submit, and follow to the end: the run's last state."""
        known = client.call("runs.list", {"limit": 10})["runs"]
        if self.run_id is None:
            assert len(known) <= 1
        else:
            assert [run["run_id"] for run in known] == [self.run_id]  # I1
        submit = {"start": str(self.project), "client_token": _TOKEN}
        run = client.call("runs.submit", submit)
        assert self.run_id in {None, run["run_id"]}
        assert not known or known[0]["run_id"] == run["run_id"]
        self.run_id = run["run_id"]
        client.call("runs.watch", {"run": self.run_id})
        until(lambda: _ended(client, self.run_id), 60)
        until(lambda: client.call("daemon.health", {})["activity"] == "idle")
        state: str = client.call("runs.get", {"run": self.run_id})["state"]
        return state

    def live(self) -> str | None:
        """A client's whole work with the daemon of now; None if that died meanwhile."""
        client = self.connect()
        if client is None:
            return None
        with closing(client):
            try:
                return self.use(client)
            except ConnectionLost:
                assert self.daemon is not None
                self.daemon.wait(20)
                assert self.is_dead
                return None

    # --- what must be true ------------------------------------------------------------

    def check(self, *, was_running: bool) -> None:
        """All invariants, once the run is over and the last daemon gone."""
        assert self.run_id is not None
        assert sorted(self.executions.split()) == ["build", "test"]  # I2
        run_dir = self.paths.artifacts / self.run_id
        self._check_records(run_dir, was_running=was_running)
        self._check_events()
        files = run_files(run_dir)
        for action in ("build", "test"):
            check_set(files[f"{action}/job_index_path"].parent)
        self._check_litter(run_dir, files)
        self._check_worker()
        until(lambda: not processes_of(self.user.root))

    def _check_records(self, run_dir: Path, *, was_running: bool) -> None:
        run = json.loads((run_dir / "run_state.json").read_text())
        assert (run["state"], run["seq"]) == ("SUCCEEDED", 3)  # I3
        if was_running:
            assert run["resumed_at"]
        index = json.loads((run_dir / "run_index.json").read_text())
        summary = json.loads((run_dir / index["run_summary"]).read_text())
        assert (summary["status"], summary["exit_code"]) == ("success", 0)  # I6
        for step in index["steps"]:
            job = json.loads((run_dir / step["job_index_path"]).with_name("job_state.json").read_text())
            assert (job["state"], job["seq"]) == ("SUCCEEDED", 3)

    def _check_events(self) -> None:
        with closing(sqlite3.connect(self.paths.database)) as con:
            rows = con.execute("SELECT seq, doc FROM events ORDER BY seq").fetchall()
            runs = con.execute("SELECT run_id, state, seq FROM runs").fetchall()
        assert runs == [(self.run_id, "SUCCEEDED", 3)]
        docs = [json.loads(doc) for _, doc in rows]
        states = [(doc["seq"], _ORDER.index(doc["state"])) for doc in docs]
        assert states == sorted(states)  # I3: nothing goes back
        assert {seq for seq, _ in states} == {1, 2, 3}
        assert all(seq == order + 1 for seq, order in states)

    def _check_litter(self, run_dir: Path, files: dict[str, Path]) -> None:
        """I5: the run has what its indices name, and nothing else is there."""
        assert [each.name for each in self.paths.artifacts.iterdir()] == [self.run_id]
        there = {path.resolve() for path in run_dir.rglob("*") if path.is_file()}
        markers = {path for path in there if path.name in {"run_index.json", "job_index.json"}}
        assert there - {path.resolve() for path in files.values()} - markers == set()
        assert [path.name for path in run_dir.glob("host/*/*") if path.is_dir()] == []
        assert [name for name in names_below(self.user.root) if is_temp_name(name)] == []
        assert {path.suffix for path in self.paths.spool.iterdir()} <= {".zst", ".known"}

    def _check_worker(self) -> None:
        table = self.user.worker_home / "state" / "leases" / "table.json"

        def is_free() -> bool:
            now = json.loads(table.read_text())
            return not now["uses"] and all(lease["released"] for lease in now["leases"])

        until(is_free)
        until(lambda: not any((self.user.worker_home / "data" / "runs").iterdir()))


def _plain() -> list[str]:
    return [sys.executable, "-m", "rchd", "run"]


def _ended(client: Client, run_id: str | None) -> bool:
    client.notification(0.05)
    return client.call("runs.get", {"run": run_id})["state"] in _TERMINAL


def check_set(folder: Path) -> None:
    """I4: every byte of a published set is what its manifest says."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["entries"]:
        path = folder / entry["path"]
        if entry["type"] == "file":
            data = path.read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
        else:
            assert path.is_dir()


def names_below(root: Path) -> list[str]:
    """The name of each file and folder; what a worker sweeps away meanwhile is no matter."""
    return [name for _, folders, files in os.walk(root) for name in (*folders, *files)]


def processes_of(root: Path) -> list[int]:
    """The processes that live in this user's homes."""
    wanted = f"RCH_HOME={root / 'home'}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


@contextmanager
def a_life(root: Path) -> Iterator[Life]:
    """A user in `root` with a project whose steps leave a mark; no daemon of theirs is left."""
    root.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="rch-") as short:
        user = Lab(root, Path(short), stand_in=True)
        mark = f'echo {{}} >> "{root}/executions"\n'
        project = user.project(
            build=mark.format("build") + "echo building\n", test=mark.format("test") + PASSING_TEST
        )
        user.env["PYTHONFAULTHANDLER"] = "1"
        life = Life(user=user, project=project, paths=host_paths(user.env))
        try:
            yield life
        finally:
            if life.daemon is not None and life.daemon.poll() is None:
                life.daemon.kill()
                life.daemon.wait()


def walk(root: Path, *deaths: int) -> list[str]:
    """Daemons that die at these steps, then a plain one. The steps of the first until it died."""
    with a_life(root) as life:
        was_running = False
        for die_at in (*deaths, 0):
            life.start(die_at)
            if life.live() is not None and life.stop():
                break
            committed = [line for line in life.steps() if line.startswith("committed ")]
            was_running = was_running or (bool(committed) and committed[-1].endswith("RUNNING"))
        life.check(was_running=was_running)
        return life.steps(0)
