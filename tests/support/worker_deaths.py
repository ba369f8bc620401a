"""What a worker of a lab runs, its sudden end at any point, and jobs that write down who is alive."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from support.lab import Lab, run_files
from support.until import until

from rch.files.durable import is_temp_name
from worker_agent import supervisor, sweep

# Each execution names those before it that still live. A zombie has no `exe` any more.
_ATTENDED = """
for pid in $(cat "{log}" 2>/dev/null); do [ -e /proc/$pid/exe ] && echo $pid >> "{both}"; done
echo $$ >> "{log}"
echo up
{body}
"""

# Before the n-th rename of a supervisor it dies, as often as is allowed.
_DYING = """
import os, signal, sys
def doom():
    import rch.files.durable as durable
    done = []
    def count(name, word):
        with open(os.environ[name], "a+") as file:
            file.write(word + "\\n")
            file.seek(0)
            return len(file.readlines())
    class Dying(durable.System):
        def rename(self, src, dst):
            done.append(dst.name)
            count("RCH_TEST_RENAMES", dst.name)
            if len(done) == int(os.environ["RCH_TEST_DIE_AT"]):
                if count("RCH_TEST_DIED", dst.name) <= int(os.environ["RCH_TEST_DEATHS"]):
                    os.kill(os.getpid(), signal.SIGKILL)
            super().rename(src, dst)
    durable._sys = Dying()
if "supervise" in getattr(sys, "orig_argv", ()):
    doom()
if getattr(sys, "orig_argv", ())[-2:] == ["xcode", "rpc"]:
    os.register_at_fork(after_in_child=doom)
"""


def hook(user: Lab, text: str) -> None:
    """Have this run at the start of every Python process of the user's, the worker's included."""
    site = user.root / "site"
    site.mkdir(exist_ok=True)
    with (site / "sitecustomize.py").open("a") as file:
        file.write(text)
    user.env["PYTHONPATH"] = str(site)


def die_at(user: Lab, rename: int, deaths: int) -> None:
    """Have the user's next `deaths` supervisors die, each before that rename of its own."""
    hook(user, _DYING)
    user.env |= {
        "RCH_TEST_RENAMES": str(user.root / "renames"),
        "RCH_TEST_DIED": str(user.root / "died"),
        "RCH_TEST_DIE_AT": str(rename),
        "RCH_TEST_DEATHS": str(deaths),
    }


class Attendance:
    """A build that writes down which of its executions live; see `project`."""

    def __init__(self, user: Lab, body: str = "while :; do sleep 0.05; done") -> None:
        """`body` is shell; `GATE` in its environment is no file until `open` makes it."""
        self.user = user
        self.gate = user.root / "gate"
        self._log, self._both = user.root / "alive", user.root / "both"
        self.body = _ATTENDED.format(
            log=self._log, both=self._both, body=body.replace("GATE", str(self.gate))
        )

    def open(self) -> None:
        """Let the build go on."""
        self.gate.touch()

    def executions(self) -> list[int]:
        """The process of each execution, in order."""
        return list(map(int, self._log.read_text().split())) if self._log.exists() else []

    def wait_for(self, number: int) -> int:
        """Wait until that many executions began; the process of the last one."""
        until(lambda: len(self.executions()) >= number, 60)
        assert len(self.executions()) == number
        return self.executions()[-1]

    def check(self, executions: int) -> None:
        """That many ran, never two at once, and none is left."""
        assert len(self.executions()) == executions
        assert not self._both.exists(), "two executions of one job were alive together"
        assert not any(map(lives, self.executions()))


WAITS = 'while [ ! -e "GATE" ]; do sleep 0.02; done; echo ended'


def lives(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    return os.path.lexists(f"/proc/{pid}/exe") and _is_real(pid)


def _is_real(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


def programs(user: Lab, name: str) -> list[int]:
    """The worker's own processes: `supervise`, `rpc` or `sweep`."""
    home = f"RCH_WORKER_HOME={user.worker_home}".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"worker_agent" in words and name.encode() == _does(pid, words):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found += [pid] if home in environment else []
    return found


_NAMES = {supervisor.NAME: b"supervise", sweep.NAME: b"sweep"}


def _does(pid: int, words: list[bytes]) -> bytes:
    """What a process of the worker does: one that was forked says so by its name alone."""
    if (named := _NAMES.get(Path(f"/proc/{pid}/comm").read_text().strip())) is not None:
        return named
    return words[words.index(b"xcode") + 1] if b"xcode" in words else b""


def tools(user: Lab) -> list[int]:
    """The processes of jobs: those that have a TMPDIR of the worker's."""
    prefix = f"TMPDIR={user.worker_home}/".encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if any(each.startswith(prefix) for each in environment):
                found.append(pid)
    return found


def kill(*pids: int) -> None:
    """End processes the hard way, and wait until they are gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(lives, pids)))


def kill_supervisor(user: Lab) -> None:
    """The one supervisor that runs ends at once; its job goes on without it."""
    (pid,) = programs(user, "supervise")
    kill(pid)


def table(user: Lab) -> dict[str, Any]:
    """The worker's leases and uses."""
    path = user.worker_home / "state" / "leases" / "table.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def summary_of(user: Lab, run_id: str, action: str = "build") -> dict[str, Any]:
    """The published `summary.json` of a step."""
    run_dir = Path(user.json("status", run_id)["data"]["run_dir"])
    told: dict[str, Any] = json.loads(run_files(run_dir)[f"{action}/summary"].read_text())
    return told


def check_at_rest(user: Lab) -> None:
    """Nothing of the worker runs on but the daemon's lines; no slot, tree or temporary file is left."""
    until(lambda: programs(user, "supervise") == [] and tools(user) == [])
    until(lambda: table(user)["uses"] == [])
    until(lambda: all(lease["released"] for lease in table(user)["leases"]))
    until(lambda: not any((user.worker_home / "data" / "runs").glob("*")))
    until(lambda: programs(user, "sweep") == [])
    left = [path for path in user.worker_home.rglob("*") if is_temp_name(path.name)]
    assert left == [], "temporary files are left"


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
