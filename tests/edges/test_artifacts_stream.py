"""What may stand in the tar of a set and in its stream, and how much."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from support import tars
from support.sets import (
    ArtifactSet,
    compressed,
    right_set,
)
from support.verified_sets import NoSync, flipped, ready_places, refused, tree, verify

from rch.contract.manifest import sort_entries
from rch.contract.records import Entry
from rch.contract.sets import ALWAYS, INDEXED
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Places


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.fixture
def at(tmp_path: Path) -> Places:
    return ready_places(tmp_path)


@pytest.mark.fault("T2")
@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (tars.link(b"link.log", b"build.log"), "link.log"),
        (tars.header(b"hard.log", typeflag=b"1", link=b"build.log"), "hard.log"),
        (tars.header(b"pipe", typeflag=b"6"), "pipe"),
        (tars.header(b"null", typeflag=b"3"), "null"),
        (tars.file(b"build.log", b"again"), "build.log"),
        (tars.file(b"result.xcresult", b"now a file"), "result.xcresult"),
        (tars.file(b"build.log/below", b"a file as a folder"), "build.log"),
        (tars.file(b"../outside", b"x"), "../outside"),
        (tars.file(b"/abs", b"x"), "/abs"),
    ],
)
def test_what_may_not_stand_in_a_set_is_refused_by_name(at: Places, bad: bytes, named: str) -> None:
    made = right_set()
    tar = made.tar().removesuffix(tars.END) + bad + tars.END
    found = refused(at, tar, made.sealed())
    assert named in found.errors[0]
    assert not (at.host / "outside").exists()


def test_a_set_packed_by_another_writer_is_as_good(at: Places) -> None:
    made = right_set()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in made.folders:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path, data in made.files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    verify(at, out.getvalue(), made.sealed())


@pytest.mark.spec("3.2")
def test_a_set_that_comes_uncompressed_is_as_good(at: Places) -> None:
    made = right_set()
    verify(at, b"", made.sealed(), stream=made.tar(), compression="none")
    assert artifacts.publish(at)
    assert tree(at.step) == made.files


@pytest.mark.fault("Z1")
@pytest.mark.parametrize(
    ("compression", "stream", "said"),
    [
        ("none", lambda tar: tar[:-1024] + bytes(64 << 20), ""),
        ("none", compressed, ""),
        ("zstd", lambda tar: tar, "does not begin with a zstd frame"),
        ("lzma", lambda tar: tar, "'lzma' is neither none nor zstd"),
    ],
)
def test_a_stream_is_held_to_the_compression_that_it_says(
    at: Places, compression: str, stream: Callable[[bytes], bytes], said: str
) -> None:
    made = right_set()
    data = stream(made.tar())
    found = refused(at, b"", made.sealed(), stream=data, compression=compression)
    assert said in found.errors[0], found.errors


@pytest.mark.fault("Z1")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"not zstd at all",
        lambda _: b"",
        lambda data: data[:-5],
        lambda data: data + b"more",
        lambda data: data + data,
        flipped,
    ],
    ids=["garbage", "empty", "cut", "trailing", "two_frames", "bit"],
)
def test_a_stream_that_is_no_whole_frame_is_refused(at: Places, spoil: Callable[[bytes], bytes]) -> None:
    made = right_set()
    refused(at, b"", made.sealed(), stream=spoil(compressed(made.tar())))


@pytest.mark.fault("Z1")
def test_a_bomb_is_ended_at_what_its_manifest_announces(at: Places) -> None:
    made = right_set()
    bomb = zstandard.ZstdCompressor(level=3).compressobj()
    size = 1 << 30
    stream = bomb.compress(tars.header(b"build.log", size=size))
    block = bytes(8 << 20)
    stream += b"".join(bomb.compress(block) for _ in range(size // len(block)))
    stream += bomb.compress(tars.END) + bomb.flush()
    assert len(stream) < 1 << 20
    found = refused(at, b"", made.sealed(), stream=stream)
    assert "bytes of content" in found.errors[0]
    kept = sum(path.stat().st_size for path in at.rejected.rglob("*")) if at.rejected.exists() else 0
    assert kept < 32 << 20


@pytest.mark.fault("Z1")
def test_a_bomb_of_many_empty_files_is_ended_too(at: Places) -> None:
    made = right_set()
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    stream = b"".join(packer.compress(tars.file(b"n%06d" % number)) for number in range(2000))
    stream += packer.compress(tars.END) + packer.flush()
    found = refused(at, b"", made.sealed(), stream=stream)
    assert "entries" in found.errors[0]


@pytest.mark.fault("Z1")
def test_a_manifest_that_announces_too_much_is_refused_before_a_byte_is_unpacked(at: Places) -> None:
    made = ArtifactSet().fill()
    huge = Entry(path="huge.log", type="file", size=1 << 50, sha256="0" * 64)
    manifest = made.put_manifest(sort_entries([*made.entries(), huge]))
    made.put_attestation()
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert "over the 8589934592 that are taken" in found.errors[0]
    assert not at.rejected.exists()


def test_a_long_log_of_equal_lines_is_no_bomb(at: Places) -> None:
    made = ArtifactSet().fill()
    made.files["build.log"] = b"warning: this line says the same each time\n" * (100 << 20 >> 5)
    manifest = made.seal()
    stream = compressed(made.tar())
    assert len(made.files["build.log"]) > 500 * len(stream)
    verify(at, b"", manifest, stream=stream)


def test_a_set_of_very_many_long_names_fits_its_own_bound(at: Places) -> None:
    made = ArtifactSet(folders=[]).fill()
    del made.files["result.xcresult/Info.plist"], made.files["result.xcresult/Data/data.0"]
    made.files |= {f"{'ü' * 100}/{number:04d}": b"" for number in range(300)}
    made.folders.append("ü" * 100)
    made.put_manifest()
    made.put_attestation()
    made.put_index({name: INDEXED[name] for name in (*ALWAYS, "events")})
    verify(at, made.tar(), made.sealed(), max_bytes=1 << 20)
