"""Standing side channels between two requests: a transfer or a tail need not wait for a new one.

A new channel costs a session of the SSH server and the start of a program; one that has just given
a clean answer can carry the next request at once. Held tails, uploads and fetches still run on a
channel of their own each, beside the control channel (section 3.1).
"""

from __future__ import annotations

from rchd.edges.wire import EndedEarly, Wire

MAX_SPARES = 2


class Stale(EndedEarly):
    """A spare had died while it idled: the request is to be made again, on a new channel."""


class Spares:
    """A few wires that wait. None of them is ever used by two at once: who takes one owns it."""

    def __init__(self) -> None:
        self._wires: list[Wire] = []

    def take(self, max_line: int) -> Wire | None:
        """The one that was used last, from now on for lines of up to `max_line` bytes."""
        if not self._wires:
            return None
        wire = self._wires.pop()
        wire.max_line = max_line
        return wire

    async def give(self, wire: Wire) -> None:
        """Keep a wire whose last answer was clean; where enough wait already it is closed."""
        if len(self._wires) < MAX_SPARES:
            self._wires.append(wire)
        else:
            await wire.close()

    async def close(self) -> None:
        """End all that wait."""
        while self._wires:
            await self._wires.pop().close()
