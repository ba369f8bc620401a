"""What every step of a set-up shares: its call, the worker's folders, locks and files (see `landing`)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import time

MYPY = False  # nothing of typing is there at run time: an old Python has no `list[str]`
if MYPY:
    from collections.abc import Iterator
    from typing import IO, Any

BASE = "~/.local/share/rch-worker/agent"
CURRENT, COMPLETE, BEFORE = "current", "complete.json", ".before"
LOCK_SECONDS = 30.0
SHOWN = 2000
_MOST_BYTES = 4 << 20


class Refused(Exception):  # noqa: N818  (a step's word, not a mistake)
    """A step cannot be done: `hint` mends it, `said` is what a program wrote."""

    def __init__(self, message: str, hint: str | None = None, said: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.said = message, hint, said[-SHOWN:]


class Call:
    """One request, and the way to answer it."""

    def __init__(self, request: Any, data: IO[bytes], out: IO[str]) -> None:
        self.request, self.data, self.out = request, data, out
        self.step = str(request["op"])
        self.base = os.path.expanduser(BASE)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        if request.get("home"):
            self.env["RCH_WORKER_HOME"] = os.path.expanduser(request["home"])

    def say(self, **members: Any) -> None:
        """One line of the answer, on a line of its own whatever was printed before."""
        self.out.write("\n{} {}\n".format(self.request["token"], json.dumps(members)))
        self.out.flush()

    def begin(self, step: str) -> None:
        """What follows belongs to `step`."""
        self.step = step
        self.say(step=step)

    def run(self, argv: list[str], hint: str | None = None, seconds: int = 900, data: str = "") -> str:
        """What a program writes to stdout; `Refused` where it fails."""
        try:
            done = subprocess.run(
                argv, input=data, capture_output=True, timeout=seconds,
                text=True, errors="replace", env=self.env, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Refused(f"{argv[0]} did not end within {seconds} s", hint) from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise Refused(f"{os.path.basename(argv[0])} ended with {done.returncode}", hint, said)
        return done.stdout


# --- versions ---------------------------------------------------------------------------------


def current(base: str) -> str | None:
    """The version that `current` leads to."""
    with contextlib.suppress(OSError):
        return os.path.basename(os.readlink(os.path.join(base, CURRENT)))
    return None


def complete(base: str) -> list[str]:
    """The versions that were installed to their end."""
    names = os.listdir(base) if os.path.isdir(base) else []
    return [name for name in names if os.path.isfile(os.path.join(base, name, COMPLETE))]


# --- files ------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """One set-up at a time: the lock is the folder's own, and leaves no file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _taken(descriptor):
            if time.monotonic() > until:
                raise Refused(f"another set-up is at work in {folder}", "wait, and run it again")
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(path: str) -> bytes:
    """The first of a file, nothing where it cannot be read: for what is only looked at."""
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""


def durable(path: str, data: bytes) -> None:
    """Whole or not at all, 0600."""
    temp = path + ".rch-new"
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temp, path)
