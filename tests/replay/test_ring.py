"""What the daemon always records: bounded, taken up at each part, and in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from msgspec import UNSET
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
from rchd.edges.core_rows import decode_run, encode_run
from rchd.edges.history import transcript_of
from rchd.edges.ring import Ring, parts_of, ring

pytestmark = pytest.mark.spec("13")
SMALL = 40_000


@cache
def played() -> tuple[bytes, ...]:
    return tuple(SCENES["success"]().lines)


def batches(run: str = "run-00000001", project: str = "demo") -> Iterator[tuple[ev.AnyEvent, ...]]:
    """The events of a run of this project that succeeds and has this name."""
    for line in played()[1:]:
        named = line.replace(b'"project":"demo"', f'"project":"{project}"'.encode())
        yield decode_batch(named.replace(b"run-00000001", run.encode())).events


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
        for name in ("run-00000002", "latest", "run-00000002"[:12]):
            run_id, lines = exported(places, name)
            assert run_id == "run-00000002"
            assert [str(each) for each in Replay(lines)] == []
        assert exported(places, "run-00000001")[0] == "run-00000001"
        with pytest.raises(Failure, match="'run-' is the beginning of 2 runs"):
            exported(places, "run-")
    (part,) = parts_of(places.transcripts)
    assert part.stat().st_mode & 0o077 == 0
    assert decode_header(part.read_bytes().splitlines()[0]).version == rch.__version__


@pytest.mark.parametrize("user", ["test", "swift", "SUCCEEDED", "Released", "build"])
def test_whoever_is_called_like_a_word_of_the_contract_has_transcripts_too(
    user: str, places: HostPaths
) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, batches())
    _, lines = transcript_of(places, {"USER": user}, "latest", "", as_is=False)
    assert [str(each) for each in Replay(lines)] == []


def test_of_two_names_the_one_that_is_such_a_word_leaves_the_other_replaced(
    places: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "quarkbox")
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, batches(project="quarkbox-app"))
    _, lines = transcript_of(places, {"USER": "build"}, "latest", "", as_is=False)
    assert b"quarkbox" not in b"".join(lines)
    assert re.search(rb'"project":"host-\d-app"', b"".join(lines))


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


def test_where_runs_are_always_live_a_part_begins_among_them(places: HostPaths) -> None:
    core = Core("/artifacts")
    with small_ring(places, core, 8_000) as kept:
        live(kept, core, batches())
        before = exported(places, "run-00000001")[1]
        first, second, *_ = parts_of(places.transcripts)
        header = decode_header(second.read_bytes().splitlines()[0])
        assert (header.continued, [run.run_id for run in header.runs]) == (True, ["run-00000001"])
        # Each stands by itself, and together they are the one life that they were.
        for part in (first, second):
            assert [str(each) for each in Replay(part.read_bytes().splitlines(keepends=True))] == []
        assert [str(each) for each in Replay(before)] == []
        assert len(before) == len(list(batches()))  # all but what came before the run, and the header
        assert partial(before) == set()
        first.unlink()
        after = exported(places, "run-00000001")[1]
    assert [str(each) for each in Replay(after)] == []
    assert partial(after) == {"late"}
    assert len(after) < len(before)


def partial(lines: list[bytes]) -> set[str]:
    """What the file says that it is not."""
    header = decode_header(lines[0])
    return {name for name in ("late", "gaps", "unended") if getattr(header, name) is True}


def test_one_run_that_lives_for_ever_takes_nothing_from_the_others(places: HostPaths) -> None:
    core, bound, most = Core("/artifacts"), 300_000, 0
    with ring(places.transcripts, bound, core) as kept:
        assert kept is not None
        live(kept, core, islice(batches("run-00000001"), 6))
        for number in range(2, 20):
            for each in batches(f"run-{number:08d}"):
                live(kept, core, iter([each]))
                most = max(most, sum(path.stat().st_size for path in parts_of(places.transcripts)))
    assert bound / 2 < most <= bound
    for run_id, missing in (("run-00000001", {"late", "unended"}), ("run-00000019", set[str]())):
        lines = exported(places, run_id)[1]
        assert [str(each) for each in Replay(lines)] == []
        assert partial(lines) == missing


def test_a_part_that_is_too_much_by_itself_goes_and_another_begins_when_it_can(places: HostPaths) -> None:
    core = Core("/artifacts")
    with capture_logs() as logs, ring(places.transcripts, 9_000, core) as kept:
        assert kept is not None
        live(kept, core, batches())
        assert sum(path.stat().st_size for path in parts_of(places.transcripts)) <= 9_000
        assert kept.on
    assert "transcripts.too_large" in {each["event"] for each in logs}
    (part,) = parts_of(places.transcripts)
    assert decode_header(part.read_bytes().splitlines()[0]).runs == ()


def test_what_was_lost_between_two_daemons_is_told(places: HostPaths) -> None:
    core = Core("/artifacts")
    all_of_it = list(batches())
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, iter(all_of_it[:4]))
    for events in all_of_it[4:7]:
        take(core, events)
    again = Core("/artifacts", [decode_run(encode_run(run)) for run in core.runs.values()], core.seq)
    with ring(places.transcripts, 1_000_000, again) as kept:
        assert kept is not None
        live(kept, again, iter([(ev.Started(at=1.0),)]))
    lines = exported(places, "latest")[1]
    assert [str(each) for each in Replay(lines)] == []
    assert partial(lines) == {"gaps", "unended"}


def test_the_oldest_parts_go_and_the_whole_stays_within_its_bound(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 4 * SMALL, core) as kept:
        assert kept is not None
        for number in range(1, 10):
            live(kept, core, batches(run=f"run-0000000{number}"))
    parts = parts_of(places.transcripts)
    assert parts[0].name > "00000001.jsonl"
    assert sum(path.stat().st_size for path in parts) <= 4 * SMALL
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
        assert parts_of(places.transcripts) == []
        live(kept, core, iter(list(batches())[3:]))
        first = decode_header(parts_of(places.transcripts)[0].read_bytes().splitlines()[0])
        assert (first.continued, first.runs) == (UNSET, ())


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
    core = Core("/artifacts")
    with capture_logs() as logs, ring(tmp_path / "file" / "t", 1_000, core) as kept:
        assert kept is not None
        kept([ev.Started(at=1.0)], list[fx.Effect]())
        kept.rest(core)
    assert [each["event"] for each in logs] == ["transcripts.failed"]
    assert not kept.on
    assert kept.trouble == f"no transcripts are recorded in {tmp_path}/file/t: File exists"


def broken(places: HostPaths) -> Path:
    """The folder is away, and a file in its place."""
    aside = places.transcripts.with_name("aside")
    places.transcripts.rename(aside)
    places.transcripts.touch()
    return aside


def mended(places: HostPaths, aside: Path) -> None:
    places.transcripts.unlink()
    aside.rename(places.transcripts)


def fill_the_disk(kept: Ring) -> None:
    """Writes to the part fail from now on."""
    assert kept._file is not None
    kept._file.close()
    kept._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  (the ring closes it)


def records(kept: Ring) -> bool:
    """Whether it says that it does."""
    assert kept.on is (kept.trouble is None)
    return kept.on


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_after_a_trouble_it_goes_on_by_itself_and_the_next_run_is_whole(places: HostPaths) -> None:
    core = Core("/artifacts")
    with capture_logs() as logs, ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, islice(batches("run-00000001"), 4))
        aside = broken(places)
        fill_the_disk(kept)
        live(kept, core, islice(batches("run-00000001"), 4, None))
        assert not records(kept)
        mended(places, aside)
        live(kept, core, batches("run-00000002"))
        live(kept, core, batches("run-00000003"))
        assert records(kept)
    told = [each["event"] for each in logs]
    assert told.count("transcripts.go_on") == 1
    for name, missing in (
        ("run-00000001", {"unended"}),
        ("run-00000002", {"late"}),  # it had begun when it was tried again
        ("run-00000003", set[str]()),
    ):
        lines = exported(places, name)[1]
        assert [str(each) for each in Replay(lines)] == []
        assert partial(lines) == missing
    for part in parts_of(places.transcripts):
        assert [str(each) for each in Replay(part.read_bytes().splitlines(keepends=True))] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_run_in_whose_midst_a_write_failed_goes_on_with_a_gap_that_is_told(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, islice(batches(), 4))
        fill_the_disk(kept)
        live(kept, core, islice(batches(), 4, None))
        assert records(kept)
        live(kept, core, batches("run-00000002"))
    lines = exported(places, "run-00000001")[1]
    assert [str(each) for each in Replay(lines)] == []
    assert partial(lines) == {"gaps"}
    assert partial(exported(places, "run-00000002")[1]) == set()


def test_a_part_that_cannot_be_begun_leaves_no_file(
    places: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core("/artifacts")

    def full(_self: Ring, _line: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken_disk, capture_logs() as logs:
        broken_disk.setattr(Ring, "_write", full)
        kept = Ring(places.transcripts, 1_000_000)
        kept.begin(core)
        live(kept, core, batches())
        assert parts_of(places.transcripts) == []
    assert [each["event"] for each in logs] == ["transcripts.failed"]
    live(kept, core, batches("run-00000002"))
    live(kept, core, batches("run-00000003"))
    kept.close()
    assert partial(exported(places, "run-00000003")[1]) == set()
    live(kept, core, batches("run-00000004"))
    with pytest.raises(Failure, match="no run 'run-00000004'"):
        exported(places, "run-00000004")


def test_why_nothing_was_recorded_is_told_without_a_daemon_and_until_it_is_mended(
    places: HostPaths,
) -> None:
    places.transcripts.parent.mkdir(parents=True)
    places.transcripts.touch()
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core):
        pass
    with pytest.raises(Failure, match=r"was not recorded: no transcripts are recorded in .*: File exists"):
        exported(places, "run-00000001")
    places.transcripts.unlink()
    with ring(places.transcripts, 1_000_000, core):
        pass
    with pytest.raises(Failure, match="no run 'run-00000001' is among those"):
        exported(places, "run-00000001")


def test_a_run_of_another_daemon_is_the_latest_and_its_transcript_nobodys(places: HostPaths) -> None:
    core = Core("/artifacts")
    with ring(places.transcripts, 1_000_000, core) as kept:
        assert kept is not None
        live(kept, core, batches())
    private = places.artifacts / "run-00000002"
    private.mkdir(parents=True)
    assert exported(places, "latest")[0] == "run-00000001"  # it is no run yet
    (private / "run_index.json").touch()
    with pytest.raises(Failure, match="no run 'run-00000002' is among those") as told:
        exported(places, "latest")
    assert "--no-daemon is never recorded" in told.value.hint


def test_what_is_no_part_is_in_nobodys_way(places: HostPaths) -> None:
    core = Core("/artifacts")
    places.transcripts.mkdir(parents=True)
    (places.transcripts / "00000091.jsonl").mkdir()
    (places.transcripts / "99999999.jsonl").touch()
    (places.transcripts / ("9" * 40 + ".jsonl")).touch()
    (places.transcripts / "00000092.jsonl").symlink_to("/dev/zero")
    for number in (1, 2):
        with ring(places.transcripts, 1_000_000, core) as kept:
            assert kept is not None
            live(kept, core, batches(f"run-0000000{number}"))
    assert [path.name for path in parts_of(places.transcripts)[1:]] == [
        "100000000.jsonl", "100000001.jsonl",
    ]  # fmt: skip
    for number in (1, 2):
        assert exported(places, f"run-0000000{number}")[0] == f"run-0000000{number}"
