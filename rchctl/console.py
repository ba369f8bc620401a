"""Standard output and standard error, with manners.

Data goes to stdout, messages to stderr, both unbuffered by this process. A reader that went
away is no error: what is written to it is dropped and the verb goes on to its exit code. Data
that a full disk did not take is remembered as lost. On a terminal one status line may stand
below the last message; all else is written above it.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Mapping

from rchctl.cells import fitted, width_of
from rchctl.signals import window
from rchctl.terminal import STYLES, one_line, screen

_DEFAULT_WIDTH = 80
_ERASE = "\r\x1b[K"
_LEFT = frozenset({errno.EPIPE, errno.ECONNRESET})
SIMULATED = "simulated: "
"""Begins every line about a run whose tools are stand-ins."""


def open_standard() -> None:
    """Put the null device where 0, 1 or 2 is closed: else the next socket would get that number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one


def _is_plain(env: Mapping[str, str]) -> bool:
    return env.get("TERM") == "dumb"


class Console:
    """Two file descriptors and what is known of the terminals behind them."""

    def __init__(self, env: Mapping[str, str], out: int = 1, err: int = 2) -> None:
        self._env = env
        self._out = out
        self._err = err
        self._status = ""
        self._at_line_start = True
        self._err_at_line_start = True
        # What every line begins with from now on, on both; nothing of the envelope of `--json` does.
        self.mark = ""
        self.out_is_terminal = os.isatty(out)
        self.err_is_terminal = os.isatty(err)
        self.live = self.err_is_terminal and not _is_plain(env) and not env.get("NO_COLOR")
        self.broken = False
        # Why data did not reach stdout though somebody wanted it, in the system's words.
        self.lost: str | None = None

    @property
    def width(self) -> int:
        """Columns beside the mark: of `COLUMNS`, else the terminal's own, else 80."""
        return max(self._columns() - len(self.mark), 1)

    def _columns(self) -> int:
        asked = self._env.get("COLUMNS", "")
        if asked.isdecimal() and int(asked) > 0:
            return int(asked)
        for fd in (self._out, self._err):
            try:
                if columns := os.get_terminal_size(fd).columns:
                    return columns
            except OSError:
                continue
        return _DEFAULT_WIDTH

    def style(self, text: str, kind: str) -> str:
        """`text` coloured for stdout, where a terminal is there and `NO_COLOR` is not."""
        if not self.out_is_terminal or self._env.get("NO_COLOR") or _is_plain(self._env):
            return text
        return f"\x1b[{STYLES[kind]}m{text}\x1b[0m"

    def out(self, text: str) -> None:
        """Data for people; ends its line itself. Nothing of it steers a terminal, in a pipe either."""
        self.out_bytes(screen(text).encode("utf-8", "backslashreplace"))

    def value(self, text: str) -> None:
        """One value and its newline, for a script: on a terminal one harmless line, in a pipe as it is."""
        text = f"{one_line(text)}\n" if self.out_is_terminal else text
        self.out_bytes(text.encode("utf-8", "surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        """Data in bytes, as they are."""
        if not data or self.broken:
            return
        status = self._status
        if self.out_is_terminal:
            self.clear_status()
        error = _write(self._out, self._marked(data, at_start=self._at_line_start))
        self.broken = error is not None
        if error is not None and error.errno not in _LEFT and not self.out_is_terminal:
            self.lost = error.strerror or str(error)
        self._at_line_start = data.endswith(b"\n")
        if status and self.out_is_terminal and self._at_line_start:
            self.status(status)

    def note(self, message: str) -> None:
        """One line for people, on stderr."""
        self._above(f"rchctl: {one_line(message)}\n")

    def error(self, message: str, hint: str | None = None) -> None:
        """A refusal: the message, and what mends it."""
        lines = f"rchctl: {one_line(message)}\n"
        if hint:
            lines += f"  hint: {one_line(hint)}\n"
        self.clear_status()
        self._above(lines)

    def err(self, text: str) -> None:
        """What stands beside data, on stderr."""
        self.err_bytes(screen(text).encode("utf-8", "backslashreplace"))

    def err_bytes(self, data: bytes) -> None:
        """A log on stderr, as it is."""
        if data:
            self.clear_status()
            _write(self._err, self._marked(data, at_start=self._err_at_line_start))
            self._err_at_line_start = data.endswith(b"\n")

    def _marked(self, data: bytes, *, at_start: bool) -> bytes:
        """`data` with the mark before each line that begins in it."""
        if not self.mark:
            return data
        mark = self.mark.encode()
        inner = data[:-1].replace(b"\n", b"\n" + mark) + data[-1:]
        return mark + inner if at_start else inner

    def _above(self, text: str) -> None:
        status = self._status
        self.clear_status()
        text = self._marked(text.encode("utf-8", "backslashreplace"), at_start=True).decode()
        if self.err_is_terminal and self.out_is_terminal and not self._at_line_start:
            text = "\n" + text
        _write(self._err, text.encode())
        self._at_line_start = self._err_at_line_start = True
        if status:
            self.status(status)

    def status(self, text: str) -> None:
        """Set the one updating line; nothing where stderr is no terminal."""
        if not self.live or (self.out_is_terminal and not self._at_line_start):
            return
        text = self.mark + fitted(one_line(text), max(self.width - 1, 1))
        _write(self._err, f"{self._erase()}{text}".encode())
        self._status = text

    def clear_status(self) -> None:
        """Take the updating line away."""
        if self._status:
            erase, self._status = self._erase(), ""
            _write(self._err, erase.encode())

    def _erase(self) -> str:
        """What takes the updating line away, also where it wraps since the terminal was narrowed."""
        taken = width_of(self._status)
        rows = (taken - 1) // max(self._columns(), 1) if taken else 0
        return f"\x1b[{rows}A\r\x1b[J" if rows > 0 else _ERASE


def _write(fd: int, data: bytes) -> OSError | None:
    """None when all of `data` was taken; else why not."""
    view = memoryview(data)
    while view:
        try:
            with window():
                view = view[os.write(fd, view) :]
        except BlockingIOError:  # a shared terminal that another program made non-blocking
            with window():
                select.select([], [fd], [])
        except OSError as error:
            return error
    return None
