"""The extractor against hostile tars: it makes what it was told, where it was told, or nothing."""

from __future__ import annotations

import hashlib
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tars

from rch.files.extract import Extracted, ExtractError, Limits, extract

LIMITS = Limits(max_entries=100, max_bytes=1 << 20)
DEVICE = tars.header(b"a", typeflag=b"3")
LONG = b"n" * 101


def unpack(data: bytes, at: Path, *, canonical: bool, limits: Limits = LIMITS) -> list[Extracted]:
    return extract(io.BytesIO(data), at, limits=limits, canonical=canonical)


def outside(tmp_path: Path) -> list[Path]:
    """Everything that is not below the destination."""
    inside = tmp_path / "out"
    return sorted(path for path in tmp_path.rglob("*") if inside not in (path, *path.parents))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A destination beside a file that must survive; nothing else may appear there."""
    (tmp_path / "victim").write_text("untouched")
    before = outside(tmp_path)
    yield tmp_path / "out"
    assert outside(tmp_path) == before
    assert (tmp_path / "victim").read_text() == "untouched"


# Each is refused in both modes. Ends are added, so that only the fault itself can be the reason.
HOSTILE = {
    "an absolute name": (tars.file(b"/etc/x"), "absolute"),
    "a name that climbs": (tars.file(b"../victim"), "'..'"),
    "a name that climbs inside": (tars.file(b"a/../../victim"), "'..'"),
    "an empty name": (tars.file(b""), "empty|order"),
    "a dot": (tars.file(b"."), "'.'"),
    "an empty part": (tars.file(b"a//b"), "empty"),
    "a NUL in the name": (tars.header(b"a\0b"), "NUL"),
    "a backslash": (tars.file(b"..\\victim"), "backslash"),
    "a part over 255 bytes": (tars.pax(tars.record(b"path", b"n" * 256)) + tars.file(b"n" * 100), "255"),
    "a name over 4095 bytes": (
        tars.pax(tars.record(b"path", (b"n" * 200 + b"/") * 20 + b"n" * 100)) + tars.file(b"n" * 100),
        "4095",
    ),
    "too deep": (tars.pax(tars.record(b"path", b"n/" * 500 + b"n")) + tars.file(b"n/" * 50), "deep"),
    "a name that is not UTF-8": (tars.file(b"\xff"), "UTF-8"),
    "a PAX name that is not UTF-8": (
        tars.pax(tars.record(b"path", b"\xff" * 101)) + tars.file(b"a"),
        "UTF-8",
    ),
    "a name in NFD": (
        tars.pax(tars.record(b"path", "cafe\u0301".encode())) + tars.file("cafe\u0301".encode()),
        "NFC",
    ),
    "names that differ in case": (tars.file(b"A") + tars.file(b"a"), "one name on a Mac"),
    "folders that differ in case": (tars.file(b"A/a") + tars.file(b"a/b"), "one name on a Mac"),
    "a name twice": (tars.file(b"a") + tars.file(b"a"), "a"),
    "a file that becomes a folder": (tars.file(b"a") + tars.file(b"a/b"), "folder"),
    "a hard link": (tars.file(b"a") + tars.header(b"b", typeflag=b"1", link=b"a"), "hard link"),
    "a hard link outside": (tars.header(b"b", typeflag=b"1", link=b"../victim"), "hard link"),
    "a character device": (tars.header(b"a", typeflag=b"3"), "character device"),
    "a block device": (tars.header(b"a", typeflag=b"4"), "block device"),
    "a FIFO": (tars.header(b"a", typeflag=b"6"), "FIFO"),
    "a contiguous file": (tars.header(b"a", typeflag=b"7"), "contiguous"),
    "a GNU sparse file": (tars.header(b"a", typeflag=b"S"), "sparse"),
    "a PAX sparse file": (
        tars.pax(tars.record(b"GNU.sparse.size", b"9") + tars.record(b"path", LONG))
        + tars.file(LONG[:100]),
        "GNU.sparse.size",
    ),
    "a GNU long name": (
        tars.header(b"././@LongLink", typeflag=b"L", size=102) + bytes(512),
        "GNU long name",
    ),
    "a global header": (tars.pax(tars.record(b"path", b"evil"), typeflag=b"g") + tars.file(b"a"), "global"),
    "an unknown type": (tars.header(b"a", typeflag=b"Z"), "unknown type"),
    "an ACL": (
        tars.pax(tars.record(b"SCHILY.acl.access", b"u::rwx") + tars.record(b"path", LONG))
        + tars.file(LONG[:100]),
        "SCHILY",
    ),
    "an extended attribute": (
        tars.pax(tars.record(b"SCHILY.xattr.user.x", b"1") + tars.record(b"path", LONG))
        + tars.file(LONG[:100]),
        "SCHILY",
    ),
    "a PAX size that overrides": (
        tars.pax(tars.record(b"size", b"4")) + tars.file(b"a", b"12345678"),
        "overrides",
    ),
    "a PAX size of many digits": (
        tars.pax(tars.record(b"size", b"9" * 5000)) + tars.file(b"a"),
        "overrides",
    ),
    "a PAX entry without end": (tars.header(b"@pax", typeflag=b"x", size=1 << 20), "PAX entry of"),
    "a PAX record twice": (tars.pax(2 * tars.record(b"path", LONG)) + tars.file(LONG[:100]), "twice"),
    "setuid": (tars.file(b"a", mode=b"0004755\0"), "canonical|beyond 777"),
    "a wrong checksum": (tars.header(b"a", checksum=b"000000\0 "), "canonical|checksum"),
    "a size that is not octal": (tars.header(b"a", size=b"0000000009z\0"), "octal"),
    "a negative size in base 256": (tars.header(b"a", size=b"\xff" * 12), "octal"),
    "a huge size": (tars.header(b"a", size=b"77777777777\0"), "more than 1048576 bytes"),
    "a link with content": (tars.header(b"a", typeflag=b"2", link=b"b", size=512) + bytes(512), "content"),
    "a folder with content": (tars.header(b"a", typeflag=b"5", size=512) + bytes(512), "content"),
    "more entries than allowed": (b"".join(tars.file(b"%03d" % n) for n in range(101)), "100 entries"),
    "a cut header": (tars.header(b"a")[:200] + b"\xff", "canonical|octal|ustar|UTF-8"),
}


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("canonical", [True, False], ids=["source", "artifacts"])
@pytest.mark.parametrize("form", HOSTILE)
def test_hostile_forms_are_refused_and_touch_nothing_outside(
    form: str, place: Path, *, canonical: bool
) -> None:
    data, said = HOSTILE[form]
    with pytest.raises(ExtractError, match=said) as caught:
        unpack(data + tars.END, place, canonical=canonical)
    assert "\n" not in caught.value.reason
    kinds = {path.lstat().st_mode & 0o170000 for path in place.rglob("*")}
    assert kinds <= {0o100000, 0o040000}


LINKS = {
    "absolute": tars.link(b"l", b"/etc/passwd"),
    "out of the root": tars.link(b"l", b"../victim"),
    "out of the root from below": tars.link(b"d/l", b"../../victim"),
    "out through another link": tars.link(b"d/e/up", b"../..") + tars.link(b"y", b"d/e/up/../victim"),
    "out through a link that comes later": tars.link(b"a", b"d/e/up/../victim")
    + tars.link(b"d/e/up", b"../.."),
    "out through a link in another case": tars.link(b"d/e/up", b"../..")
    + tars.link(b"y", b"d/e/UP/../victim"),
    "a ring": tars.link(b"a", b"b") + tars.link(b"b", b"a"),
    "a chain without end": b"".join(tars.link(b"%03d" % n, b"%03d" % (n + 1)) for n in range(60)),
    "no target": tars.header(b"l", typeflag=b"2", mode=b"0000777\0"),
    "a NUL in the target": tars.header(b"l", typeflag=b"2", mode=b"0000777\0", link=b"a\0b"),
    "a backslash in the target": tars.link(b"l", b"..\\victim"),
    "a write through a link": tars.link(b"l", b"d") + tars.file(b"l/x", b"evil"),
    "a file over a link": tars.link(b"l", b"d") + tars.file(b"l", b"evil"),
    "a link over a file": tars.file(b"l", b"good") + tars.link(b"l", b"d"),
    "a link over a folder": tars.file(b"l/x", b"good") + tars.link(b"l", b"d"),
}


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("form", LINKS)
def test_hostile_links_are_refused_before_any_link_is_made(form: str, place: Path) -> None:
    with pytest.raises(ExtractError):
        unpack(LINKS[form] + tars.END, place, canonical=True)
    assert not [path for path in place.rglob("*") if path.is_symlink()]


@pytest.mark.spec("8")
@pytest.mark.fault("T2")
def test_an_artifact_set_holds_no_links_at_all(place: Path) -> None:
    with pytest.raises(ExtractError, match="'l' is a link"):
        unpack(tars.file(b"a") + tars.link(b"l", b"a") + tars.END, place, canonical=False)


@pytest.mark.fault("T2")
def test_the_bypasses_of_other_extractors_are_refused(place: Path) -> None:
    """Very long link chains, by which a real path beyond the system's limit hid a way out."""
    step = b"d" * 247
    data, inner = b"", b""
    for letter in b"abcdefghijklmnop":
        inner += step + b"/"
        data += tars.pax(tars.record(b"path", inner[:-1])) + tars.folder(inner[:100])
        data += tars.pax(tars.record(b"linkpath", step)) + tars.link(bytes([letter]), step[:100])
    for canonical in (True, False):
        with pytest.raises(ExtractError):
            unpack(
                data + tars.link(b"z", b"a/" * 16 + b"../" * 16 + b"victim") + tars.END,
                place,
                canonical=canonical,
            )


