"""SIGINT and SIGTERM in verbs that own a run (spec section 4).

A signal is raised as `Interrupted` inside a `window()` alone: there the client only waits, so
that no half-read message or half-kept state is left behind. Elsewhere it is noted, and raised
at the next window. The second signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

EXIT_CANCELLED = 80
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The user or the system wants the run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def reason(self) -> str:
        """The cancel reason of the worker protocol."""
        return "USER" if self.signum == signal.SIGINT else "SIGNAL"


class Guard:
    """Owns both signals while it is entered; nested guards are not needed and not supported."""

    def __init__(self) -> None:
        self._pending: int | None = None
        self._seen = False
        self._open = 0
        self._before: list[tuple[signal.Signals, object]] = []

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._seen:
            os._exit(EXIT_CANCELLED)
        self._seen = True
        self._pending = signum
        self.raise_if_pending()

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
        if self._seen:
            return  # the process is on its way out: one more signal only hastens it
        for each, handler in self._before:
            signal.signal(each, handler)  # type: ignore[arg-type]  # what signal() gave, it takes


_active: Guard | None = None


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
