"""What the edge tells the core of its workers: whom it asked, whom it left out, whose clock is wrong."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs
from support import fake_worker
from support.playbook import Playbook

from rch.config.inventory import Inventory, WorkerEntry, load_inventory
from rch.contract import local_api as api
from rch.contract.ids import parse_timestamp
from rchd.api_workers import WorkersApi
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.edges import prober as edge
from rchd.edges.drained import Drained
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import MOST_LOOKS, Prober, mark_of
from rchd.edges.timers import Timers, slept_seconds

GARBAGE = ("/bin/sh", "-c", "read line; echo this is no answer")


def local(name: str, *command: str, **changes: Any) -> WorkerEntry:
    argv = command or fake_worker.command("honest")
    return WorkerEntry(**{"name": name, "transport": "local", "command": argv, **changes})


def probe(**changes: Any) -> fx.Probe:
    return fx.Probe(**{"run_id": "run-1", "op": 1, "max_age": 300, "tags": (), "deadline": 60.0, **changes})


@asynccontextmanager
async def prober(*entries: WorkerEntry) -> AsyncIterator[Prober]:
    pool = WorkerPool(entries)
    try:
        yield Prober(pool, lambda: Inventory(workers=entries))
    finally:
        await pool.close()


@pytest.mark.spec("4")
async def test_one_worker_alone_is_asked_where_one_is_named() -> None:
    async with prober(local("a"), local("b", *GARBAGE)) as it:
        told = await it.probed(probe(worker="a"))
        assert [each.worker for each in told.reports] == ["a"]
        assert told.reports[0].result is not None
        assert not told.whole
        assert (await it.probed(probe(worker="none"))).reports == ()


@pytest.mark.spec("9")
async def test_who_stands_by_for_simulations_is_asked_for_those_alone(tmp_path: Path) -> None:
    inventory = load_inventory(tmp_path / "workers.toml")
    env = {**os.environ, "RCH_WORKER_HOME": str(tmp_path / "real")}
    pool = WorkerPool(inventory.everyone, local_env=env, standby_home=tmp_path / "simulated")
    it = Prober(pool, lambda: inventory)
    try:
        real = await it.probed(probe())
        assert [each.worker for each in real.reports] == ["local", "local-simulated"]
        assert [each.standby for each in real.reports] == [False, True]
        assert real.reports[1].result is None
        assert not (tmp_path / "simulated").exists()
        simulated = await it.probed(probe(simulate=True))
        told = [each.result.capabilities for each in simulated.reports if each.result]
        assert [each.simulated for each in told] == [False, True]
        # Each signs with a key of its own, kept in a home of its own.
        assert len({each.attestation_pubkey_fingerprint for each in told}) == 2
        assert (tmp_path / "simulated" / "state" / "attestation.key").exists()
    finally:
        await pool.close()


SILENT = ("/bin/sh", "-c", "sleep 60")


async def until_one_serves(it: Prober) -> ev.Probed:
    """Probe with more and more time until the first of them has answered, however slow this machine is."""
    seconds = 0.5
    while True:
        told = await it.probed(probe(deadline=seconds, max_age=0))
        if told.reports[0].error_subkind is None:
            return told
        seconds *= 2


@pytest.mark.spec("7")
async def test_who_did_not_answer_is_not_waited_for_by_the_next_run_while_another_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with prober(local("a"), local("asleep", *SILENT)) as it:
        first = await until_one_serves(it)
        assert [each.error_subkind for each in first.reports] == [None, "UNREACHABLE"]
        with anyio.fail_after(30):  # its deadline of a minute is not waited for
            again = await it.probed(probe(deadline=60.0))
            assert again.reports[1] == first.reports[1]
            monkeypatch.setattr(edge, "SILENT_SECONDS", 0.0)
            monkeypatch.setattr(edge, "SHORT_SECONDS", 0.2)
            later = await it.probed(probe(deadline=60.0))
        assert "within 0.2 s" in str(later.reports[1].error)


@pytest.mark.spec("7")
async def test_who_did_not_answer_has_its_whole_time_where_nobody_else_serves() -> None:
    async with prober(local("asleep", *SILENT)) as it:
        await it.probed(probe(deadline=0.2))
        assert "within 0.5 s" in str((await it.probed(probe(deadline=0.5))).reports[0].error)
    async with prober(local("a"), local("asleep", *SILENT)) as it:
        await until_one_serves(it)
        asked_anew = await it.probed(probe(deadline=0.5, max_age=0))
        assert "within 0.5 s" in str(asked_anew.reports[1].error)


@pytest.mark.fault("S8")
async def test_who_is_set_aside_is_not_asked_while_its_entry_is_the_same() -> None:
    entry = local("a")
    async with prober(entry, local("b")) as it:
        told = await it.probed(probe(aside={"a": mark_of(entry)}))
        assert told.whole
        assert [each.result is None for each in told.reports] == [True, False]
        assert [each.error for each in told.reports] == [None, None]
        told = await it.probed(probe(aside={"a": mark_of(local("a", priority=7))}))
        assert told.reports[0].result is not None


@pytest.mark.fault("W7")
async def test_an_answer_that_breaks_the_protocol_is_told_from_one_that_does_not_come() -> None:
    async with prober(local("bad", *GARBAGE), local("none", "/nowhere/at/all")) as it:
        bad, none = (await it.probed(probe())).reports
        assert (bad.broken, bad.error_kind, bad.error_subkind) == (True, "EXECUTOR", "PROTOCOL_ERROR")
        assert not none.broken
        assert none.error is not None


@pytest.mark.fault("H14")
async def test_a_clock_that_is_wrong_is_told_with_the_report_and_with_its_snapshot() -> None:
    async with prober(local("a")) as it:
        with capture_logs() as logs:
            (fresh,) = (await it.probed(probe())).reports
        skew = parse_timestamp("2026-01-01T00:00:00.000Z") - time.time()
        assert fresh.skew_seconds is not None
        assert abs(fresh.skew_seconds - skew) < 60
        assert [each["event"] for each in logs if each["log_level"] == "warning"] == ["worker.clock_skew"]
        (cached,) = (await it.probed(probe())).reports
        assert (cached.fresh, cached.skew_seconds) == (False, fresh.skew_seconds)


# --- the socket's methods -------------------------------------------------------------------


class Daemon:
    """The driver as far as the methods know it."""

    def __init__(self) -> None:
        self.play = Playbook()
        self.core = self.play.core

    def post(self, event: ev.Event) -> None:
        self.core.handle(event)


@pytest.mark.fault("W7")
async def test_the_views_say_why_a_worker_is_set_aside_and_until_when(tmp_path: Path) -> None:
    path = tmp_path / "workers.toml"
    bad = local("bad", *GARBAGE)

    def write(command: tuple[str, ...]) -> None:
        path.write_text(f'[[worker]]\nname = "bad"\ntransport = "local"\ncommand = {list(command)!r}\n')

    write(GARBAGE)
    daemon: Any = Daemon()
    connection: Any = None
    async with prober(bad) as it:
        workers = WorkersApi(path, it, daemon, Drained(tmp_path / "drained.json"))
        (view,) = (await workers.listed(api.NoParams(), connection)).workers
        assert (view.aside, view.aside_until) == (None, None)
        for _ in range(3):
            (view,) = (await workers.probed(api.WorkerParams(), connection)).workers
            assert view.status == "failed"
        (view,) = (await workers.listed(api.NoParams(), connection)).workers
        assert view.aside is not None
        assert 0 < parse_timestamp(view.aside_until or "") - time.time() <= 61
        assert view.detail == f"set aside until {view.aside_until}: {view.aside}"
        (view,) = (await workers.probed(api.WorkerParams(), connection)).workers
        assert view.aside is not None
        write(fake_worker.command("honest"))
        (view,) = (await workers.probed(api.WorkerParams(name="bad"), connection)).workers
        assert (view.status, view.aside) == ("ok", None)
        (view,) = (await workers.listed(api.NoParams(), connection)).workers
        assert view.aside is None
        assert msgspec.json.encode(view)


# --- a machine that sleeps ------------------------------------------------------------------


@pytest.mark.fault("H14")
async def test_the_first_timer_after_a_sleep_tells_of_it_once() -> None:
    fired: list[ev.TimerFired] = []
    news = anyio.Event()
    asleep = 1_000.0

    def post(event: ev.Event) -> None:
        assert isinstance(event, ev.TimerFired)
        fired.append(event)
        news.set()

    timers = Timers(post, lambda: asleep)
    for more, told in ((0.0, 0), (20.0, 0), (15.0, 35), (0.0, 0), (600.4, 600)):
        asleep += more
        news = anyio.Event()
        timers.start("run-a", "renew", 0.0, 1)
        with anyio.fail_after(60):
            await news.wait()
        assert fired[-1].slept == told


def test_this_machine_knows_how_long_it_slept() -> None:
    once = slept_seconds()
    assert once >= -1.0
    assert abs(slept_seconds() - once) < 30


class Slow:
    """A prober whose probes answer when they are let go; `begun` are those that were started."""

    def __init__(self, it: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.heard: list[ev.ProbeReport] = []
        self.at_once = 0
        self.gate = anyio.Event()
        self._it = it
        self._real = it.probe_worker
        monkeypatch.setattr(it, "probe_worker", self._probe)

    async def _probe(self, entry: WorkerEntry, max_age: float, seconds: float) -> ev.ProbeReport:
        self.begun.append(entry.name)
        await self.gate.wait()
        return await self._real(entry, max_age, seconds)

    async def look(self, *entries: WorkerEntry) -> list[ev.ProbeReport]:
        """What comes of one call for each entry, all at once; `at_once` probes were begun then."""
        told: list[ev.ProbeReport] = []
        inventory = Inventory(workers=tuple({entry.name: entry for entry in entries}.values()))

        async def one(entry: WorkerEntry) -> None:
            told.append(await self._it.look(inventory, entry, 30.0, self.heard.append))

        async with anyio.create_task_group() as group:
            for entry in entries:
                group.start_soon(one, entry)
            await anyio.wait_all_tasks_blocked()
            self.at_once = len(self.begun)
            self.gate.set()
        return told


@pytest.mark.fault("C3")
async def test_who_comes_while_a_worker_is_asked_has_that_answer_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = local("a")
    async with prober(entry) as it:
        slow = Slow(it, monkeypatch)
        told = await slow.look(*[entry] * 60)
        assert slow.begun == ["a"]
        assert len(told) == 60
        assert all(each.result is not None for each in told)
        assert len(slow.heard) == 1
        await slow.look(entry)  # what was answered is over: the next one asks anew
        assert slow.begun == ["a", "a"]


async def test_few_workers_are_asked_at_once_however_many_clients_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [local(f"w{number}", *GARBAGE) for number in range(MOST_LOOKS + 1)]
    async with prober(*entries) as it:
        slow = Slow(it, monkeypatch)
        assert len(await slow.look(*entries)) == MOST_LOOKS + 1
        assert slow.at_once == MOST_LOOKS
