"""Holds an uploaded tar against its digest and its form, and notes what `submit` asks of it (section 5)."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from rch.config.root import CONFIG_NAME
from rch.contract.tar import Member, member_length
from rch.contract.tar_names import TarError
from rch.contract.tar_reader import Limits, TarReader
from worker_agent.source_index import Index, SourceMember
from worker_agent.sources import MAX_UNPACKED_BYTES, Facts, refused

MAX_ENTRIES = 1_000_000
MAX_CONFIG_BYTES = 1 << 20
_PIECE = 1 << 20


def check_source(source_sha256: str, tar: BinaryIO) -> tuple[Facts, Index]:
    """Hold a tar against its digest first and its form second; a wrong digest explains both."""
    limits = Limits(max_entries=MAX_ENTRIES, max_bytes=MAX_UNPACKED_BYTES)
    contents, digest = _Contents(TarReader(limits=limits, canonical=True)), hashlib.sha256()
    wrong: TarError | None = None
    while piece := tar.read(_PIECE):
        digest.update(piece)
        try:
            if wrong is None:
                contents.feed(piece)
        except TarError as error:
            wrong = error
    if digest.hexdigest() != source_sha256:
        message = f"the tar's SHA-256 is {digest.hexdigest()}, source_sha256 is {source_sha256}"
        raise refused(message, "bundle_digest")
    try:
        if wrong is not None:
            raise wrong
        return contents.facts(), contents.index()
    except TarError as error:
        raise refused(f"the source is not a canonical tar: {error}", "not_canonical") from error


class _Contents:
    """Gathers the facts of a source from its members as they pass."""

    def __init__(self, reader: TarReader) -> None:
        self._reader = reader
        self._top_level: set[str] = set()
        self._config: bytes | None = None
        self._in_config = False
        self._members: list[SourceMember] = []
        self._open: Member | None = None
        self._digest = hashlib.sha256()
        self._offset = 0

    def feed(self, piece: bytes) -> None:
        for event in self._reader.feed(piece):
            if isinstance(event, Member):
                self._end()
                self._begin(event)
            else:
                self._digest.update(event)
                if self._in_config:
                    self._config = (self._config or b"") + bytes(event)

    def _end(self) -> None:
        """The member before is whole."""
        member, self._open = self._open, None
        if member is None:
            return
        after = self._offset + member_length(member)
        self._members.append(
            SourceMember(
                path=member.path,
                kind="symlink" if member.kind == "symlink" else "file",
                size=member.size,
                executable=member.executable,
                target=member.target,
                sha256=None if member.kind == "symlink" else self._digest.hexdigest(),
                offset=self._offset,
                content=after - member.size - -member.size % 512,
            )
        )
        self._offset = after

    def index(self) -> Index:
        self._end()
        return tuple(self._members)

    def _begin(self, member: Member) -> None:
        self._open, self._digest = member, hashlib.sha256()
        self._top_level.add(member.path.partition("/")[0])
        self._in_config = member.path == CONFIG_NAME and member.kind == "file"
        if self._in_config:
            if member.size > MAX_CONFIG_BYTES:
                raise TarError(f"{CONFIG_NAME} is over {MAX_CONFIG_BYTES} bytes")
            self._config = b""

    def facts(self) -> Facts:
        self._reader.close()
        return Facts(
            config=self._config,
            top_level=tuple(sorted(self._top_level)),
            entries=self._reader.entries,
            content_bytes=self._reader.bytes,
        )
