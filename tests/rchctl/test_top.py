"""`rchctl top`: the screen against a feed that the test speaks for, and against a real daemon."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, run_view, step_view
from support.lab import lab
from textual.widgets import DataTable, Log, Static

from rchctl.console import Console
from rchctl.context import Context
from rchctl.tui.app import Question, Top
from rchctl.tui.feed import DaemonFeed, Screen
from rchctl.tui.model import Model
from rchctl.tui.tail import Tail

OTHER = "0198c2f0-8b22-7c3e-9b52-3f6f5d1e0a02"
HOSTILE = "a\x1b]0;owned\x07[bold]b[/bold]\u202ec"


class FakeFeed:
    """Tells what the test says, and notes what is cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.stopped = False

    def start(self, screen: Screen) -> None:
        self.screen = screen

    def cancel(self, run_id: str) -> str:
        self.cancelled.append(run_id)
        return f"run {run_id}: cancelling"

    def stop(self) -> None:
        self.stopped = True


def cells(app: Top, table: str) -> list[list[str]]:
    found = app.query_one(f"#{table}", DataTable)
    return [[cell.plain for cell in found.get_row_at(row)] for row in range(found.row_count)]


def asks(app: Top) -> bool:
    return isinstance(app.screen, Question)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110  (nothing tells of it)
            await asyncio.sleep(0.02)


def running(**changes: Any) -> dict[str, Any]:
    steps = [step_view(0, "build", "RUNNING", **changes.pop("step", {}))]
    return run_view(**{"state": "RUNNING", "phase": "following", "steps": steps, "seq": 2, **changes})


async def test_runs_and_workers_stand_in_rows_and_change_in_their_place() -> None:
    feed = FakeFeed()
    async with Top(feed).run_test(size=(140, 40)) as pilot:
        app = pilot.app
        assert isinstance(app, Top)
        waits = run_view(OTHER, waiting="behind 1 in the queue, first x")
        feed.screen.take_snapshot([waits, running(worker="mini")])
        capacity = {"slots_total": 4, "slots_free": 3}
        worker = {"name": "mini", "status": "ok", "probe": {"capabilities": {"capacity": capacity}}}
        feed.screen.take_workers([worker])
        feed.screen.take_daemon("rchd 0.1.0")
        app.show()
        assert [row[:3] for row in cells(app, "runs")] == [
            [RUN_ID[:13], "RUNNING", "build"],
            [OTHER[:13], "QUEUED", "waiting"],
        ]
        assert cells(app, "runs")[1][6] == "behind 1 in the queue, first x"
        assert cells(app, "workers") == [["mini", "ok", "3 of 4 free", "1", ""]]
        assert str(app.query_one("#head", Static).content) == "rchd 0.1.0    1 running, 1 queued"
        told = {"stage": "fetch", "done": 5, "total": 10, "unit": "bytes"}
        feed.screen.take_event({"type": "stage", "run_id": RUN_ID, "data": told})
        app.show()
        assert cells(app, "runs")[0][2:4] == ["fetch", "50%"]
        done = running(state="SUCCEEDED", seq=3, duration_ms=1500)
        feed.screen.take_event({"type": "run", "run_id": RUN_ID, "run": done})
        app.show()
        assert [row[1] for row in cells(app, "runs")] == ["QUEUED", "SUCCEEDED"]
        assert app.chosen == RUN_ID, "the cursor stays on its run"
    assert feed.stopped


async def test_a_run_is_cancelled_after_a_yes_alone() -> None:
    feed = FakeFeed()
    async with Top(feed).run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Top)
        feed.screen.take_snapshot([running(), run_view(OTHER, state="FAILED", exit_code=50)])
        app.show()
        await pilot.press("c", "n")
        assert feed.cancelled == []
        await pilot.press("c")
        assert asks(app)
        await pilot.press("y")
        await until(lambda: feed.cancelled == [RUN_ID])
        await pilot.press("down", "c")
        assert not asks(app), "what is over is not asked about"
        await pilot.press("question_mark")
        assert len(app.screen_stack) == 2
        await pilot.press("x", "q")
    assert feed.cancelled == [RUN_ID]


async def test_the_log_of_the_chosen_run_grows_and_steers_nothing(tmp_path: Path) -> None:
    log = tmp_path / "live.log"
    log.write_bytes(f"one {HOSTILE}\n".encode())
    feed = FakeFeed()
    async with Top(feed).run_test() as pilot:
        app = pilot.app
        assert isinstance(app, Top)
        feed.screen.take_snapshot([running(step={"log_path": str(log)}, project=HOSTILE, worker=HOSTILE)])
        app.show()
        shown = app.query_one("#log", Log)
        assert list(shown.lines)[:1] == ["one a[bold]b[/bold]c"]
        with log.open("ab") as file:
            file.write(b"[1/3] Compiling App Main.swift\n")
        app.show()
        assert list(shown.lines)[1] == "[1/3] Compiling App Main.swift"
        assert cells(app, "runs")[0][4:6] == ["a[bold]b[/bold]c"] * 2


