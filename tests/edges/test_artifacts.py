"""Sets that are not what they say, and the one way by which a right one is published."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard
from support import tars
from support.sets import (
    LOG,
    NONCE,
    NOW,
    ArtifactSet,
    a_job,
    compressed,
    header_of,
    places_of,
    right_set,
)

from rch.contract.attested import Known
from rch.contract.manifest import sort_entries
from rch.contract.records import Entry, Job, Manifest, Summary, encode_record
from rch.contract.sets import ALWAYS, INDEXED
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch, Places, Verified

MAX = 8 << 30


class NoSync(durable.System):
    """Power cuts are not what is tried here, and each sync costs milliseconds."""

    def sync(self, fd: int) -> None:
        del fd


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.fixture
def at(tmp_path: Path) -> Places:
    """The job's places, ready for a fetch, with what the host wrote before."""
    found = places_of(tmp_path, a_job())
    artifacts.prepare(found)
    found.step.mkdir(parents=True)
    (found.step / "job_state.json").write_text("the host's own")
    return found


def verify(
    at: Places,
    tar: bytes,
    manifest: Manifest,
    *,
    job: Job | None = None,
    max_bytes: int = MAX,
    stream: bytes | None = None,
    compression: str = "zstd",
) -> Verified:
    data = compressed(tar) if stream is None else stream
    at.stream.write_bytes(data)
    return artifacts.unpack_and_verify(
        at,
        header_of(manifest, data, compression),
        Known(job=job or a_job(), host_nonce=NONCE),
        max_bytes=max_bytes,
        now=NOW,
    )


def refused(at: Places, tar: bytes, manifest: Manifest, **options: object) -> Mismatch:
    """The mismatch, after which nothing stands as good and the bad set is kept beside."""
    with pytest.raises(Mismatch) as caught:
        verify(at, tar, manifest, **options)  # type: ignore[arg-type]
    assert not at.staged.exists()
    assert not at.stream.exists()
    assert not artifacts.publish(at)
    assert [path.name for path in at.step.iterdir()] == ["job_state.json"]
    assert not (at.host / "attestation_verification.json").exists()
    return caught.value


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.spec("8")
def test_a_right_set_is_verified_and_published_as_it_came(at: Places) -> None:
    made = right_set()
    verified = verify(at, made.tar(), made.sealed())
    assert (verified.summary.status, verified.state.state, verified.state.seq) == (
        "success",
        "SUCCEEDED",
        3,
    )
    assert artifacts.publish(at)
    assert tree(at.step) == made.files
    assert not at.rejected.exists()
    said = json.loads((at.host / "attestation_verification.json").read_bytes())
    assert said["result"] == "unsigned"
    assert said["manifest_sha256"] == hashlib.sha256(made.files["manifest.json"]).hexdigest()


# --- A1: every kind of file, every kind of harm -------------------------------------------


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


LISTED = sorted(ArtifactSet().fill().files)


@pytest.mark.fault("A1")
@pytest.mark.parametrize("path", [*LISTED, "manifest.json", "job_index.json", "attestation.json"])
def test_a_flipped_bit_is_found_in_every_kind_of_file(at: Places, path: str) -> None:
    made = right_set()
    manifest = made.sealed()
    made.files[path] = flipped(made.files[path])
    found = refused(at, made.tar(), manifest)
    assert any(path in error for error in found.errors)
    assert tree(at.rejected) == made.files


@pytest.mark.fault("A1")
@pytest.mark.parametrize("path", ["job_index.json", "attestation.json"])
def test_every_fact_of_what_no_manifest_lists_is_compared(at: Places, path: str) -> None:
    made = right_set()
    manifest, right = made.sealed(), made.files[path]
    facts = ["run_id", "job_id", "job_key", "schema_id"]
    facts += ["source_sha256", "manifest_sha256", "host_nonce"] if path == "attestation.json" else []
    for fact in facts:
        value = json.loads(right)[fact]
        made.files[path] = right.replace(f'"{fact}": "{value}"'.encode(), f'"{fact}": "{value}0"'.encode())
        assert made.files[path] != right
        artifacts.prepare(at)
        found = refused(at, made.tar(), manifest)
        assert path in found.errors[0] or "job_index@1" in found.errors[0]
        assert found.trust is (path == "attestation.json")


Harm = Callable[[ArtifactSet], None]


def swap(made: ArtifactSet) -> None:
    made.files["build.log"], made.files["events.jsonl"] = (
        made.files["events.jsonl"],
        made.files["build.log"],
    )


def delete(made: ArtifactSet) -> None:
    del made.files["build.log"]


def add(made: ArtifactSet) -> None:
    made.files["extra.txt"] = b"hello"


def add_folder(made: ArtifactSet) -> None:
    made.folders.append("extra.d")


