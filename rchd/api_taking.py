"""A submit between its call and its answer (spec section 4, signals; fault C5)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio

from rch.contract import local_api as api
from rchd.api_progress import teller
from rchd.edges.snapshot import Progress
from rchd.edges.socket import Connection

GONE_SECONDS = 2.0
"""How long a client whose connection broke has to ask for the same again, with its token."""
_numbers = itertools.count(-1, -1)  # no subscription has such a one


class Taking:
    """A request from its call to its answer; `wanted` is its digest. Meanwhile it can be called off.

    It is `abandoned` once nobody waits for it while its source is read: who does not know of a run cannot
    want it. `comes_back`: a client may ask again, and has `GONE_SECONDS` for that.
    """

    def __init__(self, wanted: str = "", *, comes_back: bool = False) -> None:
        self.wanted = wanted
        self.scope = anyio.CancelScope()
        self.reason: str | None = None
        self.run_id: str | None = None
        self.abandoned = False
        self.answer: asyncio.Future[api.RunView] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._patience = GONE_SECONDS if comes_back else 0.0
        self._waiting: dict[int, Callable[[Progress], None] | None] = {}

    def call_off(self, reason: str) -> None:
        """End it where its source is still read; what is past that is accepted as cancelled."""
        self.reason = self.reason or reason
        self.scope.cancel()

    def tell(self, progress: Progress) -> None:
        """Pass on how far the source is, to all who wait and want to know. From any thread."""
        for tell in tuple(self._waiting.values()):
            if tell is not None:
                tell(progress)

    @contextmanager
    def awaited(self, params: api.SubmitParams, connection: Connection) -> Iterator[None]:
        """Meanwhile the client of `connection` waits for the answer, as long as it is there."""
        number = next(_numbers)
        self._waiting[number] = teller(connection) if params.progress else None
        connection.at_close(number, partial(self._gone, number))
        try:
            yield
        finally:
            connection.not_at_close(number)
            self._waiting.pop(number, None)

    def _gone(self, number: int) -> None:
        del self._waiting[number]
        asyncio.get_running_loop().call_later(self._patience, self._abandon)

    def _abandon(self) -> None:
        if not self._waiting and self.run_id is None and not self.answer.done():
            self.abandoned = True
            self.scope.cancel()
