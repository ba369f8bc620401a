"""A daemon that records: real runs replay to the byte, and a recording never stands in their way."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay.golden import SCENES
from structlog.testing import capture_logs
from support.lab import lab
from support.until import until, waiting_project

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.transcript import Replay, decode_batch, decode_effect, decode_header
from rchd.edges.recorder import Recorder, recording

Transcripts = tuple[list[bytes], list[bytes]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transcripts]:
    """A green, a red and a cancelled run, and one under which the daemon is killed; and what followed."""
    root = tmp_path_factory.mktemp("recorded")
    path = root / "rec"
    with lab(root) as user:
        start = shlex.join([sys.executable, "-P", "-m", "rchd", "run", "--record", str(path)])
        user.env["RCH_RCHD"] = shlex.join(["sh", "-c", f"exec {start}"])
        assert user.rchctl("verify", cwd=user.project("green")).returncode == 0
        assert user.rchctl("verify", cwd=user.project("red", build="exit 3")).returncode == 50
        project, marker, gate = waiting_project(user)
        cancelled = user.json("submit", cwd=project)["data"]["run_id"]
        until(marker.exists)
        assert user.rchctl("cancel", cancelled).returncode == 0
        assert user.rchctl("wait", cancelled).returncode == 80
        marker.unlink()
        resumed = user.json("submit", cwd=project)["data"]["run_id"]
        until(marker.exists)
        user.kill_daemon()
        gate.touch()
        assert user.rchctl("wait", resumed).returncode == 0
        user.stop()
        assert path.stat().st_mode & 0o077 == 0
        after = path.with_name("rec.1")
        yield path.read_bytes().splitlines(keepends=True), after.read_bytes().splitlines(keepends=True)


def events(lines: list[bytes]) -> list[ev.Event]:
    return [event for line in lines[1:] for event in decode_batch(line).events]


@pytest.mark.spec("4")
@pytest.mark.fault("H1")
def test_real_runs_replay_to_the_byte(recorded: Transcripts) -> None:
    for lines in recorded:
        replay = Replay(lines)
        assert [str(each) for each in replay] == []
        assert replay.batches == len(lines) - 1 - (replay.cut is not None)


@pytest.mark.spec("10")
def test_a_transcript_holds_all_that_happened(recorded: Transcripts) -> None:
    lines, after = recorded
    kinds = {type(event) for event in events(lines)}
    way = {ev.Started, ev.RunAccepted, ev.Probed, ev.Reserved, ev.SourceKnown, ev.Uploaded, ev.Submitted}
    assert way | {ev.TailNews, ev.Fetched, ev.Published, ev.Released, ev.CancelAsked} <= kinds
    assert decode_header(lines[0]).runs == ()
    (run,) = decode_header(after[0]).runs
    assert isinstance(run.phase, m.Following)
    assert isinstance(events(after)[0], ev.Started)
    effects = [decode_effect(bytes(data)) for line in after[1:] for data in decode_batch(line).effects]
    views = [e.view for e in effects if isinstance(e, fx.Announce) and e.view is not None]
    assert (views[-1].run_id, views[-1].state) == (run.run_id, "SUCCEEDED")


def test_a_real_transcript_cut_at_any_byte_replays_its_whole_batches(recorded: Transcripts) -> None:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 1), st.data())
    def holds(which: int, data: st.DataObject) -> None:
        lines = recorded[which]
        whole = b"".join(lines)
        cut = data.draw(st.integers(len(lines[0]), len(whole) - 1))
        replay = Replay(whole[:cut].splitlines(keepends=True))
        assert [str(each) for each in replay] == []
        assert replay.batches >= whole[:cut].count(b"\n") - 1

    holds()


# --- what goes wrong ---------------------------------------------------------------------


def batch(number: int) -> list[ev.Event]:
    return [*decode_batch(SCENES["success"]().lines[number]).events]


def test_no_transcript_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "rec"
    core = Core("/artifacts")
    for _ in range(2):
        with recording(path, core) as recorder:
            assert recorder is not None
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rec", "rec.1"]
    for number in range(2, 10):
        (tmp_path / f"rec.{number}").touch()
    with capture_logs() as logs, recording(path, core) as recorder:
        assert recorder is None
    assert [each["event"] for each in logs] == ["recording.failed"]


def test_a_place_that_cannot_be_written_is_told_and_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs, recording(tmp_path / "file" / "rec", Core("/artifacts")) as recorder:
        assert recorder is None
    assert [each["event"] for each in logs] == ["recording.failed"]


def test_a_recording_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rec"
    core = Core("/artifacts")
    recorder = Recorder(path.open("wb"), str(path), limit=2_000)
    recorder.begin(core)
    with capture_logs() as logs:
        for _ in range(100):
            recorder([ev.Started(at=1.0)], [])
    assert [each["event"] for each in logs] == ["recording.full"]
    assert not recorder.on
    assert 1_900 < path.stat().st_size <= 2_000
    replay = Replay(path.read_bytes().splitlines(keepends=True))
    assert not list(replay)
    assert replay.cut is None


def test_a_full_disk_ends_the_recording_alone() -> None:
    with capture_logs() as logs:
        recorder = Recorder(Path("/dev/full").open("wb"), "/dev/full")  # noqa: SIM115  (the recorder closes it)
        recorder.begin(Core("/artifacts"))
        recorder(batch(1), [])
    assert [each["event"] for each in logs] == ["recording.failed"]
    assert not recorder.on


def test_what_cannot_be_written_down_ends_the_recording_alone(tmp_path: Path) -> None:
    path = tmp_path / "rec"
    core = Core("/artifacts")
    with capture_logs() as logs, recording(path, core) as recorder:
        assert recorder is not None
        recorder(batch(1), core.handle(batch(1)[0]))
        recorder([ev.CancelAsked(at=1.0, run_id="\udcff", reason="USER")], [])
        recorder(batch(1), [])
    assert [each["event"] for each in logs] == ["recording.on", "recording.failed"]
    replay = Replay(path.read_bytes().splitlines(keepends=True))
    assert not list(replay)
    assert replay.batches == 1
