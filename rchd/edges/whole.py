"""A whole bundle from a thin one and its base, for a worker that takes no thin ones (spec section 5).

It is made from the two files in the spool alone, so that a daemon that was started again can, too, and is
kept there: who sends it once more sends the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.contract.records import Source, SourceBase
from rch.contract.tar import Member, member_header, padding
from rch.contract.tar_names import TarError
from rch.contract.tar_reader import Limits, TarReader
from rch.files.unzstd import DecodeError, bounded_reader
from rchd.edges.packing import TarWriter
from rchd.edges.spool import Spool, Spooled

_PIECE = 1 << 20
_WHOLE = ".tar.zst"


def whole_bundle(spool: Path, source: Source, base: SourceBase) -> Spooled:
    """The whole bundle of `source`, made unless it is there. Blocks. `Failure` TRANSFER or BUNDLER."""
    for path in spool.glob(f"{source.source_sha256}-*{_WHOLE}"):
        return Spooled(
            path=path,
            source_sha256=source.source_sha256,
            content_sha256=path.name.removesuffix(_WHOLE).rpartition("-")[2],
            compressed_bytes=path.stat().st_size,
        )
    try:
        with Spool(spool, source.tar_bytes, suffix=_WHOLE) as made:
            writer = TarWriter(made)
            delta = {member.path: whole for member, whole in _members(spool / source.spool_name, source)}
            _splice(writer, _members(spool / base.spool_name, source, base), delta, set(base.removed))
            spooled = made.publish()
    except (OSError, DecodeError, TarError) as error:
        message = f"the bundle {source.source_sha256} cannot be made from its base: {error}"
        raise Failure(Kind.TRANSFER, message) from error
    if spooled.source_sha256 != source.source_sha256:
        spooled.path.unlink()
        message = f"the spool holds {spooled.source_sha256} where {source.source_sha256} should be"
        raise Failure(Kind.TRANSFER, message)
    return spooled


def _splice(
    writer: TarWriter, members: Iterator[tuple[Member, bytes]], delta: dict[str, bytes], removed: set[str]
) -> None:
    ahead = sorted(delta, reverse=True)
    for member, whole in members:
        while ahead and ahead[-1] <= member.path:
            writer.write(delta[ahead.pop()])
        if member.path not in delta and member.path not in removed:
            writer.write(whole)
    while ahead:
        writer.write(delta[ahead.pop()])
    writer.end()


def _members(path: Path, source: Source, base: SourceBase | None = None) -> Iterator[tuple[Member, bytes]]:
    """Each member of a spooled tar, with all of its bytes as they stand there."""
    bound = source.tar_bytes if base is None else base.tar_bytes
    reader = TarReader(limits=Limits(max_entries=bound, max_bytes=bound), canonical=True)
    member: Member | None = None
    content: list[bytes] = []
    with path.open("rb") as file:
        stream = bounded_reader(file, max_output=bound)
        while data := stream.read(_PIECE):
            for event in reader.feed(data):
                if isinstance(event, Member):
                    if member is not None:
                        yield member, _whole(member, content)
                    member, content = event, []
                else:
                    content.append(bytes(event))
    reader.close()
    if member is not None:
        yield member, _whole(member, content)


def _whole(member: Member, content: list[bytes]) -> bytes:
    return b"".join((member_header(member), *content, padding(member.size)))
