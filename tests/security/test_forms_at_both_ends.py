"""Every hostile form of a tar and of a zstd frame, where a stranger's bytes really come in.

At the worker that is an upload into the source store, at the host a fetched set. Each form is refused
with its own words, nothing is kept, and nothing is written outside of where it may be.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import hostile_frames, hostile_tars, tars
from support.sets import NONCE, NOW, a_job, compressed, header_of, places_of, right_set

from rch.contract.worker_rpc import Code, RpcError, Stream
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch
from worker_agent.sources import Sources

# What both ends say, or what the source store says and what the fetch says. A repeated piece is shown once.
SAID: dict[str, str | tuple[str, str]] = {
    "absolute": "the name '/etc/x' is absolute or has an empty, '.' or '..' part",
    "absolute by PAX": "the name '/n~' is absolute or has an empty, '.' or '..' part",
    "absolute by two slashes": "the name '//host/x' is absolute or has an empty, '.' or '..' part",
    "two dots": "the name '..' is absolute or has an empty, '.' or '..' part",
    "climbs": "the name '../victim' is absolute or has an empty, '.' or '..' part",
    "climbs inside": "the name 'a/../../b' is absolute or has an empty, '.' or '..' part",
    "climbs by PAX": "the name 'a/../../n~' is absolute or has an empty, '.' or '..' part",
    "climbs at the end": "the name 'a/..' is absolute or has an empty, '.' or '..' part",
    "empty": (
        "'' comes after '', against the order of bytes",
        "the name '' is absolute or has an empty, '.' or '..' part",
    ),
    "empty by PAX": (
        "'' comes after '', against the order of bytes",
        "the name '' is absolute or has an empty, '.' or '..' part",
    ),
    "dot": "the name '.' is absolute or has an empty, '.' or '..' part",
    "dot slash": "the name './a' is absolute or has an empty, '.' or '..' part",
    "empty part": "the name 'a//b' is absolute or has an empty, '.' or '..' part",
    "slash at the end of a file": "the name 'a/' is absolute or has an empty, '.' or '..' part",
    "NUL": "the name 'a\\x00b' holds a NUL",
    "NUL by PAX": "the name 'a\\x00n~' holds a NUL",
    "backslash": "the name '..\\\\victim' holds a backslash",
    "part of 256 bytes": "the name 'n~' has a part over 255 bytes",
    "part of 256 bytes in UTF-8": "the name 'é~' has a part over 255 bytes",
    "path of 4096 bytes": "the name 'n~/n~/n~… is over 4095 bytes",
    "129 folders deep": "the name 'n/~n' is over 128 folders deep",
    "not UTF-8": "b'\\xff' is not UTF-8",
    "not UTF-8 by PAX": "b'\\xff~' is not UTF-8",
    "overlong UTF-8": "b'\\xc0\\xae\\xc0\\xae/x' is not UTF-8",
    "lone surrogate in UTF-8": "b'\\xed\\xa0\\x80' is not UTF-8",
    "NFD": "the name 'café' is not in NFC",
    "NFC and NFD twins": "the name 'café' is not in NFC",
    "case twins": "the names 'A' and 'a' are one name on a Mac",
    "case twins of folders": "the names 'A' and 'a' are one name on a Mac",
    "case twins beyond ASCII": "the names 'STRASSE.txt~' and 'straße.txt~' are one name on a Mac",
    "twice": (
        "'a' comes after 'a', against the order of bytes",
        "the name 'a' comes twice, or as a folder and as something else",
    ),
    "file, then folder by a name": "the name 'a' comes twice, or as a folder and as something else",
    "file, then folder entry": (
        "'a/' is a folder entry, which a source does not have",
        "the name 'a' comes twice, or as a folder and as something else",
    ),
    "folder, then file": (
        "'a' comes after 'a/b', against the order of bytes",
        "the name 'a' comes twice, or as a folder and as something else",
    ),
    "folder entry twice": (
        "'a' is a folder entry, which a source does not have",
        "the name 'a' comes twice",
    ),
    "link absolute": (
        "link 'l' has the absolute target '/etc/passwd'",
        "'l' is a link, which this set may not hold",
    ),
    "link out": (
        "link 'l' leads out of its root: '../victim'",
        "'l' is a link, which this set may not hold",
    ),
    "link out by PAX": (
        "link 'l' leads out of its root: '../~victim'",
        "'l' is a link, which this set may not hold",
    ),
    "link chain out": (
        "link 'a' leads out of its root through another link",
        "'a' is a link, which this set may not hold",
    ),
    "link ring": (
        "link 'a' goes through more than 40 links or in a ring",
        "'a' is a link, which this set may not hold",
    ),
    "link chain of 42": (
        "link '000' goes through more than 40 links or in a ring",
        "'000' is a link, which this set may not hold",
    ),
    "write through a link": (
        "the name 'l' comes twice, or as a folder and as something else",
        "'l' is a link, which this set may not hold",
    ),
    "file over a link": (
        "'l' comes after 'l', against the order of bytes",
        "'l' is a link, which this set may not hold",
    ),
    "link over a file": (
        "'l' comes after 'l', against the order of bytes",
        "'l' is a link, which this set may not hold",
    ),
    "link without a target": (
        "'l' has a target or a size that its kind does not have",
        "'l' is a link, which this set may not hold",
    ),
    "link with content": "'l' is no file and announces content",
    "hard link": "'b' is a hard link",
    "hard link out": "'b' is a hard link",
    "hard link to a link": (
        "'m' is a hard link",
        "'l' is a link, which this set may not hold",
    ),
    "character device": "'a' is a character device",
    "block device": "'a' is a block device",
    "FIFO": "'a' is a FIFO",
    "contiguous": "'a' is a contiguous file",
    "socket by its mode": (
        "the header of 'a' is not in canonical form",
        "'a' has the mode 140644, beyond 777",
    ),
    "socket by a foreign type": "'a' is of the unknown type b's'",
    "unknown type": "'a' is of the unknown type b'Z'",
    "GNU sparse": "'a' is a sparse file",
    "GNU long name": "'././@LongLink' is a GNU long name",
    "GNU long link": "'././@LongLink' is a GNU long link",
    "GNU dump folder": "'a' is of the unknown type b'D'",
    "GNU multi-volume": "'a' is of the unknown type b'M'",
    "GNU volume label": "'a' is of the unknown type b'V'",
    "Solaris extended header": "'a' is of the unknown type b'X'",
    "setuid": (
        "the header of 'a' is not in canonical form",
        "'a' has the mode 4755, beyond 777",
    ),
    "setgid": (
        "the header of 'a' is not in canonical form",
        "'a' has the mode 2755, beyond 777",
    ),
    "sticky": (
        "the header of 'a' is not in canonical form",
        "'a' has the mode 1755, beyond 777",
    ),
    "folder with content": "'a' is no file and announces content",
    "CVE-2025-4517": (
        "'d~' is a folder entry, which a source does not have",
        "'a' is a link, which this set may not hold",
    ),
    "CVE-2025-4330": (
        "link 'y' leads out of its root through another link",
        "'d/e/up' is a link, which this set may not hold",
    ),
    "CVE-2025-4138": (
        "link 'a' leads out of its root: 'd/../../victim'",
        "'a' is a link, which this set may not hold",
    ),
    "PAX sparse 0.1": "the PAX record 'GNU.sparse.map' is not allowed",
    "PAX sparse 1.0": "the PAX record 'GNU.sparse.major' is not allowed",
    "xattr of SCHILY": "the PAX record 'SCHILY.xattr.user.x' is not allowed",
    "xattr of LIBARCHIVE": "the PAX record 'LIBARCHIVE.xattr.user.x' is not allowed",
    "ACL": "the PAX record 'SCHILY.acl.access' is not allowed",
    "hdrcharset": "the PAX record 'hdrcharset' is not allowed",
    "PAX size override": "the PAX size '4' overrides what the header can say itself",
    "PAX size of 5000 digits": "the PAX size '9~… overrides what the header can say itself",
    "PAX size below zero": "the PAX size '-8589934592' overrides what the header can say itself",
    "PAX size in other digits": "the PAX size '٨٥٨٩٩٣٤٥٩٢' overrides what the header can say itself",
    "PAX length zero": "a PAX record has no length",
    "PAX length too short": "a PAX record does not end where it says",
    "PAX length of one": "a PAX record does not end where it says",
    "PAX length too long": "a PAX record does not end where it says",
    "PAX length of many digits": "a PAX record has no length",
    "PAX length with a zero before": "a PAX record has no length",
    "PAX length below zero": "a PAX record has no length",
    "PAX without a length": "a PAX record has no length",
    "PAX without an equals sign": "a PAX record does not end where it says",
    "PAX without a newline": "a PAX record does not end where it says",
    "PAX key not UTF-8": "b'\\xff' is not UTF-8",
    "PAX key twice": "the PAX record 'path' comes twice",
    "PAX empty": "a PAX entry of 0 bytes is not between 1 and 16384",
    "PAX of 16 KiB and one": "a PAX entry of 16385 bytes is not between 1 and 16384",
    "PAX of 1 MiB": "a PAX entry of 1048576 bytes is not between 1 and 16384",
    "PAX of 8 GiB": "a PAX entry of 8589934591 bytes is not between 1 and 16384",
    "PAX twice": "two PAX entries stand before one member",
    "PAX at the end": "a PAX entry stands before the end",
    "global header": "'@pax' is a global header",
    "global header with a comment": "'@pax' is a global header",
    "checksum zero": (
        "the header of 'a' is not in canonical form",
        "the checksum of 'a' is wrong",
    ),
    "checksum blank": (
        "the header of 'a' is not in canonical form",
        "the checksum of 'a' is not an octal number",
    ),
    "size not octal": "the size of 'a' is not an octal number",
    "size blank": "the size of 'a' is not an octal number",
    "size with a sign": "the size of 'a' is not an octal number",
    "size negative in base 256": "the size of 'a' is not an octal number",
    "size in base 256": "the size of 'a' is not an octal number",
    "mode not octal": "the mode of 'a' is not an octal number",
    "mode in base 256": "the mode of 'a' is not an octal number",
    "GNU magic": (
        "the header of 'a' is not in canonical form",
        "the header of 'a' is not in ustar format",
    ),
    "no magic": (
        "the header of 'a' is not in canonical form",
        "the header of 'a' is not in ustar format",
    ),
    "owner not octal": (
        "the header of 'a' is not in canonical form",
        "the uid of 'a' is not an octal number",
    ),
    "owner in base 256": (
        "the header of 'a' is not in canonical form",
        "the uid of 'a' is not an octal number",
    ),
    "time before 1970": (
        "the header of 'a' is not in canonical form",
        "the mtime of 'a' is not an octal number",
    ),
    "time not octal": (
        "the header of 'a' is not in canonical form",
        "the mtime of 'a' is not an octal number",
    ),
    "device not octal": (
        "the header of 'a' is not in canonical form",
        "the devmajor of 'a' is not an octal number",
    ),
    "prefix that climbs": (
        "the header of 'a' is not in canonical form",
        "the name '../../a' is absolute or has an empty, '.' or '..' part",
    ),
    "padding not zero": "the padding after a file is not zero",
    "one zero block inside": "a single zero block stands in the tar",
    "nothing at all": "the tar is cut short",
    "no zero blocks": "the tar is cut short",
    "one zero block": "the tar is cut short",
    "half a header": "the tar is cut short",
    "half a file": "the tar is cut short",
    "half a PAX entry": "the tar is cut short",
    "data after the end": "bytes stand after the end of the tar",
    "a second tar after the end": "bytes stand after the end of the tar",
    "100 KB of zeros after the end": "bytes stand after the end of the tar",
    "a folder entry": (
        "'a' is a folder entry, which a source does not have",
        "manifest.json: missing",
    ),
    "a folder entry after its files": (
        "'a/' is a folder entry, which a source does not have",
        "manifest.json: missing",
    ),
    "an old file type": (
        "the header of 'a' is not in canonical form",
        "manifest.json: missing",
    ),
    "a time by PAX": (
        "the header of 'n~' is not in canonical form",
        "manifest.json: missing",
    ),
}
# As both ends say it, up to what the zstd library says in its own words.
FRAMES_SAID: dict[str, str] = {
    "window log 31": "the zstd window of 2147483648 bytes is over 134217728",
    "window log 28": "the zstd window of 268435456 bytes is over 134217728",
    "window log 41": "the zstd frame header is bad",
    "one segment of 4 GiB": "the zstd window of 4294967295 bytes is over 134217728",
    "a skippable frame first": "the stream does not begin with a zstd frame",
    "skippable frames for ever": "the stream does not begin with a zstd frame",
    "a skippable frame of 4 GiB": "the stream does not begin with a zstd frame",
    "a skippable frame behind": "bytes stand after the zstd frame",
    "many tiny frames": "bytes stand after the zstd frame",
    "many empty frames": "bytes stand after the zstd frame",
    "empty blocks for ever": "more than 1024 zstd blocks without content",
    "empty repeats for ever": "more than 1024 zstd blocks without content",
    "an unknown dictionary": "the zstd frame asks for a dictionary",
    "a dictionary's own bytes": "the stream does not begin with a zstd frame",
    "a byte behind": "bytes stand after the zstd frame",
    "garbage behind": "bytes stand after the zstd frame",
    "a last block that is cut": "the zstd stream is cut short",
    "no last block": "the zstd stream is cut short",
    "a checksum that is cut": "the zstd stream is cut short",
    "a checksum that is wrong": "the zstd stream is bad",
    "a size that says too little": "the zstd stream is bad",
    "a size that says too much": "the zstd stream is bad",
    "a size of nothing": "the zstd stream is bad",
    "a reserved block": "a zstd block is malformed",
    "a block over 128 KiB": "a zstd block is malformed",
    "a compressed block of noise": "the zstd stream is bad",
    "a reserved bit": "the zstd frame header is bad",
    "an older zstd": "the stream does not begin with a zstd frame",
    "gzip": "the stream does not begin with a zstd frame",
    "nothing at all": "the zstd stream is cut short",
    "a magic alone": "the zstd stream is cut short",
}


class NoSync(durable.System):
    """Power cuts are not what is tried here, and each sync costs milliseconds."""

    def sync(self, fd: int) -> None:
        del fd


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder in which both ends keep their things, beside a file that must survive."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "victim"]
    assert (tmp_path / "victim").read_text() == "untouched"


def at_worker(root: Path, body: bytes, compression: str, *, max_bytes: int = 0) -> RpcError:
    """The refusal of an upload, after which the store is empty."""
    sources = Sources(root / "sources", max_bytes=max_bytes)
    digest = hashlib.sha256(body).hexdigest()
    stream = Stream(content_length=len(body), content_sha256=digest, compression=compression)
    with pytest.raises(RpcError) as caught:
        sources.receive(digest, stream, io.BytesIO(body))
    assert [path for path in (root / "sources").rglob("*") if path.is_file()] == []
    return caught.value


def at_host(root: Path, stream: bytes) -> str:
    """The first word against a fetched set, after which nothing stands as good."""
    at, job = places_of(root, a_job()), a_job()
    artifacts.prepare(at)
    at.stream.write_bytes(stream)
    header = header_of(right_set().sealed(), stream)
    with pytest.raises(Mismatch) as caught:
        artifacts.unpack_and_verify(at, header, job, host_nonce=NONCE, max_bytes=8 << 30, now=NOW)
    assert not at.staged.exists()
    assert not artifacts.publish(at)
    below = at.rejected.rglob("*") if at.rejected.exists() else ()
    assert {path.lstat().st_mode & 0o170000 for path in below} <= {0o100000, 0o040000}
    return caught.value.errors[0]


def brief(text: str) -> str:
    return re.sub(r"(.{1,12}?)\1{9,}", r"\1~", text)


def test_every_form_has_its_words() -> None:
    assert SAID.keys() == hostile_tars.FORMS.keys()
    assert FRAMES_SAID.keys() == hostile_frames.FORMS.keys()


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("form", SAID)
def test_a_hostile_source_is_refused_at_the_worker_in_its_words(root: Path, form: str) -> None:
    said = SAID[form]
    refusal = at_worker(root, hostile_tars.FORMS[form], "none")
    assert (refusal.code, refusal.data) == (Code.INVALID_REQUEST, {"reason": "not_canonical"})
    wanted = said if isinstance(said, str) else said[0]
    assert brief(refusal.message) == f"the source is not a canonical tar: {wanted}"


@pytest.mark.spec("8")
@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("form", SAID)
def test_a_hostile_set_is_refused_at_the_host_in_its_words(root: Path, form: str) -> None:
    said = SAID[form]
    assert brief(at_host(root, compressed(hostile_tars.FORMS[form]))) == (
        said if isinstance(said, str) else said[1]
    )


@pytest.mark.spec("3.2")
@pytest.mark.fault("Z1")
@pytest.mark.fault("Z2")
@pytest.mark.parametrize("form", FRAMES_SAID)
def test_a_hostile_frame_is_refused_at_both_ends_in_its_words(root: Path, form: str) -> None:
    frame, said = hostile_frames.FORMS[form], FRAMES_SAID[form]
    refusal = at_worker(root, frame, "zstd")
    assert (refusal.code, refusal.data) == (Code.INVALID_REQUEST, {"reason": "compression"})
    assert refusal.message.startswith(f"the source: {said}")
    assert at_host(root, frame).startswith(said)


@pytest.mark.spec("3.2")
@pytest.mark.fault("Z1")
@pytest.mark.parametrize("bomb", hostile_frames.BOMBS)
def test_a_bomb_is_refused_at_both_ends_by_its_size(root: Path, bomb: str) -> None:
    frame = hostile_frames.BOMBS[bomb]()
    refusal = at_worker(root, frame, "zstd", max_bytes=4 << 20)
    assert (refusal.code, refusal.data) == (Code.PAYLOAD_TOO_LARGE, {"max_bytes": 4 << 20})
    assert re.match(
        "the stream unpacks to [0-9]+ bytes, over|bytes stand after the end", at_host(root, frame)
    )


@pytest.mark.fault("Z1")
def test_a_window_that_is_as_wide_as_the_worker_s_bound_is_no_matter_of_size(root: Path) -> None:
    frame = hostile_frames.FORMS["window log 31"]
    assert at_worker(root, frame, "zstd", max_bytes=128 << 20).data == {"reason": "compression"}


@pytest.mark.fault("T2")
def test_more_entries_than_announced_end_the_fetch(root: Path) -> None:
    many = b"".join(tars.file(b"%04d" % number) for number in range(500))
    assert re.fullmatch("more than [0-9]+ entries", at_host(root, compressed(many + tars.END)))


@pytest.mark.fault("T2")
def test_folders_in_names_are_bounded_as_entries_are(root: Path) -> None:
    deep = b"".join(tars.file(b"%d/" % number + b"/".join([b"d"] * 40)) for number in range(10))
    assert re.fullmatch("more than [0-9]+ folders", at_host(root, compressed(deep + tars.END)))
