"""Each bound of the host's edges: at it all is taken, one beyond it is not (docs/limits.md)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import pytest
from structlog.testing import capture_logs
from support.trees import checkout, git, make

from rch.contract import local_api, local_gc
from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import GcEntry
from rchd import api, api_gc, api_hostgc, api_pages, api_rerun, api_setup, api_workers
from rchd.api_gc import _cut
from rchd.api_hostgc import HostGcApi
from rchd.api_pages import REPLAY_LIMIT, past_events
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.edges import (
    agents,
    bases,
    drained,
    ignore,
    landing_site,
    prober,
    rebuild_files,
    recorder,
    ssh,
    thin,
    timers,
    worker_client,
)
from rchd.edges import git as git_module
from rchd.edges.agents import Agents
from rchd.edges.bases import Memory
from rchd.edges.ignore import Patterns, Rules
from rchd.edges.recorder import Recorder, recording
from rchd.edges.snapshot import SnapshotOptions, take
from rchd.edges.spool import prune
from rchd.edges.worker_client import WorkerClient

Patch = pytest.MonkeyPatch
Holds = Callable[[int, Path, Patch], bool]
FEW = 3


def refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except (Failure, ValueError):
        return True
    return False


# --- trees --------------------------------------------------------------------------------


def patterns(count: int, *_: Any) -> bool:
    return not refused(lambda: Patterns(["x"] * count))


def pattern_length(count: int, *_: Any) -> bool:
    return not refused(lambda: Patterns(["x" * count]))


def pattern_spans(count: int, *_: Any) -> bool:
    return not refused(lambda: Patterns(["a" + "/**/b" * count]))


def ignore_file(size: int, place: Path, _: Patch) -> bool:
    lines, rest = divmod(size, 1000)
    make(place, {".rchignore": (b"#" * 999 + b"\n") * lines + b"#" * rest})
    return not refused(lambda: Rules(place, index=False, gitignore=False))


def verdicts(count: int, _: Path, patch: Patch) -> bool:
    """Whether so many are remembered."""
    patch.setattr(ignore, "_MAX_VERDICTS", FEW)
    rules = Patterns(["x"])
    for number in range(count):
        rules.match(str(number), folder=False)
    return len(rules._verdicts) == count


def remembered_files(count: int, place: Path, patch: Patch) -> bool:
    """Whether two trees with so many files together are remembered."""
    patch.setattr(bases, "MAX_FILES", FEW)
    memory = Memory()
    make(place / "a", {"1": ""})
    make(place / "b", {str(number): "" for number in range(count - 1)})
    for name in "ab":
        take(place / name, SnapshotOptions(), place / "spool", memory=memory)
    return len(memory.names) == 2


def remembered_trees(count: int, place: Path, patch: Patch) -> bool:
    patch.setattr(bases, "MAX_ROOTS", FEW)
    memory = Memory()
    for number in range(count):
        make(place / str(number), {"n": str(number)})
        take(place / str(number), SnapshotOptions(), place / "spool", memory=memory)
    return len(memory.names) == count


def is_thin(place: Path, change: Callable[[Path], object]) -> bool:
    """Whether a change of a small tree goes alone."""
    memory = Memory()
    root = make(place / "root", {"keep": "", **{f"old{number}": "" for number in range(6)}})
    take(root, SnapshotOptions(), place / "spool", memory=memory)
    change(root)
    return take(root, SnapshotOptions(), place / "spool", memory=memory).base is not None


def changed_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(thin, "MAX_BYTES", 8192)  # with a header of 512, in blocks of 512
    return is_thin(place, lambda root: make(root, {"new": b"x" * (size - 512)}))


def removed_files(count: int, place: Path, patch: Patch) -> bool:
    patch.setattr(thin, "MAX_REMOVED", FEW)

    def remove(root: Path) -> None:
        for number in range(count):
            (root / f"old{number}").unlink()

    return is_thin(place, remove)


def submodules(count: int, place: Path, patch: Patch) -> bool:
    """Whether a checkout with so many is described."""
    patch.setattr(git_module, "_MAX_SUBMODULES", 2)
    checkout(place / "dep", {"x": "x"})
    root = checkout(place / "root", {"a": "a"})
    for number in range(count):
        git(root, "submodule", "--quiet", "add", str(place / "dep"), f"d{number}")
    git(root, "commit", "-q", "-m", "more")
    return git_module.describe(root) is not None


def nested_submodules(depth: int, place: Path, _: Patch) -> bool:
    """Whether a change is seen in what stands so deep; the first is at depth 1."""
    checkout(place / "dep", {"x": "x"})
    root = checkout(place / "root", {"a": "a"})
    git(root, "submodule", "--quiet", "add", str(place / "dep"), "d")
    git(root, "commit", "-q", "-m", "more")
    (root / "d" / "x").write_text("changed")
    return git_module._submodule_changed(root, [9], depth - 1)


# --- what is kept and told ----------------------------------------------------------------


def recorded(size: int, place: Path, _: Patch) -> bool:
    """Whether a recording of so many bytes is whole, whose limit is what a header and a batch take."""
    core, path = Core("/artifacts"), place / "rec"
    whole = Recorder(path.open("wb"), str(path), limit=1 << 20)
    whole.begin(core)
    whole([ev.Started(at=1.0)], [])
    whole.close()
    limit = path.stat().st_size
    again = Recorder(path.open("wb"), str(path), limit=limit - (size - recorder.LIMIT_BYTES))
    with capture_logs():
        again.begin(core)
        again([ev.Started(at=1.0)], [])
    return again.on


def siblings(count: int, place: Path, _: Patch) -> bool:
    """Whether there is room for so many recordings beside the first."""
    for _number in range(count):
        with recording(place / "rec", Core("/artifacts")):
            pass
    with capture_logs(), recording(place / "rec", Core("/artifacts")) as made:
        return made is not None


def summary_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(api_rerun, "MAX_SUMMARY_BYTES", 100)
    (place / "s").write_bytes(b"x" * size)
    return not refused(lambda: api_rerun._read(place / "s"))


def rebuilt_bytes(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(rebuild_files, "MAX_BYTES", 100)
    (place / "accepted.json").write_bytes(b"x" * size)
    return "accepted.json" in rebuild_files._files(place)


def kept_bundles(count: int, place: Path, _: Patch) -> bool:
    for number in range(count):
        (place / f"{number:064}-x.tar.zst").write_bytes(b"x")
    prune(place, (), newest=FEW, max_bytes=1000)
    return len(list(place.iterdir())) == count


def kept_bytes(size: int, place: Path, _: Patch) -> bool:
    for number, data in enumerate((b"x" * (size - 1), b"x")):
        bundle = place / f"{number:064}-x.tar.zst"
        bundle.write_bytes(data)
        os.utime(bundle, ns=(number, number))
    prune(place, (), newest=FEW, max_bytes=100)
    return len(list(place.iterdir())) == 2


def removed_at_workers(count: int, *_: Any) -> bool:
    entry = GcEntry(kind="job", name="n", bytes=1, age_seconds=1, reason="x")
    view = local_gc.WorkerGcView(name="w", entries=(entry,) * count, totals=(), more=False)
    return not _cut(view, api_gc.MOST_ENTRIES).more


def removed_here(count: int, _: Path, patch: Patch) -> bool:
    """Whether all that went is told in one answer."""
    entry = local_gc.HostGcEntry(kind="run", run_id="r", project="p", ended_at="t", bytes=1, reason="x")
    patch.setattr(api_hostgc, "choose", lambda *_: SimpleNamespace(held={}))

    async def carried_out(_choice: object, *, dry_run: bool) -> list[Any]:
        del dry_run
        return [entry] * count

    stub = SimpleNamespace(
        _turn=anyio.Lock(), _settings=lambda: SimpleNamespace(gc=None), _carry_out=carried_out,
        _driver=SimpleNamespace(turns=1, in_hand=()), _keeper=SimpleNamespace(look=lambda _: []),
    )  # fmt: skip

    async def collect() -> bool:
        view = await HostGcApi._collect(stub, dry_run=True)  # type: ignore[arg-type]
        assert view.runs == count
        return len(view.entries) == count and not view.more

    return anyio.run(collect)


class Rows:
    """A store with so many runs and events, the newest run first."""

    def __init__(self, count: int) -> None:
        self.count = count

    def runs(self, limit: int, *, state: str | None, before: str | None) -> list[Any]:
        del state
        first = 0 if before is None else int(before) + 1
        return [SimpleNamespace(run_id=str(n)) for n in range(first, min(first + limit, self.count))]

    def events_after(self, after: int, *, run_id: str | None, limit: int) -> list[Any]:
        del run_id
        last = min(after + limit, self.count)
        known = {"run_id": "r", "type": "run", "at": "t", "doc": b"{}"}
        return [SimpleNamespace(seq=seq, **known) for seq in range(after + 1, last + 1)]

    def first_event_seq(self) -> int:
        return 1


def listed(count: int, _: Path, patch: Patch) -> bool:
    """Whether one answer has as many as are asked for and are there."""
    patch.setattr(api, "Page", lambda: SimpleNamespace(views=(), add=lambda _view: True))
    stub = SimpleNamespace(
        _driver=SimpleNamespace(core=SimpleNamespace(runs={})),
        _store=Rows(count),
        _row_view=lambda row: row,
    )
    stub._rows = lambda *asked: api.Api._rows(stub, *asked)  # type: ignore[arg-type]

    async def ask() -> bool:
        asked = local_api.ListParams(limit=count)
        return not (await api.Api._list(stub, asked, None)).more  # type: ignore[arg-type]

    return anyio.run(ask)


def told_again(count: int, _: Path, patch: Patch) -> bool:
    """Whether a follower that was away for so many events misses none."""
    patch.setattr(api_pages, "decode_json", lambda *_: None)

    async def past() -> bool:
        found = await past_events(Rows(count), 0, count, "all", 1)  # type: ignore[arg-type]
        assert len(found) <= REPLAY_LIMIT + 1
        return [each.type for each in found] == ["run"] * count

    return anyio.run(past)


# --- ways to workers ----------------------------------------------------------------------


def agent_path(length: int, *_: Any) -> bool:
    known = Agents(answers=lambda _path: True)
    known.tell("/" + "x" * (length - 1))
    return known.pick() is not None


def agents_known(count: int, *_: Any) -> bool:
    """Whether the first of so many is still asked."""
    asked: list[str] = []

    def nobody(path: str) -> bool:
        asked.append(path)
        return False

    known = Agents(answers=nobody)
    for number in range(count):
        known.tell(f"/{number}")
    known.pick()
    return "/0" in asked


def jumps(depth: int, _: Path, patch: Patch) -> bool:
    """Whether the way to a worker may lead over so many."""

    class ReachedError(Exception):
        pass

    def prepare(*_: object) -> None:
        raise ReachedError

    patch.setattr(ssh, "prepare", prepare)

    async def dial() -> bool:
        hop: Any = SimpleNamespace(name="mini", where="mini")
        with pytest.raises((ReachedError, Failure)) as caught:
            await ssh._through(hop, None, [], depth)  # type: ignore[arg-type]
        assert caught.type is ReachedError or "over more than 8 jump hosts" in str(caught.value)
        return caught.type is ReachedError

    return anyio.run(dial)


def side_channels(count: int, *_: Any) -> bool:
    """Whether so many are open beside one another."""

    class Held:
        host = "mini"
        opened: ClassVar[list[int]] = []

        async def open(self) -> Any:
            self.opened.append(1)
            await gate.wait()
            raise Failure(Kind.SSH, "it was cut")

        async def close(self) -> None:
            pass

    gate = anyio.Event()
    Held.opened.clear()

    async def ask() -> bool:
        client = WorkerClient("mini", Held())

        async def probe() -> None:
            with pytest.raises(Failure):
                await client.probe()

        async with anyio.create_task_group() as group:
            for _number in range(count):
                group.start_soon(probe)
            await anyio.wait_all_tasks_blocked()
            open_at_once = len(Held.opened)
            gate.set()
        await client.close()
        return open_at_once == count

    return anyio.run(ask)


def skew(seconds: int, _: Path, patch: Patch) -> bool:
    """Whether a worker's clock may be so far ahead without a word."""
    patch.setattr(prober, "time", SimpleNamespace(time=lambda: 1_700_000_000.0 - seconds))
    result: Any = SimpleNamespace(capabilities=SimpleNamespace(probed_at="2023-11-14T22:13:20.000Z"))
    return prober._skew(result) is None


