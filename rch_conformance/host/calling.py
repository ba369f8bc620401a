"""One call of a host's command line: in a group of its own, bounded in time and in what is read of it."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rch_conformance.checks import Broken

OUTPUT_BYTES = 64 << 20
"""How much a call may say on one of its two outputs; beyond that it is ended."""
_PIECE = 64 << 10
_LOOK_SECONDS = 0.05


class Call:
    """A program that runs. Its group is its own, so that its children can be ended with it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said = {"standard output": bytearray(), "standard error": bytearray()}

    def send_signal(self, number: int) -> None:
        """To the whole group, as a terminal does."""
        with suppress(ProcessLookupError, PermissionError):  # the latter where all of it is dead on a Mac
            os.killpg(self._process.pid, number)

    @property
    def has_group(self) -> bool:
        """Whether anybody of its group is left. It may be a daemon: nothing is ended here."""
        try:
            os.killpg(self._process.pid, 0)
        except OSError:
            return False
        return True

    def end(self, seconds: float) -> tuple[int, str, str]:
        """Exit code and both outputs when the program itself is over; `Broken` and its end if it is not.

        A child that still holds an output is not waited for.
        """
        try:
            self._read_until(time.monotonic() + seconds, seconds)
        except BaseException:
            self.send_signal(signal.SIGKILL)
            self._process.wait()
            raise
        finally:
            for pipe in self._pipes().values():
                pipe.close()
        out, err = (bytes(said).decode("utf-8", "replace") for said in self._said.values())
        return self._process.returncode, out, err

    def _pipes(self) -> dict[str, IO[bytes]]:
        pipes = (self._process.stdout, self._process.stderr)
        return {name: pipe for name, pipe in zip(self._said, pipes, strict=True) if pipe is not None}

    def _read_until(self, deadline: float, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            for name, pipe in self._pipes().items():
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
            while selector.get_map() or self._process.poll() is None:
                if time.monotonic() > deadline:
                    raise Broken(f"the host did not end within {seconds:g} s")
                over = self._process.poll() is not None
                ready = selector.select(_LOOK_SECONDS) if selector.get_map() else self._wait_a_little()
                for key, _ in ready:
                    if not self._read(key.fd, key.data):
                        selector.unregister(key.fileobj)
                if over and not ready:  # all that it said itself was in the pipes when it ended
                    return

    def _wait_a_little(self) -> list[tuple[selectors.SelectorKey, int]]:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LOOK_SECONDS)
        return []

    def _read(self, fd: int, name: str) -> bool:
        """One piece; False at the end. `Broken` where it is too much."""
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return True
        self._said[name] += data
        if len(self._said[name]) > OUTPUT_BYTES:
            raise Broken(f"the host says more than {OUTPUT_BYTES >> 20} MiB on {name}")
        return bool(data)


def end_all_that_name(place: Path) -> None:
    """Kill every process of this user whose environment or command line has `place` in it.

    Only where there is a /proc. `place` is a folder that was made for one use, so that no other has it.
    """
    word = os.fsencode(place)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) != os.getpid() and any(
                word in (folder / name).read_bytes() for name in ("environ", "cmdline")
            ):
                os.kill(int(folder.name), signal.SIGKILL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No Ctrl-C and no SIGTERM while what was begun is put away; in the main thread alone."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDING}
    except ValueError:  # another thread has no say in it
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends this program by way of its `finally`s, unless the caller has provided for it."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
