"""A snapshot's turn is given on where a disk dies in the middle of it, and nothing is kept of it then."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from support.trees import make

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.files.paths import HostPaths, host_paths
from rchd.edges import packing
from rchd.edges import turn as turn_module
from rchd.edges.intake import Intake
from rchd.edges.turn import AT_ONCE, MAX_STUCK, Token, Turn, beside

pytestmark = [pytest.mark.fault("C3"), pytest.mark.spec("5")]


class DeadDisk:
    """Work that answers when it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = threading.Event()
        self.kept: list[str] = []

    def __call__(self, token: Token) -> str:
        self.began.set()
        self.gate.wait(60)
        token.keep()
        self.kept.append("kept")
        return "late"


@pytest.fixture
def dead() -> Iterator[DeadDisk]:
    disk = DeadDisk()
    yield disk
    disk.gate.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "STUCK_SECONDS", 0.05)
    monkeypatch.setattr(turn_module, "LEAVE_SECONDS", 0.05)


async def well(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> str:
    """The next one has his turn, and all the time that a busy machine needs for it."""
    monkeypatch.setattr(turn_module, "STUCK_SECONDS", 3600.0)
    return await turn.run(lambda _token: "well")


async def comes_back(turn: Turn) -> None:
    """Until no thread is left behind any more."""
    with anyio.fail_after(20):
        while vars(turn)["_stuck"]:  # noqa: ASYNC110  (nothing tells of it)
            await anyio.sleep(0.01)


@pytest.mark.usefixtures("quick")
async def test_who_shows_no_life_loses_his_turn_and_keeps_nothing_when_he_comes_back(
    dead: DeadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    turn = Turn(lambda: lost.append("lost"))
    with anyio.fail_after(20):
        with pytest.raises(Failure, match=r"it did not answer for 0\.05 s") as caught:
            await turn.run(dead)
        assert (caught.value.kind, caught.value.subkind) == (Kind.BUNDLER, "UNREADABLE")
        assert await well(turn, monkeypatch) == "well"
    assert lost == ["lost"]
    dead.gate.set()
    await comes_back(turn)
    assert dead.kept == []


class Lively(Token):
    """Shows life whenever it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.seen += 3600.0


@pytest.mark.usefixtures("quick")
async def test_who_shows_life_has_all_the_time_that_he_needs(
    dead: DeadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "Token", Lively)
    turn, said = Turn(), list[str]()

    async def run() -> None:
        said.append(await turn.run(dead))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(4 * turn_module.STUCK_SECONDS)
        assert said == []
        dead.gate.set()
    assert said == ["late"]


def test_to_ask_whether_one_is_off_is_to_show_life(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 2.0, 5.0])
    monkeypatch.setattr(turn_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    token = Token()
    assert token.seen == 1.0
    assert not token.is_off()
    assert token.seen == 2.0
    token.call_off()
    assert token.is_off()
    assert token.seen == 5.0


def test_who_keeps_is_not_left_and_who_is_left_does_not_keep() -> None:
    one, other, called_off = Token(), Token(), Token()
    one.keep()
    assert not one.leave()
    assert not one.is_off()
    called_off.call_off()
    called_off.keep()
    assert not called_off.leave()
    assert other.leave()
    with pytest.raises(Failure) as caught:
        other.keep()
    assert caught.value.kind is Kind.CANCELLED


class Keeping(Token):
    """Its thread has all that it needs of the tree, and writes it down."""

    def __init__(self) -> None:
        super().__init__()
        self.keep()


@pytest.mark.usefixtures("quick")
async def test_what_is_being_kept_is_waited_for_however_long(
    dead: DeadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "Token", Keeping)

    def slow(_token: Token) -> str:
        dead.began.set()
        dead.gate.wait(60)
        return "whole"

    turn, said = Turn(), list[str]()
    async with anyio.create_task_group() as group:

        async def run() -> None:
            said.append(await turn.run(slow))

        group.start_soon(run)
        await anyio.to_thread.run_sync(dead.began.wait)
        await anyio.sleep(4 * turn_module.STUCK_SECONDS)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(4 * turn_module.LEAVE_SECONDS)
        assert said == []
        dead.gate.set()
    assert said == ["whole"]


@pytest.mark.usefixtures("quick")
async def test_a_cancel_waits_for_no_dead_disk(dead: DeadDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "STUCK_SECONDS", 3600.0)
    turn = Turn()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(turn.run, dead)
            await anyio.to_thread.run_sync(dead.began.wait)
            group.cancel_scope.cancel()
        assert await well(turn, monkeypatch) == "well"


@pytest.mark.usefixtures("quick")
async def test_few_may_be_left_behind_and_each_that_comes_back_makes_room(
    dead: DeadDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = Turn()
    for _ in range(MAX_STUCK):
        with pytest.raises(Failure, match="it did not answer"):
            await turn.run(dead)
    with pytest.raises(Failure, match=f"{MAX_STUCK} trees before it do not answer"):
        await turn.run(dead)
    dead.gate.set()
    await comes_back(turn)
    assert await well(turn, monkeypatch) == "well"


async def test_what_is_raised_in_a_thread_is_raised_where_it_is_waited_for() -> None:
    def fails(_token: Token | None = None) -> str:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await Turn().run(fails)
    with pytest.raises(KeyError):
        beside(fails)()
    assert beside(lambda: 7)() == 7


class Crowd:
    """Work that is let go together."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.order: list[str] = []
        self._begun = threading.Condition()

    def work(self, name: str) -> Callable[[Token], str]:
        def run(_token: Token) -> str:
            with self._begun:
                self.order.append(name)
                self._begun.notify_all()
            self.gate.wait(60)
            return name

        return run

    async def begun(self, count: int) -> list[str]:
        """Who has begun, once so many have."""

        def wait() -> bool:
            with self._begun:
                return self._begun.wait_for(lambda: len(self.order) >= count, 30)

        assert await anyio.to_thread.run_sync(wait)
        return sorted(self.order)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.gate.set()


async def test_a_slow_tree_holds_up_itself_alone(crowd: Crowd) -> None:
    turn = Turn()
    async with anyio.create_task_group() as group:
        for name in ("slow 1", "slow 2", "slow 3", "slow 4"):
            group.start_soon(turn.run, crowd.work(name), "slow")
        assert await crowd.begun(1) == ["slow 1"]
        with anyio.fail_after(30):
            assert await turn.run(lambda _token: "good", "good") == "good"
        assert crowd.order == ["slow 1"]
        crowd.gate.set()
    assert crowd.order == ["slow 1", "slow 2", "slow 3", "slow 4"]


async def test_few_have_a_turn_at_once_and_the_others_are_told_that_they_wait(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_module, "WAIT_SECONDS", 0.01)
    turn, told = Turn(), anyio.Event()
    names = [f"tree {number}" for number in range(AT_ONCE)]
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(turn.run, crowd.work(name), name)
        assert await crowd.begun(AT_ONCE) == names
        group.start_soon(turn.run, crowd.work("one more"), "one more", told.set)
        with anyio.fail_after(30):
            await told.wait()
        assert "one more" not in crowd.order
        crowd.gate.set()
    assert crowd.order[-1] == "one more"


async def test_who_is_cancelled_while_he_waits_keeps_no_place(crowd: Crowd) -> None:
    turn = Turn()
    async with anyio.create_task_group() as group:
        group.start_soon(turn.run, crowd.work("first"), "tree")
        await crowd.begun(1)
        with anyio.move_on_after(0):
            await turn.run(crowd.work("cancelled"), "tree")
        crowd.gate.set()
    assert await turn.run(lambda _token: "next", "tree") == "next"
    assert crowd.order == ["first"]


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


async def test_a_disk_that_dies_in_the_middle_of_a_snapshot_holds_up_nobody_else(
    tmp_path: Path, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = {"Package.swift": "// swift-tools-version: 5.9\n"}
    bad = make(tmp_path / "bad", {**manifest, "z-stuck": "x"})
    good = make(tmp_path / "good", manifest)
    os.mkfifo(tmp_path / "fifo")
    real = packing.opened

    def opened(one: Any, descent: Any) -> Any:
        if one.path == "z-stuck":
            fifo = os.open(tmp_path / "fifo", os.O_RDONLY)  # nobody writes: the open itself takes for ever
            os.read(fifo, 1)
            os.close(fifo)
        return real(one, descent)

    monkeypatch.setattr(packing, "opened", opened)
    monkeypatch.setattr(turn_module, "STUCK_SECONDS", 0.5)
    intake = Intake(paths)
    try:
        with anyio.fail_after(60):
            with pytest.raises(Failure, match="the source cannot be read") as caught:
                await intake.take(SubmitParams(start=str(bad)))
            assert caught.value.exit_code == 92
            monkeypatch.setattr(turn_module, "STUCK_SECONDS", 60.0)
            accepted = await intake.take(SubmitParams(start=str(good)))
    finally:
        writer = os.open(tmp_path / "fifo", os.O_RDWR)
        os.write(writer, b"x")
    await comes_back(vars(intake)["_turn"])
    os.close(writer)
    assert [each.name for each in paths.artifacts.iterdir()] == [accepted.run_id]
    intake.close()
