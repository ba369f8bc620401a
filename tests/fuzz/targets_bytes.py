"""Targets for bytes: lines and bodies, tars, zstd frames, thin uploads.

Each takes any bytes, raises nothing but what its room declares (which is caught here), and asserts
what has to hold of whatever was accepted.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from contextlib import suppress

import zstandard
from fuzz.places import place

from rch.contract.framing import FrameError, LineReader, decode_object, encode_line
from rch.contract.tar import END, Member, TarError, write_tar
from rch.contract.tar_reader import Limits, TarReader
from rch.contract.worker_rpc import RpcError
from rch.files.extract import ExtractError, extract
from rch.files.unzstd import DecodeError, bounded_reader
from worker_agent.source_check import Contents
from worker_agent.source_thin import check_whole, splice

BLOCK = 512
MOST_LINE = 200
LIMITS = Limits(max_entries=64, max_bytes=1 << 16)
MOST_OUTPUT = 1 << 18

Tree = list[tuple[Member, bytes]]


def framing(data: bytes) -> None:
    """The first byte says how the bytes are cut; every third line is followed by a body."""
    cut, wire = 1 + data[0] % 64 if data else 1, data[1:]
    taken = _lines(wire, len(wire) or 1)
    assert _lines(wire, cut) == taken, "lines depend on how the bytes are cut"
    for line in taken:
        with suppress(FrameError):
            value = decode_object(line)
            again = encode_line(value)
            assert again.count(b"\n") == 1
            assert decode_object(again[:-1]) == value


def _lines(wire: bytes, cut: int) -> list[bytes]:
    reader, taken = LineReader(MOST_LINE), list[bytes]()
    for at in range(0, len(wire), cut):
        reader.feed(wire[at : at + cut])
        try:
            while (line := reader.line()) is not None:
                assert len(line) <= MOST_LINE
                taken.append(line)
        except FrameError:
            return taken
        assert reader.pending <= MOST_LINE + cut
    return taken


# --- tars ---------------------------------------------------------------------------------


def with_sums(data: bytes) -> bytes:
    """The same blocks with right checksums, so that what is changed elsewhere comes further."""
    tar, at = bytearray(data), 0
    while at + BLOCK <= len(tar):
        block = tar[at : at + BLOCK]
        if any(block):
            block[148:156] = b" " * 8
            tar[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        digits = bytes(block[124:135])
        size = int(digits, 8) if digits.isdigit() and not set(b"89") & set(digits) else 0
        at += BLOCK + size + -size % BLOCK
    return bytes(tar)


def source_tar(data: bytes) -> None:
    """What a source reader takes is what our writer makes, and the other reader and Python agree."""
    for form in (data, with_sums(data)):
        tree = _read(form, canonical=True)
        if tree is None:
            continue
        assert b"".join(write_tar(((member, [held]) for member, held in tree), canonical=True)) == form
        if all(member.kind == "file" for member, _ in tree):
            assert _read(form, canonical=False) == tree
        _agrees_with_python(form, tree)
        _unpack(form, tree, canonical=True)


def artifact_tar(data: bytes) -> None:
    """What an artifact reader takes is unpacked below its folder alone, as Python would."""
    for form in (data, with_sums(data)):
        tree = _read(form, canonical=False)
        if tree is None:
            continue
        assert all(member.kind != "symlink" for member, _ in tree)
        _agrees_with_python(form, tree)
        _unpack(form, tree, canonical=False)


def _read(data: bytes, *, canonical: bool) -> Tree | None:
    whole = _read_in(data, len(data) or 1, canonical=canonical)
    assert _read_in(data, 700, canonical=canonical) == whole, "a tar depends on how its bytes are cut"
    return whole


def _read_in(data: bytes, step: int, *, canonical: bool) -> Tree | None:
    reader = TarReader(limits=LIMITS, canonical=canonical)
    tree: list[tuple[Member, bytearray]] = []
    try:
        for at in range(0, len(data), step):
            for event in reader.feed(data[at : at + step]):
                if isinstance(event, Member):
                    tree.append((event, bytearray()))
                else:
                    tree[-1][1].extend(event)
        reader.close()
    except TarError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
        return None
    assert len(tree) <= LIMITS.max_entries
    assert sum(len(held) for _, held in tree) <= LIMITS.max_bytes
    assert all(len(held) == member.size for member, held in tree)
    return [(member, bytes(held)) for member, held in tree]


def _agrees_with_python(data: bytes, tree: Tree) -> None:
    with tarfile.open(fileobj=io.BytesIO(data), format=tarfile.PAX_FORMAT) as opened:
        found = []
        for one in opened.getmembers():
            file = opened.extractfile(one) if one.isreg() else None
            found.append((one.name, file.read() if file else b""))
    assert found == [(member.path, held) for member, held in tree], "another tar's reader differs"


def _unpack(data: bytes, tree: Tree, *, canonical: bool) -> None:
    around = place("tar")
    out = around / "out"
    shutil.rmtree(out, ignore_errors=True)
    with suppress(ExtractError, OSError):  # a name that this file system does not take
        made = extract(io.BytesIO(data), out, limits=LIMITS, canonical=canonical)
        held = {
            path.relative_to(out).as_posix()
            for path in out.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }
        assert held == {member.path for member, _ in tree if member.kind != "directory"}
        digests = {one.path: one.sha256 for one in made if one.kind == "file"}
        for member, content in tree:
            if member.kind == "file":
                assert (out / member.path).read_bytes() == content
                assert digests[member.path] == hashlib.sha256(content).hexdigest()
    assert [path.name for path in around.iterdir()] in ([], ["out"])


# --- zstd ---------------------------------------------------------------------------------


def zstd(data: bytes) -> None:
    """What is taken is what zstd itself makes of it, within the bound, however it is read."""
    try:
        whole = bounded_reader(io.BytesIO(data), max_output=MOST_OUTPUT, max_window=1 << 20).read()
    except DecodeError as error:
        assert "\n" not in str(error)
        whole = None
    reader, pieces = bounded_reader(_Trickle(data), max_output=MOST_OUTPUT, max_window=1 << 20), bytearray()
    try:
        while piece := reader.read(777):
            pieces += piece
            assert len(pieces) <= MOST_OUTPUT
    except DecodeError:
        assert whole is None
        return
    assert bytes(pieces) == whole
    assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == whole


class _Trickle:
    def __init__(self, data: bytes) -> None:
        self._raw = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._raw.read(min(size, 5))


# --- thin uploads -------------------------------------------------------------------------

BASE = b"".join(
    write_tar(
        [
            (Member(path=".rch/xcode.toml", size=19), [b"schema_version = 1\n"]),
            (Member(path="Sources/a.swift", size=3), [b"//\n"]),
            (Member(path="Sources/b", kind="symlink", target="a.swift"), []),
            (Member(path="d/e/f"), []),
        ],
        canonical=True,
    )
)


def thin(data: bytes) -> None:
    """One line of removed names, and a delta: what is spliced and passes is a source, and only that."""
    first, _, delta = data.partition(b"\n")
    removed = tuple(sorted({name for name in first.decode(errors="replace").split(",") if name}))
    for form in (delta, with_sums(delta)):
        _splice(removed, form)


def _splice(removed: tuple[str, ...], delta: bytes) -> None:
    base, fresh = _contents(BASE), _contents(delta)
    assert base is not None
    if fresh is None:
        return
    try:
        made = splice([(0, base.index())], len(BASE), removed, fresh.index(), len(delta))
    except RpcError:
        return
    files = (BASE, delta)
    spliced = b"".join(files[part.file][part.offset : part.offset + part.length] for part in made.segments)
    try:
        facts = check_whole(made.runs, None)
    except TarError:
        facts = None
    tree = _read_in(spliced, len(spliced), canonical=True)
    assert (tree is None) == (facts is None), "the splice and a whole source are judged in two ways"
    if tree is not None and facts is not None:
        assert spliced.endswith(END)
        assert (facts.entries, facts.content_bytes) == (len(tree), sum(member.size for member, _ in tree))
        assert not {member.path for member, _ in tree} & set(removed)


def _contents(data: bytes) -> Contents | None:
    contents = Contents()
    contents.take(data)
    try:
        contents.require_whole()
    except TarError:
        return None
    return contents
