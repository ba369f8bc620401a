"""A user's machine in a folder: homes for host and worker, projects, and `rchctl` as they would call it.

With `stand_in=True` the worker's toolchain is a shell script that runs `build.sh` and
`test.sh` of the project, so that what surrounds a build can be tried in milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.plain import PLAIN

from rch.files.locks import FileLock, is_free
from rch.files.paths import host_paths

TIMEOUT = 110
REPO = Path(__file__).parents[2]
DEMO = REPO / "rchctl" / "demos" / "package"
PACKAGES = REPO / "tests" / "packages"

_SWIFT = """#!/bin/sh
if [ "$1" = --version ]; then echo 'Swift version 6.0.1 (swift-6.0.1-RELEASE)'; exit 0; fi
action=$1
for word in "$@"; do [ "$word" = --build-tests ] && action=build-tests; done
while [ $# -gt 0 ]; do
  case "$1" in
    --package-path) package=$2 ;;
    --xunit-output) export XUNIT=$2 ;;
  esac
  shift
done
[ "$action" = build-tests ] && exit 0
cd "$package"
exec /bin/sh "./$action.sh"
"""

NO_TESTS = """
for file in "$XUNIT" "${XUNIT%.xml}-swift-testing.xml"; do
  echo '<testsuites><testsuite name="None"/></testsuites>' > "$file"
done
"""

PASSING_TEST = """
cat > "$XUNIT" <<XML
<testsuites><testsuite name="All"><testcase classname="AppTests" name="testOne"/></testsuite></testsuites>
XML
echo '<testsuites><testsuite name="None"/></testsuites>' > "${XUNIT%.xml}-swift-testing.xml"
echo "Test Suite 'AppTests' started at 2026-01-01 10:00:00.000"
echo "Test Case 'AppTests.testOne' started at 2026-01-01 10:00:00.000"
echo "Test Case 'AppTests.testOne' passed (0.001 seconds)"
echo "Test Suite 'AppTests' passed at 2026-01-01 10:00:00.001"
echo "Executed 1 test, with 0 failures (0 unexpected) in 0.001 (0.001) seconds"
"""

FAILING_TEST = """
cat > "$XUNIT" <<XML
<testsuites><testsuite name="All">
<testcase classname="AppTests.Sum" name="testOne"/>
<testcase classname="AppTests.Sum" name="testTwo"><failure message="no"/></testcase>
</testsuite></testsuites>
XML
echo '<testsuites><testsuite name="None"/></testsuites>' > "${XUNIT%.xml}-swift-testing.xml"
echo "Test Case 'Sum.testOne' passed (0.001 seconds)"
echo "Test Case 'Sum.testTwo' failed (0.001 seconds)"
exit 1
"""


class Lab:
    """One user. `socket` is short, whatever the folder's depth."""

    def __init__(self, root: Path, short: Path, *, stand_in: bool) -> None:
        self.root = root
        self.home = root / "home"
        self.worker_home = root / "worker"
        self.socket = short / "s"
        self.env = {
            **PLAIN,
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "RCH_HOME": str(self.home),
            "RCH_WORKER_HOME": str(self.worker_home),
            "RCH_SOCKET": str(self.socket),
            "RCH_WORKER_KILL_GRACE": "0.3",
        }
        (self.worker_home / "config").mkdir(parents=True)
        self.stand_in = stand_in
        if stand_in:
            self._stand_in()

    def _stand_in(self) -> None:
        swift = self.root / "toolchain" / "bin" / "swift"
        swift.parent.mkdir(parents=True)
        swift.write_text(_SWIFT)
        swift.chmod(0o755)
        self.configure_worker(f'swift = "{swift.parent.parent}"\n')

    def configure_worker(self, text: str) -> None:
        """Write `worker.toml`."""
        (self.worker_home / "config" / "worker.toml").write_text(text)

    def workers(self, text: str) -> None:
        """Write `workers.toml`."""
        path = self.home / "config" / "workers.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def copy(self, package: Path, name: str = "project") -> Path:
        """A package of the repository as the user's own project."""
        return Path(shutil.copytree(package, self.root / name, ignore=shutil.ignore_patterns(".build")))

    def project(self, name: str = "project", **files: str) -> Path:
        """A package for the stand-in: `build` and `test` are the scripts, other names are files."""
        root = self.root / name
        root.mkdir()
        scripts = {"build": "echo building", "test": PASSING_TEST, **files}
        (root / "Package.swift").write_text("// swift-tools-version: 5.9\n")
        (root / "build.sh").write_text(scripts.pop("build"))
        (root / "test.sh").write_text(scripts.pop("test"))
        for path, text in scripts.items():
            (root / path).write_text(text)
        return root

    def rchctl(
        self, *args: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`rchctl` from beginning to end."""
        return subprocess.run(
            self._argv(args),
            env={**self.env, **(env or {})},
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def start(self, *args: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """`rchctl` while it runs."""
        return subprocess.Popen(
            self._argv(args),
            env=self.env,
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _argv(self, args: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "rchctl", *args]

    def json(self, *args: str, cwd: Path | None = None) -> dict[str, Any]:
        """The one object that `rchctl … --json` prints."""
        done = self.rchctl(*args, "--json", cwd=cwd)
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["exit_code"] == done.returncode, (answer, done.stderr)
        return answer

    @property
    def daemon_pid(self) -> int:
        """The daemon that runs now."""
        pid = self._holder()
        return pid if pid is not None else int(self.json("daemon", "status")["data"]["pid"])

    def _holder(self) -> int | None:
        """Who has the daemon's lock and says so: to ask `rchctl` costs the start of a program."""
        words = (FileLock(host_paths(self.env).lock).holder() or "").split()
        return int(words[1]) if words[:1] == ["pid"] and words[1].isdecimal() else None

    def kill_daemon(self) -> None:
        """As the power does."""
        os.kill(self.daemon_pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the daemon, if there is one, in its orderly way; it is gone then."""
        if is_free(host_paths(self.env).lock):
            return
        pid = self._holder()
        if pid is None or not hasattr(os, "pidfd_open"):
            self.rchctl("daemon", "stop")
            return
        with suppress(ProcessLookupError):
            life = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(life, signal.SIGTERM)
                assert select.select([life], [], [], TIMEOUT)[0], "the daemon does not end"
            finally:
                os.close(life)


@contextmanager
def lab(root: Path, *, stand_in: bool = True) -> Iterator[Lab]:
    """A user in `root`, whose daemon is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="rch-") as short:
        user = Lab(root, Path(short), stand_in=stand_in)
        try:
            yield user
        finally:
            user.stop()


def run_files(run_dir: Path) -> dict[str, Path]:
    """Every file of a run, found through `run_index.json` and `job_index.json` alone."""
    index = json.loads((run_dir / "run_index.json").read_text())
    found = {
        name: run_dir / value
        for name, value in index.items()
        if isinstance(value, str) and name not in {"run_id", "created_at", "schema_id", "schema_version"}
    }
    for step in index["steps"]:
        for name, value in step.items():
            if name.endswith("_path") and value is not None:
                found[f"{step['action']}/{name}"] = run_dir / value
        if step["job_index_path"] is not None:
            job = run_dir / step["job_index_path"]
            for name, value in json.loads(job.read_text())["files"].items():
                found[f"{step['action']}/{name}"] = job.parent / value
    return found
