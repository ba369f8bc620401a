"""What people use today, over the same sshd: `ssh` and `rsync` on a warm ControlMaster or a new line.

The server is the one that serves our worker. People have a key of their own there, which may run any
command; the worker's key may run the worker alone. Both sides speak aes128-gcm unless a figure says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from processes import end_all
from support import sshd
from support.lab import Lab, lab
from support.worker_remote import KEPT, WORKER

from rchd.edges.ssh_options import CIPHERS

QUICK_CIPHER = CIPHERS[0]
MASTER_SECONDS, MASTER_END_SECONDS = 15, 2
_RIGHTS = "restrict"
_SENT = re.compile(r"Total bytes (?:sent|received): ([\d,]+)")


class LoopbackError(Exception):
    """Something of the surroundings does not do what it should."""


def tool(name: str) -> str:
    """The path of a program that is needed; `LoopbackError` names it where it is not there."""
    found = shutil.which(name)
    if found is None:
        raise LoopbackError(f"{name} is not on PATH: install it, or leave out what needs it")
    return found


def run(argv: Sequence[str], **given: object) -> subprocess.CompletedProcess[str]:
    """Run one to its end; what it said goes with the error if it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        argv,
        stdin=given.pop("stdin", subprocess.DEVNULL),
        capture_output=True,
        text=True,
        check=False,
        **given,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise LoopbackError(f"{' '.join(argv)[:300]} ended {done.returncode}: {done.stderr[-600:]}")
    return done


class Loopback:
    """A user with an sshd on loopback, whose worker is ours and whose shell is everybody's."""

    def __init__(self, user: Lab, server: sshd.SshdServer, short: Path) -> None:
        self.user = user
        self.server = server
        self.root = user.root
        self.far = user.root / "far"
        self.far.mkdir()
        self._short = short
        self._key = self.authorize("people", None)
        self._known = server.known_hosts(user.root / "known_hosts")

    def authorize(self, name: str, command: str | None) -> Path:
        """A new key that may run `command` alone, or anything."""
        key = self.root / "sshd" / name
        sshd.make_key(key, "ed25519")
        rights = _RIGHTS if command is None else f'{_RIGHTS},command="{command}"'
        with (self.root / "sshd" / "authorized_keys").open("a", encoding="ascii") as file:
            file.write(f"\n{rights} {key.with_suffix('.pub').read_text(encoding='ascii')}")
        return key

    def ssh(self, *, cipher: str | None = QUICK_CIPHER, master: str | None = None) -> list[str]:
        """`ssh` up to the host; `master` names a ControlMaster to go over, None is a new line."""
        options = [
            f"UserKnownHostsFile={self._known}",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "LogLevel=ERROR",
            f"ControlPath={self._socket(master)}" if master else "ControlPath=none",
        ]
        return [
            tool("ssh"),
            *("-F", "none", "-i", str(self._key), "-p", str(self.server.port)),
            *(word for option in options for word in ("-o", option)),
            *(("-c", cipher) if cipher else ()),
        ]

    @property
    def host(self) -> str:
        """`user@address`."""
        return f"{self.server.user}@{self.server.host}"

    @contextmanager
    def master(self, name: str = "m", cipher: str | None = QUICK_CIPHER) -> Iterator[str]:
        """A ControlMaster that is connected; its name."""
        argv = [*self.ssh(cipher=cipher, master=name), "-M", "-N", self.host]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + MASTER_SECONDS
            while not self._socket(name).exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise LoopbackError(f"the ControlMaster does not come up: {self.server.log}")
                time.sleep(0.01)
            yield name
        finally:
            process.terminate()
            try:
                process.wait(MASTER_END_SECONDS)
            except subprocess.TimeoutExpired:  # ssh may sleep over a signal that comes at the wrong moment
                process.kill()
                process.wait()

    def rsync(self, *words: str, master: str | None, source: Path, into: Path) -> int:
        """`rsync … SOURCE/ host:INTO/`; the bytes that it sent and received."""
        remote = " ".join(self.ssh(master=master))
        argv = [tool("rsync"), *words, "--stats", "-e", remote, f"{source}/", f"{self.host}:{into}/"]
        said = run(argv).stdout
        return sum(int(number.replace(",", "")) for number in _SENT.findall(said))

    def _socket(self, master: str) -> Path:
        return self._short / master


@contextmanager
def loopback(*, stand_in: bool = True) -> Iterator[Loopback]:
    """All of it in a temporary folder. `stand_in`: the worker's swift is a script (support/lab.py)."""
    if not sshd.available:
        raise LoopbackError("OpenSSH's sshd and ssh-keygen are not installed")
    with tempfile.TemporaryDirectory(prefix="rch-b") as name, lab(Path(name), stand_in=stand_in) as user:
        env = {name: user.env[name] for name in KEPT if name in user.env}
        # Nobody's shell has rc files here: they would cost each exec of theirs what they cost this user.
        # The worker's home marks what they start over there, so that an interrupt ends that as well.
        marked = f"RCH_WORKER_HOME={user.worker_home}"
        options = (f"SetEnv HOME={user.root / 'nobody'} PATH={user.env['PATH']} {marked}",)
        with (
            tempfile.TemporaryDirectory(prefix="rc") as short,
            sshd.SshdServer(
                user.root / "sshd", command=WORKER, env=env, max_sessions=20, options=options
            ) as server,
        ):
            user.workers(
                f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            (user.root / "nobody").mkdir()
            try:
                yield Loopback(user, server, Path(short))
            finally:
                user.stop()
                end_all(user.home, user.worker_home)
