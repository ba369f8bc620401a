"""The live logs of a run, read from the local file: the socket only says that there is more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rchctl.console import Console
from rchctl.terminal import LogFilter

_PIECE = 1 << 16
_REMEMBERED = 256


class _Place:
    """A log: `offset` bytes of it were shown, the last of them are `shown`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.offset = 0
        self.shown = b""

    def took(self, piece: bytes) -> None:
        self.offset += len(piece)
        self.shown = (self.shown + piece)[-_REMEMBERED:]

    def begin_anew(self) -> None:
        self.offset, self.shown = 0, b""


class Logs:
    """How far each job's log was shown. `action`: that step alone; `aside`: on stderr."""

    def __init__(self, console: Console, *, action: str | None = None, aside: bool = False) -> None:
        self._console = console
        self._aside = aside
        self._action = action
        self._places: dict[str, _Place] = {}
        self._unreadable: set[str] = set()
        self._filter = LogFilter()

    def event(self, data: dict[str, Any], run: dict[str, Any] | None) -> None:
        """Show up to where a `log` event says that the file reaches."""
        job_id, path = str(data.get("job_id", "")), data.get("path")
        if not self._wanted(job_id, run) or not isinstance(path, str):
            return
        end = data.get("offset", 0) + data.get("length", 0)
        place = self._places.setdefault(job_id, _Place(path))
        place.path = path
        self._show(place, end)

    def catch_up(self, run: dict[str, Any]) -> None:
        """Show what there is of every step's log."""
        self._all(run, final=False)

    def finish(self, run: dict[str, Any]) -> None:
        """Show what is left when nothing more will come."""
        self._all(run, final=True)
        self._write(b"", last=True)

    def gone(self) -> bool:
        """Whether logs were named and not one of them is there."""
        return bool(self._places) and not any(Path(each.path).exists() for each in self._places.values())

    def _all(self, run: dict[str, Any], *, final: bool) -> None:
        for step in run.get("steps", ()):
            path, job_id = step.get("log_path"), str(step.get("job_id", ""))
            if not self._wanted(job_id, run):
                continue
            if job_id not in self._places and isinstance(path, str):
                self._places[job_id] = _Place(path)
            if (place := self._places.get(job_id)) is not None:
                if not Path(place.path).exists() and isinstance(path, str):
                    place.path = path
                self._show(place, None, final=final)

    def _wanted(self, job_id: str, run: dict[str, Any] | None) -> bool:
        if self._action is None:
            return True
        steps = run.get("steps", ()) if run else ()
        return any(step.get("job_id") == job_id and step.get("action") == self._action for step in steps)

    def _show(self, place: _Place, end: int | None, *, final: bool = False) -> None:
        try:
            for piece in _pieces(place, end, final=final):
                self._write(piece)
        except FileNotFoundError:
            return  # nothing was logged yet
        except OSError as error:
            if place.path not in self._unreadable:
                self._unreadable.add(place.path)
                self._console.note(f"the log cannot be read: {place.path}: {error.strerror}")

    def _write(self, data: bytes, *, last: bool = False) -> None:
        console = self._console
        if console.err_is_terminal if self._aside else console.out_is_terminal:
            data = self._filter.feed(data, last=last).encode()
        if self._aside:
            console.err_bytes(data)
        else:
            console.out_bytes(data)


def _pieces(place: _Place, end: int | None, *, final: bool) -> Iterator[bytes]:
    """The bytes from where `place` stands up to `end`, or to the file's end.

    A daemon that restarts writes the log anew from its beginning: what was shown is not
    shown again. Where another text stands in its place, a new attempt's, all of it is.
    """
    with Path(place.path).open("rb") as file:
        if os.fstat(file.fileno()).st_size < place.offset:
            if not final:
                return
            place.begin_anew()
        file.seek(place.offset - len(place.shown))
        if file.read(len(place.shown)) != place.shown:
            place.begin_anew()
            file.seek(0)
        while end is None or place.offset < end:
            piece = file.read(_PIECE if end is None else min(_PIECE, end - place.offset))
            if not piece:
                return
            place.took(piece)
            yield piece
