"""A held `tail` is woken by what happens, and needs no look of its own for it."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from support import jobs as some
from support.worker_pipe import Bench, ProcessPipe, a_bench, follow, submit, tail_until

from rch.contract.worker_envelope import encode_request
from rch.contract.worker_rpc import TailRequest, TailResult
from rch.files.paths import worker_paths
from worker_agent.filewatch import FileWatch, new_watch
from worker_agent.jobs import Attempt, Jobs
from worker_agent.tail import Pause, tail

pytestmark = [
    pytest.mark.spec("3.3"),
    pytest.mark.skipif(sys.platform != "linux", reason="the watch of macOS cannot be tried here"),
]


class Desk:
    """A job on disk whose owner the test is, and a reader who waits for it."""

    def __init__(self, root: Path) -> None:
        self.jobs = Jobs(worker_paths({"RCH_WORKER_HOME": str(root)}))
        self.job = some.job("build")
        self.lock = self.jobs.lock(self.job.job_id)
        assert self.lock.try_acquire()
        self.jobs.write_request(some.submit(self.job))
        self.begin(1)
        self.state("RUNNING", 2)
        self.log.write_text("first\n")
        self.heard = 0
        self.watch: Callable[[], FileWatch | None] = cache(new_watch)

    def begin(self, attempt: int) -> None:
        self.jobs.write_attempt(self.job.job_id, Attempt(number=attempt))
        self.log = self.jobs.layout(self.job.job_id, self.job.run_id, attempt).log
        self.log.parent.mkdir(parents=True)

    def state(self, name: str, seq: int) -> None:
        self.jobs.write_state(some.state(self.job, state=name, seq=seq))

    def write(self) -> None:
        with self.log.open("a") as file:
            file.write("second\n")

    def tell(self) -> None:
        line = '{"n":1,"at":"2026-01-01T00:00:00.000Z","type":"note","data":{}}\n'
        self.log.with_name("events.jsonl").write_text(line)

    def held(self, act: Callable[[], None]) -> TailResult:
        """What a reader hears who waits while `act` is done, once."""
        left = [act]

        def pause(_seconds: float, wake: int = -1, /) -> bool:
            assert wake >= 0, "it is waited for something"
            if left:
                left.pop()()
                assert select.select([wake], [], [], 10)[0], "nothing was heard of it"
                self.heard += 1
            return False

        cursor = self.ask(None, pause).next_cursor
        return self.ask(cursor, pause, wait_seconds=30.0)

    def ask(self, cursor: str | None, pause: Pause, wait_seconds: float = 0.0) -> TailResult:
        asked = TailRequest(job_id=self.job.job_id, cursor=cursor, wait_seconds=wait_seconds)
        return tail(self.jobs, asked, pause, self.watch)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_line_wakes_it(desk: Desk) -> None:
    assert desk.held(desk.write).log_chunk == "second\n"
    assert desk.heard == 1


def test_an_event_wakes_it(desk: Desk) -> None:
    assert [each.n for each in desk.held(desk.tell).events] == [1]


def test_a_new_state_wakes_it(desk: Desk) -> None:
    assert desk.held(lambda: desk.state("CANCEL_REQUESTED", 3)).state == "CANCEL_REQUESTED"


def test_a_new_execution_wakes_it_and_is_followed(desk: Desk) -> None:
    assert desk.held(lambda: desk.begin(2)).reset is True
    assert desk.held(desk.write).log_chunk == "second\n"


def test_a_second_job_is_heard_by_the_same_watch(desk: Desk, tmp_path: Path) -> None:
    other = Desk(tmp_path / "other")
    other.watch = desk.watch
    for each in (desk, other, desk):
        assert each.held(each.write).log_chunk.endswith("second\n")


def test_without_a_watch_it_looks_for_itself(desk: Desk) -> None:
    desk.watch = lambda: None
    cursor = desk.ask(None, lambda _seconds, _wake=-1: False).next_cursor

    def pause(seconds: float, wake: int = -1, /) -> bool:
        assert (seconds < 0.02, wake) == (True, -1)
        desk.write()
        return False

    assert desk.ask(cursor, pause, wait_seconds=30.0).log_chunk == "second\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


@pytest.mark.fault("S5")
def test_a_channel_that_holds_a_tail_ends_when_its_caller_is_gone(bench: Bench) -> None:
    with bench.pipe() as control:
        job = bench.script(control, "echo up; exec sleep 60\n")
        submit(control, job)
        cursor = tail_until(control, job.job_id, "up")
        holding = ProcessPipe(bench.env)
        asked = TailRequest(job_id=job.job_id, cursor=cursor, wait_seconds=50.0)
        holding.send(encode_request("tail", "request-held", asked, 1))
        holding.stdout.close()
        holding.process.wait(10)
        holding.stdin.close()
        holding.stderr.close()
        control.ask("cancel", job_id=job.job_id, reason="USER")
        assert follow(control, job.job_id)[2] == "CANCELLED"