@pytest.mark.spec("5")
def test_a_source_is_made_as_it_was(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        made = unpack(
            tars.file(b"Package.swift", b"//\n")
            + tars.file(b"Sources/App/main.swift")
            + tars.link(b"Sources/Now", b"App")
            + tars.file(b"bin/run", b"#!", mode=b"0000755\0")
            + tars.link(b"zero", b"not/there")
            + tars.END,
            tmp_path / "out",
            canonical=True,
        )
    finally:
        os.umask(old)
    assert made == [
        Extracted(path="Package.swift", kind="file", size=3, sha256=hashlib.sha256(b"//\n").hexdigest()),
        Extracted(path="Sources/App/main.swift", kind="file", sha256=hashlib.sha256().hexdigest()),
        Extracted(path="Sources/Now", kind="symlink", target="App"),
        Extracted(
            path="bin/run", kind="file", size=2, sha256=hashlib.sha256(b"#!").hexdigest(), executable=True
        ),
        Extracted(path="zero", kind="symlink", target="not/there"),
    ]
    modes = {
        str(path.relative_to(tmp_path / "out")): path.lstat().st_mode & 0o777
        for path in (tmp_path / "out").rglob("*")
        if not path.is_symlink()
    }
    assert modes == {
        "Package.swift": 0o644,
        "Sources": 0o755,
        "Sources/App": 0o755,
        "Sources/App/main.swift": 0o644,
        "bin": 0o755,
        "bin/run": 0o755,
    }
    assert (tmp_path / "out" / "Sources" / "Now" / "main.swift").read_bytes() == b""


@pytest.mark.spec("8")
def test_an_artifact_set_lists_every_folder_once(tmp_path: Path) -> None:
    made = unpack(
        tars.file(b"z/deep/log", b"1")
        + tars.folder(b"empty/")
        + tars.folder(b"z")
        + tars.file(b"a")
        + tars.END,
        tmp_path / "out",
        canonical=False,
    )
    assert [(one.path, one.kind) for one in made] == [
        ("z", "directory"),
        ("z/deep", "directory"),
        ("empty", "directory"),
        ("z/deep/log", "file"),
        ("a", "file"),
    ]
    assert (tmp_path / "out" / "empty").is_dir()


@pytest.mark.spec("5")
@pytest.mark.parametrize("canonical", [True, False])
def test_any_cut_is_noticed(tmp_path: Path, *, canonical: bool) -> None:
    whole = tars.file(b"a", b"x" * 600) + tars.file(b"b") + tars.END
    for end in (0, 1, 511, 512, 513, 1111, 1112, 1536, 2000, 2048, 2560, 3071):
        with pytest.raises(ExtractError, match="cut short"):
            unpack(whole[:end], tmp_path / f"out{end}", canonical=canonical)
    assert len(unpack(whole, tmp_path / "out", canonical=canonical)) == 2


@pytest.mark.spec("5")
def test_the_destination_is_new_or_an_empty_folder(tmp_path: Path) -> None:
    data = tars.file(b"a") + tars.END
    (tmp_path / "empty").mkdir()
    assert unpack(data, tmp_path / "empty", canonical=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for name, said in (("empty", "not empty"), ("file", "no folder"), ("link", "no folder")):
        with pytest.raises(ExtractError, match=said):
            unpack(data, tmp_path / name, canonical=True)
    assert not list((tmp_path / "elsewhere").iterdir())


class Swapping(io.RawIOBase):
    """Gives a tar in two parts; between them someone swaps a folder for a link."""

    def __init__(self, first: bytes, second: bytes, place: Path, away: Path) -> None:
        super().__init__()
        self._parts = [first, second]
        self._place = place
        self._away = away

    def read(self, _size: int | None = -1, /) -> bytes:
        if len(self._parts) == 1:
            (self._place / "d").rename(self._place / "old")
            (self._place / "d").symlink_to(self._away)
        return self._parts.pop(0) if self._parts else b""


@pytest.mark.fault("T2")
def test_a_folder_swapped_for_a_link_meanwhile_does_not_bend_the_way(tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    stream = Swapping(
        tars.file(b"d/a") + tars.file(b"e"), tars.file(b"d/b") + tars.END, tmp_path / "out", away
    )
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        extract(stream, tmp_path / "out", limits=LIMITS, canonical=False)
    assert not list(away.iterdir())


@pytest.mark.fault("W9")
def test_a_machine_that_cannot_is_an_os_error_and_leaks_no_descriptor(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            unpack(tars.file(b"d/a", b"x" * 2000) + tars.END, tmp_path / "out", canonical=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_durable_set_is_synced_file_by_file_and_folder_by_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()

    def note(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)

    monkeypatch.setattr("rch.files.durable._sys.sync", note)
    data = tars.file(b"a/b/c") + tars.file(b"a/d") + tars.file(b"e") + tars.END
    extract(io.BytesIO(data), tmp_path / "out", limits=LIMITS, canonical=False, durable=True)
    out = tmp_path / "out"
    assert synced == {out.stat().st_ino, *(path.stat().st_ino for path in out.rglob("*"))}


@pytest.mark.fault("T2")
def test_a_million_entries_are_stopped_at_the_limit(tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        for number in range(1_000_000):
            yield tars.file(b"%07d" % number)

    class Stream(io.RawIOBase):
        given = 0

        def __init__(self) -> None:
            super().__init__()
            self._pieces = endless()

        def read(self, _size: int | None = -1, /) -> bytes:
            self.given += 1
            return next(self._pieces)

    stream = Stream()
    with pytest.raises(ExtractError, match="more than 100 entries"):
        extract(stream, tmp_path / "out", limits=LIMITS, canonical=True)
    assert stream.given == 101
