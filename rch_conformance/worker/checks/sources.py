"""Section 5: the form of a source, and what a worker must refuse."""

from __future__ import annotations

from dataclasses import replace

from rch_conformance.checks import Broken
from rch_conformance.worker.checks.framing import fresh_tar, not_stored, stored
from rch_conformance.worker.forms import (
    DEVICE,
    FIFO,
    FOLDER,
    HARD_LINK,
    Item,
    canonical_tar,
    plain_tar,
    sha256,
)
from rch_conformance.worker.peer import new_id
from rch_conformance.worker.rig import Rig, upload_line
from rch_conformance.worker.suite import check, expect

_LONG = "d/" * 45 + "012345678\u00e9.swift"
GOLDEN: dict[str, tuple[Item, ...]] = {
    "fce8e05f3cee954b3579ae42da6861df1d56ba780cde4a5e01e13c3b68d471e0": (Item(path="a", data=b"hello\n"),),
    "02ab0fe95f8def2ad70cf5cb3a63855854d915ad5ce9b98d952758b2162b71f4": (
        Item(path="Package.swift", data=b"/" * 512),
        Item(path="Sources-old", target="Sources/App"),
        Item(path="Sources/App/main.swift"),
        Item(path="run.sh", data=b"#!/bin/sh\n", executable=True),
    ),
    "fc740c6f4fd8edd2afdf2169800e56305cf1ede9fe16b84858575853cee4d1eb": (
        Item(path=_LONG, data=b"x"),
        Item(path="\u00e9", target=_LONG),
    ),
}
"""The vectors of docs/canonical-tar.md: digest and members."""


def _refused(rig: Rig, what: str, tar: bytes) -> None:
    answer = rig.upload(tar)
    try:
        not_stored(rig, tar, answer)
    except Broken as broken:
        raise Broken(f"a source with {what}: {broken}") from broken


def _note() -> Item:
    """A member that makes a source one that no worker has seen."""
    return Item(path="note.txt", data=new_id().encode())


@check("5", "canonical tars of every form are taken: plain, links and execute bits, names that need PAX")
def canonical_tars_are_taken(rig: Rig) -> None:
    for digest, items in GOLDEN.items():
        tar = canonical_tar(items)
        if sha256(tar) != digest:
            raise AssertionError("the suite's own writer is wrong")
        stored(rig.upload(tar))
        expect(rig.has(digest), "has_source does not know what was stored")


@check("5", "a tar in another order than that of its names' bytes is refused")
def order_is_part_of_the_form(rig: Rig) -> None:
    _refused(rig, "members out of order", plain_tar([_note(), Item(path="a.txt")]))
    _refused(
        rig, "B before a, in the order of letters", plain_tar([Item(path="a"), Item(path="B"), _note()])
    )


@check("5", "times, owners, modes and folders have no place in a source")
def headers_are_part_of_the_form(rig: Rig) -> None:
    note = _note()
    for what, item in (
        ("a time", replace(note, mtime=1)),
        ("an owner", replace(note, uid=501)),
        ("another mode", replace(note, mode="0000600")),
        ("a mode with setuid", replace(note, mode="0004755")),
        ("GNU's magic", replace(note, magic=b"ustar  \0")),
    ):
        _refused(rig, what, plain_tar([item]))
    _refused(
        rig,
        "a folder entry",
        plain_tar([Item(path="Sources", kind=FOLDER), replace(note, path="Sources/x")]),
    )


@check("5", "names of owners, bytes in the padding and needless PAX records have no place in a source")
def nothing_is_hidden_in_a_source(rig: Rig) -> None:
    for what, changes in (
        ("the name of an owner", {"owner": b"root"}),
        ("a padding that is not zero", {"padding": b"\7"}),
        ("a PAX record that its name does not need", {"pax": True}),
    ):
        _refused(rig, what, plain_tar([replace(_note(), **changes)]))


@check("5", "a source ends with two zero blocks, and nothing follows them")
def end_is_part_of_the_form(rig: Rig) -> None:
    tar = fresh_tar()
    _refused(rig, "one zero block at its end", tar[:-512])
    _refused(rig, "no end", fresh_tar()[:-1024])
    _refused(rig, "a third zero block", fresh_tar() + bytes(512))
    _refused(rig, "something behind its end", fresh_tar() + b"x" * 512)


@check("5", "absolute names, .., ., empty parts and backslashes are refused")
def names_stay_inside(rig: Rig) -> None:
    for name in ("/etc/passwd", "../x", "a/../../x", "a/./b", "./a", "a//b", "a\\b", "a/", ".."):
        _refused(rig, f"the name {name!r}", canonical_tar([Item(path=name, data=new_id().encode())]))