def sleep(seconds: int, *_: Any) -> bool:
    """Whether a sleep of one second less than so long is passed over."""
    clock = iter([0.0, float(seconds - 1)])
    made = timers.Timers(lambda _event: None, slept=lambda: next(clock))
    return made._sleep() == 0


def said_in_a_set_up(size: int, _: Path, patch: Patch) -> bool:
    """Whether all that a machine says is heard."""
    patch.setattr(landing_site, "MAX_ANSWER", 10)
    left = [b"x"] * size

    async def nothing(*_: object) -> None: ...

    async def receive() -> bytes:
        return left.pop() if left else b""

    channel: Any = SimpleNamespace(send=nothing, send_eof=nothing, receive=receive)
    return len(anyio.run(landing_site._spoken, channel, [])) == size


def wheels(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(api_setup, "MOST_WHEELS", 100)
    patch.setattr(api_setup, "needed", lambda *_: [])
    (place / "a.whl").write_bytes(b"x" * size)
    return not refused(lambda: api_setup._wheels(SimpleNamespace(), SimpleNamespace(), str(place)))  # type: ignore[arg-type]


def reason_of_a_drain(length: int, _: Path, patch: Patch) -> bool:
    class TakenError(Exception):
        pass

    def known(**_: object) -> None:
        raise TakenError

    patch.setattr(api_workers, "Drain", known)
    stub: Any = SimpleNamespace(_drained=SimpleNamespace(get=lambda _name: SimpleNamespace(reason="x")))
    asked: Any = SimpleNamespace(name="mini", reason="r" * length, off=False)
    with pytest.raises((TakenError, Failure)) as caught:
        anyio.run(api_workers.WorkersApi._drain, stub, asked)
    return caught.type is TakenError


def who_is_drained(size: int, place: Path, patch: Patch) -> bool:
    patch.setattr(drained, "MAX_BYTES", 100)
    (place / "d.json").write_bytes(b" " * (size - 2) + b"{}")
    return not refused(lambda: drained.Drained(place / "d.json"))


Row = tuple[Holds, int]
ROWS: dict[str, Row] = {
    "patterns": (patterns, ignore._MAX_RULES),
    "a pattern": (pattern_length, ignore._MAX_LINE),
    "spans of a pattern": (pattern_spans, ignore._MAX_SPANS),
    "an ignore file": (ignore_file, ignore._MAX_IGNORE_FILE),
    "verdicts": (verdicts, FEW),
    "files of known trees": (remembered_files, FEW),
    "known trees": (remembered_trees, FEW),
    "bytes of a change": (changed_bytes, 8192),
    "files that a change removes": (removed_files, FEW),
    "submodules": (submodules, 2),
    "submodules in submodules": (nested_submodules, git_module._MAX_NESTING),
    "a recording": (recorded, recorder.LIMIT_BYTES),
    "recordings": (siblings, recorder.MAX_SIBLINGS),
    "a summary": (summary_bytes, 100),
    "a record of a rebuild": (rebuilt_bytes, 100),
    "bundles": (kept_bundles, FEW),
    "bytes of bundles": (kept_bytes, 100),
    "entries of workers' gc": (removed_at_workers, api_gc.MOST_ENTRIES),
    "entries of the host's gc": (removed_here, api_hostgc.MOST_ENTRIES),
    "runs in a list": (listed, api.MOST_LISTED),
    "events told again": (told_again, REPLAY_LIMIT),
    "an agent's path": (agent_path, agents._LONGEST),
    "agents": (agents_known, agents.MOST),
    "jump hosts": (jumps, ssh._MOST_JUMPS),
    "side channels": (side_channels, worker_client.MAX_SIDE_CHANNELS),
    "what a set-up hears": (said_in_a_set_up, 10),
    "wheels": (wheels, 100),
    "the reason of a drain": (reason_of_a_drain, api_workers.MOST_REASON),
    "who is drained": (who_is_drained, 100),
    "a clock that is off": (skew, int(prober.MAX_CLOCK_SKEW_SECONDS)),
    "a sleep": (sleep, int(timers.SLEEP_SECONDS)),
}


@pytest.mark.parametrize("name", ROWS)
def test_at_a_bound_of_the_host_all_is_taken(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert holds(limit, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ROWS)
def test_one_beyond_a_bound_of_the_host_it_is_not(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    holds, limit = ROWS[name]
    assert not holds(limit + 1, tmp_path, monkeypatch)
