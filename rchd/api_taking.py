"""A submit between its call and its answer (spec section 4, signals)."""

from __future__ import annotations

import asyncio

import anyio

from rch.contract import local_api as api


class Taking:
    """A request from its call to its answer; `wanted` is its digest. Meanwhile it can be called off."""

    def __init__(self, wanted: str = "") -> None:
        self.wanted = wanted
        self.scope = anyio.CancelScope()
        self.reason: str | None = None
        self.run_id: str | None = None
        self.answer: asyncio.Future[api.RunView] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    def call_off(self, reason: str) -> None:
        """End it where its source is still read; what is past that is accepted as cancelled."""
        self.reason = self.reason or reason
        self.scope.cancel()
