"""Section 5: uploads in parts (`upload_resumable`) and uploads of differences (`upload_thin`)."""

from __future__ import annotations

from typing import Any

from rch_conformance.worker.checks.framing import fresh_tar, not_stored, stored
from rch_conformance.worker.forms import Item, canonical_tar, sha256
from rch_conformance.worker.peer import Answer, new_id
from rch_conformance.worker.rig import Rig, upload_line
from rch_conformance.worker.suite import check, expect, expect_same

_PARTS, _THIN = ("upload_resumable",), ("upload_thin",)


class _Upload:
    """One upload in parts."""

    def __init__(self, rig: Rig, tar: bytes) -> None:
        self.rig, self.tar = rig, tar
        self.upload_id = new_id()

    def part(self, start: int, end: int, *, last: bool = False, **changes: Any) -> Answer:
        """Send some bytes; the totals go with the last part."""
        resume = {"upload_id": self.upload_id, "offset": start, "last": last}
        if last:
            resume |= {"total_length": len(self.tar), "total_sha256": sha256(self.tar)}
        return self.rig.upload(
            self.tar,
            self.tar[start:end],
            resume={**resume, **changes},
        )

    def cut_part(self, start: int, end: int, *, sent: int) -> None:
        """Begin a part whose channel ends after `sent` bytes; whatever is answered."""
        body = self.tar[start:end]
        resume = {"upload_id": self.upload_id, "offset": start, "last": False}
        with self.rig.peer.open() as channel:
            channel.send(upload_line(self.tar, body, resume=resume) + body[:sent])
            channel.end_input()
            channel.rest()

    def offset(self) -> Any:
        """Where the worker says to go on."""
        return self.part(0, 0).payload.get("next_offset")


@check("5", "an upload in parts, each on a channel of its own, is stored with its last part", needs=_PARTS)
def parts_make_a_source(rig: Rig) -> None:
    rig.probe()
    tar = fresh_tar(30_000)
    upload = _Upload(rig, tar)
    for start, end in ((0, 10_000), (10_000, 20_000)):
        told = upload.part(start, end).payload
        expect_same("stored, of a part that is not the last", told.get("stored"), False)
        expect_same("next_offset", told.get("next_offset"), end)
        expect(not rig.has(sha256(tar)), "a source is there before its last part")
    stored(upload.part(20_000, len(tar), last=True))
    expect(rig.has(sha256(tar)), "has_source does not know what came in parts")


@check("5", "an empty part asks for the offset, and the worker says how many bytes it has", needs=_PARTS)
def empty_part_asks(rig: Rig) -> None:
    rig.probe()
    upload = _Upload(rig, fresh_tar(30_000))
    expect_same("the offset of an upload that did not begin", upload.offset(), 0)
    expect(upload.part(0, 12_345).ok, "a first part was refused")
    expect_same("the offset after a part", upload.offset(), 12_345)


@check(
    "5",
    "a part that does not go on where the bytes end is refused, and what is there is kept",
    needs=_PARTS,
)
def parts_go_on(rig: Rig) -> None:
    rig.probe()
    upload = _Upload(rig, fresh_tar(30_000))
    expect(upload.part(0, 10_000).ok, "a first part was refused")
    for start in (0, 9_999, 10_001):
        answer = upload.part(start, start + 5_000).refused_with("INVALID_REQUEST")
        expect(
            answer.data.get("next_offset", 10_000) == 10_000,
            f"data is {answer.data}, not next_offset 10000",
        )
    expect_same("the offset afterwards", upload.offset(), 10_000)
    stored(upload.part(10_000, len(upload.tar), last=True))


@check("5", "a part whose bytes are not those of its digest is not added", needs=_PARTS)
def damaged_part_is_not_added(rig: Rig) -> None:
    rig.probe()
    upload = _Upload(rig, fresh_tar(30_000))
    expect(upload.part(0, 10_000).ok, "a first part was refused")
    resume = {"upload_id": upload.upload_id, "offset": 10_000, "last": False}
    answer = rig.upload(upload.tar, b"?" * 5_000, resume=resume, content_sha256="ab" * 32)
    answer.refused_with("INVALID_REQUEST")
    expect_same("the offset afterwards", upload.offset(), 10_000)


