"""Holds an uploaded tar against its digest and its form, and notes what `submit` asks of it (section 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from rch.config.root import CONFIG_NAME
from rch.contract.tar import MAX_UNPACKED_BYTES, Member, member_length
from rch.contract.tar_names import TarError
from rch.contract.tar_reader import Limits, TarReader
from worker_agent.source_flow import Work, lanes
from worker_agent.source_index import Index, SourceMember
from worker_agent.source_words import Facts, refused

MAX_ENTRIES = 1_000_000
MAX_CONFIG_BYTES = 1 << 20


def check_source(source_sha256: str, pieces: Iterable[bytes], *keep: Work) -> tuple[Facts, Index]:
    """Hold a tar against its digest first and its form second; a wrong digest explains both.

    `keep` does something to each piece besides, at the same time.
    """
    contents, digest = Contents(), hashlib.sha256()
    with lanes(digest.update, contents.take, *keep) as put:
        for piece in pieces:
            put(piece)
    require_digest(source_sha256, digest.hexdigest())
    try:
        return contents.facts(), contents.index()
    except TarError as error:
        raise not_canonical(error) from error


def require_digest(source_sha256: str, found: str) -> None:
    """Refuse a tar that is not the source it is sent as."""
    if found != source_sha256:
        message = f"the tar's SHA-256 is {found}, source_sha256 is {source_sha256}"
        raise refused(message, "bundle_digest")


def not_canonical(error: TarError) -> Exception:
    """The refusal of a tar in another form than a source has."""
    return refused(f"the source is not a canonical tar: {error}", "not_canonical")


class Contents:
    """Gathers what a canonical tar holds, as its bytes pass.

    The first thing that is wrong with it is kept until it is asked for: the digest has the first word.
    """

    def __init__(self) -> None:
        limits = Limits(max_entries=MAX_ENTRIES, max_bytes=MAX_UNPACKED_BYTES)
        self._reader = TarReader(limits=limits, canonical=True)
        self._wrong: TarError | None = None
        self._config: bytes | None = None
        self._in_config = False
        self._members: list[SourceMember] = []
        self._open: Member | None = None
        self._digest: hashlib._Hash | None = None
        self._offset = 0

    @property
    def config(self) -> bytes | None:
        """The config that the tar holds, if it does."""
        return self._config

    def take(self, piece: bytes) -> None:
        """The next bytes."""
        if self._wrong is not None:
            return
        try:
            for event in self._reader.feed(piece):
                if isinstance(event, Member):
                    self._end()
                    self._begin(event)
                    continue
                if self._digest is None:
                    self._digest = hashlib.sha256(event)
                else:
                    self._digest.update(event)
                if self._in_config:
                    self._config = (self._config or b"") + bytes(event)
        except TarError as error:
            self._wrong = error

    def facts(self) -> Facts:
        """What `submit` asks of it; `TarError` unless the whole is in canonical form."""
        self.require_whole()
        self._reader.names.check_links()
        return Facts(
            config=self._config,
            top_level=tuple(sorted({each.path.partition("/")[0] for each in self.index()})),
            entries=self._reader.entries,
            content_bytes=self._reader.bytes,
        )

    def require_whole(self) -> None:
        """`TarError` unless the tar is in canonical form; its links may lead through what is not in it."""
        if self._wrong is not None:
            raise self._wrong
        self._reader.require_end()

    def index(self) -> Index:
        """Its members, of a tar that is whole."""
        self._end()
        return tuple(self._members)

    def _begin(self, member: Member) -> None:
        self._open = member
        self._in_config = member.path == CONFIG_NAME and member.kind == "file"
        if self._in_config:
            if member.size > MAX_CONFIG_BYTES:
                raise TarError(f"{CONFIG_NAME} is over {MAX_CONFIG_BYTES} bytes")
            self._config = b""

    def _end(self) -> None:
        """The member before is whole."""
        member, self._open = self._open, None
        digest, self._digest = self._digest, None
        if member is None:
            return
        is_link = member.kind == "symlink"
        length = member_length(member)
        self._members.append(
            SourceMember(
                member.path,
                "symlink" if is_link else "file",
                member.size,
                member.executable,
                member.target,
                None if is_link else (digest or hashlib.sha256()).hexdigest(),
                self._offset,
                self._offset + length - member.size - -member.size % 512,
            )
        )
        self._offset += length
