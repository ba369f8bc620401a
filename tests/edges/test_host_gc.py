"""The daemon removes old runs by itself when it is quiet, and only then."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from rch.config.daemon_config import DaemonConfig, Gc
from rch.contract.errors import Failure, Kind
from rchd import api_hostgc
from rchd.api_hostgc import HostGcApi
from rchd.core.retention import Kept
from rchd.driver import Driver
from rchd.edges.housekeeping import Housekeeper

pytestmark = pytest.mark.spec("11")


class Keeper:
    """Two old runs of one project; removals are noted."""

    def __init__(self) -> None:
        self.projects: dict[str, str] = {}
        self.gone: list[str] = []
        self.refuses = ""

    def look(self, is_live: Callable[[str], bool]) -> list[Kept]:
        runs = [Kept(run_id=name, root="/a", ended=0.0, bytes=5) for name in ("new", "old")]
        return [run for run in runs if run.run_id not in self.gone and not is_live(run.run_id)]

    def remove(self, run_id: str) -> None:
        if self.refuses:
            raise Failure(Kind.DAEMON, self.refuses)
        self.gone.append(run_id)


class Bench:
    """The api with its neighbours."""

    def __init__(self, *, automatic: bool = True) -> None:
        self.keeper = Keeper()
        self.driver = SimpleNamespace(
            core=SimpleNamespace(runs={}), trouble=None, turns=1, in_hand=frozenset()
        )
        self.collected: list[tuple[int, int]] = []
        self.looks = 0
        settings = DaemonConfig(gc=Gc(automatic=automatic, keep_runs=1))

        def read() -> DaemonConfig:
            self.looks += 1
            return settings

        self.api = HostGcApi(
            cast("Housekeeper", self.keeper),
            cast("Driver", self.driver),
            read,
            lambda runs, count: self.collected.append((runs, count)),
        )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_SECONDS", "AGAIN_SECONDS", "BUSY_SECONDS", "STARTING_SECONDS"):
        monkeypatch.setattr(api_hostgc, name, 0.001)


async def until(what: Callable[[], Any]) -> None:
    with anyio.fail_after(10):
        while not what():  # noqa: ASYNC110  (what is looked at has no event)
            await anyio.sleep(0.001)


async def test_a_quiet_daemon_collects_again_and_again() -> None:
    bench = Bench()
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: len(bench.collected) > 2)
        group.cancel_scope.cancel()
    assert bench.keeper.gone == ["old"]
    assert bench.collected[:2] == [(1, 5), (0, 0)]


async def test_a_busy_one_waits_unless_nothing_can_be_written() -> None:
    bench = Bench()
    bench.driver.core.runs["live"] = object()
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await anyio.sleep(0.02)
        assert bench.collected == []
        bench.driver.trouble = "the disk is full"
        await until(lambda: bench.collected)
        group.cancel_scope.cancel()


async def test_a_long_busy_one_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_hostgc, "LONGEST_BUSY_SECONDS", 0.01)
    bench = Bench()
    bench.driver.core.runs["live"] = object()
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: bench.collected)
        group.cancel_scope.cancel()


async def test_where_it_is_forbidden_nothing_goes_by_itself() -> None:
    bench = Bench(automatic=False)
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: bench.looks > 3)
        group.cancel_scope.cancel()
    assert bench.keeper.gone == []


async def test_what_fails_is_told_and_tried_again() -> None:
    bench = Bench()
    bench.keeper.refuses = "no space"
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: bench.collected)
        assert bench.collected[0] == (0, 0)
        bench.keeper.refuses = ""
        await until(lambda: bench.keeper.gone)
        group.cancel_scope.cancel()


async def test_a_run_in_hand_is_none_that_is_over() -> None:
    bench = Bench()
    bench.driver.in_hand = frozenset({"old"})
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: bench.collected)
        group.cancel_scope.cancel()
    assert bench.keeper.gone == []


async def test_nothing_goes_before_the_driver_has_made_good_what_it_owed() -> None:
    bench = Bench()
    bench.driver.turns = 0
    async with anyio.create_task_group() as group:
        group.start_soon(bench.api.tend)
        await until(lambda: bench.looks)
        await anyio.sleep(0.02)
        assert bench.collected == []
        bench.driver.turns = 1
        await until(lambda: bench.collected)
        group.cancel_scope.cancel()
