"""The channel of `rch-worker xcode rpc`: a real process, lines in, lines out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.worker_pipe import COMMAND, Bench, Refused, ThreadPipe, a_bench

from rch.contract.framing import MAX_LINE

HOSTILE = {
    "no JSON": b"hello\n",
    "a blank line": b"\n",
    "no object": b"[1]\n",
    "a BOM": b'\xef\xbb\xbf{"protocol_version":0,"op":"probe","request_id":"request-0001"}\n',
    "not UTF-8": b'{"op":"\xff"}\n',
    "a NUL": b"\0\n",
    "a member twice": b'{"op":"probe","op":"probe","request_id":"request-0001","protocol_version":0}\n',
    "deep nesting": b"[" * 10_000 + b"\n",
    "half a surrogate": b'{"op":"\\ud800","request_id":"request-0001","protocol_version":1,"payload":{}}\n',
    "a line over the limit": b"x" * (MAX_LINE + 2) + b"\n",
    "an endless line": b"x" * (MAX_LINE + (1 << 19)),
    "a line that is cut": b'{"protocol_version":0,"op":"pro',
    "spread over lines": b'{"protocol_version":0,\n"op":"probe","request_id":"request-0001"}\n',
    "no payload": b'{"protocol_version":1,"op":"status","request_id":"request-0001"}\n',
    "an id that is a path": (
        b'{"protocol_version":1,"op":"status","request_id":"request-0001","payload":{"job_id":"../../../etc"}}\n'
    ),
    "a float for a length": (
        b'{"protocol_version":1,"op":"upload_source","request_id":"request-0001","payload":{"source_sha256":"'
        + b"a" * 64
        + b'","stream":{"content_length":1.5,"content_sha256":"x"}}}\n'
    ),
    "a stream where none belongs": (
        b'{"protocol_version":1,"op":"status","request_id":"request-0001","payload":{"job_id":"job-00000001",'
        b'"stream":{"content_length":3,"content_sha256":"x"}}}\nabc'
    ),
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


@pytest.mark.spec("3.1")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_frame_is_refused_and_closes_its_channel(bench: Bench, case: str) -> None:
    answers = [json.loads(line) for line in served(bench, HOSTILE[case]).splitlines()]
    assert [answer["error"]["code"] for answer in answers] == ["INVALID_REQUEST"]


def served(bench: Bench, sent: bytes) -> bytes:
    """What a channel answers to these bytes and an end."""
    pipe = ThreadPipe(bench.env)
    feeder = threading.Thread(target=_feed, args=(pipe, sent))
    feeder.start()
    answer = pipe.stdout.read()
    feeder.join()
    pipe.close()
    return answer


def _feed(pipe: ThreadPipe, sent: bytes) -> None:
    with suppress(BrokenPipeError):
        pipe.send(sent)
        pipe.stdin.close()


@pytest.mark.spec("3.1")
def test_a_process_ends_in_peace_after_a_refused_frame(bench: Bench) -> None:
    sent = b"hello\n" * 10
    done = subprocess.run(COMMAND, input=sent, capture_output=True, env=bench.env, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


@pytest.mark.spec("3.1")
def test_a_session_answers_each_line_in_order_until_the_end_of_the_input(bench: Bench) -> None:
    lines = [
        {
            "protocol_version": 1,
            "op": "has_source",
            "request_id": f"request-{n:04}",
            "payload": {"source_sha256": "0" * 64},
        }
        for n in range(20)
    ]
    sent = "".join(json.dumps(line) + "\n" for line in lines).encode()
    done = subprocess.run(COMMAND, input=sent, capture_output=True, env=bench.env, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["request_id"] for answer in answers] == [line["request_id"] for line in lines]
    assert all(answer["payload"] == {"exists": False} for answer in answers)


@pytest.mark.spec("3.1")
def test_one_shot_is_one_request_also_without_its_newline(bench: Bench) -> None:
    sent = b'{"protocol_version":0,"op":"probe","request_id":"request-0001"}'
    done = subprocess.run(COMMAND, input=sent, capture_output=True, env=bench.env, timeout=60, check=True)
    answer = json.loads(done.stdout)
    assert answer["protocol_version"] == 0
    assert answer["payload"]["protocol_min"] <= answer["payload"]["protocol_max"]
    assert answer["payload"]["features"] == [
        "session",
        "upload",
        "tail",
        "lease",
        "lease_renew",
        "fetch_resume",
        "upload_resumable",
        "upload_thin",
        "gc",
        "attestation_signing",
        "result_cache",
    ]
    assert answer["payload"]["capabilities"]["toolchains"][0]["version"] == "6.0.1"
    assert answer["payload"]["capabilities"]["capacity"]["slots_free"] == 1


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("version", "op"), [(0, "status"), (1, "probe"), (2, "status"), (-1, "status"), (99, "nope")]
)
def test_a_version_that_is_not_spoken_is_refused_and_the_channel_goes_on(
    bench: Bench, version: int, op: str
) -> None:
    with bench.pipe() as pipe:
        with pytest.raises(Refused, match="UNSUPPORTED_PROTOCOL"):
            pipe.raw({"protocol_version": version, "op": op, "payload": {"job_id": "job-00000001"}})
        assert pipe.ask("has_source", source_sha256="0" * 64) == {"exists": False}


@pytest.mark.spec("3.1")
def test_an_unknown_operation_leaves_the_channel_open_unless_bytes_follow(bench: Bench) -> None:
    with bench.pipe() as pipe:
        with pytest.raises(Refused, match="UNKNOWN_OPERATION"):
            pipe.ask("levitate", height=3)
        with pytest.raises(Refused, match="UNKNOWN_OPERATION"):
            pipe.ask("levitate", stream={"content_length": 4})
        assert pipe.is_closed()


@pytest.mark.spec("2")
@pytest.mark.parametrize(
    ("request_id", "echoed"),
    [
        ("short", "short"),
        ("x" * 256, "x" * 256),
        ("x" * 257, None),
        (7, None),
        ("a/b/c/d/e/f", "a/b/c/d/e/f"),
    ],
)
def test_a_bad_request_id_is_echoed_only_if_it_is_a_short_string(
    bench: Bench, request_id: object, echoed: object
) -> None:
    line = {
        "protocol_version": 1,
        "op": "status",
        "request_id": request_id,
        "payload": {"job_id": "job-00000001"},
    }
    sent = json.dumps(line).encode() + b"\n"
    answer = json.loads(served(bench, sent))
    assert answer["error"]["code"] == "INVALID_REQUEST"
    assert answer["request_id"] == echoed


@pytest.mark.spec("3.1")
def test_the_ssh_command_is_logged_once_and_otherwise_ignored(bench: Bench) -> None:
    bench.env["SSH_ORIGINAL_COMMAND"] = "rm -rf /"
    with bench.process() as pipe:
        pipe.ask("has_source", source_sha256="0" * 64)
        with pytest.raises(Refused):
            pipe.ask("status", job_id="job-00000001")
    log = [json.loads(line) for line in (bench.home / "state" / "rch-worker.log").read_text().splitlines()]
    assert [(line["op"], line["outcome"]) for line in log] == [
        ("has_source", "ok"),
        ("status", "JOB_NOT_FOUND"),
    ]
    assert [line.get("ssh_original_command") for line in log] == ["rm -rf /", None]
    assert log[1]["request_id"].startswith("request-")


@pytest.mark.spec("3.1")
def test_a_stray_print_does_not_reach_the_protocol(bench: Bench) -> None:
    program = (
        "import os, worker_agent.ops as ops, worker_agent.rpc as rpc\n"
        "honest = rpc.perform\n"
        "def noisy(call):\n"
        "    print('noise', flush=True); os.write(1, b'raw noise'); os.system('echo child noise')\n"
        "    assert os.read(0, 10) == b''\n"
        "    return honest(call)\n"
        "rpc.perform = noisy\n"
        "rpc.serve_stdio(os.environ)\n"
    )
    with bench.process((sys.executable, "-c", program)) as pipe:
        assert pipe.ask("has_source", source_sha256="0" * 64) == {"exists": False}
        pipe.stdin.close()
        assert pipe.stdout.read() == b""
        assert pipe.stderr.read() == b"noise\nraw noisechild noise\n"


@pytest.mark.spec("3.1")
def test_a_broken_config_is_told_without_its_place(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 0\n")
    with pytest.raises(Refused) as refusal:
        bench.ask("probe")
    assert refusal.value.code == "INTERNAL"
    assert "worker.toml: max_concurrent_jobs" in refusal.value.message
    assert refusal.value.data == {"reason": "worker_config"}
    assert str(bench.root) not in refusal.value.message


@pytest.mark.spec("3.1")
def test_a_defect_is_told_by_its_name_alone_and_the_channel_goes_on(bench: Bench) -> None:
    job = bench.data / "jobs" / "job-00000001"
    job.mkdir(parents=True)
    (job / "state.json").write_text("{}")
    with bench.pipe() as pipe:
        with pytest.raises(Refused) as refusal:
            pipe.ask("status", job_id="job-00000001")
        assert (refusal.value.code, refusal.value.message) == ("INTERNAL", "the worker failed: ValueError")
        assert refusal.value.data == {}
        assert pipe.ask("has_source", source_sha256="0" * 64) == {"exists": False}
    assert "Traceback" in (bench.home / "state" / "rch-worker.log").read_text()


def test_a_status_comes_quickly_on_a_standing_channel(bench: Bench) -> None:
    times = []
    with bench.process() as pipe:
        for _ in range(200):
            began = time.perf_counter()
            with pytest.raises(Refused, match="JOB_NOT_FOUND"):
                pipe.ask("status", job_id="job-00000001")
            times.append(time.perf_counter() - began)
    # 0.2 ms on an idle machine; a busy one delays many, what makes answers wait delays each.
    assert sorted(times)[len(times) // 10] < 0.005


def test_a_channel_comes_up_without_what_its_request_does_not_need(bench: Bench) -> None:
    program = (
        "import os, sys\nfrom worker_agent.rpc import serve_stdio\nserve_stdio(os.environ)\n"
        "heavy = {'asyncio', 'anyio', 'asyncssh', 'structlog', 'zstandard', 'subprocess', 'tomllib'}\n"
        "heavy |= {'rch.contract.odd_text'}\n"
        "sys.stderr.write(' '.join(sorted(heavy & set(sys.modules))))\n"
    )
    request = {"op": "status", "request_id": "request-0001", "payload": {"job_id": "job-00000001"}}
    sent = json.dumps({"protocol_version": 1, **request}).encode()
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=sent,
        capture_output=True,
        env={**bench.env, "SSH_ORIGINAL_COMMAND": "rch-worker xcode rpc"},
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["error"]["code"] == "JOB_NOT_FOUND"
    assert done.stderr == b""


def test_the_command_tells_its_version_and_its_use(bench: Bench) -> None:
    program = Path(sys.executable).with_name("rch-worker")
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, env=bench.env, check=True
    )
    assert re.fullmatch(r"rch-worker \d+\.\d+\.\d+\n", version.stdout)
    usage = subprocess.run([program, "--help"], capture_output=True, text=True, env=bench.env, check=True)
    assert usage.stdout.startswith("usage: rch-worker xcode rpc")
    wrong = subprocess.run([program, "serve"], capture_output=True, text=True, env=bench.env, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
