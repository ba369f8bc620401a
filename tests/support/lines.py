"""A user whose only worker is behind sshd, over a line that can be made bad (`fault_proxy`)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.fault_proxy import Line, line_to
from support.lab import Lab, lab, run_files
from support.sshd import SshdServer
from support.until import until

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
HALF = 150_000
_BUILD = """
echo "+ $$" >> "{executions}"
head -c {half} lines.txt
touch "{marker}"
while [ ! -e "{gate}" ]; do sleep 0.02; done
tail -c +{rest} lines.txt
echo "- $$" >> "{executions}"
"""
_KEPT = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE")


@dataclass(frozen=True)
class Build:
    """A project, what its build prints, and how it and a test tell each other how far they are."""

    root: Path
    text: bytes

    @property
    def executions(self) -> Path:
        """A line as a build begins (+) and as it ends (-)."""
        return self.root.with_name(f"{self.root.name}.executions")

    @property
    def marker(self) -> Path:
        """There, once half of the text is printed."""
        return self.root.with_name(f"{self.root.name}.marker")

    @property
    def gate(self) -> Path:
        """The build prints the rest once this is there."""
        return self.root.with_name(f"{self.root.name}.gate")

    def until_half(self) -> None:
        """Until half of the text is printed."""
        until(self.marker.exists)

    def go_on(self) -> None:
        """Let it print the rest."""
        self.gate.touch()


@dataclass(frozen=True)
class FarLab:
    """The user, the line, and the server at its end."""

    user: Lab
    server: SshdServer
    line: Line

    def build(self, name: str, *, gated: bool = False, half: int = HALF) -> Build:
        """A project whose build prints a text of its own; gated, it waits for `go_on` half-way."""
        build = Build(self.user.root / name, noise(2 * half, name))
        gate = build.gate if gated else "/dev/null"
        script = _BUILD.format(
            executions=build.executions, marker=build.marker, gate=gate, half=half, rest=half + 1
        )
        self.user.project(name, build=script)
        (build.root / "lines.txt").write_bytes(build.text)
        return build

    def start(self, build: Build) -> subprocess.Popen[str]:
        """Begin to build it."""
        return self.user.start("verify", "--action", "build", "--json", cwd=build.root)

    def ended(self, client: subprocess.Popen[str]) -> dict[str, Any]:
        """The run of a `verify --json` that must end well."""
        out, err = client.communicate(timeout=110)
        assert client.returncode == 0, (out, err, self.daemon_log)
        run: dict[str, Any] = json.loads(out)["data"]
        return run

    def check(self, build: Build, run: dict[str, Any]) -> None:
        """The verdict, the bytes, the one execution and the lease of an undisturbed run."""
        assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
        files = run_files(Path(run["run_dir"]))
        assert files["build/build_log"].read_bytes() == build.text
        assert files["build/live_log_path"].read_bytes() == build.text
        said = build.executions.read_text().splitlines()
        assert [line[0] for line in said] == ["+", "-"], said
        self.check_no_lease()

    def check_no_lease(self) -> None:
        """The worker has nothing left of any run."""
        table = self.user.worker_home / "state" / "leases" / "table.json"

        def free() -> bool:
            now = json.loads(table.read_text())
            return not now["uses"] and all(lease["released"] for lease in now["leases"])

        until(free)

    @property
    def daemon_log(self) -> str:
        """What the daemon wrote."""
        found = self.user.home.rglob("rchd*.log")
        return "".join(path.read_text() for path in sorted(found))


def noise(size: int, seed: str) -> bytes:
    """Lines of text that no compression makes much smaller, with letters of several bytes."""
    made = random.Random(seed)  # noqa: S311  (the same bytes each time)
    return "".join(f"{number} ü {made.randbytes(40).hex()}\n" for number in range(size // 80)).encode()


@contextmanager
def far_lab(
    root: Path,
    *,
    options: Sequence[str] = (),
    max_sessions: int = 10,
    ssh_config: str = "",
    command: Sequence[str] = WORKER,
) -> Iterator[FarLab]:
    """`options` are lines of sshd_config, `ssh_config` is the user's own."""
    with lab(root) as user:
        (root / ".ssh").mkdir()
        (root / ".ssh" / "config").write_text(ssh_config)
        env = {name: user.env[name] for name in _KEPT}
        with (
            SshdServer(
                root / "sshd", command=command, env=env, options=options, max_sessions=max_sessions
            ) as server,
            line_to(server.port) as line,
        ):
            user.workers(
                f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {line.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            try:
                yield FarLab(user, server, line)
            finally:
                user.stop()