def test_an_older_view_and_very_many_runs_do_no_harm() -> None:
    model = Model()
    model.snapshot([running(seq=5)])
    model.take({"type": "run", "run_id": RUN_ID, "run": run_view(state="FAILED", seq=4)})
    assert model.runs[RUN_ID]["state"] == "RUNNING"
    for number in range(300):
        view = run_view(f"0198c2f0-0000-7000-8000-{number:012d}", state="SUCCEEDED")
        model.take({"type": "run", "run_id": view["run_id"], "run": view})
    assert len(model.runs) == 200
    assert RUN_ID in model.runs
    model.take({"type": "log", "run_id": "unknown", "data": {}})
    model.take({"type": "job", "run_id": None})


def test_a_log_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", Tail()
    assert tail.turn_to(str(log))
    assert tail.read() == ""
    log.write_text("first attempt\n")
    assert tail.read() == "first attempt\n"
    log.write_text("second\n")
    assert tail.read() == "second\n"
    assert not tail.turn_to(str(log))


@pytest.mark.spec("12")
async def test_against_a_real_daemon(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        args = argparse.Namespace(json=False, no_autostart=False)
        null = os.open(os.devnull, os.O_WRONLY)
        context = Context("top", args, Console({}, null, null), user.env)
        context.connect().close()
        feed = DaemonFeed(context)
        async with Top(feed).run_test(size=(140, 40)) as pilot:
            app = pilot.app
            assert isinstance(app, Top)
            await until(lambda: str(app.query_one("#head", Static).content).startswith("rchd "))
            submit = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rchctl", "submit", cwd=project, env=user.env, stdout=subprocess.PIPE
            )
            run_id = (await submit.communicate())[0].decode().strip()
            await until(lambda: [row[1] for row in cells(app, "runs")] == ["SUCCEEDED"])
            assert app.chosen == run_id
            await until(
                lambda: any("AppTests.testOne" in line for line in app.query_one("#log", Log).lines)
            )
            await until(lambda: cells(app, "workers")[0][2].endswith("free"))
        os.close(null)


class NoScreen:
    """Notes how it is with the daemon."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.seen = threading.Event()

    def take_snapshot(self, runs: list[dict[str, Any]]) -> None:
        pass

    def take_workers(self, workers: list[dict[str, Any]]) -> None:
        pass

    def take_event(self, event: dict[str, Any]) -> None:
        pass

    def take_daemon(self, words: str) -> None:
        self.told.append(words)
        self.seen.set()


@pytest.mark.spec("4")
def test_an_open_screen_does_not_start_a_daemon_that_was_stopped(cli: Cli) -> None:
    started = cli.home / "started"
    cli.env["RCH_RCHD"] = shlex.join([sys.executable, "-c", f"open({str(started)!r}, 'w')"])
    args = argparse.Namespace(json=False, no_autostart=False)
    null = os.open(os.devnull, os.O_WRONLY)
    feed = DaemonFeed(Context("top", args, Console({}, null, null), cli.environment))
    screen = NoScreen()
    feed.start(screen)
    assert screen.seen.wait(60)
    assert feed.cancel(RUN_ID).startswith("not cancelled: ")
    feed.stop()
    os.close(null)
    assert screen.told[0].startswith("no daemon: ")
    assert not started.exists()


def test_free_slots_do_not_contradict_the_runs_that_are_shown() -> None:
    model = Model()
    model.snapshot([running(worker="mini")])
    capacity = {"slots_total": 2, "slots_free": 2}
    model.workers([{"name": "mini", "status": "ok", "probe": {"capabilities": {"capacity": capacity}}}])
    assert model.worker_rows()[0].cells[2:4] == ("1 of 2 free", "1")


def test_without_its_package_one_line_says_what_to_type(cli: Cli) -> None:
    blocked = (
        "import sys; sys.modules['textual'] = None;"
        " from rchctl.__main__ import main; sys.exit(main(['top']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", blocked], env=cli.environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "[tui]'" in result.stderr


def test_no_screen_without_a_terminal(cli: Cli) -> None:
    result = cli("top", "--no-autostart", PYTHONPATH="")
    assert (result.returncode, "type 'rchctl list'" in result.stderr) == (2, True)
