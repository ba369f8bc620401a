"""Mutants of uploads and sources (sections 3.2, 5)."""

from __future__ import annotations

from typing import Any

from conformance.mutants import module, mutant, refusal, replaced, wrap


def _nothing(*_given: Any, **_named: Any) -> None:
    """Checks nothing."""


def _unchecked_copy(body: Any, _stream: Any, raw: Any) -> None:
    while piece := body.read(1 << 20):
        if raw is not None:
            raw.write(piece)
    if raw is not None:
        raw.flush()


@mutant("wrong transport digest accepted", "wrong-transport-digest")
def _transport_digest() -> None:
    module("worker_agent.sources").copy_checked = _unchecked_copy


@mutant("wrong digest of a part accepted", "damaged-part-is-not-added")
def _part_digest() -> None:
    module("worker_agent.sources_parts").copy_checked = _unchecked_copy


@mutant("wrong bundle digest accepted", "wrong-bundle-digest")
def _bundle_digest() -> None:
    module("worker_agent.source_check").require_digest = _nothing


@mutant("both digests told alike", "digests-are-told-apart")
def _digests_alike() -> None:
    for name in ("worker_agent.source_words", "worker_agent.source_check"):
        module(name).refused = lambda *_: refusal("INVALID_REQUEST", "the upload is damaged")


@mutant("short upload stored", "too-few-bytes")
def _short_upload() -> None:
    def padded(real: Any) -> Any:
        def read(self: Any, size: int) -> bytes:
            try:
                return bytes(real(self, size))
            except module("rch.contract.worker_rpc").RpcError:
                left, self._left = self._left, 0
                return bytes(left)

        return read

    wrap(module("worker_agent.rpc").Body, "read", padded)


@mutant("length not checked before the body", "length-over-the-limit")
def _length_unchecked() -> None:
    module("worker_agent.sources").Sources.check_size = _nothing


@mutant("too large without max_bytes", "length-over-the-limit")
def _no_max_bytes() -> None:
    sources = module("worker_agent.sources").Sources
    sources._too_large = lambda _self, what: refusal("PAYLOAD_TOO_LARGE", f"{what} is too large")


@mutant("bomb unpacked", "bomb-is-bounded")
def _bomb() -> None:
    unzstd = module("rch.files.unzstd")
    wrap(unzstd, "bounded_reader", lambda real: lambda raw, **_: real(raw, max_output=1 << 40))


@mutant("non-canonical tar accepted", "headers-are-part-of-the-form")
def _any_form() -> None:
    check = module("worker_agent.source_check")
    wrap(check, "TarReader", lambda real: lambda limits, **_: real(limits=limits, canonical=False))


@mutant("links that lead out accepted", "links-stay-inside")
def _links_unchecked() -> None:
    names = module("rch.contract.tar_names")
    names.Names.check_links = names.safe_target = _nothing


@mutant("duplicate refused", "duplicates-are-taken")
def _duplicate_refused() -> None:
    def once(*_given: Any) -> None:
        raise refusal("INVALID_REQUEST", "the source is stored already")

    module("worker_agent.sources").Sources.drop = once


@mutant("duplicate not checked", "duplicates-are-checked")
def _duplicate_unchecked() -> None:
    def swallow(_self: Any, stream: Any, body: Any) -> None:
        _unchecked_copy(body, stream, None)

    module("worker_agent.sources").Sources.drop = swallow


@mutant("thin splice not verified", "thin-upload-is-verified")
def _splice_unverified() -> None:
    splice = module("worker_agent.source_splice")
    splice._Upload._judge = lambda _self, _found, facts: facts


@mutant("base not looked for", "base-is-needed")
def _base_missing_unsaid() -> None:
    sources = module("worker_agent.sources")
    sources.base_missing = lambda digest: refusal("INVALID_REQUEST", f"base {digest} is no base")


@mutant("resume offset is a lie", "empty-part-asks")
def _offset_lie() -> None:
    def more(real: Any) -> Any:
        def asked(self: Any, path: Any) -> Any:
            told = real(self, path)
            return replaced(told, next_offset=told.next_offset + 512)

        return asked

    wrap(module("worker_agent.sources_parts").Partials, "_asked", more)


@mutant("part taken anywhere", "parts-go-on")
def _part_anywhere() -> None:
    module("worker_agent.sources_parts").Partials._check_place = _nothing


@mutant("totals of parts not checked", "totals-are-checked")
def _totals_unchecked() -> None:
    parts = module("worker_agent.sources_parts")
    parts._check_total = _nothing


@mutant("source said to be there before it is", "has-source-has-its-shape")
def _always_there() -> None:
    ops = module("worker_agent.ops")

    def liar(_call: Any) -> Any:
        return ops.HasSourceResult(exists=True)

    ops._OPERATIONS = {**ops._OPERATIONS, "has_source": liar}


# --- what hides in a tar, and parts that are cut --------------------------------------------


@mutant("transport digest of zstd not checked", "wrong-digest-of-zstd")
def _zstd_unchecked() -> None:
    def lax(real: Any) -> Any:
        def copy(body: Any, stream: Any, raw: Any) -> None:
            (_unchecked_copy if stream.compression == "zstd" else real)(body, stream, raw)

        return copy

    wrap(module("worker_agent.sources"), "copy_checked", lax)


@mutant("length of the limit refused", "length-of-the-limit")
def _limit_excluded() -> None:
    sources = module("worker_agent.sources")

    def check_size(self: Any, size: int, what: str) -> None:
        if self._max_bytes and size >= self._max_bytes:
            raise self._too_large(f"{what} {size}")

    sources.Sources.check_size = check_size


@mutant("bytes in the padding accepted", "nothing-is-hidden-in-a-source")
def _any_padding() -> None:
    module("rch.contract.tar_reader")._PADDINGS = [b""] * 600


@mutant("needless PAX accepted", "nothing-is-hidden-in-a-source")
def _needless_pax() -> None:
    def lax(real: Any) -> Any:
        def member(self: Any, block: bytes, pax: Any) -> Any:
            short = pax is not None and len((pax.path or "").encode()) <= 100
            return real(self, block, None if short and (pax.path or "é").isascii() else pax)

        return member

    wrap(module("rch.contract.tar_reader").TarReader, "_canonical_member", lax)


@mutant("a cut part loses the upload", "cut-part-keeps-the-others")
def _cut_loses_all() -> None:
    parts = module("worker_agent.sources_parts")

    def strict(real: Any) -> Any:
        def take(self: Any, request: Any, host_id: Any, body: Any) -> Any:
            try:
                return real(self, request, host_id, body)
            except module("rch.contract.worker_rpc").RpcError as error:
                if error.data.get("reason") == "short_body":
                    parts.remove(self._path(request.source_sha256, request.resume.upload_id, host_id))
                raise

        return take

    wrap(parts.Partials, "take", strict)


@mutant("one upload_id, one file", "parts-belong-to-their-source")
def _shared_parts() -> None:
    def path(self: Any, _source: str, upload_id: str, _host: Any) -> Any:
        return self._folder / f"{'0' * 64}-{upload_id[:32]}.part"

    module("worker_agent.sources_parts").Partials._path = path
