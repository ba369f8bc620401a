"""A tiny worker that follows a script, for what a real one never does.

Run as a program: `python fake_worker.py SCENARIO [ARGUMENT ...]`. Without a scenario's quirk it
speaks the session protocol honestly. It keeps a line per started process in the file
`$FAKE_WORKER_LOG`, so that a test can count channels. Standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

ARTIFACTS = bytes(range(256)) * 4096
FEATURES = ["session", "upload", "tail", "lease"]
CAPABILITIES: dict[str, Any] = {
    "hostname": "fake",
    "agent_version": "0",
    "probed_at": "2026-01-01T00:00:00.000Z",
    "os_name": "Linux",
    "os_version": "1",
    "os_build": None,
    "arch": "x86_64",
    "toolchains": [],
    "capacity": {
        "cpus": 1,
        "memory_bytes": 1,
        "slots_total": 1,
        "slots_free": 1,
        "disk_free_bytes": 1,
        "load_milli": 0,
    },
    "limits": {"max_upload_bytes": 0, "max_artifact_bytes": 0, "max_log_bytes": 0},
}
RESULTS: dict[str, dict[str, Any]] = {
    "reserve": {
        "lease_id": "lease-00000001",
        "fence": 1,
        "ttl_seconds": 90,
        "expires_at": "2026-01-01T00:00:00.000Z",
        "slots_total": 1,
        "slots_free": 0,
    },
    "release": {},
    "has_source": {"exists": False},
    "submit": {"state": "RUNNING", "seq": 2},
    "cancel": {"state": "CANCEL_REQUESTED"},
    "status": {
        "state": "RUNNING",
        "seq": 2,
        "job_key": None,
        "created_at": "2026-01-01T00:00:00.000Z",
        "updated_at": "2026-01-01T00:00:00.000Z",
        "log_bytes": 0,
        "artifacts_available": False,
    },
}

Request = dict[str, Any]


class FakeWorker:
    """One process: reads requests of `source`, answers on `sink`."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, scenario: str, arguments: list[str]) -> None:
        self.source, self.sink = source, sink
        self.scenario, self.arguments = scenario, arguments
        self.features = [f for f in FEATURES if not (scenario == "no_session" and f == "session")]
        self.asked = 0

    def run(self) -> int:
        """Serve until the requests end."""
        quirk: Callable[[], int | None] | None = getattr(self, f"start_{self.scenario}", None)
        if quirk is not None and (code := quirk()) is not None:
            return code
        while line := self.source.readline():
            self.asked += 1
            self.answer(json.loads(line))
        return 0

    def answer(self, request: Request) -> None:
        """Answer one request, the scenario's way if it has one for the operation."""
        op = request["op"]
        special: Callable[[Request], None] | None = getattr(self, f"{self.scenario}_{op}", None)
        general: Callable[[Request], None] = getattr(self, f"do_{op}", self.do_plain)
        (special or general)(request)

    def write(self, data: bytes) -> None:
        """Send bytes at once."""
        self.sink.write(data)
        self.sink.flush()

    def reply(self, request: Request, **members: Any) -> None:
        """Send a response with `members` instead of the usual ones."""
        base = {"protocol_version": request["protocol_version"], "request_id": request["request_id"]}
        self.write(json.dumps({**base, "ok": True, **members}).encode() + b"\n")

    def refuse(self, request: Request, code: str, **data: Any) -> None:
        """Send an error response."""
        self.reply(request, ok=False, error={"code": code, "message": f"{code} it is", "data": data})

    # --- the honest worker ----------------------------------------------------------------

    def do_plain(self, request: Request) -> None:
        self.reply(request, payload=RESULTS[request["op"]])

    def do_probe(self, request: Request, low: int = 1, high: int = 1) -> None:
        payload = {
            "rch_xcode_lane_version": "1",
            "protocol_min": low,
            "protocol_max": high,
            "features": self.features,
            "capabilities": CAPABILITIES,
        }
        self.reply(request, payload=payload)

    def do_tail(self, request: Request) -> None:
        cursor = int(request["payload"].get("cursor") or 0)
        self.reply(
            request,
            payload={
                "log_chunk": f"line {cursor}\n",
                "events": [],
                "next_cursor": str(cursor + 1) if cursor < 3 else None,
                "state": "RUNNING" if cursor < 3 else "SUCCEEDED",
            },
        )

    def do_upload_source(self, request: Request) -> None:
        stream = request["payload"]["stream"]
        body = self.source.read(stream["content_length"])
        good = hashlib.sha256(body).hexdigest() == stream["content_sha256"]
        if good:
            self.reply(request, payload={"stored": True})
        else:
            self.refuse(request, "INVALID_REQUEST")

    def do_fetch(self, request: Request, body: bytes = ARTIFACTS, **stream: Any) -> None:
        described = {
            "content_length": len(ARTIFACTS),
            "content_sha256": hashlib.sha256(ARTIFACTS).hexdigest(),
        }
        job_id = request["payload"]["job_id"]
        self.reply(
            request,
            job_id=job_id,
            stream={**described, "compression": "none", "format": "tar", **stream},
            manifest={
                "created_at": "2026-01-01T00:00:00.000Z",
                "run_id": "run-00000001",
                "job_id": job_id,
                "job_key": None,
                "entries": [],
                "artifact_root_sha256": "0" * 64,
                "schema_id": "rch-xcode/manifest@1",
                "schema_version": "1.0.0",
            },
        )
        self.write(body)

    # --- before the protocol --------------------------------------------------------------

    def start_noise(self) -> None:
        self.write(b"Welcome to buildbox!\nHave a nice day.\n")

    def start_flood(self) -> None:
        """Floods stderr with `arguments[0]` MiB, then serves."""
        block = b"x" * (1 << 20)
        for _ in range(int(self.arguments[0])):
            os.write(2, block)
        os.write(2, b"the end of the flood\n")

    def start_missing(self) -> int:
        os.write(2, b"bash: line 1: rch-worker: command not found\n")
        return 127

    def start_killed(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def start_deaf(self) -> int:
        """Neither reads nor ends by itself; says when it does not hear any more."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"deaf")
        time.sleep(3600)
        return 0

    def start_leaves_child(self) -> None:
        """A child keeps stdout and stderr open, as a careless supervisor does."""
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        # The test ends the child by this number.
        Path(self.arguments[0]).write_text(str(child), encoding="ascii")

    # --- answers gone wrong ---------------------------------------------------------------

    def incompatible_probe(self, request: Request) -> None:
        self.do_probe(request, 7, 9)

    def silent_status(self, request: Request) -> None:
        del request

    def wrong_id_status(self, request: Request) -> None:
        self.reply(request, request_id="another-request", payload=RESULTS["status"])

    def garbage_status(self, request: Request) -> None:
        del request
        self.write(b"{not json at all\n")

    def both_status(self, request: Request) -> None:
        self.reply(request, payload=RESULTS["status"], error={"code": "BUSY", "message": "?"})

    def wrong_types_status(self, request: Request) -> None:
        self.reply(request, payload={**RESULTS["status"], "seq": "two"})

    def unknown_code_status(self, request: Request) -> None:
        self.refuse(request, "COFFEE")

    def huge_status(self, request: Request) -> None:
        """Never ends its line."""
        del request
        while True:
            self.write(b"{" + b" " * (1 << 20))

    def busy_reserve(self, request: Request) -> None:
        self.refuse(request, "BUSY", retry_after_seconds=7)

    def hangs_up_status(self, request: Request) -> None:
        """Answers once per process and is gone at the second question."""
        if self.asked > 1:
            os._exit(0)
        self.do_plain(request)

    def always_hangs_up_status(self, request: Request) -> None:
        del request
        os._exit(0)

    def half_answer_status(self, request: Request) -> None:
        del request
        self.write(b'{"protocol_version":1,')
        os._exit(0)

    def late_status(self, request: Request) -> None:
        """Answers the first question of a process after a file named by the argument appears."""
        while self.asked == 1 and not Path(self.arguments[0]).exists():
            time.sleep(0.01)
        self.do_plain(request)

    def held_tail(self, request: Request) -> None:
        """Never answers; makes the file that the argument names, if there is one."""
        del request
        for mark in self.arguments:
            Path(mark).touch()
        time.sleep(3600)

    def talks_tail(self, request: Request) -> None:
        """Has a full part of news each time it is asked."""
        news = {"log_chunk": "x" * (256 << 10), "events": [], "next_cursor": "1", "state": "RUNNING"}
        self.reply(request, payload=news)

    # --- transfers gone wrong -------------------------------------------------------------

    def too_large_upload_source(self, request: Request) -> None:
        """Refuses before it has read the body, and hangs up."""
        self.refuse(request, "PAYLOAD_TOO_LARGE", max_bytes=10)
        os._exit(0)

    def too_large_open_upload_source(self, request: Request) -> None:
        """Refuses before it has read the body, and stays."""
        self.refuse(request, "PAYLOAD_TOO_LARGE", max_bytes=10)
        time.sleep(3600)

    def stops_reading_upload_source(self, request: Request) -> None:
        del request
        time.sleep(3600)

    def dies_reading_upload_source(self, request: Request) -> None:
        self.source.read(request["payload"]["stream"]["content_length"] // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def short_fetch(self, request: Request) -> None:
        self.do_fetch(request, ARTIFACTS[: len(ARTIFACTS) // 2])
        os._exit(0)

    def long_fetch(self, request: Request) -> None:
        self.do_fetch(request, ARTIFACTS + b"more")

    def wrong_digest_fetch(self, request: Request) -> None:
        self.do_fetch(request, content_sha256="0" * 64)

    def other_job_fetch(self, request: Request) -> None:
        self.do_fetch({**request, "payload": {"job_id": "job-of-another"}})

    def stalls_fetch(self, request: Request) -> None:
        self.do_fetch(request, ARTIFACTS[:1000])
        time.sleep(3600)

    def trickles_fetch(self, request: Request) -> None:
        self.do_fetch(request, ARTIFACTS[:1000])
        for at in range(1000, len(ARTIFACTS)):
            self.write(ARTIFACTS[at : at + 1])
            time.sleep(0.02)


def main(argv: list[str]) -> int:
    """Follow the scenario that `argv` names."""
    if log := os.environ.get("FAKE_WORKER_LOG"):
        with Path(log).open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    scenario = argv[0] if argv else "honest"
    return FakeWorker(sys.stdin.buffer, sys.stdout.buffer, scenario, argv[1:]).run()


def command(scenario: str = "honest", *arguments: str) -> tuple[str, ...]:
    """The argv that runs a scenario."""
    return (sys.executable, "-S", "-E", __file__, scenario, *arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
