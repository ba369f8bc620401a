"""A real `rch-worker xcode rpc` behind pipes, a stand-in `swift`, and sources that tell it what to do."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import zstandard
from support import jobs

from rch.contract.canonical import jcs_sha256
from rch.contract.records import Capabilities, Job, JobKeyInputs, Summary, decode_record
from rch.contract.tar import Member, write_tar
from rch.contract.toolchain import choose_swift, host_destination_inputs, swift_toolchain_inputs
from rch.files.locks import is_free
from rch.files.paths import worker_paths
from worker_agent.jobs import Jobs
from worker_agent.launch import collect
from worker_agent.requestlog import RequestLog
from worker_agent.rpc import Channel
from worker_agent.worker import Worker

COMMAND = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
MANIFEST = b"// swift-tools-version: 5.9\n"
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

# It runs the script that the source brings for its sub-command, or prints a word and is content.
_SWIFT = """#!/bin/sh
if [ "$1" = --version ]; then echo 'Swift version 6.0.1 (swift-6.0.1-RELEASE)'; exit 0; fi
action=$1
while [ $# -gt 0 ]; do
  case "$1" in --package-path) package=$2 ;; esac
  shift
done
script="$package/$action.sh"
if [ -f "$script" ]; then exec /bin/sh "$script"; fi
echo "$action: nothing to do"
"""

T = TypeVar("T")
_numbers = itertools.count(1)


class Refused(Exception):  # noqa: N818  (the contract's word)
    """The worker said no."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.data = error.get("data", {})
        self.message = error["message"]


class Pipe:
    """One channel to a worker: what is written is requests, what is read is answers."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.stdin, self.stdout = stdin, stdout

    def send(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def ask(self, op: str, body: bytes = b"", **payload: Any) -> dict[str, Any]:
        """One request and its result; `Refused` for a refusal."""
        result: dict[str, Any] = self.raw({"op": op, "payload": payload}, body)["payload"]
        return result

    def raw(self, members: Mapping[str, Any], body: bytes = b"") -> dict[str, Any]:
        request_id = f"request-{next(_numbers):08d}"
        version = 0 if members.get("op") == "probe" else 1
        line = {"protocol_version": version, "request_id": request_id, **members}
        self.send(json.dumps(line).encode() + b"\n")
        if body:
            with suppress(BrokenPipeError):
                self.send(body)
        answer = self.answer()
        assert answer["request_id"] == line["request_id"]
        return answer

    def answer(self) -> dict[str, Any]:
        line = self.stdout.readline()
        assert line, "the channel is closed"
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer

    def fetch(self, job_id: str, offset: int | None = None) -> tuple[dict[str, Any], bytes]:
        """The header of a framed answer and its body."""
        payload: dict[str, Any] = {"job_id": job_id}
        if offset is not None:
            payload["offset"] = offset
        header = self.raw({"op": "fetch", "payload": payload})
        return header, self.stdout.read(header["stream"]["content_length"])

    def is_closed(self) -> bool:
        """Whether the worker ended the channel; waits for it."""
        return self.stdout.read() == b""

    def close(self) -> None:
        """End the requests, and wait for the end of the answers."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.read()
        self.stdout.close()


class ProcessPipe(Pipe):
    """A channel of `rch-worker xcode rpc` itself."""

    def __init__(self, env: Mapping[str, str], command: tuple[str, ...] = COMMAND) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env)
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stderr = self.process.stderr
        super().__init__(self.process.stdin, self.process.stdout)

    def kill(self) -> None:
        """End the process the hard way."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        super().close()
        self.process.wait(10)
        self.stderr.close()


class ThreadPipe(Pipe):
    """A channel in a thread of the test's own process: as good where the process is not the point."""

    def __init__(self, env: Mapping[str, str]) -> None:
        (reading, requests), (answers, writing) = os.pipe(), os.pipe()
        super().__init__(os.fdopen(requests, "wb"), os.fdopen(answers, "rb"))
        self._thread = threading.Thread(target=self._serve, args=(dict(env), reading, writing))
        self._thread.start()

    def _serve(self, env: Mapping[str, str], reading: int, writing: int) -> None:
        worker = Worker(env)
        channel = Channel(worker, reading, writing, RequestLog(worker.paths.log, env))
        with suppress(BrokenPipeError):
            channel.serve()
        os.close(reading)
        os.close(writing)
        # A channel's process takes its watch with it; an account has but a hundred or so.
        if (watch := vars(worker).get("watch")) is not None:
            os.close(watch.fd)

    def close(self) -> None:
        super().close()
        self._thread.join()