def delete_folder(made: ArtifactSet) -> None:
    made.folders.remove("result.xcresult/Data")
    del made.files["result.xcresult/Data/data.0"]


def rename(made: ArtifactSet) -> None:
    made.files["built.log"] = made.files.pop("build.log")


def grow(made: ArtifactSet) -> None:
    made.files["build.log"] += b"one more line\n"


def shrink(made: ArtifactSet) -> None:
    made.files["build.log"] = made.files["build.log"][:-1]


def file_for_folder(made: ArtifactSet) -> None:
    delete_folder(made)
    made.files["result.xcresult/Data"] = b""


def no_index(made: ArtifactSet) -> None:
    del made.files["job_index.json"]


def no_attestation(made: ArtifactSet) -> None:
    del made.files["attestation.json"]


def no_manifest(made: ArtifactSet) -> None:
    del made.files["manifest.json"]


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (swap, "build.log: 55 bytes, not"),
        (delete, "build.log: missing"),
        (add, "extra.txt: not in the manifest"),
        (add_folder, "extra.d: not in the manifest"),
        (delete_folder, "result.xcresult/Data: missing"),
        (rename, "built.log: not in the manifest"),
        (grow, f"build.log: {len(LOG) + 14} bytes, not {len(LOG)}"),
        (shrink, f"build.log: {len(LOG) - 1} bytes, not {len(LOG)}"),
        (file_for_folder, "result.xcresult/Data: is a file, not a directory"),
        (no_index, "job_index.json: missing"),
        (no_attestation, "attestation.json: missing"),
        (no_manifest, "manifest.json: missing"),
    ],
)
def test_a_set_that_was_changed_after_it_was_sealed_is_refused(at: Places, harm: Harm, named: str) -> None:
    made = right_set()
    manifest = made.sealed()
    harm(made)
    found = refused(at, made.tar(), manifest)
    assert any(error.startswith(named) for error in found.errors), found.errors
    assert not found.trust
    assert tree(at.rejected) == made.files


@pytest.mark.fault("A1")
@pytest.mark.parametrize("name", ["summary.json", "job_state.json", "job_key_inputs.json"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_manifest_without_a_file_that_is_read_is_refused(
    at: Places, name: str, *, as_folder: bool
) -> None:
    made = ArtifactSet().fill()
    del made.files[name]
    if as_folder:
        made.folders.append(name)
    manifest = made.seal()
    assert any(error.startswith(name) for error in refused(at, made.tar(), manifest).errors)


# --- A2, A4: consistent, and yet not what was asked for -----------------------------------


@pytest.mark.fault("A2")
def test_a_set_sealed_anew_under_another_header_is_refused(at: Places) -> None:
    made = right_set()
    manifest = made.sealed()
    made.files["build.log"] = b"all is well\n"
    made.seal()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("manifest.json: differs from the one in the header",)


def entries_of(made: ArtifactSet) -> list[Entry]:
    return list(made.entries())


def reorder(entries: list[Entry]) -> list[Entry]:
    return entries[::-1]


def list_twice(entries: list[Entry]) -> list[Entry]:
    return list(sort_entries([*entries, entries[0]]))


def list_the_manifest(entries: list[Entry]) -> list[Entry]:
    listed = Entry(path="manifest.json", type="file", size=1, sha256="0" * 64)
    return list(sort_entries([*entries, listed]))


def claim_a_link(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entries[0], type="symlink"), *entries[1:]]


def below_zero(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entries[0], size=-(1 << 60)), *entries[1:]]


@pytest.mark.fault("A2")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (reorder, "manifest.json: entries are not sorted"),
        (list_twice, "build.log: listed twice"),
        (list_the_manifest, "manifest.json: may not be listed"),
        (claim_a_link, "build.log: is a file, not a symlink"),
        (below_zero, f"build.log: {len(LOG)} bytes, not -1"),
    ],
)
def test_a_manifest_that_breaks_its_own_rules_is_refused(
    at: Places, change: Callable[[list[Entry]], list[Entry]], named: str
) -> None:
    made = ArtifactSet().fill()
    entries = change(entries_of(made))
    manifest = made.put_manifest(entries, artifact_root_sha256="0" * 64)
    made.put_attestation()
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert any(error.startswith(named) for error in found.errors), found.errors


