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
from support.hostile_said import FRAMES_SAID, SAID
from support.sets import NONCE, NOW, a_job, compressed, header_of, places_of, right_set

from rch.contract.attested import Known
from rch.contract.worker_rpc import Code, RpcError, Stream
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch
from worker_agent.sources import Sources


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
    known = Known(job=job, host_nonce=NONCE)
    with pytest.raises(Mismatch) as caught:
        artifacts.unpack_and_verify(at, header, known, max_bytes=8 << 30, now=NOW)
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
