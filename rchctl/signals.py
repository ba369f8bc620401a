"""SIGINT and SIGTERM in verbs that own a run (spec section 4).

A signal is raised as `Interrupted` inside a `window()` alone: there the client only waits, so
that no half-read message or half-kept state is left behind. Elsewhere it is noted, and raised
at the next window. The second signal ends the process at once: not before the cancel of a run that
the daemon may have is on its way, for which it waits half a second at most.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

EXIT_CANCELLED = 80
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 0.5


class Interrupted(BaseException):
    """The user or the system wants the run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def reason(self) -> str:
        """The cancel reason of the worker protocol."""
        return "USER" if self.signum == signal.SIGINT else "SIGNAL"


def _leave(_signum: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_CANCELLED)


class Outside:
    """Both signals from the begin of `main` to its end, wherever no `Guard` has them.

    The first is raised at once, since nothing is half done there; the second ends the process. A
    `last` one ignores both from its end on: the interpreter, which takes itself down then, would
    give them back to the system, and the exit code were lost.
    """

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self._seen = False
        self._before: list[tuple[signal.Signals, object]] = []

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._seen:
            os._exit(EXIT_CANCELLED)
        self._seen = True
        raise Interrupted(signum)

    def __enter__(self) -> Self:
        self._before = [(each, signal.signal(each, self._on_signal)) for each in _SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before:
            signal.signal(each, signal.SIG_IGN if self._last else handler)  # type: ignore[arg-type]  # as below


class Guard:
    """Owns both signals while it is entered; nested guards are not needed and not supported."""

    def __init__(self) -> None:
        self._pending: int | None = None
        self._seen = False
        self._again = False
        self._owes = False
        self._open = 0
        self._before: list[tuple[signal.Signals, object]] = []

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._seen:
            self._leave_soon()
            return
        self._seen = True
        self._pending = signum
        self.raise_if_pending()

    def _leave_soon(self) -> None:
        if not self._owes:
            os._exit(EXIT_CANCELLED)
        if not self._again:
            self._again = True
            signal.signal(signal.SIGALRM, _leave)
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    def owes(self, *, cancel: bool) -> None:
        """Whether the daemon may have a run that it was not yet told to end."""
        self._owes = cancel
        if self._again and not cancel:
            os._exit(EXIT_CANCELLED)

    def raise_if_pending(self) -> None:
        """Raise a noted signal, once, if a window is open."""
        if self._pending is not None and self._open:
            signum, self._pending = self._pending, None
            raise Interrupted(signum)

    def shift(self, by: int) -> None:
        """Count open windows."""
        self._open += by

    def __enter__(self) -> Self:
        global _active  # noqa: PLW0603  (a process has one set of signal handlers)
        self._before = [(each, signal.signal(each, self._on_signal)) for each in _SIGNALS]
        _active = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _active  # noqa: PLW0603  (as above)
        _active = None
        self._owes = False
        if self._again:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._seen:
            return  # the process is on its way out: one more signal only hastens it
        for each, handler in self._before:
            signal.signal(each, handler)  # type: ignore[arg-type]  # what signal() gave, it takes


_active: Guard | None = None


def owes(*, cancel: bool) -> None:
    """As `Guard.owes`; nothing without one."""
    if _active is not None:
        _active.owes(cancel=cancel)


class window:  # noqa: N801  (reads as a word in `with window():`)
    """A place where `Interrupted` may be raised; nothing without a `Guard`."""

    def __enter__(self) -> None:
        if _active is not None:
            _active.shift(1)
            try:
                _active.raise_if_pending()
            except BaseException:
                _active.shift(-1)
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _active is not None:
            _active.shift(-1)
