"""OpenSSH's own sshd on loopback, with keys made for the test and a forced command.

    with SshdServer(tmp_path, command=["rch-worker", "xcode", "rpc"]) as server:
        server.port, server.client_key, server.fingerprints["ed25519"]
        server.kill_sessions()    # cuts every open connection

The client's key may do nothing but run the command, as a worker's authorized_keys line says;
with `forwarding` it may do nothing but forward, as on a jump host, and with `rights` what these say.

With `home` it opens a shell that is at home there, and the keys of that folder's own authorized_keys are
let in too, each with its own rights: a machine that somebody logs in to, as `account` where one is named.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

SSHD = "/usr/sbin/sshd"
ATTEMPTS = 5
START_SECONDS = 15

available = Path(SSHD).exists() and shutil.which("ssh-keygen") is not None


class SshdServer:
    """One sshd. `directory` must be the test's own; several servers take one each.

    `host_keys` are types of ssh-keygen. `fingerprints` maps type to `SHA256:…`, `host_key_lines`
    to `TYPE BASE64` as a known_hosts line ends. `env` is set for the forced command.
    """

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] = ("true",),
        env: Mapping[str, str] | None = None,
        host_keys: Sequence[str] = ("ed25519",),
        max_sessions: int = 10,
        forwarding: bool = False,
        rights: str | None = None,
        log_level: str = "VERBOSE",
        options: Sequence[str] = (),
        home: Path | None = None,
        account: str | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.user = account or getpass.getuser()
        self.port = 0
        self.fingerprints: dict[str, str] = {}
        self.host_key_lines: dict[str, str] = {}
        self.client_key = directory / "client"
        self._directory = directory
        self._command = [*_env_argv(env or {}), *command]
        self._host_keys = tuple(host_keys)
        self._settings = [
            f"MaxSessions {max_sessions}",
            f"AllowTcpForwarding {'yes' if forwarding else 'no'}",
            *options,
        ]
        self._forwarding = forwarding
        self._rights = "" if home is not None else rights
        self._keys = [directory / "authorized_keys"]
        if home is not None:
            self._keys.append(home / ".ssh" / "authorized_keys")
            self._settings.append(f"SetEnv HOME={home}")
        self._log_level = log_level
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=400)
        self._listening = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # Where sshd drops its privileges; the package makes it at boot alone.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._make_keys()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What sshd wrote to stderr, its last lines."""
        return "".join(self._said)

    def start(self) -> None:
        """Start on a free port; after a `stop` on the same port again."""
        for _ in range(ATTEMPTS):
            self.port = self.port or free_port()
            self._write_config()
            if self._listens():
                return
            self.stop()
            self.port = 0
        raise RuntimeError(f"sshd does not start:\n{self.log}")

    def stop(self) -> None:
        """End the listener and every session."""
        process, self._process = self._process, None
        if process is None:
            return
        sessions = children_of(process.pid)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in sessions:
            _kill(pid)
        if self._reader is not None:
            self._reader.join(5)

    def kill_sessions(self) -> int:
        """Cut every open connection; how many there were. New ones are taken at once."""
        sessions = [] if self._process is None else children_of(self._process.pid)
        for pid in sessions:
            # The child that speaks to the network first, else it would say a polite goodbye.
            for below in (*children_of(pid), pid):
                _kill(below)
        return len(sessions)

    def sessions(self) -> int:
        """How many connections are open."""
        return 0 if self._process is None else len(children_of(self._process.pid))

    def known_hosts(self, path: Path, *types: str, host: str | None = None) -> Path:
        """Write a known_hosts file that names this server's keys of `types` (none named: all)."""
        name = host or f"[{self.host}]:{self.port}"
        lines = [f"{name} {self.host_key_lines[kind]}\n" for kind in types or self._host_keys]
        path.write_text("".join(lines), encoding="ascii")
        return path

    # --- the making -----------------------------------------------------------------------

    def _make_keys(self) -> None:
        for kind in self._host_keys:
            path = self._directory / f"host_{kind}"
            make_key(path, kind)
            self.fingerprints[kind] = fingerprint_of(path)
            self.host_key_lines[kind] = " ".join(
                path.with_suffix(".pub").read_text(encoding="ascii").split()[:2]
            )
        make_key(self.client_key, "ed25519")
        command = shlex.join(self._command).replace('"', '\\"')
        rights = "restrict," + ("port-forwarding" if self._forwarding else f'command="{command}"')
        rights = rights if self._rights is None else self._rights
        public = self.client_key.with_suffix(".pub").read_text(encoding="ascii")
        (self._directory / "authorized_keys").write_text(f"{rights} {public}", encoding="ascii")

    def _write_config(self) -> None:
        lines = [
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            *(f"HostKey {self._directory / f'host_{kind}'}" for kind in self._host_keys),
            f"AuthorizedKeysFile {' '.join(map(str, self._keys))}",
            "StrictModes no",
            "UsePAM no",
            "PidFile none",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            f"LogLevel {self._log_level}",
            "MaxStartups 100",
            *self._settings,  # of this option sshd takes the last word
        ]
        (self._directory / "sshd_config").write_text("\n".join(lines) + "\n", encoding="ascii")

    def _listens(self) -> bool:
        self._listening.clear()
        self._process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self._directory / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self._listening.wait(START_SECONDS)
        return self._process.poll() is None and "Server listening" in self.log

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stderr is None:
            return
        with process.stderr:
            for line in process.stderr:
                self._said.append(line)
                if "Server listening" in line:
                    self._listening.set()
        # It ended: whoever waits for it to listen need not wait longer.
        self._listening.set()


def make_key(path: Path, kind: str) -> None:
    """A key pair at `path` and `path`.pub, unless it is there."""
    if not path.exists():
        size = ["-b", "2048"] if kind == "rsa" else []
        argv = ["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "test", "-f", str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def fingerprint_of(path: Path) -> str:
    """`SHA256:…` of a key, by ssh-keygen."""
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(path)], check=True, capture_output=True, text=True
    )
    return shown.stdout.split()[1]


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children_of(pid: int) -> list[int]:
    """The direct children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [int(child) for child in listed.read_text(encoding="ascii").split()]
    except FileNotFoundError:
        if listed.parents[3].exists():
            return []
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True)
    pairs = (line.split() for line in shown.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def _env_argv(env: Mapping[str, str]) -> list[str]:
    return ["env", *(f"{key}={value}" for key, value in env.items())] if env else []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
