"""Real runs of a real daemon whose transcripts are kept under `tests/replay/real/`.

`scripts/record-transcripts` makes them anew, all or those that it is told: each scene is a user's
machine in a folder of its own, its worker a liar or behind a line that is cut where it has to be.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.fault_proxy import Refuse
from support.lab import FAILING_TEST, Lab, lab
from support.liar import command
from support.lines import far_lab
from support.until import until, waiting_project
from support.worker_deaths import WAITS, Attendance, hook, table

from worker_agent.clock import boot_seconds

HERE = Path(__file__).parent / "real"
MOST_BYTES = 150_000
_SHORT_LEASES = """
import sys
if "worker_agent" in " ".join(getattr(sys, "orig_argv", ())):
    import worker_agent.leases
    worker_agent.leases.DEFAULT_TTL_SECONDS = 2
"""
_HALF = 20_000


def _ends(user: Lab, run_id: str, code: int) -> str:
    done = user.rchctl("wait", run_id)
    if done.returncode != code:
        raise AssertionError((done.returncode, code, done.stderr))
    return run_id


def _submit(user: Lab, project: Path, *flags: str) -> str:
    run_id: str = user.json("submit", *flags, cwd=project)["data"]["run_id"]
    return run_id


def success(user: Lab) -> str:
    """All goes well."""
    return _ends(user, _submit(user, user.project()), 0)


def failure(user: Lab) -> str:
    """A red test."""
    return _ends(user, _submit(user, user.project(test=FAILING_TEST)), 50)


def cancel(user: Lab) -> str:
    """Somebody cancels a build."""
    project, marker, _ = waiting_project(user)
    run_id = _submit(user, project)
    until(marker.exists)
    user.rchctl("cancel", run_id)
    return _ends(user, run_id, 80)


def resume(user: Lab) -> str:
    """The daemon is killed in the middle of a build."""
    project, marker, gate = waiting_project(user)
    run_id = _submit(user, project)
    until(marker.exists)
    user.kill_daemon()
    user.rchctl("daemon", "start")
    gate.touch()
    return _ends(user, run_id, 0)


def busy(user: Lab) -> str:
    """Somebody else has the slot."""
    project, marker, gate = waiting_project(user)
    _submit(user, project, "--action", "build")
    until(marker.exists)
    run_id = _submit(user, user.project("second"), "--action", "build")
    until(lambda: user.json("status", run_id)["data"]["waiting"] is not None)
    gate.touch()
    return _ends(user, run_id, 0)


def lease_loss(user: Lab) -> str:
    """The host is away for longer than its lease."""
    hook(user, _SHORT_LEASES)
    user.configure_worker(f'orphan_grace_seconds = 0\nswift = "{user.root / "toolchain"}"\n')
    build = Attendance(user, WAITS)
    run_id = _submit(user, user.project(build=build.body))
    build.wait_for(1)
    (held,) = [each for each in table(user)["leases"] if not each["released"]]
    user.kill_daemon()
    build.open()
    until(lambda: not table(user)["uses"])
    until(lambda: boot_seconds() > held["deadline"] + 3)
    return _ends(user, run_id, 0)


def hostile(user: Lab) -> str:
    """A worker that lies."""
    folder = user.root / "liar"
    folder.mkdir()
    argv = ", ".join(f'"{each}"' for each in command("set of another job", folder))
    user.workers(f'[[worker]]\nname = "liar"\ntransport = "local"\ncommand = [{argv}]\n')
    return _ends(user, _submit(user, user.project(), "--action", "build"), 70)


@contextmanager
def _cut_line(root: Path) -> Iterator[tuple[Lab, Callable[[Lab], str]]]:
    with far_lab(root) as far:

        def scene(user: Lab) -> str:
            build = far.build("cut", gated=True, half=_HALF)
            run_id = _submit(user, build.root, "--action", "build")
            build.until_half()
            far.line.set(Refuse())
            far.line.cut()
            until(lambda: user.json("status", run_id)["data"]["waiting"] is not None)
            far.line.set()
            build.go_on()
            return _ends(user, run_id, 0)

        yield far.user, scene


SCENES: Mapping[str, Callable[[Lab], str]] = {
    "success": success,
    "failure": failure,
    "cancel": cancel,
    "resume": resume,
    "busy": busy,
    "lease-loss": lease_loss,
    "hostile": hostile,
}
COMMENTS: Mapping[str, str] = {
    "success": "two steps succeed: upload, both sets fetched and verified, the lease given back",
    "failure": "the build succeeds and a test fails: the worker's verdict is the run's, with exit code 50",
    "cancel": "a run is cancelled while it builds: the job is ended, what there is of its set is fetched",
    "resume": "the daemon is killed while a job runs: the next one follows the same job on from its cursor",
    "busy": "the one slot is taken: the run is sent back, waits, and has the slot when the other run ends",
    "lease-loss": "the host is away until its lease is gone: renewal is refused, a new one is had",
    "hostile": "a worker hands over the set of another job: no result, the run fails as INTEGRITY_MISMATCH",
    "cut-line": "the line is cut while a log is read: the run says that it waits, dials anew, reads on",
}
"""What each pins down, in one line."""
NAMES = tuple(COMMENTS)


@contextmanager
def _stage(name: str, root: Path) -> Iterator[tuple[Lab, Callable[[Lab], str]]]:
    if name == "cut-line":
        with _cut_line(root) as (user, scene):
            yield user, scene
        return
    with lab(root) as user:
        yield user, SCENES[name]


def record(name: str, path: Path) -> None:
    """Play a scene and export its run to `path`."""
    with (
        tempfile.TemporaryDirectory(prefix="rch-scene-") as folder,
        _stage(name, Path(folder) / "lab") as (user, scene),
    ):
        run_id = scene(user)
        done = user.rchctl("debug", "transcript", run_id, "-o", str(path), "--comment", COMMENTS[name])
        if done.returncode != 0:
            raise AssertionError(done.stderr)


def main() -> None:
    """Record the scenes that are named, or all."""
    for name in sys.argv[1:] or NAMES:
        path = HERE / f"{name}.jsonl"
        record(name, path)
        sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
