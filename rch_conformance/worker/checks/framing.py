"""Section 3.2: framed uploads and the bounds of lines."""

from __future__ import annotations

import json

import zstandard

from rch_conformance.checks import NotOffered
from rch_conformance.worker.forms import BLOCK, Item, canonical_tar, sha256
from rch_conformance.worker.peer import Answer, new_id, request_line
from rch_conformance.worker.rig import Rig, upload_line
from rch_conformance.worker.suite import check, expect, expect_same

_MIB = 1 << 20
_MOST_BOMB_BYTES = 512 * _MIB
_MOST_FULL_BYTES = 64 * _MIB


def fresh_tar(size: int = 0) -> bytes:
    """A canonical source that no worker has seen."""
    return canonical_tar([Item(path="note.txt", data=new_id().encode() + bytes(size))])


def stored(answer: Answer) -> None:
    """`Broken` unless an upload was taken."""
    expect(answer.ok, f"the upload was refused: {answer.shown()}")
    expect_same("stored", answer.payload.get("stored"), True)


def not_stored(rig: Rig, tar: bytes, answer: Answer, *codes: str) -> None:
    """`Broken` unless an upload was refused and left nothing."""
    answer.refused_with(*(codes or ("INVALID_REQUEST",)))
    expect(not rig.has(sha256(tar)), f"a source was stored that was refused: {answer.shown()}")


@check("3.2", "an uncompressed upload is taken, and the source is there")
def plain_upload(rig: Rig) -> None:
    tar = fresh_tar()
    stored(rig.upload(tar))
    expect(rig.has(sha256(tar)), "has_source does not know what was stored")


@check("3.2", "an upload compressed with zstd is taken, and the source is there")
def zstd_upload(rig: Rig) -> None:
    tar = fresh_tar(100_000)
    stored(rig.upload(tar, zstandard.compress(tar), compression="zstd"))
    expect(rig.has(sha256(tar)), "has_source does not know what was stored")


@check("3.2", "a body that is not that of stream.content_sha256 is refused, and nothing is stored")
def wrong_transport_digest(rig: Rig) -> None:
    tar = fresh_tar()
    not_stored(rig, tar, rig.upload(tar, content_sha256="ab" * 32))


@check("3.2", "stream.content_sha256 is that of the bytes on the line, also of those of zstd")
def wrong_digest_of_zstd(rig: Rig) -> None:
    for wrong in ("ab" * 32, None):
        tar = fresh_tar()
        body = zstandard.compress(tar)
        digest = wrong or sha256(tar)
        not_stored(rig, tar, rig.upload(tar, body, compression="zstd", content_sha256=digest))


@check("3.2", "a tar that is not that of source_sha256 is refused, and nothing is stored")
def wrong_bundle_digest(rig: Rig) -> None:
    tar, other = fresh_tar(), sha256(new_id().encode())
    not_stored(rig, tar, rig.upload(tar, source_sha256=other))
    expect(not rig.has(other), "a source was stored under a digest that is not its own")


@check("3.2", "a wrong transport digest and a wrong bundle digest are two distinct errors")
def digests_are_told_apart(rig: Rig) -> None:
    tar = fresh_tar()
    transport = rig.upload(tar, content_sha256="ab" * 32)
    bundle = rig.upload(tar, source_sha256="cd" * 32)
    expect(
        _kind_of(transport) != _kind_of(bundle),
        f"both are told by {transport.shown()}: code, data and message say the same",
    )


@check("3.2", "data.reason of a refused upload names the promise that it broke")
def reasons_are_named(rig: Rig) -> None:
    tar = fresh_tar()
    longer = tar + bytes(512)
    asked = {
        "transport_digest": rig.upload(tar, content_sha256="ab" * 32),
        "bundle_digest": rig.upload(tar, source_sha256="cd" * 32),
        "compression": rig.upload(tar, b"no zstd at all", compression="zstd"),
        "not_canonical": rig.upload(longer),
    }
    for reason, answer in asked.items():
        answer.refused_with("INVALID_REQUEST")
        expect_same("data.reason", answer.data.get("reason"), reason)


def _kind_of(answer: Answer) -> tuple[str, str, str]:
    """What a refusal says without digests."""
    words = str(answer.error.get("message")).split()
    plain = " ".join(word for word in words if len(word) < 60)
    return answer.code, json.dumps(answer.data.get("reason")), plain


