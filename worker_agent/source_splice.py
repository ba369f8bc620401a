"""Takes a thin upload: from a stream of new members to a source that is stored (spec section 5).

The names are looked at, the plan is written and the delta flushed while a thread reads the whole
source for its digest. It has a name only once the digest is the announced one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from rch.contract.tar_names import TarError
from rch.contract.worker_rpc import Base
from rch.files.durable import sync_file
from worker_agent.source_check import Contents, not_canonical, require_digest
from worker_agent.source_flow import beside, lanes, written
from worker_agent.source_index import CutShort, Index, SourceReader
from worker_agent.source_thin import (
    Plan,
    Spliced,
    check_whole,
    config_of,
    encode_plan,
    is_small,
    members_of,
    splice,
    virtual,
)
from worker_agent.source_words import Facts, base_missing
from worker_agent.sources import Ground, Sources


def store_spliced(sources: Sources, source_sha256: str, pieces: Iterable[bytes], base: Base) -> None:
    """Put the members in `pieces` into the base and keep the result, which has to be `source_sha256`."""
    with sources.based(base.source_sha256) as ground, sources.shelf.temp() as (path, delta):
        contents = Contents()
        with lanes(contents.take, delta.write) as put:
            for piece in pieces:
                put(piece)
        try:
            contents.require_whole()
        except TarError as error:
            raise not_canonical(error) from error
        upload = _Upload(sources, source_sha256, ground, path, delta)
        upload.store(contents.index(), contents.config, base.removed)


class _Upload:
    """One thin upload, whose new members stand in `delta`, a file of ours at `path`."""

    def __init__(
        self, sources: Sources, source_sha256: str, ground: Ground, path: Path, delta: BinaryIO
    ) -> None:
        self._sources = sources
        self._source_sha256 = source_sha256
        self._ground = ground
        self._path = path
        self._delta = delta

    def store(self, fresh: Index, config: bytes | None, removed: tuple[str, ...]) -> None:
        """Splice, verify, keep."""
        ground, delta = self._ground, self._delta
        base_size = os.fstat(ground.opened.files[0].fileno()).st_size
        spliced = splice(ground.runs, base_size, removed, fresh, delta.tell())
        self._carry(spliced)
        reader = SourceReader((ground.opened.files[0], delta), spliced.segments)
        self._sources.check_size(reader.size, "the spliced source")
        config = config_of(fresh, config, removed, ground.facts.config)
        if not is_small(spliced.delta_size, base_size):
            self._keep_whole(spliced, reader, config)
            return
        found: list[str] = []
        try:
            with beside(lambda: found.append(reader.sha256())):
                facts = _checked(spliced, config)
                if isinstance(facts, Facts):
                    self._write_plan(spliced, base_size, facts)
        except CutShort as error:
            raise self._unsound() from error
        self._judge(found[0], facts)
        if not self._sources.path(self._source_sha256).exists():  # somebody may have sent it whole
            place = self._sources.shelf.thin(self._source_sha256)
            files = (ground.opened.files[0], delta)
            self._sources.finish(self._source_sha256, self._path, place, files)

    def _carry(self, spliced: Spliced) -> None:
        """Add to the delta what the base has in its own."""
        for segment in spliced.carried:
            with_base = SourceReader(self._ground.opened.files, (segment,))
            for piece in with_base.pieces():
                self._delta.write(piece)
        self._delta.flush()

    def _write_plan(self, spliced: Spliced, base_size: int, facts: Facts) -> None:
        plan = Plan(
            base_sha256=self._ground.full_sha256,
            base_size=base_size,
            segments=spliced.segments,
            delta=members_of(spliced.runs, 1),
            facts=facts,
        )
        self._delta.write(encode_plan(plan))
        self._delta.flush()
        sync_file(self._delta.fileno())

    def _keep_whole(self, spliced: Spliced, reader: SourceReader, config: bytes | None) -> None:
        """Write the source out: its delta is so large that this costs little more."""
        sources, found = self._sources, list[str]()
        with sources.shelf.temp() as (path, tar):
            try:
                with beside(lambda: found.append(reader.sha256())), lanes(written(tar)) as put:
                    for piece in reader.pieces():
                        put(piece)
                    facts = _checked(spliced, config)
            except CutShort as error:
                raise self._unsound() from error
            facts = self._judge(found[0], facts)
            sources.publish(self._source_sha256, path, tar, facts, virtual(spliced.runs))

    def _judge(self, found: str, facts: Facts | TarError) -> Facts:
        """As for a whole upload: the digest has the first word."""
        if found != self._source_sha256:
            self._sources.require_sound(self._ground.source_sha256)
            require_digest(self._source_sha256, found)
        if isinstance(facts, TarError):
            raise not_canonical(facts) from facts
        return facts

    def _unsound(self) -> Exception:
        """The refusal where the base was cut short."""
        self._sources.require_sound(self._ground.source_sha256)
        return base_missing(self._ground.source_sha256)


def _checked(spliced: Spliced, config: bytes | None) -> Facts | TarError:
    try:
        return check_whole(spliced.runs, config)
    except TarError as error:
        return error