@pytest.mark.fault("A2")
def test_a_root_that_is_not_that_of_the_entries_is_refused(at: Places) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest(artifact_root_sha256="0" * 64)
    made.put_attestation()
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("manifest.json: artifact_root_sha256 is not that of its entries",)


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("run_id", "run-of-another"),
        ("job_id", "job-of-another"),
        ("job_key", "0" * 64),
        ("job_key", None),
        ("source_sha256", "0" * 64),
        ("manifest_sha256", "0" * 64),
        ("host_nonce", "m" * 32),
        ("host_nonce", ""),
    ],
)
def test_an_attestation_of_something_else_is_refused_as_such(
    at: Places, member: str, value: str | None
) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest()
    made.put_attestation(**{member: value})
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert found.trust
    assert found.errors[0].startswith(f"attestation.json: {member} {value!r}, not ")


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    "other",
    [
        a_job(run_id="run-of-another"),
        a_job(job_id="job-of-another"),
        a_job(source="0" * 64),
    ],
    ids=["run", "job", "source"],
)
def test_a_whole_right_set_of_another_job_is_refused(at: Places, other: Job) -> None:
    made = ArtifactSet(job=other).fill()
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert any("rch-xcode/manifest@1: speaks of job" in error for error in found.errors)
    assert not found.trust


@pytest.mark.fault("A4")
def test_the_set_of_an_older_attempt_with_another_nonce_is_refused(at: Places) -> None:
    made = ArtifactSet(nonce="o" * 32).fill()
    manifest = made.seal()
    assert refused(at, made.tar(), manifest).trust


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCEL_REQUESTED", "DONE"])
def test_a_set_whose_job_is_not_at_its_end_is_refused(at: Places, state: str) -> None:
    made = right_set(state=state)
    found = refused(at, made.tar(), made.sealed())
    assert found.errors == (f"job_state.json: state {state} is no end",)


@pytest.mark.parametrize("path", ["nowhere.json", "../job_state.json", "/etc/passwd", ""])
def test_an_index_that_points_at_nothing_of_the_set_is_refused(at: Places, path: str) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest()
    made.put_attestation()
    made.put_index({"summary": path})
    found = refused(at, made.tar(), manifest)
    assert f"job_index.json: {path} is not in the set" in found.errors
    assert "job_index.json: names no build_log" in found.errors


def test_job_key_inputs_in_another_form_are_refused(at: Places) -> None:
    made = ArtifactSet().fill()
    made.files["job_key_inputs.json"] += b"\n"
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("job_key_inputs.json: not those of the job that was asked for",)


@pytest.mark.parametrize("name", ["summary.json", "job_state.json", "job_index.json"])
def test_a_record_that_is_another_or_of_another_major_is_refused(at: Places, name: str) -> None:
    made = right_set()
    old = made.files[name]
    if name == "job_index.json":
        made.files[name] = old.replace(b"@1", b"@2")
        manifest = made.sealed()
    else:
        made.files[name] = old.replace(b"@1", b"@2")
        manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert "@2" in found.errors[0]
    assert found.errors[0].startswith(f"{name}: schema rch-xcode/")


# --- what stands in the tar and in the stream ---------------------------------------------


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


# --- A7: what was verified is what is published -------------------------------------------


@pytest.mark.fault("A7")
def test_the_verified_files_themselves_are_moved_never_copied(at: Places) -> None:
    made = right_set()
    verify(at, made.tar(), made.sealed())
    before = {path.name: path.stat().st_ino for path in at.staged.iterdir()}
    artifacts.publish(at)
    assert {path.name: path.stat().st_ino for path in at.step.iterdir()} == before


@pytest.mark.fault("A7")
def test_a_writer_that_races_with_the_verification_gains_nothing(at: Places) -> None:
    made = right_set()
    evil = right_set()
    evil.files["build.log"] = b"evil" * 1000
    evil.seal()
    good, bad = compressed(made.tar()), compressed(evil.tar())
    stop = threading.Event()

    def swap_stream() -> None:
        while not stop.is_set():
            temp = at.host / "evil"
            temp.write_bytes(bad)
            temp.rename(at.stream)

    outcomes = set()
    racer = threading.Thread(target=swap_stream)
    racer.start()
    try:
        for _ in range(40):
            artifacts.prepare(at)
            try:
                verify(at, b"", made.sealed(), stream=good)
            except Mismatch:
                outcomes.add("refused")
            else:
                outcomes.add("published")
                assert artifacts.publish(at)
                assert (at.step / "build.log").read_bytes() == LOG
    finally:
        stop.set()
        racer.join()
    assert outcomes


@pytest.mark.fault("A7")
def test_what_was_planted_in_staging_is_never_unpacked_over(at: Places) -> None:
    made = right_set()
    at.staged.mkdir()
    (at.staged / "planted").write_text("x")
    with pytest.raises(Mismatch, match="is not empty"):
        verify(at, made.tar(), made.sealed())
    artifacts.prepare(at)
    verify(at, made.tar(), made.sealed())
    assert not (at.staged / "planted").exists()


# --- publishing ---------------------------------------------------------------------------


