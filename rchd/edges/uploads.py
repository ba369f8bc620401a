"""A source to its worker by the shortest way: what changed alone, else all of it (spec section 5)."""

from __future__ import annotations

from pathlib import Path

import msgspec
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import Base, Code, Feature, RpcError, Stream, UploadRequest
from rchd.core import effects as fx
from rchd.edges.parts import upload_id_of
from rchd.edges.transfers import Progress
from rchd.edges.whole import whole_bundle
from rchd.edges.worker_client import WorkerClient


class _Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the spool, and what the worker is to make of it."""

    source_sha256: str
    content_sha256: str
    name: str
    size: int
    base: Base | None = None


class Upload:
    """One source on its way to one worker; may be done again, as a whole."""

    def __init__(
        self, client: WorkerClient, effect: fx.Upload, *, host_id: str, spool: Path, progress: Progress
    ) -> None:
        self._client = client
        self._effect = effect
        self._host_id = host_id
        self._spool = spool
        self._progress = progress

    async def run(self) -> None:
        """Until the worker has the source. `RpcError` and `Failure` as `WorkerClient.upload`."""
        source = self._effect.source
        spooled = _Bundle(
            source_sha256=source.source_sha256,
            content_sha256=source.content_sha256,
            name=source.spool_name,
            size=source.compressed_bytes,
        )
        if source.base is None:
            await self._send(spooled)
            return
        base = Base(source_sha256=source.base.source_sha256, removed=source.base.removed)
        if await self._is_done_thin(msgspec.structs.replace(spooled, base=base)):
            return
        whole = await to_thread.run_sync(whole_bundle, self._spool, source, source.base)
        await self._send(
            _Bundle(
                source_sha256=whole.source_sha256,
                content_sha256=whole.content_sha256,
                name=whole.path.name,
                size=whole.compressed_bytes,
            )
        )

    async def _is_done_thin(self, thin: _Bundle) -> bool:
        """Send what changed; a worker without the base is given that first, whose bytes are there."""
        await self._client.protocol_version()
        if not self._client.offers(Feature.UPLOAD_THIN):
            return False
        if await self._has_base(thin):
            return True
        base = self._effect.source.base
        if base is None:
            raise AssertionError("a thin bundle without its base")
        await self._send(
            _Bundle(
                source_sha256=base.source_sha256,
                content_sha256=base.content_sha256,
                name=base.spool_name,
                size=base.compressed_bytes,
            )
        )
        return await self._has_base(thin)

    async def _has_base(self, thin: _Bundle) -> bool:
        """Send what changed; False where the worker does not have what that goes into."""
        try:
            await self._send(thin)
        except RpcError as refusal:
            if refusal.code not in {Code.BASE_MISSING, Code.FEATURE_MISSING}:
                raise
            return False
        return True

    async def _send(self, bundle: _Bundle) -> None:
        effect = self._effect
        if effect.max_bytes and bundle.size > effect.max_bytes:
            raise Failure(
                Kind.BUNDLER,
                f"the bundle has {bundle.size} bytes,"
                f" worker {effect.target.worker} takes {effect.max_bytes} (max_upload_bytes)",
                subkind="SIZE_EXCEEDED",
            )
        request = UploadRequest(
            source_sha256=bundle.source_sha256,
            stream=Stream(content_length=bundle.size, content_sha256=bundle.content_sha256),
            lease_id=effect.lease_id,
            fence=effect.fence,
            base=bundle.base,
        )
        upload_id = upload_id_of(self._host_id, effect.run_id, bundle.source_sha256, bundle.content_sha256)
        await self._client.upload(
            request, self._spool / bundle.name, progress=self._progress, upload_id=upload_id
        )
