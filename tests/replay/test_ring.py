"""What the daemon always records: bounded, taken up at each part, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from replay.golden import SCENES
from structlog.testing import capture_logs

import rch
from rch.contract.errors import Failure
from rch.files.paths import HostPaths, host_paths
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.core.transcript import Replay, core_of, decode_batch, decode_header, take
from rchd.edges import ring as ring_module
from rchd.edges.history import transcript_of
from rchd.edges.ring import Ring, parts_of, ring

pytestmark = pytest.mark.spec("13")
SMALL = 40_000


@cache
def played() -> tuple[bytes, ...]:
    return tuple(SCENES["success"]().lines)


def batches(run: str = "run-00000001") -> Iterator[tuple[ev.AnyEvent, ...]]:
    """The events of a run that succeeds and has this name."""
    for line in played()[1:]:
        yield decode_batch(line.replace(b"run-00000001", run.encode())).events


def live(kept: Ring, core: Core, events: Iterator[tuple[ev.AnyEvent, ...]]) -> None:
    """As the driver does."""
    for each in events:
        effects = [effect for event in each for effect in core.handle(event)]
        kept(list(each), effects)
        take(core, ())
        kept.rest(core)


@pytest.fixture
def places(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path)})


def exported(places: HostPaths, name: str) -> tuple[str, list[bytes]]:
    return transcript_of(places, {}, name, "", as_is=False)


def test_a_run_is_found_by_its_id_how_it_begins_or_as_the_latest(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        for number in (1, 2):
            live(kept, core, batches(run=f"run-0000000{number}"))
        for name in ("run-00000002", "latest", "run-"):
            run_id, lines = exported(places, name)
            assert run_id == "run-00000002"
            assert [str(each) for each in Replay(lines)] == []
        assert exported(places, "run-00000001")[0] == "run-00000001"
    (part,) = parts_of(places.transcripts)
    assert part.stat().st_mode & 0o077 == 0
    assert decode_header(part.read_bytes().splitlines()[0]).version == rch.__version__


@contextmanager
def small_ring(places: HostPaths, core: Core, part_bytes: int) -> Iterator[Ring]:
    """One that keeps all in small parts."""
    places.transcripts.mkdir(parents=True)
    kept = Ring(places.transcripts, 1_000_000, part_bytes=part_bytes)
    kept.begin(core)
    yield kept
    kept.close()


def test_a_full_part_ends_when_no_run_is_live_and_the_next_knows_what_was_known(places: HostPaths) -> None:
    core = Core("/artifacts")
    with small_ring(places, core, SMALL) as kept:
        for number in range(1, 4):
            live(kept, core, batches(run=f"run-0000000{number}"))
    parts = [path.read_bytes().splitlines(keepends=True) for path in parts_of(places.transcripts)]
    assert core_of(decode_header(parts[1][0])).fleet.known == 1
    for part in parts:
        assert [str(each) for each in Replay(part)] == []
    for number in range(1, 4):
        run_id, lines = exported(places, f"run-0000000{number}")
        assert [str(each) for each in Replay(lines)] == []
        assert decode_header(lines[0]).others is not True, run_id


def test_where_runs_are_always_live_a_part_goes_on_in_the_next(places: HostPaths) -> None:
    core = Core("/artifacts")
    with small_ring(places, core, 4_000) as kept:
        live(kept, core, batches())
    headers = [decode_header(path.read_bytes().splitlines()[0]) for path in parts_of(places.transcripts)]
    assert [header.continued is True for header in headers[:3]] == [False, True, True]
    lines = exported(places, "run-00000001")[1]
    assert [str(each) for each in Replay(lines)] == []
    assert len(lines) == len(list(batches()))  # all but what came before the run, and the header
    (difference,) = Replay(parts_of(places.transcripts)[1].read_bytes().splitlines(keepends=True))
    assert "it goes on with a history that another file begins" in str(difference)


def test_the_oldest_parts_go_and_the_whole_stays_within_its_bound(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 4 * SMALL, core) as kept:
        assert kept is not None
        for number in range(1, 10):
            live(kept, core, batches(run=f"run-0000000{number}"))
    parts = parts_of(places.transcripts)
    assert parts[0].name > "00000001.jsonl"
    # A part may be fuller by the run that it ends with.
    assert sum(path.stat().st_size for path in parts) <= 4 * SMALL + 80_000
    assert exported(places, "latest")[0] == "run-00000009"
    with pytest.raises(Failure, match="no run 'run-00000001' is among those"):
        exported(places, "run-00000001")


def test_a_smaller_bound_holds_from_the_next_start_on(places: HostPaths) -> None:
    core = Core("/artifacts")
    with small_ring(places, core, SMALL) as kept:
        for number in range(1, 6):
            live(kept, core, batches(run=f"run-0000000{number}"))
    assert len(parts_of(places.transcripts)) > 4
    with ring(places.transcripts, 2 * SMALL, core):
        assert sum(path.stat().st_size for path in parts_of(places.transcripts)) <= 2 * SMALL


def test_a_run_whose_beginning_is_gone_is_told_so(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, batches())
    (part,) = parts_of(places.transcripts)
    header, *rest = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(header.replace(b'"runs":[]', b'"runs":[],"continued":true') + b"".join(rest))
    with pytest.raises(Failure, match="the beginning of run run-00000001 is no longer among"):
        exported(places, "run-00000001")


def test_a_start_with_very_many_runs_is_not_held_up_by_writing_them_down(
    places: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "FEW_RUNS", 0)
    before = Core("/artifacts")
    for events in list(batches())[:3]:
        take(before, events)
    core = Core("/artifacts", before.runs.values(), before.seq)
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, iter([(ev.CancelAsked(at=1.0, run_id="run-00000001", reason="USER"),)]))
        first = decode_header(parts_of(places.transcripts)[0].read_bytes().splitlines()[0])
        assert (first.continued, first.runs) == (True, ())


def test_with_nothing_to_keep_nothing_is_left(places: HostPaths) -> None:
    with ring(places.transcripts, 1_000_000, Core("/artifacts")):
        pass
    assert parts_of(places.transcripts)
    places.config_toml.parent.mkdir(parents=True)
    places.config_toml.write_text("[transcripts]\nkeep_bytes = 0\n")
    with ring(places.transcripts, 0, Core("/artifacts")) as kept:
        assert kept is None
    assert parts_of(places.transcripts) == []
    with pytest.raises(Failure, match="keep_bytes is 0") as told:
        exported(places, "latest")
    assert "50000000" in told.value.hint


def test_a_part_that_was_cut_with_its_daemon_is_read_as_far_as_it_goes(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, batches())
    (part,) = parts_of(places.transcripts)
    part.write_bytes(part.read_bytes()[:-20])
    assert [str(each) for each in Replay(exported(places, "latest")[1])] == []
    damaged = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([*damaged[:3], damaged[3][:50] + b"\n", *damaged[4:]]))
    with pytest.raises(Failure, match=r"00000001\.jsonl, line 4: "):
        exported(places, "latest")


def test_a_disk_that_takes_nothing_ends_the_recording_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logs, ring(tmp_path / "file" / "t", 1_000, Core("/artifacts")) as kept:
        assert kept is None
    assert [each["event"] for each in logs] == ["transcripts.failed"]
    core = Core("/artifacts")
    made = Ring(tmp_path / "gone", 1_000)
    with capture_logs() as logs:
        made.begin(core)
        made([ev.Started(at=1.0)], list[fx.Effect]())
        made.rest(core)
    assert [each["event"] for each in logs] == ["transcripts.failed"]
    assert not made.on