@pytest.mark.spec("8")
def test_publishing_twice_is_once(at: Places) -> None:
    made = right_set()
    verify(at, made.tar(), made.sealed())
    assert artifacts.publish(at)
    assert artifacts.publish(at)
    assert tree(at.step) == made.files
    assert sorted(path.name for path in at.host.iterdir()) == ["attestation_verification.json"]


def test_publishing_with_nothing_staged_leaves_what_the_host_wrote(at: Places) -> None:
    assert not artifacts.publish(at)
    assert (at.step / "job_state.json").read_text() == "the host's own"


class Cut(Exception):  # noqa: N818  (the power's, not an error of ours)
    """The process ends here."""


@pytest.mark.fault("H4")
@pytest.mark.parametrize("step", range(1, 10))
def test_a_publication_that_is_cut_anywhere_is_completed_by_the_next(
    at: Places, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    made = right_set()
    verify(at, made.tar(), made.sealed())
    calls = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                raise Cut
            return real(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("remove_tree", "make_dirs", "sync_dir"):
            patch.setattr(artifacts, name, counted(getattr(artifacts, name)))
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr("shutil.rmtree", counted(shutil.rmtree))
        try:
            assert artifacts.publish(at)
        except Cut:
            here = tree(at.step) if at.step.exists() else {}
            assert here in ({}, {"job_state.json": b"the host's own"}, made.files)
    assert calls >= min(step, 4)
    assert artifacts.publish(at)
    assert tree(at.step) == made.files
    assert not at.aside.exists()


@pytest.mark.fault("H4")
def test_a_second_fetch_replaces_the_first(at: Places) -> None:
    first = right_set()
    verify(at, first.tar(), first.sealed())
    artifacts.publish(at)
    artifacts.prepare(at)
    second = ArtifactSet().fill()
    second.files["build.log"] = b"the second\n"
    second.seal()
    verify(at, second.tar(), second.sealed())
    assert artifacts.publish(at)
    assert tree(at.step) == second.files


def test_what_the_worker_made_executable_or_private_is_readable_here(at: Places) -> None:
    made = right_set()
    old = os.umask(0o077)
    try:
        verify(at, made.tar(), made.sealed())
        artifacts.publish(at)
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in at.step.rglob("*") if path.is_file()} == {0o644}


# --- the live log -------------------------------------------------------------------------


@pytest.mark.fault("S5")
def test_a_repeated_piece_of_the_log_is_the_same_bytes_again(tmp_path: Path) -> None:
    path = tmp_path / "host" / "job" / "live.log"
    artifacts.write_log(path, 0, b"one\n")
    artifacts.write_log(path, 4, b"two\n")
    artifacts.write_log(path, 0, b"one\n")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("state", "changes", "named"),
    [
        ("FAILED", {}, "status 'success' does not go with state 'FAILED'"),
        ("SUCCEEDED", {"exit_code": 50}, "a success with exit code 50"),
        ("SUCCEEDED", {"failure_kind": "SWIFTPM"}, "a success with exit code 0"),
        (
            "FAILED",
            {"status": "failed", "failure_kind": "SWIFTPM"},
            "exit code 0 is not that of SWIFTPM",
        ),
        ("FAILED", {"status": "failed", "exit_code": 50}, "failure_kind None is not known"),
        ("FAILED", {"status": "failed", "exit_code": 1, "failure_kind": "LUCK"}, "'LUCK' is not known"),
        ("SUCCEEDED", {"status": "passed"}, "status 'passed' does not go"),
        ("CANCELLED", {"status": "cancelled", "failure_kind": "CANCELLED"}, "exit code 0 is not that of"),
    ],
)
def test_no_green_is_read_into_a_summary_that_contradicts_itself(
    at: Places, state: str, changes: dict[str, object], named: str
) -> None:
    made = right_set(state=state)
    summary = msgspec.json.decode(made.files["summary.json"], type=Summary)
    made.files["summary.json"] = encode_record(msgspec.structs.replace(summary, **changes))
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert any(named in error for error in found.errors), found.errors


@pytest.mark.fault("A4")
def test_a_set_whose_job_is_not_the_one_that_was_asked_for_is_refused(at: Places) -> None:
    made = right_set()
    other = msgspec.structs.replace(made.job, effective_config={"config": {"backend": "other"}})
    made.files["job.json"] = encode_record(other)
    manifest = made.seal()
    assert refused(at, made.tar(), manifest).errors == ("job.json: not the job that was asked for",)


def test_a_good_second_fetch_leaves_nothing_of_the_bad_first(at: Places) -> None:
    bad = right_set(state="RUNNING")
    refused(at, bad.tar(), bad.sealed())
    assert at.rejected.exists()
    made = right_set()
    verify(at, made.tar(), made.sealed())
    assert not at.rejected.exists()
