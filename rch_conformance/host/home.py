"""A throw-away home for a host: its config, its workers, its projects, and its command line in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rch.contract.decoding import decode_json
from rch_conformance import fixtures
from rch_conformance.checks import Broken
from rch_conformance.host.calling import Call, end_all_that_name, undisturbed
from rch_conformance.mock.mac import FINGERPRINT
from rch_conformance.running import UsageError

MOCK = (sys.executable, "-m", "rch_conformance.mock")
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 15.0
"""How long the daemon may take to stop before it is ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MockEntry:
    """One mock worker of the inventory; its tag is `tag`, by which a run is sent to it alone."""

    name: str
    scenario: str
    tag: str
    priority: int = 100
    real: bool = True
    pin: bool = True
    absent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A call of the host's command line: exit code, what it printed, and the one object of `--json`."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def told(self) -> dict[str, Any]:
        """The object; `Broken` where it printed none."""
        try:
            return decode_json(self.out, dict[str, Any])
        except ValueError as error:
            raise Broken(f"--json printed no object, exit {self.code}: {self.err[-2000:]}") from error


@dataclass
class Home:
    """One user of a host. `rchctl` is the client's argv; `close` ends the daemon and removes all.

    `seconds` bounds each call; `keep` leaves the folder to be looked at.
    """

    rchctl: Sequence[str]
    seconds: float
    extra_env: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._over = False
        self.root = Path(tempfile.mkdtemp(prefix="rch-host-"))
        self.folder = self.root / "home"
        self.env = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(self.root),
            "RCH_HOME": str(self.folder),
            "RCH_SOCKET": str(self.root / "s"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.extra_env,
        }
        (self.folder / "config").mkdir(parents=True)
        self.projects = {
            "package": fixtures.copy(fixtures.PACKAGE, self.root / "package"),
            "app": fixtures.copy(fixtures.APP, self.root / "app"),
            "changing": fixtures.copy(fixtures.PACKAGE, self.root / "changing"),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def inventory(self, entries: Iterable[MockEntry]) -> None:
        """Write `workers.toml`."""
        text = "".join(map(self._row, entries))
        (self.folder / "config" / "workers.toml").write_text(text, encoding="utf-8")

    def _row(self, entry: MockEntry) -> str:
        words = [*MOCK, "--scenario", entry.scenario, "--state", str(self.state(entry.name))]
        words = [str(self.root / "no-such-program")] if entry.absent else words
        words += ["--pretend-real"] if entry.real else []
        pin = f'attestation_pubkey_fingerprint = "{FINGERPRINT}"\n' if entry.pin else ""
        return (
            f'[[worker]]\nname = "{entry.name}"\ntransport = "local"\ntags = ["{entry.tag}"]\n'
            f"priority = {entry.priority}\n{pin}command = {json.dumps(words)}\n"
        )

    def state(self, worker: str) -> Path:
        """Where that worker's state and transcript lie."""
        return self.root / "workers" / worker

    @property
    def artifacts(self) -> Path:
        """The runs' folders."""
        return self.folder / "data" / "artifacts" / "xcode"

    def start(self, *words: str, project: str = "package") -> Call:
        """A call that goes on."""
        with self._lock:
            if self._over:
                raise Broken("the suite was ended")
            call = Call([*self.rchctl, *words], self.env, self.projects[project])
            self._calls.add(call)
            return call

    def end(self, call: Call, begun: float, seconds: float | None = None) -> Ended:
        """Wait for a call's end; `Broken` when it takes too long or says too much."""
        try:
            code, out, err = call.end(self.seconds if seconds is None else seconds)
        finally:
            with self._lock:
                if not call.has_group:
                    self._calls.discard(call)
        return Ended(code=code, out=out, err=err, seconds=time.monotonic() - begun)

    def call(self, *words: str, project: str = "package") -> Ended:
        """A call from beginning to end."""
        begun = time.monotonic()
        return self.end(self.start(*words, project=project), begun)

    def until(self, what: str, found: Callable[[], object]) -> None:
        """Wait until `found` says so; `Broken` names `what` was awaited."""
        deadline = time.monotonic() + self.seconds
        while not found():
            if self._over:
                raise Broken("the suite was ended")
            if time.monotonic() > deadline:
                raise Broken(f"{what} was awaited for {self.seconds:g} s")
            time.sleep(_LOOK_SECONDS)

    def daemon_pid(self) -> int:
        """The daemon that runs."""
        return int(self.call("daemon", "status", "--json").told["data"]["pid"])

    def kill_daemon(self) -> None:
        """As the power does; it is gone afterwards."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        self.until("the end of the daemon", lambda: _is_gone(pid))

    def abandon(self) -> None:
        """End what is being called, and call nothing more."""
        with self._lock:
            self._over = True
            for call in self._calls:
                call.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End the daemon, and whatever else was started here, and remove the home."""
        with undisturbed():
            self.abandon()
            with suppress(Broken, OSError):
                stop = Call([*self.rchctl, "daemon", "stop", "--no-autostart"], self.env, self.root)
                self._calls.add(stop)
                stop.end(min(self.seconds, _STOP_SECONDS))
            for call in self._calls:
                call.send_signal(signal.SIGKILL)
            end_all_that_name(self.root)
            if not self.keep:
                shutil.rmtree(self.root, ignore_errors=True)


def _is_gone(pid: int) -> bool:
    """Whether no such process runs; one that is dead and that nobody has reaped yet runs no more."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except ProcessLookupError:
        return True
    except OSError:  # a system without /proc
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def default_rchctl() -> list[str]:
    """Ours: beside the interpreter, else on PATH, else as a module."""
    beside = Path(sys.executable).with_name("rchctl")
    found = str(beside) if beside.is_file() else shutil.which("rchctl")
    return [found] if found else [sys.executable, "-m", "rchctl"]


def rchctl_of(text: str | None) -> list[str]:
    """The argv that `--rchctl` names; `UsageError` where there is no such program."""
    if text is None:
        return default_rchctl()
    return program_of("--rchctl", text)


def program_of(option: str, text: str) -> list[str]:
    """The words of a command line, its program by its whole path: it is started in other folders."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from error
    found = shutil.which(words[0]) if words else None
    if found is None:
        raise UsageError(f"{option} {text!r}: there is no such program")
    return [str(Path(found).absolute()), *words[1:]]


def read_json(path: Path) -> dict[str, Any]:
    """A record as it lies there; `Broken` where it is none."""
    try:
        return decode_json(path.read_bytes(), dict[str, Any])
    except (OSError, ValueError) as error:
        raise Broken(f"{path.name}: {error}") from error