@check(
    "5",
    "a part that is cut half-way costs no byte of those before it, and the upload goes on",
    needs=_PARTS,
)
def cut_part_keeps_the_others(rig: Rig) -> None:
    rig.probe()
    upload = _Upload(rig, fresh_tar(30_000))
    expect(upload.part(0, 10_000).ok, "a first part was refused")
    upload.cut_part(10_000, 20_000, sent=4_000)
    offset = upload.offset()
    expect(
        isinstance(offset, int) and 10_000 <= offset <= 14_000,
        f"the offset is {offset!r}, not 10000 to 14000",
    )
    stored(upload.part(offset, len(upload.tar), last=True))


@check("5", "the parts of one source are none of another's, whatever its upload_id", needs=_PARTS)
def parts_belong_to_their_source(rig: Rig) -> None:
    rig.probe()
    upload, other = _Upload(rig, fresh_tar(30_000)), _Upload(rig, fresh_tar(30_000))
    other.upload_id = upload.upload_id
    expect(upload.part(0, 10_000).ok, "a first part was refused")
    answer = other.part(0, 0)
    if answer.ok:
        expect_same("the offset of another source's upload", answer.payload.get("next_offset"), 0)
    else:
        answer.refused_with("INVALID_REQUEST")
    stored(upload.part(10_000, len(upload.tar), last=True))


@check("5", "totals are checked with the last part: a wrong one stores nothing", needs=_PARTS)
def totals_are_checked(rig: Rig) -> None:
    rig.probe()
    for change in ({"total_sha256": "ab" * 32}, {"total_length": 7}):
        tar = fresh_tar(30_000)
        upload = _Upload(rig, tar)
        expect(upload.part(0, 10_000).ok, "a first part was refused")
        not_stored(rig, tar, upload.part(10_000, len(tar), last=True, **change))


# --- thin ---------------------------------------------------------------------------------


class _Edit:
    """A source with a small change: one member changed, one left out, one new."""

    def __init__(self) -> None:
        mark = new_id().encode()
        kept = [Item(path=f"Sources/kept{n}.swift", data=mark * 40) for n in range(6)]
        self.removed = ["Sources/old.swift"]
        before = [Item(path="Sources/edited.swift", data=b"1"), Item(path="Sources/old.swift", data=b"2")]
        self.fresh = [Item(path="Sources/edited.swift", data=b"3"), Item(path="Tests/new.swift", data=b"4")]
        self.base = canonical_tar([*kept, *before])
        self.delta = canonical_tar(self.fresh)
        self.whole = canonical_tar([*kept, *self.fresh])

    def send(self, rig: Rig, delta: bytes | None = None, **base: Any) -> Answer:
        """Upload the difference."""
        told = {"source_sha256": sha256(self.base), "removed": self.removed, **base}
        return rig.upload(self.whole, self.delta if delta is None else delta, base=told)


@check("5", "a difference is spliced into its base, and the whole is there", needs=_THIN)
def thin_upload_makes_the_whole(rig: Rig) -> None:
    edit = _Edit()
    stored(rig.upload(edit.base))
    stored(edit.send(rig))
    expect(rig.has(sha256(edit.whole)), "has_source does not know the spliced source")
    expect(rig.has(sha256(edit.base)), "the base is gone")


@check("5", "a splice whose digest is not source_sha256 is refused, and nothing is stored", needs=_THIN)
def thin_upload_is_verified(rig: Rig) -> None:
    edit = _Edit()
    stored(rig.upload(edit.base))
    other = canonical_tar([*edit.fresh, Item(path="Tests/other.swift", data=b"5")])
    not_stored(rig, edit.whole, edit.send(rig, other))
    not_stored(rig, edit.whole, edit.send(rig, removed=[]))


@check("5", "a difference upon a base that is not stored is answered BASE_MISSING", needs=_THIN)
def base_is_needed(rig: Rig) -> None:
    edit = _Edit()
    not_stored(rig, edit.whole, edit.send(rig), "BASE_MISSING")


@check("5", "a removed name that the base does not have is refused", needs=_THIN)
def removed_names_are_known(rig: Rig) -> None:
    edit = _Edit()
    stored(rig.upload(edit.base))
    not_stored(rig, edit.whole, edit.send(rig, removed=["Sources/never.swift", "Sources/old.swift"]))


@check("5", "a difference with a member that no source may have is refused", needs=_THIN)
def thin_upload_is_held_to_the_form(rig: Rig) -> None:
    edit = _Edit()
    stored(rig.upload(edit.base))
    hostile = canonical_tar([Item(path="../x", data=b"x"), *edit.fresh])
    not_stored(rig, edit.whole, edit.send(rig, hostile))
