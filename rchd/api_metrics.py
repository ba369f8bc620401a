"""The socket's method about the daemon's numbers (spec section 12)."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec

from rch.contract import local_api as api
from rchd.edges.exposition import CONTENT_TYPE, load, samples_of, text_of
from rchd.edges.meters import Meters
from rchd.edges.socket import Connection


class MetricsApi:
    """Answers with the meters as `look` brings them up to now."""

    def __init__(self, look: Callable[[], Meters]) -> None:
        self._look = look

    async def told(self, _params: api.NoParams, _connection: Connection) -> api.MetricsView:
        """All of them, of one moment."""
        await anyio.to_thread.run_sync(load)
        text = text_of(self._look())
        samples = msgspec.convert(samples_of(text), tuple[api.SampleView, ...])
        return api.MetricsView(content_type=CONTENT_TYPE, text=text, samples=samples)