@check("3.2", "a zstd body that is none is refused, and nothing is stored")
def damaged_zstd(rig: Rig) -> None:
    tar = fresh_tar(5000)
    body = zstandard.compress(tar)
    not_stored(rig, tar, rig.upload(tar, body[: len(body) // 2], compression="zstd"))
    not_stored(rig, tar, rig.upload(tar, b"no zstd at all", compression="zstd"))


@check("3.2", "too few bytes are refused, and nothing is stored")
def too_few_bytes(rig: Rig) -> None:
    tar = fresh_tar()
    line = upload_line(tar)
    rig.probe()
    not_stored(rig, tar, rig.peer.exchange(line, tar[:-100]))
    not_stored(rig, tar, rig.peer.exchange(line, tar[:-512]))


@check("3.2", "a body cut at a block's end is no source, whatever its length says")
def shorter_than_its_tar(rig: Rig) -> None:
    tar = fresh_tar()
    cut = tar[:-512]
    not_stored(rig, cut, rig.upload(cut))


@check("3.2", "a negative length, an unknown compression and an unknown format are refused")
def bad_streams(rig: Rig) -> None:
    tar = fresh_tar()
    for change in (
        {"content_length": -1},
        {"compression": "gzip"},
        {"format": "zip"},
        {"content_sha256": "x"},
    ):
        not_stored(rig, tar, rig.upload(tar, **change))


@check("3.2", "an upload without a stream is refused")
def upload_without_stream(rig: Rig) -> None:
    rig.ask("upload_source", {"source_sha256": "0" * 64}).refused_with("INVALID_REQUEST")


@check("3.2", "a length over the limit is refused before a byte is read, with data.max_bytes")
def length_over_the_limit(rig: Rig) -> None:
    limit = rig.limit("max_upload_bytes")
    tar = fresh_tar()
    line = upload_line(tar, content_length=limit + 1)
    answer = rig.peer.exchange(line, end=False)  # not a byte of the body, and the input stays open
    answer.refused_with("PAYLOAD_TOO_LARGE")
    expect_same("data.max_bytes", answer.data.get("max_bytes"), limit)


@check("3.2", "what is just as long as the limit is taken")
def length_of_the_limit(rig: Rig) -> None:
    limit = rig.limit("max_upload_bytes")
    if limit > _MOST_FULL_BYTES or limit % BLOCK:
        raise NotOffered("small_upload_limit", f"no source of {limit} bytes is tried")
    stored(rig.upload(fresh_tar(limit - len(fresh_tar()) + BLOCK - len(new_id()))))


@check("3.2", "what unpacks to more than the limit is refused with PAYLOAD_TOO_LARGE")
def bomb_is_bounded(rig: Rig) -> None:
    limit = rig.limit("max_upload_bytes")
    if limit > _MOST_BOMB_BYTES:
        raise NotOffered("small_upload_limit", f"max_upload_bytes {limit} is too much to try")
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    body, left = b"", limit + _MIB
    while left > 0:
        body += packer.compress(bytes(min(left, 4 * _MIB)))
        left -= 4 * _MIB
    body += packer.flush()
    answer = rig.upload(b"", body, compression="zstd", source_sha256="ef" * 32)
    answer.refused_with("PAYLOAD_TOO_LARGE")
    expect_same("data.max_bytes", answer.data.get("max_bytes"), limit)


@check("3.2", "a line of just under 1 MiB is read")
def long_line_is_read(rig: Rig) -> None:
    answer = rig.ask("probe", {"x_padding": "x" * (_MIB - 300)})
    expect(answer.ok, f"a line of just under 1 MiB was refused: {answer.shown()}")


@check("3.2", "a line over 1 MiB is answered INVALID_REQUEST, also one that never ends")
def line_over_the_limit(rig: Rig) -> None:
    rig.probe()
    whole = request_line("probe", {"x_padding": "x" * (_MIB + 100)})
    rig.peer.exchange(whole).refused_with("INVALID_REQUEST")
    rig.peer.exchange(b"{" + b" " * (2 * _MIB), end=False).refused_with("INVALID_REQUEST")


@check("3.2", "a line that is not UTF-8 is answered INVALID_REQUEST")
def line_that_is_no_text(rig: Rig) -> None:
    rig.probe()
    line = request_line("probe", {"x_note": "@"}).replace(b"@", b"\xc3\x28")
    rig.peer.exchange(line).refused_with("INVALID_REQUEST")
    utf16 = b"\xff\xfe" + request_line("probe").decode().encode("utf-16-le")
    rig.peer.exchange(utf16).refused_with("INVALID_REQUEST")


@check("3.2", "a request spread over lines is answered INVALID_REQUEST")
def request_over_lines(rig: Rig) -> None:
    rig.probe()
    request = json.loads(request_line("probe"))
    text = json.dumps(request, indent=1).encode() + b"\n"
    rig.peer.exchange(text).refused_with("INVALID_REQUEST")
