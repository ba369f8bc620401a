"""Persist first: nothing is said or done that the store does not hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import pytest
from support.playbook import accepted, report
from support.sets import places_of, right_set

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import RunEvent
from rch.contract.records import RunIndex, RunStateRecord, RunSummary, decode_record
from rch.files import durable
from rchd import driver as driver_module
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.projections import projections
from rchd.driver import Driver
from rchd.edges.core_rows import decode_run
from rchd.edges.hub import Hub
from rchd.edges.performer import Performer, Post
from rchd.edges.projector import Projector
from rchd.edges.store import Batch, SqliteStore, StateStore
from rchd.edges.timers import Timers

NO_SPACE = Failure(Kind.DAEMON, "the disk is full", subkind="NO_SPACE")


class Watched:
    """A real store whose commits are counted, held up or refused."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.batches: list[Batch] = []
        self.failing: Failure | None = None
        self.failing_unless_urgent = False
        self.refused = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def commit(self, batch: Batch, *, urgent: bool = False) -> None:
        self.entered.set()
        self.gate.wait(10)
        if self.failing is not None and not (urgent and self.failing_unless_urgent):
            self.refused += 1
            raise self.failing
        self.store.commit(batch, urgent=urgent)
        self.batches.append(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Scripted(Performer):
    """Notes what is asked for; `script` answers by the effect's name."""

    def __init__(self) -> None:
        self.asked: list[fx.Outward] = []
        self.script: dict[str, Callable[[fx.Outward, Post], Any]] = {}
        self.forgotten: list[str] = []

    async def perform(self, effect: fx.Outward, post: Post) -> ev.Answer:
        self.asked.append(effect)
        answer = self.script.get(type(effect).__name__)
        if answer is None:
            await anyio.sleep_forever()
            raise AssertionError
        made = answer(effect, post)
        return cast("ev.Answer", await made if asyncio.iscoroutine(made) else made)

    def forget_probe(self, worker: str) -> None:
        self.forgotten.append(worker)

    @property
    def names(self) -> list[str]:
        return [type(effect).__name__ for effect in self.asked]


class Daemon:
    """A driver with a real core, store, hub and files."""

    def __init__(self, root: Path, store: SqliteStore) -> None:
        self.artifacts = root / "artifacts"
        self.artifacts.mkdir(exist_ok=True)
        self.store = Watched(store)
        self.performer = Scripted()
        self.replies: list[fx.Reply] = []
        self.news: list[RunEvent] = []
        loaded = store.load(active_only=True)
        runs = [decode_run(row.doc) for row in loaded.runs]
        self.core = Core(str(self.artifacts), runs, last_seq=loaded.last_event_seq)
        hub = Hub(str(self.artifacts))
        hub.follow("all", self.news.append)
        self.driver = Driver(
            core=self.core,
            store=cast("StateStore", self.store),
            performer=self.performer,
            hub=hub,
            artifacts=self.artifacts,
            reply=self.replies.append,
        )

    def accept(self, run_id: str = "run-00000001", reply: int = 1) -> None:
        (self.artifacts / run_id).mkdir(exist_ok=True)
        self.driver.post(ev.RunAccepted(at=1.0, accepted=accepted(run_id), reply=reply))

    def cancel(self, run_id: str = "run-00000001", reply: int = 2) -> None:
        self.driver.post(ev.CancelAsked(at=2.0, run_id=run_id, reason="USER", reply=reply))

    def state_of(self, run_id: str = "run-00000001") -> RunStateRecord:
        return decode_record((self.artifacts / run_id / "run_state.json").read_bytes(), RunStateRecord)


@asynccontextmanager
async def daemon(root: Path) -> AsyncIterator[Daemon]:
    store = SqliteStore.open(root / "state.db")
    try:
        it = Daemon(root, store)
        async with anyio.create_task_group() as group:
            group.start_soon(it.driver.run)
            try:
                yield it
            finally:
                it.store.gate.set()
                group.cancel_scope.cancel()
    finally:
        store.close()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110  (what is looked at has no event)
            await anyio.sleep(0.002)


def listen(it: Daemon) -> list[ev.Event]:
    """What is posted from now on."""
    posted: list[ev.Event] = []
    real = it.driver.post

    def post(event: ev.Event) -> None:
        posted.append(event)
        real(event)

    it.driver.post = post  # type: ignore[method-assign]
    return posted


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(driver_module, "RETRY_SECONDS", 0.02)


@pytest.mark.spec("4")
async def test_no_reply_news_or_act_before_the_commit(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.gate.clear()
        it.accept()
        await until(it.store.entered.is_set)
        await anyio.sleep(0.02)
        assert not it.replies
        assert not it.news
        assert not it.performer.asked
        assert not list((it.artifacts / "run-00000001").iterdir())
        it.store.gate.set()
        await until(lambda: bool(it.replies and it.performer.asked))
        assert it.store.store.run("run-00000001") is not None
        assert it.state_of().state == "QUEUED"
        assert it.performer.names == ["Probe"]
        assert [event.type for event in it.news] == ["run", "run"]


@pytest.mark.spec("4")
async def test_who_asks_for_a_run_waits_for_what_the_commit_at_work_makes_of_it(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it, anyio.create_task_group() as group:
        it.accept()
        await until(lambda: bool(it.replies))
        it.store.gate.clear()
        it.store.entered.clear()
        it.cancel()
        await until(it.store.entered.is_set)
        assert it.core.runs["run-00000001"].cancel is not None
        seen: list[bool] = []

        async def ask() -> None:
            await it.driver.settled("run-00000001")
            seen.append((it.artifacts / "run-00000001" / "run_summary.json").exists())

        group.start_soon(ask)
        await anyio.sleep(0.02)
        assert (it.driver.is_settled("run-00000001"), it.driver.is_settled("another")) == (False, True)
        assert not seen
        it.store.gate.set()
        await until(lambda: bool(seen))
        assert seen == [True]
        assert it.driver.seq == it.core.seq


@pytest.mark.spec("4")
@pytest.mark.fault("H12")
async def test_who_asks_while_nothing_can_be_committed_does_not_wait(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing = NO_SPACE
        it.accept()
        await until(lambda: it.store.refused > 0)
        with anyio.fail_after(60):
            await it.driver.settled("run-00000001")
        assert not it.driver.is_settled("run-00000001")


async def test_a_nudged_driver_turns_unless_a_commit_hangs(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        before = it.driver.turns
        it.driver.nudge()
        await until(lambda: it.driver.turns > before)
        it.store.gate.clear()
        it.accept()
        await until(it.store.entered.is_set)
        before = it.driver.turns
        it.driver.nudge()
        await anyio.sleep(0.02)
        assert it.driver.turns == before
        it.store.gate.set()
        await until(lambda: it.driver.turns > before)


@pytest.mark.fault("H12")
async def test_a_driver_that_waits_for_space_turns(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing = NO_SPACE
        it.accept()
        await until(lambda: it.store.refused > 0)
        before = it.driver.turns
        await until(lambda: it.driver.turns > before)


@pytest.mark.fault("H13")
async def test_a_commit_that_finds_no_thread_is_tried_again(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing = cast("Failure", RuntimeError("can't start new thread"))
        it.accept()
        await until(lambda: it.store.refused > 1)
        assert it.driver.trouble == "can't start new thread"
        it.store.failing = None
        await until(lambda: bool(it.replies))


@pytest.mark.spec("4")
async def test_all_waiting_events_share_one_commit(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        for number in range(100):
            it.accept(f"run-{number:08d}", reply=number)
        await until(lambda: len(it.replies) == 100)
        assert len(it.store.batches) == 1
        assert len(it.store.batches[0].runs) == 100
        assert [reply.reply for reply in it.replies] == list(range(100))
        seqs = [event.seq for event in it.store.batches[0].events]
        assert seqs == sorted(set(seqs))


@pytest.mark.fault("H12")
async def test_a_full_disk_holds_everything_back_and_passes(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing = NO_SPACE
        it.accept()
        await until(lambda: it.store.refused > 2)
        assert str(it.driver.trouble) == "the disk is full"
        assert not it.replies
        assert not it.performer.asked
        it.accept("run-00000002", reply=2)
        await until(lambda: "run-00000002" in it.core.runs)
        it.store.failing = None
        await until(lambda: len(it.replies) == 2 and bool(it.performer.asked))
        assert it.driver.trouble is None
        assert it.performer.names == ["Probe"]
        assert it.store.store.run("run-00000002") is not None


@pytest.mark.fault("H12")
async def test_a_cancel_gets_through_while_a_submit_waits_for_space(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing, it.store.failing_unless_urgent = NO_SPACE, True
        it.accept()
        await until(lambda: it.store.refused > 0)
        it.cancel()
        await until(lambda: len(it.replies) == 2)
        row = it.store.store.run("run-00000001")
        assert row is not None
        assert row.state == "CANCELLED"
        assert not it.performer.asked or it.performer.names == ["Probe"]


@pytest.mark.fault("H11")
async def test_any_other_failure_of_the_store_ends_the_driver_with_its_words(tmp_path: Path) -> None:
    lost = Failure(Kind.DAEMON, "the disk gave EIO", subkind="STATE")
    seen: list[Daemon] = []
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  (the daemon is a context)
        async with daemon(tmp_path) as it:
            seen.append(it)
            it.store.failing = lost
            it.accept()
            await anyio.sleep(10)
    assert caught.group_contains(Failure, match="the disk gave EIO", depth=2)
    assert not seen[0].replies
    assert not seen[0].performer.asked


class Broken(durable.System):
    """A disk that takes no file, but the store's own."""

    broken = True

    def create(self, path: Path) -> int:
        if self.broken and "artifacts" in path.parts:
            raise OSError(28, "No space left on device")
        return super().create(path)


@pytest.mark.fault("H10")
@pytest.mark.fault("H12")
async def test_files_that_could_not_be_written_are_written_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Broken()
    monkeypatch.setattr(durable, "_sys", disk)
    async with daemon(tmp_path) as it:
        it.accept()
        await until(lambda: bool(it.replies))
        assert not list((it.artifacts / "run-00000001").iterdir())
        disk.broken = False
        await until((it.artifacts / "run-00000001/run_index.json").exists)
        assert it.state_of().state == "QUEUED"
        it.cancel()
        await until(lambda: len(it.replies) == 2)
        assert it.state_of().state == "CANCELLED"


@pytest.mark.fault("H10")
async def test_files_of_a_live_run_are_made_good_at_the_next_start(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.accept()
        await until(lambda: bool(it.replies))
    place = tmp_path / "artifacts/run-00000001"
    (place / "run_state.json").unlink()
    (place / "run_index.json").write_text("{")
    async with daemon(tmp_path) as it:
        it.driver.post(ev.Started(at=3.0))
        await until((place / "run_state.json").exists)
        await until(lambda: bool(it.performer.asked))
        decode_record((place / "run_index.json").read_bytes(), RunIndex)


@pytest.mark.fault("H1")
@pytest.mark.fault("H10")
async def test_files_of_a_run_that_ended_with_the_daemon_are_made_good_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(tmp_path) as it:
        it.accept()
        it.accept("run-00000002", reply=2)
        await until(lambda: len(it.replies) == 2)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "_sys", Broken())
            it.cancel(reply=3)
            it.cancel("run-00000002", reply=4)
            await until(lambda: len(it.replies) == 4)
    assert it.state_of().state == "QUEUED"
    collected = it.artifacts / "run-00000002"
    for path in collected.iterdir():
        path.unlink()
    collected.rmdir()
    async with daemon(tmp_path) as it:
        place = it.artifacts / "run-00000001"
        await until((place / "run_summary.json").exists)
        await until(
            lambda: decode_record((place / "run_index.json").read_bytes(), RunIndex).run_summary is not None
        )
        assert it.state_of().state == "CANCELLED"
        assert decode_record((place / "run_summary.json").read_bytes(), RunSummary).exit_code == 80
        assert not collected.exists()


@pytest.mark.spec("4")
async def test_what_an_aborted_run_was_waiting_for_posts_nothing(tmp_path: Path) -> None:
    ended: list[str] = []
    gate = anyio.Event()

    async def probe(effect: fx.Outward, _post: Post) -> ev.Event:
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise
        return ev.Probed(at=1.0, run_id=effect.run_id, op=effect.op, reports=(report(),), embedded=False)

    async with daemon(tmp_path) as it:
        it.performer.script["Probe"] = probe
        it.accept()
        await until(lambda: bool(it.performer.asked))
        posted = listen(it)
        it.cancel()
        await until(lambda: bool(ended))
        gate.set()
        await until(lambda: len(it.replies) == 2)
        assert [type(event) for event in posted] == [ev.CancelAsked]
        assert it.driver._scopes == {}


async def test_an_answer_that_a_thread_brings_after_the_abort_falls_away(tmp_path: Path) -> None:
    held = threading.Event()
    inside = anyio.Event()

    async def probe(effect: fx.Outward, _post: Post) -> ev.Event:
        inside.set()
        await anyio.to_thread.run_sync(held.wait, 10)
        return ev.Probed(at=1.0, run_id=effect.run_id, op=effect.op, reports=(), embedded=False)

    async with daemon(tmp_path) as it:
        it.performer.script["Probe"] = probe
        it.accept()
        await inside.wait()
        posted = listen(it)
        it.cancel()
        await until(lambda: len(it.replies) == 2)
        held.set()
        await anyio.sleep(0.05)
        assert [type(event) for event in posted] == [ev.CancelAsked]


async def test_a_defect_at_the_edge_becomes_an_answer(tmp_path: Path) -> None:
    def broken(_effect: fx.Outward, _post: Post) -> ev.Event:
        raise ZeroDivisionError("oh")

    async with daemon(tmp_path) as it:
        it.performer.script["Probe"] = broken
        it.accept()
        await until(lambda: bool(it.replies) and not it.core.runs)
        row = it.store.store.run("run-00000001")
        assert row is not None
        run = decode_run(row.doc)
        assert (run.state, run.exit_code) == ("FAILED", 1)
        assert "Probe failed here: oh" in run.human_summary


async def test_a_timer_comes_back_as_an_event_and_none_after_its_run() -> None:
    fired: list[ev.Event] = []
    timers = Timers(fired.append)
    timers.start("run-00000009", "busy", 0.0, 1)
    timers.start("run-00000009", "busy", 0.0, 2)
    timers.start("run-00000008", "busy", 0.0, 3)
    timers.stop_run("run-00000008")
    await until(lambda: bool(fired))
    await anyio.sleep(0.01)
    assert [(e.run_id, e.op) for e in fired if isinstance(e, ev.TimerFired)] == [("run-00000009", 2)]


@pytest.mark.spec("8")
def test_a_late_file_never_touches_a_published_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = right_set()
    root = tmp_path / "artifacts"
    at = places_of(root, made.job)
    path = at.step.relative_to(root).as_posix() + "/job_state.json"
    projector = Projector(root)
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_sys", Broken())
        projector.write({path: b"RUNNING"})
    assert projector._late
    for name, data in made.files.items():
        (at.step / name).parent.mkdir(parents=True, exist_ok=True)
        (at.step / name).write_bytes(data)
    projector.write({})
    assert not projector.is_late
    assert (at.step / "job_state.json").read_bytes() == made.files["job_state.json"]


def test_an_index_is_not_written_while_what_it_names_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = m.Run(
        accepted=accepted(),
        state=cast("Any", "QUEUED"),
        seq=1,
        created_at="2026-01-02T03:04:05Z",
        updated_at="2026-01-02T03:04:05Z",
        phase=m.Waiting(reason="x"),
        steps=[m.StepRun(), m.StepRun()],
    )
    files = projections(run)
    projector = Projector(tmp_path)

    class OneBad(durable.System):
        bad = True

        def rename(self, src: Path, dst: Path) -> None:
            if self.bad and dst.name == "run_state.json":
                raise OSError(5, "EIO")
            super().rename(src, dst)

    disk = OneBad()
    monkeypatch.setattr(durable, "_sys", disk)
    projector.write(files)
    names = {path.name for path in (tmp_path / run.run_id).iterdir()}
    assert names == {"accepted.json"}
    disk.bad = False
    newer = msgspec.structs.replace(run, seq=2)
    projector.write({key: data for key, data in projections(newer).items() if "run_state" in key})
    assert b'"seq": 2' in (tmp_path / run.run_id / "run_state.json").read_bytes()
    assert (tmp_path / run.run_id / "run_index.json").exists()


@pytest.mark.fault("H2")
@pytest.mark.fault("H10")
async def test_the_files_of_a_long_queue_are_looked_over_beside_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "LOOKED_AT", 2)
    ids = [f"run-{number:08d}" for number in range(20)]
    async with daemon(tmp_path) as it:
        for number, run_id in enumerate(ids):
            it.accept(run_id, reply=number)
        await until(lambda: len(it.replies) == len(ids))
    behind = it.artifacts / ids[-1]
    (behind / "run_state.json").unlink()
    temp = durable.temp_name(behind / "run_index.json")
    temp.write_text("{")
    async with daemon(tmp_path) as it:
        it.driver.post(ev.Started(at=3.0))
        it.accept("run-00000099", reply=99)
        await until(lambda: bool(it.replies))
        await until(lambda: not it.driver._unseen and (behind / "run_state.json").exists())
        assert not temp.exists()
        assert it.state_of(ids[-1]).state == "QUEUED"


@pytest.mark.fault("H12")
async def test_followers_hear_of_a_full_disk_as_it_comes_and_as_it_goes(tmp_path: Path) -> None:
    async with daemon(tmp_path) as it:
        it.store.failing = NO_SPACE
        it.accept()
        await until(lambda: it.store.refused > 1)
        it.store.failing = None
        await until(lambda: bool(it.replies))
        beats = [event.data for event in it.news if event.type == "heartbeat"]
        assert beats == [{"trouble": "the disk is full"}, {}]


@pytest.mark.fault("H12")
async def test_files_that_cannot_be_written_are_a_trouble_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Broken()
    monkeypatch.setattr(durable, "_sys", disk)
    async with daemon(tmp_path) as it:
        it.accept()
        await until(lambda: bool(it.replies))
        assert "No space left on device" in (it.driver.trouble or "")
        disk.broken = False
        await until(lambda: it.driver.trouble is None)
        assert (it.artifacts / "run-00000001/run_index.json").exists()


class Unsynced(durable.System):
    """A disk that fails each sync of a file of a run."""

    def __init__(self) -> None:
        self.refused = 0

    def sync(self, fd: int) -> None:
        if "artifacts" in Path(f"/proc/self/fd/{fd}").readlink().parts:
            self.refused += 1
            raise OSError(5, "Input/output error")
        super().sync(fd)


@pytest.mark.fault("H11")
async def test_a_failed_sync_of_a_projection_ends_nothing_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is durable, and a start makes the file anew."""
    monkeypatch.setattr(driver_module, "SYNC_SECONDS", 0.01)
    async with daemon(tmp_path) as it:
        disk = Unsynced()
        monkeypatch.setattr(durable, "_sys", disk)
        it.accept()
        await until(lambda: disk.refused >= 2)
        await anyio.sleep(0.05)
        files = {path.name for path in (it.artifacts / "run-00000001").iterdir()}
        assert disk.refused <= 2 * (len(files) + 1)
        it.cancel()
        await until(lambda: len(it.replies) == 2)