@check("5", "a name twice, or twice but for case or form, is refused")
def names_are_told_apart(rig: Rig) -> None:
    for pair in (("a", "a"), ("README", "readme"), ("stra\u00dfe", "strasse"), ("D/x", "d/y")):
        items = [Item(path=name, data=new_id().encode()) for name in pair]
        _refused(rig, f"the names {pair}", canonical_tar(items))
    _refused(
        rig, "a name that is not in NFC", canonical_tar([Item(path="e\u0301.txt", data=new_id().encode())])
    )


@check("5", "a name that is a file and a folder at once is refused")
def files_are_no_folders(rig: Rig) -> None:
    items = [Item(path="a", data=new_id().encode()), Item(path="a/b", data=b"x")]
    _refused(rig, "a file that becomes a folder", canonical_tar(items))
    through = [
        Item(path="a", target="b"),
        Item(path="a/x", data=b"x"),
        Item(path="b/y", data=new_id().encode()),
    ]
    _refused(rig, "a file below a link", canonical_tar(through))


@check("5", "links that lead out of the root, by their words or through others, are refused")
def links_stay_inside(rig: Rig) -> None:
    note = _note()
    for target in ("/etc/passwd", "../outside", "a/../../outside", "a\\b"):
        _refused(rig, f"a link to {target!r}", canonical_tar([note, Item(path="link", target=target)]))
    items = [
        Item(path="a/b/c", data=b"x"),
        Item(path="hop", target="a/b"),
        Item(path="out", target="hop/../../../x"),
    ]
    _refused(rig, "a link that leads out", canonical_tar([note, *items]))


@check("5", "hard links, devices, FIFOs and other kinds of members are refused")
def kinds_are_few(rig: Rig) -> None:
    note = _note()
    for what, item in (
        ("a hard link", Item(path="x", target="note.txt", kind=HARD_LINK)),
        ("a device", Item(path="x", kind=DEVICE)),
        ("a FIFO", Item(path="x", kind=FIFO)),
        ("a sparse file", Item(path="x", kind="S")),
        ("a global header", Item(path="x", data=b"20 comment=something"[:20], kind="g")),
        ("GNU's long name", Item(path="x", data=b"long", kind="L")),
    ):
        _refused(rig, what, plain_tar([note, item]))


@check("5", "a header whose sum is wrong is refused")
def sums_are_checked(rig: Rig) -> None:
    _refused(rig, "a wrong sum", plain_tar([replace(_note(), sum_off_by=1)]))


@check("5", "a second upload of a source is taken, and changes nothing")
def duplicates_are_taken(rig: Rig) -> None:
    tar = fresh_tar()
    for _ in range(2):
        stored(rig.upload(tar))
    expect(rig.has(sha256(tar)), "has_source does not know what was stored")


@check("5", "a duplicate has to be what it says all the same")
def duplicates_are_checked(rig: Rig) -> None:
    tar = fresh_tar()
    stored(rig.upload(tar))
    rig.upload(tar, content_sha256="ab" * 32).refused_with("INVALID_REQUEST")
    expect(rig.has(sha256(tar)), "a bad duplicate took the source away")


@check("5", "two uploads of one source at the same time are both taken")
def uploads_at_once(rig: Rig) -> None:
    rig.probe()
    tar = fresh_tar(200_000)
    line = upload_line(tar)
    with rig.peer.open() as first, rig.peer.open() as second:
        for channel in (first, second):
            channel.send(line + tar[:50_000])
        for channel in (first, second):
            channel.send(tar[50_000:])
            stored(rig.peer.read(channel))
    expect(rig.has(sha256(tar)), "has_source does not know what was stored twice")


@check("5", "a source is not there before its upload is whole")
def uploads_are_atomic(rig: Rig) -> None:
    rig.probe()
    tar = fresh_tar(200_000)
    line = upload_line(tar)
    with rig.peer.open() as channel:
        channel.send(line + tar[:-512])
        expect(channel.is_silent(0.2), "an upload was answered before it was whole")
        expect(not rig.has(sha256(tar)), "a source is there before its upload is whole")
        channel.send(tar[-512:])
        stored(rig.peer.read(channel))


@check("5", "under a lease a source that is found is there for the submit", needs=("lease",))
def has_source_under_a_lease(rig: Rig) -> None:
    source, lease = rig.source(), rig.lease(rig.run_id)
    told = rig.result("has_source", source_sha256=source, lease_id=lease.lease_id)
    expect(told.get("exists") is True, "the source is not there under a lease")