class Bench:
    """A worker's home with a stand-in toolchain, and what a host would do with it."""

    def __init__(self, root: Path, config: str = "") -> None:
        self.root = root
        self.home = root / "worker"
        self.data = self.home / "data"
        toolchain = root / "toolchain"
        (toolchain / "bin").mkdir(parents=True)
        swift = toolchain / "bin" / "swift"
        swift.write_text(_SWIFT)
        swift.chmod(0o755)
        self.toolchain = toolchain
        (self.home / "config").mkdir(parents=True)
        self.configure(config)
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(root),
            "RCH_WORKER_HOME": str(self.home),
            "RCH_WORKER_KILL_GRACE": "0.3",
        }
        self._capabilities: Capabilities | None = None

    def configure(self, text: str) -> None:
        (self.home / "config" / "worker.toml").write_text(f'swift = "{self.toolchain}"\n{text}')

    def move(self, folder: Path) -> None:
        """Have the worker's home in `folder`."""
        shutil.copytree(self.home, folder / "worker")
        self.home, self.data = folder / "worker", folder / "worker" / "data"
        self.env["RCH_WORKER_HOME"] = str(self.home)

    @contextmanager
    def pipe(self) -> Iterator[Pipe]:
        """A channel."""
        pipe = ThreadPipe(self.env)
        try:
            yield pipe
        finally:
            pipe.close()

    @contextmanager
    def process(self, command: tuple[str, ...] = COMMAND) -> Iterator[ProcessPipe]:
        """A channel with a process of its own."""
        pipe = ProcessPipe(self.env, command)
        try:
            yield pipe
        finally:
            pipe.close()

    def ask(self, op: str, body: bytes = b"", **payload: Any) -> dict[str, Any]:
        """One request on a channel of its own."""
        with self.pipe() as pipe:
            return pipe.ask(op, body, **payload)

    def end(self) -> None:
        """End whatever a failed test left running."""
        for folder in (self.data / "jobs").glob("*"):
            lock = self.home / "state" / "locks" / f"job-{folder.name}.lock"
            if not is_free(lock):
                with suppress(AssertionError):
                    os.kill(supervisor_of(self, folder.name), signal.SIGKILL)
                until(partial(is_free, lock))
            Jobs(worker_paths(self.env)).end_leftovers(folder.name)
        # A channel in a thread leaves its supervisors and sweeps to this process.
        until(lambda: collect() == 0, 30)

    def capabilities(self, pipe: Pipe) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = msgspec.convert(pipe.ask("probe")["capabilities"], Capabilities)
        return self._capabilities

    def upload(self, pipe: Pipe, source: bytes, **more: Any) -> str:
        """Store a tar; gives its digest."""
        digest = hashlib.sha256(source).hexdigest()
        body = zstandard.compress(source)
        stream = {"content_length": len(body), "content_sha256": hashlib.sha256(body).hexdigest()}
        assert pipe.ask("upload_source", body, source_sha256=digest, stream=stream, **more) == {
            "stored": True
        }
        return digest

    def job(self, pipe: Pipe, source_sha256: str, *argv: str, run_id: str = "", config: Any = None) -> Job:
        """A job of this worker's toolchain, with an id of its own."""
        here = self.capabilities(pipe)
        words = argv or ("build",)
        inputs = JobKeyInputs(
            source_sha256=source_sha256,
            sanitized_argv=words,
            toolchain=swift_toolchain_inputs(here, choose_swift(here, None)[0]),
            destination=host_destination_inputs(here),
        )
        return msgspec.structs.replace(
            jobs.job(*words, config=config),
            run_id=run_id or f"run-{uuid.uuid4().hex}",
            job_id=f"job-{uuid.uuid4().hex}",
            job_key=jcs_sha256(inputs),
            job_key_inputs=inputs,
        )

    def script(self, pipe: Pipe, text: str, *argv: str, **more: Any) -> Job:
        """A job whose `swift build` runs this shell script."""
        return self.job(
            pipe, self.upload(pipe, tar({"Package.swift": MANIFEST, "build.sh": text})), *argv, **more
        )


@contextmanager
def a_bench(root: Path, config: str = "") -> Iterator[Bench]:
    """A bench; nothing of it runs on afterwards."""
    bench = Bench(root, config)
    try:
        yield bench
    finally:
        bench.end()


def submit(pipe: Pipe, job: Job, **more: Any) -> dict[str, Any]:
    """Submit a job as a host does."""
    return pipe.ask("submit", **submit_payload(job, **more))


def submit_payload(job: Job, **more: Any) -> dict[str, Any]:
    request = msgspec.to_builtins(jobs.submit(job))
    assert isinstance(request, dict)
    return {**request, **more}


def follow(pipe: Pipe, job_id: str, cursor: str | None = None) -> tuple[str, list[dict[str, Any]], str]:
    """Tail to the end: the log's text, the events, the terminal state."""
    text, events = "", []
    while True:
        news = pipe.ask("tail", job_id=job_id, cursor=cursor, wait_seconds=20)
        text += news["log_chunk"]
        events += news["events"]
        cursor = news["next_cursor"]
        if cursor is None:
            return text, events, news["state"]


def submit_and_end(pipe: Pipe, job: Job) -> str:
    """Submit a job and follow it; its terminal state."""
    submit(pipe, job)
    return follow(pipe, job.job_id)[2]


def artifacts(bench: Bench, job: Job, attempt: int = 1) -> Path:
    """The folder of a job's set."""
    return bench.data / "jobs" / job.job_id / f"attempt-{attempt}" / "artifacts"


def summary(bench: Bench, job: Job, attempt: int = 1) -> Summary:
    """The sealed summary of a job."""
    return decode_record((artifacts(bench, job, attempt) / "summary.json").read_bytes(), Summary)


def tail_until(pipe: Pipe, job_id: str, word: str) -> str:
    """Tail until a word stands in the log; gives the cursor after it."""
    text, cursor = "", None
    while word not in text:
        news = pipe.ask("tail", job_id=job_id, cursor=cursor, wait_seconds=20)
        text += news["log_chunk"]
        cursor = news["next_cursor"]
        assert cursor is not None, f"the job ended: {text}"
    return str(cursor)


def tar(files: Mapping[str, bytes | str]) -> bytes:
    """The canonical tar of these files."""
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    members = (
        (Member(path=name, size=len(contents[name])), (contents[name],)) for name in sorted(contents)
    )
    return b"".join(write_tar(members, canonical=True))


def until(truth: Callable[[], T], seconds: float = 60.0) -> T:
    """What `truth` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := truth()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
    return value


def is_running(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def supervisor_of(bench: Bench, job_id: str) -> int:
    """The pid of the process that owns a job, as its lock says."""
    lock = bench.home / "state" / "locks" / f"job-{job_id}.lock"
    assert not is_free(lock), f"nobody owns {job_id} of {bench.home}"
    return int(lock.read_text().split()[1])
