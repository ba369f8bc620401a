"""`tail`: nothing lost, nothing twice, whole characters alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support import jobs as some
from support.worker_pipe import Bench, Refused, a_bench, follow, submit, tail_until

from rch.contract.worker_rpc import RpcError, TailRequest, TailResult
from rch.files.locks import FileLock
from rch.files.paths import worker_paths
from worker_agent.buildfiles import BuildLog, EventFile, Redactor
from worker_agent.jobs import Attempt, Jobs
from worker_agent.tail import tail

TEXT = "zażółć gęślą jaźń ≠ 🦊🦊🦊\n" * 40


class Desk:
    """A job on disk that the test writes itself; `lock` is its owner."""

    def __init__(self, root: Path) -> None:
        self.jobs = Jobs(worker_paths({"RCH_WORKER_HOME": str(root)}))
        self.job = some.job("build")
        self.lock: FileLock = self.jobs.lock(self.job.job_id)
        assert self.lock.try_acquire()
        self.jobs.write_request(some.submit(self.job))
        self.begin(1)
        self.state("RUNNING", 2)

    def begin(self, attempt: int) -> None:
        self.jobs.write_attempt(self.job.job_id, Attempt(number=attempt))
        layout = self.jobs.layout(self.job.job_id, self.job.run_id, attempt)
        layout.artifacts.mkdir(parents=True)
        self.log = layout.log
        self.events = EventFile(layout.events, lambda: some.NOW)

    def state(self, name: str, seq: int) -> None:
        self.jobs.write_state(some.state(self.job, state=name, seq=seq))

    def end(self) -> None:
        self.state("SUCCEEDED", 3)
        self.lock.release()

    def tail(self, cursor: str | None = None, pause: object = None, **more: object) -> TailResult:
        request = msgspec.convert({"job_id": self.job.job_id, "cursor": cursor, **more}, TailRequest)
        return tail(self.jobs, request, pause or _sleep)  # type: ignore[arg-type]


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.spec("3.3")
@pytest.mark.fault("S5")
@pytest.mark.parametrize("most", [1, 4, 5, 7, 64, 4096])
def test_a_log_comes_whole_in_pieces_of_any_size(desk: Desk, most: int) -> None:
    desk.log.write_text(TEXT, encoding="utf-8")
    desk.end()
    pieces, cursor = [], None
    while True:
        news = desk.tail(cursor, max_bytes=most)
        pieces.append(news.log_chunk)
        cursor = news.next_cursor
        if cursor is None:
            break
        assert len(news.log_chunk.encode()) <= max(most, 4)
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.spec("3.3")
def test_half_a_character_waits_for_its_other_half(desk: Desk) -> None:
    desk.log.write_bytes(b"a\xf0\x9f")
    first = desk.tail()
    assert first.log_chunk == "a"
    assert desk.tail(first.next_cursor).log_chunk == ""
    with desk.log.open("ab") as file:
        file.write("🦊".encode()[2:] + b"b")
    assert desk.tail(first.next_cursor).log_chunk == "🦊b"


@pytest.mark.spec("3.3")
def test_a_log_that_ends_in_half_a_character_still_ends(desk: Desk) -> None:
    desk.log.write_bytes(b"a\xf0\x9f")
    desk.end()
    first = desk.tail()
    assert (first.log_chunk, first.next_cursor is None) == ("a", False)
    assert (desk.tail(first.next_cursor).log_chunk, desk.tail(first.next_cursor).next_cursor) == (
        "\ufffd",
        None,
    )


@pytest.mark.spec("3.3")
def test_the_cursor_is_null_only_when_the_job_is_at_its_end_and_all_is_read(desk: Desk) -> None:
    desk.log.write_text("all")
    running = desk.tail()
    assert (running.log_chunk, running.state) == ("all", "RUNNING")
    assert running.next_cursor is not None
    desk.end()
    last = desk.tail(running.next_cursor)
    assert (last.log_chunk, last.next_cursor, last.state, last.seq) == ("", None, "SUCCEEDED", 3)


@pytest.mark.spec("3.3")
def test_an_answer_is_held_until_there_is_news_or_the_time_is_up(desk: Desk) -> None:
    desk.log.write_text("first")
    cursor = desk.tail().next_cursor
    began = time.monotonic()
    assert desk.tail(cursor, wait_seconds=0.15).log_chunk == ""
    assert time.monotonic() - began >= 0.15
    looks = iter(range(100))

    def write_at_the_third_look(seconds: float) -> bool:
        if next(looks) == 2:
            with desk.log.open("a") as file:
                file.write("second")
        return _sleep(seconds)

    assert desk.tail(cursor, write_at_the_third_look, wait_seconds=30).log_chunk == "second"
    assert next(looks) <= 5


@pytest.mark.spec("3.3")
def test_a_change_of_state_is_news(desk: Desk) -> None:
    def cancel(seconds: float) -> bool:
        desk.state("CANCEL_REQUESTED", 3)
        return _sleep(seconds)

    news = desk.tail(None, cancel, wait_seconds=30)
    assert (news.state, news.seq) == ("CANCEL_REQUESTED", 3)
    assert news.next_cursor is not None


@pytest.mark.spec("3.3")
def test_a_held_answer_ends_when_nobody_waits_for_it(desk: Desk) -> None:
    began = time.monotonic()
    desk.tail(None, lambda _: True, wait_seconds=30)
    assert time.monotonic() - began < 20


@pytest.mark.spec("3.3")
@pytest.mark.fault("S5")
def test_a_log_that_is_another_one_is_read_from_its_beginning(desk: Desk) -> None:
    desk.log.write_text("the first execution")
    cursor = desk.tail().next_cursor
    desk.begin(2)
    desk.log.write_text("the second")
    news = desk.tail(cursor)
    assert (news.log_chunk, news.reset) == ("the second", True)
    again = desk.tail(news.next_cursor)
    assert (again.log_chunk, again.reset) == ("", msgspec.UNSET)


@pytest.mark.spec("3.3")
def test_events_come_in_order_and_only_once(desk: Desk) -> None:
    for number in range(5):
        desk.events.write("note", {"number": number})
    first = desk.tail(max_events=2)
    second = desk.tail(first.next_cursor)
    assert [event.data["number"] for event in (*first.events, *second.events)] == [0, 1, 2, 3, 4]
    assert [event.n for event in (*first.events, *second.events)] == [1, 2, 3, 4, 5]
    with (desk.log.parent / "events.jsonl").open("ab") as file:
        file.write(b'{"n":6,"at":"now","type":"note","da')
    assert desk.tail(second.next_cursor).events == ()
    (desk.log.parent / "events.jsonl").unlink()  # the profile "minimal" does not keep it
    desk.end()
    assert desk.tail(second.next_cursor).next_cursor is None


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    "bad",
    [
        {"cursor": "nonsense"},
        {"cursor": "1:2"},
        {"cursor": "1:-2:0"},
        {"cursor": "1:99999999999999999999:0"},
        {"max_bytes": 0},
        {"max_events": -1},
        {"wait_seconds": -1},
        {"wait_seconds": float("nan")},
    ],
)
def test_a_question_out_of_bounds_is_refused(desk: Desk, bad: dict[str, object]) -> None:
    with pytest.raises(RpcError, match="INVALID_REQUEST"):
        desk.tail(**bad)  # type: ignore[arg-type]


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_a_job_whose_owner_is_gone_is_told_as_lost_also_while_it_is_followed(desk: Desk) -> None:
    def die(seconds: float) -> bool:
        desk.lock.release()
        return _sleep(seconds)

    with pytest.raises(RpcError) as refused:
        desk.tail(None, die, wait_seconds=30)
    assert refused.value.code == "JOB_NOT_FOUND"
    assert refused.value.data == {"lost": True, "state": "RUNNING", "seq": 2, "attempts": 1}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


@pytest.mark.spec("3.3")
@pytest.mark.fault("S5")
def test_a_reader_that_is_cut_off_goes_on_at_its_cursor(bench: Bench) -> None:
    script = f"echo zażółć; while [ ! -e {bench.root}/go ]; do sleep 0.01; done; echo jaźń\n"
    with bench.process() as pipe:
        job = bench.script(pipe, script)
        submit(pipe, job)
        cursor = tail_until(pipe, job.job_id, "zażółć")
        pipe.kill()
    (bench.root / "go").touch()
    with bench.pipe() as pipe:
        assert follow(pipe, job.job_id, cursor)[::2] == ("jaźń\n", "SUCCEEDED")
        assert follow(pipe, job.job_id)[0] == "zażółć\njaźń\n"
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("tail", job_id="job-of-nobody")


# --- what is written ------------------------------------------------------------------


@pytest.mark.parametrize("bound", [300, 1000, 1001, 1002, 1003])
def test_a_bounded_log_is_text_at_every_moment(tmp_path: Path, bound: int) -> None:
    path = tmp_path / "build.log"
    log, given = BuildLog(path, bound), b""
    for start in range(0, len(TEXT.encode()), 37):
        given += log.write(TEXT.encode()[start : start + 37])
        path.read_text(encoding="utf-8")
    log.write(b"", final=True)
    log.close()
    text = path.read_text(encoding="utf-8")
    assert given.decode() == TEXT
    assert len(text.encode()) <= bound
    head, _, rest = text.partition("\n[rch-worker: ")
    assert TEXT.startswith(head)
    assert TEXT.endswith(rest.partition("]\n")[2])
    cut = int(rest.split()[0])
    assert len(head.encode()) + cut + len(rest.partition("]\n")[2].encode()) == len(TEXT.encode())


def test_a_log_of_exactly_what_fits_is_not_cut(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "build.log", 1128)
    for _ in range(10):
        log.write(b"x" * 100)
    log.close()
    assert not log.truncated
    assert (tmp_path / "build.log").read_bytes() == b"x" * 1000


def redacted(redactor: Redactor, data: bytes, size: int) -> bytes:
    pieces = [redactor.pieces(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join(piece.data for found in (*pieces, redactor.pieces(b"", last=True)) for piece in found)


@pytest.mark.spec("11")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_a_secret_is_taken_out_wherever_the_chunks_are_cut(size: int) -> None:
    data = b"ab secret-one x secret secret-one-two secre secret-onesecret-one t"
    redactor = Redactor([b"secret-one", b"secret-one-two", b""])
    found = redacted(redactor, data, size)
    assert b"secret-one" not in found
    assert found.startswith(b"ab [REDACTED] x secret [REDACTED]")
    assert found == b"ab [REDACTED] x secret [REDACTED] secre [REDACTED][REDACTED] t"


@pytest.mark.spec("11")
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"x abcXdef y", b"x [REDACTED] y"),
        (b"abcXdefXdef", b"[REDACTED][REDACTED]"),
        (b"abcXde", b"[REDACTED]de"),
        (b"-ababababa-", b"-[REDACTED]-"),
        (b"ababab", b"[REDACTED]b"),
        (b"abcXdeabcX", b"[REDACTED]de[REDACTED]"),
    ],
)
def test_secrets_that_overlap_leave_nothing_of_either(size: int, data: bytes, wanted: bytes) -> None:
    redactor = Redactor([b"abcX", b"Xdef", b"ababa"])
    assert redacted(redactor, data, size) == wanted
