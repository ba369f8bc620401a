"""What was verified is what is published, once, whatever cuts it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sets import (
    LOG,
    ArtifactSet,
    compressed,
    right_set,
)
from support.verified_sets import NoSync, ready_places, tree, verify

from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch, Places


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.fixture
def at(tmp_path: Path) -> Places:
    return ready_places(tmp_path)


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
