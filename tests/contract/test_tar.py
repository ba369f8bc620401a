"""canonical_tar@1: vectors to the byte, names, and what other tars' tools make of it."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tars

from rch.contract import tar_names
from rch.contract.tar import (
    END,
    Member,
    TarError,
    member_header,
    member_length,
    padding,
    plain_member,
    safe_path,
    write_tar,
)
from rch.contract.tar_names import Names
from rch.contract.tar_reader import Limits, TarReader

DOC = Path(__file__).parents[2] / "docs" / "canonical-tar.md"
LIMITS = Limits(max_entries=1000, max_bytes=1 << 30)
Tree = list[tuple[Member, bytes]]

LONG = "d/" * 45 + "012345678é.swift"  # its byte 100 is the second half of the é
HALF = LONG.encode()[:100]

VECTORS: dict[str, tuple[Tree, bytes, str]] = {
    "nothing": (
        [],
        tars.END,
        "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    ),
    "one file": (
        [(Member(path="a", size=6), b"hello\n")],
        tars.file(b"a", b"hello\n") + tars.END,
        "fce8e05f3cee954b3579ae42da6861df1d56ba780cde4a5e01e13c3b68d471e0",
    ),
    "a package": (
        [
            (Member(path="Package.swift", size=512), b"/" * 512),
            (Member(path="Sources-old", kind="symlink", target="Sources/App"), b""),
            (Member(path="Sources/App/main.swift"), b""),
            (Member(path="run.sh", size=10, executable=True), b"#!/bin/sh\n"),
        ],
        tars.file(b"Package.swift", b"/" * 512)
        + tars.link(b"Sources-old", b"Sources/App")
        + tars.file(b"Sources/App/main.swift")
        + tars.file(b"run.sh", b"#!/bin/sh\n", mode=b"0000755\0")
        + tars.END,
        "02ab0fe95f8def2ad70cf5cb3a63855854d915ad5ce9b98d952758b2162b71f4",
    ),
    "PAX names": (
        [
            (Member(path=LONG, size=1), b"x"),
            (Member(path="é", kind="symlink", target=LONG), b""),
        ],
        tars.pax(tars.record(b"path", LONG.encode()))
        + tars.file(HALF, b"x")
        + tars.pax(tars.record(b"linkpath", LONG.encode()) + tars.record(b"path", "é".encode()))
        + tars.link("é".encode(), HALF)
        + tars.END,
        "fc740c6f4fd8edd2afdf2169800e56305cf1ede9fe16b84858575853cee4d1eb",
    ),
}


def write(tree: Tree) -> bytes:
    return b"".join(write_tar(((member, [content]) for member, content in tree), canonical=True))


def read(data: bytes, *, canonical: bool = True, limits: Limits = LIMITS, step: int = 1 << 20) -> Tree:
    reader = TarReader(limits=limits, canonical=canonical)
    tree: list[tuple[Member, bytearray]] = []
    for at in range(0, len(data), step):
        for event in reader.feed(data[at : at + step]):
            if isinstance(event, Member):
                tree.append((event, bytearray()))
            else:
                tree[-1][1].extend(event)
    reader.close()
    return [(member, bytes(content)) for member, content in tree]


@pytest.mark.spec("5")
@pytest.mark.fault("T3")
@pytest.mark.parametrize("name", VECTORS)
def test_a_published_tree_gives_its_published_bytes_and_digest(name: str) -> None:
    tree, by_hand, digest = VECTORS[name]
    data = write(tree)
    assert data == by_hand
    assert hashlib.sha256(data).hexdigest() == digest
    assert digest in DOC.read_text(encoding="utf-8")
    assert read(data) == tree


@pytest.mark.spec("5")
def test_the_header_in_the_doc_is_the_header() -> None:
    shown = bytearray(512)
    for row in re.findall(
        r"^([0-9a-f]{8})((?:  ?[0-9a-f]{2}){16})$", DOC.read_text(encoding="utf-8"), re.MULTILINE
    ):
        at = int(row[0], 16)
        shown[at : at + 16] = bytes.fromhex(row[1])
    assert shown == tars.file(b"a", b"hello\n")[:512]


@pytest.mark.spec("5")
def test_a_field_gets_a_pax_record_only_from_its_first_unfit_value_on() -> None:
    assert len(member_header(Member(path="n" * 100))) == 512
    assert len(member_header(Member(path="n" * 101))) == 1536
    assert len(member_header(Member(path="l", kind="symlink", target="n" * 100))) == 512
    assert len(member_header(Member(path="l", kind="symlink", target="n" * 101))) == 1536
    assert len(member_header(Member(path="b", size=(8 << 30) - 1))) == 512
    assert member_header(Member(path="b", size=(8 << 30) - 1))[124:136] == b"77777777777\0"


@pytest.mark.spec("5")
def test_a_size_of_eight_gibibytes_stands_in_pax_alone_and_other_tools_read_it(tmp_path: Path) -> None:
    size = 8 << 30
    header = member_header(Member(path="big", size=size))
    assert header == tars.pax(tars.record(b"size", b"%d" % size)) + tars.header(b"big", size=0)
    path = tmp_path / "big.tar"
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + size + 1024)
    for tool in ("tar", "bsdtar"):
        listed = subprocess.run([tool, "-tvf", path], capture_output=True, text=True, check=True).stdout
        assert str(size) in listed, tool


@pytest.mark.spec("5")
@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
def test_other_tools_unpack_what_we_write(tool: str, tmp_path: Path) -> None:
    for name, (tree, _, _) in VECTORS.items():
        place = tmp_path / name.replace(" ", "-")
        place.mkdir()
        subprocess.run([tool, "-xpf", "-", "-C", place], input=write(tree), check=True)
        for member, content in tree:
            path = place / member.path
            if member.kind == "symlink":
                assert str(path.readlink()) == member.target
            else:
                assert path.read_bytes() == content
                assert path.stat().st_mode & 0o777 == (0o755 if member.executable else 0o644)
        assert sum(not path.is_dir() or path.is_symlink() for path in place.rglob("*")) == len(tree)


@pytest.mark.spec("5")
def test_python_reads_it_too() -> None:
    with tarfile.open(fileobj=io.BytesIO(write(VECTORS["PAX names"][0]))) as opened:
        assert opened.getnames() == [LONG, "é"]
        assert opened.getmembers()[1].linkname == LONG


PARTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=60
).map(lambda text: unicodedata.normalize("NFC", text))


@st.composite
def trees(draw: Any) -> Tree:
    names = Names()
    tree: Tree = []
    paths = draw(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=8))
    for path in sorted(paths):
        try:
            safe_path(path)
            names.add(path)
        except TarError:
            continue
        if draw(st.booleans()):
            content = draw(st.binary(max_size=1500))
            tree.append((Member(path=path, size=len(content), executable=draw(st.booleans())), content))
        else:
            up = "../" * path.count("/")
            tree.append(
                (Member(path=path, kind="symlink", target=up + "nowhere" * draw(st.integers(1, 20))), b"")
            )
    return tree


@pytest.mark.spec("5")
@settings(max_examples=80, deadline=None)
@given(tree=trees(), step=st.integers(1, 4000))
def test_what_is_written_reads_back_in_whatever_pieces_it_comes(tree: Tree, step: int) -> None:
    data = write(tree)
    assert read(data, step=step) == tree
    assert len(data) == sum(member_length(member) for member, _ in tree) + len(END)
    assert write(read(data)) == data


@pytest.mark.spec("5")
def test_a_writer_refuses_wrong_order_folders_and_content_of_another_length() -> None:
    a, b = (Member(path="a"), b""), (Member(path="b"), b"")
    for tree, said in (
        ([b, a], "order"),
        ([a, a], "twice"),
        ([(Member(path="a", kind="directory"), b"")], "folder"),
        ([(Member(path="a", size=3), b"ab")], "3 bytes"),
        ([(Member(path="a", size=1), b"ab")], "1 bytes"),
        ([(Member(path="a/../b"), b"")], "'..'"),
        ([(Member(path="a", kind="symlink"), b"")], "target"),
        ([(Member(path="l", kind="symlink", target=".."), b"")], "leads out"),
    ):
        with pytest.raises(TarError, match=said):
            write(tree)


A = tars.file(b"a", b"hello\n")
NOT_CANONICAL = {
    "another mode": tars.file(b"a", mode=b"0000600\0") + tars.END,
    "a time": tars.header(b"a", mtime=b"00000000001\0") + tars.END,
    "an owner": tars.header(b"a", uid=b"0000001\0") + tars.END,
    "a user's name": tars.header(b"a", uname=b"root") + tars.END,
    "a prefix": tars.header(b"a", prefix=b"p") + tars.END,
    "GNU magic": tars.header(b"a", magic=b"ustar  \0") + tars.END,
    "an old header": tars.header(b"a", magic=b"") + tars.END,
    "a size with spaces": tars.header(b"a", size=b"         6 \0") + b"hello\n" + bytes(506) + tars.END,
    "a size in base 256": tars.header(b"a", size=b"\x80" + bytes(10) + b"\6") + bytes(512) + tars.END,
    "a negative size": tars.header(b"a", size=b"\xff" * 12) + tars.END,
    "octal garbage": tars.header(b"a", size=b"0000000000z\0") + tars.END,
    "an underlined number": tars.header(b"a", size=b"000000_0006\0") + tars.padded(b"hello\n") + tars.END,
    "an old file type": tars.header(b"a", typeflag=b"\0") + tars.END,
    "a wrong checksum": tars.header(b"a", checksum=b"000001\0 ") + tars.END,
    "a checksum in another form": tars.header(
        b"a", checksum=b"%07o\0" % sum(tars.header(b"a", checksum=b" " * 8))
    )
    + tars.END,
    "padding that is not zero": A[:-1] + b"x" + tars.END,
    "wrong order": tars.file(b"b") + tars.file(b"a") + tars.END,
    "a name twice": tars.file(b"a") + tars.file(b"a") + tars.END,
    "a folder": tars.folder(b"a") + tars.END,
    "one zero block": A + bytes(512),
    "one zero block and then more": A + bytes(512) + A + tars.END,
    "three zero blocks": A + tars.END + bytes(512),
    "a byte after the end": A + tars.END + b"\0",
    "no end": A,
    "half a header": A[:300],
    "half a file": tars.header(b"a", size=600) + bytes(512),
    "nothing at all": b"",
    "PAX without need": tars.pax(tars.record(b"path", b"a")) + tars.file(b"a") + tars.END,
    "PAX with a time": tars.pax(tars.record(b"mtime", b"1") + tars.record(b"path", b"n" * 101))
    + tars.file(b"n" * 100)
    + tars.END,
    "PAX in another order": tars.pax(
        tars.record(b"path", b"n" * 101) + tars.record(b"linkpath", b"m" * 101)
    )
    + tars.link(b"n" * 100, b"m" * 100)
    + tars.END,
    "no PAX where it is due": tars.file("é".encode()) + tars.END,
    "another name beside PAX": tars.pax(tars.record(b"path", b"n" * 101)) + tars.file(b"a") + tars.END,
    "PAX that is padded with ones": tars.pax(tars.record(b"path", b"n" * 101))[:-1]
    + b"1"
    + tars.file(b"n" * 100)
    + tars.END,
    "PAX twice": 2 * tars.pax(tars.record(b"path", b"n" * 101)) + tars.file(b"n" * 100) + tars.END,
    "PAX before the end": tars.pax(tars.record(b"path", b"n" * 101)) + tars.END,
}


@pytest.mark.spec("5")
@pytest.mark.fault("T3")
@pytest.mark.parametrize("form", NOT_CANONICAL)
def test_the_right_files_in_another_form_are_refused(form: str) -> None:
    with pytest.raises(TarError):
        read(NOT_CANONICAL[form])


@pytest.mark.spec("5")
@pytest.mark.fault("T3")
@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 4607), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_header_or_padding_passes(at: int, bit: int) -> None:
    tree, data, _ = VECTORS["PAX names"]
    flipped = bytearray(data)
    flipped[at] ^= 1 << bit
    try:
        seen = read(bytes(flipped))
    except TarError:
        return
    assert [member for member, _ in seen] != [member for member, _ in tree] or seen != tree
    assert write(seen) == bytes(flipped)  # another tree, and canonical


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    "broken", [b"", b"x path=a\n", b"8 path=a\n", b"12 path=ab\n", b"08 path=a\n", b"6 path\n"]
)
def test_malformed_pax_records_are_refused(broken: bytes) -> None:
    with pytest.raises(TarError):
        read(tars.pax(broken) + tars.file(b"a") + tars.END, canonical=False)


@pytest.mark.spec("5")
def test_limits_hold_before_content_is_read() -> None:
    two = tars.file(b"a", b"12") + tars.file(b"b", b"34")
    assert len(read(two + tars.END, limits=Limits(max_entries=2, max_bytes=4))) == 2
    with pytest.raises(TarError, match="more than 1 entries"):
        read(two, limits=Limits(max_entries=1, max_bytes=4))
    with pytest.raises(TarError, match="more than 3 bytes"):
        read(tars.file(b"a", b"12") + tars.header(b"b", size=2), limits=Limits(max_entries=2, max_bytes=3))


@pytest.mark.spec("8")
def test_an_artifact_set_may_come_from_another_writer(tmp_path: Path) -> None:
    (tmp_path / "logs" / ("n" * 90) / ("m" * 90)).mkdir(parents=True)
    (tmp_path / "logs" / "é.log").write_bytes(b"said")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        out.add(tmp_path / "logs", "logs")
    seen = {
        member.path: (member.kind, content) for member, content in read(packed.getvalue(), canonical=False)
    }
    assert seen == {
        "logs": ("directory", b""),
        "logs/" + "n" * 90: ("directory", b""),
        "logs/" + "n" * 90 + "/" + "m" * 90: ("directory", b""),
        "logs/é.log": ("file", b"said"),
    }


@pytest.mark.spec("5")
def test_padding_fills_the_block() -> None:
    assert [len(padding(size)) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]


# --- the quick look at a header ----------------------------------------------------------

PARTS = st.text(st.sampled_from("ab.é\\\0A-_"), min_size=1, max_size=9)
PATHS = st.lists(PARTS, min_size=1, max_size=14).map("/".join)
KINDS = st.sampled_from(["file", "symlink", "directory"])


@pytest.mark.spec("5")
@given(path=PATHS, kind=KINDS, size=st.integers(0, 9 << 30), executable=st.booleans(), target=PATHS)
def test_a_header_that_is_recognised_at_a_glance_is_the_writer_s_own(
    *,
    path: str,
    kind: Any,
    size: int,
    executable: bool,
    target: str,
) -> None:
    member = Member(
        path=path,
        kind=kind,
        size=size if kind == "file" else 0,
        executable=executable and kind == "file",
        target=target if kind == "symlink" else None,
    )
    header = member_header(member)
    found = plain_member(header[-512:])
    if len(header) > 512:  # what its PAX entry says is missing here: it may be another member, or none
        assert found is None or member_header(found) == header[-512:]
    elif found is None:  # a target of nothing but NULs reads as none
        assert kind == "symlink"
        assert not target.strip("\0")
    else:
        assert member_header(found) == header
        # A NUL at the end of a name cannot be told from the filling.
        assert found == member or path.endswith("\0") or target.endswith("\0")


@pytest.mark.spec("5")
@given(at=st.integers(0, 511), to=st.integers(0, 255), path=st.sampled_from(["a", "d/e.swift", "n" * 100]))
def test_no_changed_byte_of_a_header_is_overlooked(at: int, to: int, path: str) -> None:
    header = bytearray(member_header(Member(path=path, size=700, executable=True)))
    header[at] = to
    found = plain_member(bytes(header))
    assert found is None or member_header(found) == header


@pytest.mark.spec("5")
@given(path=st.text(st.sampled_from("ab./\\\0é\x7f "), max_size=12))
def test_a_path_that_passes_at_a_glance_passes_a_close_look(path: str) -> None:
    glance = tar_names._PLAIN_PATH.fullmatch(path) is not None
    try:
        tar_names._close_look(path)
    except TarError:
        assert not glance
    else:
        assert glance == path.isascii()
