"""A worker that follows the protocol but for one misdeed: `liar.py MISDEED FOLDER`.

`MISDEEDS` names them, each for one operation; "none" is an honest worker that builds nothing and
says that all went well. FOLDER keeps what one channel has to know of another.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]

from support.fake_worker import CAPABILITIES, FEATURES, RESULTS, FakeWorker, Request  # noqa: E402

MIB = 1 << 20
MAX_LOG = MIB
ESCAPES = "\x1b]0;owned\x07\x1b[31mred\u202e"
Misdeed = Callable[["Liar", Request], None]
THROUGHOUT: dict[str, dict[str, Any]] = {
    "capabilities that control a terminal": {
        "hostname": ESCAPES, "os_name": ESCAPES, "os_version": f"1{ESCAPES}"
    },
}  # fmt: skip
"""What a worker says of itself at each probe, and signs too."""


class Liar(FakeWorker):
    """`self.job_id` is the job that the request names, whose submit lies in the folder."""

    def __init__(self, misdeed: str, folder: Path) -> None:
        super().__init__(sys.stdin.buffer, sys.stdout.buffer, misdeed, [])
        self.folder = folder
        self.op, self.misdeed = MISDEEDS.get(misdeed, ("", _honest))
        self.features = [*FEATURES, "lease_renew"]
        self.also = THROUGHOUT.get(misdeed, {})

    def answer(self, request: Request) -> None:
        if request["op"] == "submit":
            self.note(request["payload"])
        if request["op"] == self.op:
            self.misdeed(self, request)
        else:
            _honest(self, request)

    def note(self, submit: dict[str, Any]) -> None:
        """Keep a submit for the channel that will be asked for its set."""
        path = self.folder / submit["job"]["job_id"]
        temp = path.with_suffix(f".{os.getpid()}")
        temp.write_text(json.dumps(submit))
        temp.rename(path)

    def payload(self, request: Request) -> dict[str, Any]:
        """What an honest worker answers."""
        match request["op"]:
            case "probe":
                swift = {"kind": "swift", "version": "6.0.1", "path": "/opt/swift/usr", "active": True}
                limits = {"max_upload_bytes": 0, "max_artifact_bytes": 0, "max_log_bytes": MAX_LOG}
                capabilities = {**CAPABILITIES, "toolchains": [swift], "limits": limits}
                capabilities["capacity"] = {**CAPABILITIES["capacity"], "disk_free_bytes": 1 << 40}
                capabilities |= self.also
                return {
                    "rch_xcode_lane_version": "1",
                    "protocol_min": 1,
                    "protocol_max": 1,
                    "features": self.features,
                    "capabilities": capabilities,
                }
            case "tail" if request["payload"].get("cursor") is None:
                return {
                    "log_chunk": "building\n",
                    "events": [],
                    "next_cursor": "1",
                    "state": "RUNNING",
                    "seq": 2,
                }
            case "tail":
                return {"log_chunk": "", "events": [], "next_cursor": None, "state": "SUCCEEDED", "seq": 3}
            case op:
                return RESULTS[op]

    def send_set(self, request: Request, change: Callable[[Any], None], **stream: Any) -> None:
        """The job's set, sealed after `change`; `stream` changes what is announced of it."""
        made = self.a_set(request["payload"]["job_id"])
        change(made)
        body, members = self.packed(made, request)
        members["stream"] |= stream
        self.reply(request, **members)
        self.write(body)

    def a_set(self, job_id: str) -> Any:
        """A right set of that job, not yet sealed."""
        _load_packages()
        import msgspec
        from support.sets import ArtifactSet

        from rch.contract.attested import capabilities_digest
        from rch.contract.records import Job

        submit = json.loads((self.folder / job_id).read_text())
        told = self.payload({"op": "probe"})["capabilities"]
        return ArtifactSet(
            job=msgspec.convert(submit["job"], Job),
            nonce=submit["host_nonce"],
            capabilities_sha256=capabilities_digest(told) or "",
        ).fill()

    def packed(self, made: Any, request: Request) -> tuple[bytes, dict[str, Any]]:
        """A set's bytes and the members of its header."""
        import msgspec
        from support.sets import compressed

        if "job_index.json" not in made.files:
            made.seal()
        body = compressed(made.tar())
        digest = hashlib.sha256(body).hexdigest()
        stream = {"content_length": len(body), "content_sha256": digest}
        return body, {
            "job_id": request["payload"]["job_id"],
            "manifest": msgspec.to_builtins(made.sealed()),
            "stream": {**stream, "compression": "zstd", "format": "tar"},
        }


def _load_packages() -> None:
    """What is installed is looked for only where a set is made: a start costs half without it."""
    import site

    if sys.flags.no_site:
        site.main()


def _honest(worker: Liar, request: Request) -> None:
    if request["op"] == "fetch":
        worker.send_set(request, lambda _made: None)
    elif request["op"] == "upload_source":
        worker.do_upload_source(request)
    else:
        worker.reply(request, payload=worker.payload(request))


# --- kinds of misdeeds ----------------------------------------------------------------


def says(**changes: Any) -> Misdeed:
    """The honest payload, but for these members."""
    return lambda worker, request: worker.reply(request, payload={**worker.payload(request), **changes})


def envelope(**members: Any) -> Misdeed:
    """The honest answer in an envelope with other members."""
    return lambda worker, request: worker.reply(request, payload=worker.payload(request), **members)


def raw(data: bytes) -> Misdeed:
    """These bytes."""
    return lambda worker, _request: worker.write(data)


def refuses(code: str, **data: Any) -> Misdeed:
    """An error."""
    return lambda worker, request: worker.refuse(request, code, **data)


def capable(**changes: Any) -> Misdeed:
    """A probe with other capabilities."""

    def lie(worker: Liar, request: Request) -> None:
        payload = worker.payload(request)
        worker.reply(request, payload={**payload, "capabilities": {**payload["capabilities"], **changes}})

    return lie


def later(**changes: Any) -> Misdeed:
    """An honest first `tail`, and other members from the second on."""

    def lie(worker: Liar, request: Request) -> None:
        more = {} if request["payload"].get("cursor") is None else changes
        worker.reply(request, payload={**worker.payload(request), **more})

    return lie


def sends(change: Callable[[Any], None], **stream: Any) -> Misdeed:
    """A set that is not what it should be, or is announced as another one."""
    return lambda worker, request: worker.send_set(request, change, **stream)


def _endless(worker: Liar, _request: Request) -> None:
    while True:
        worker.write(b"{" + b" " * MIB)


def _silence(_worker: Liar, _request: Request) -> None:
    time.sleep(3600)


def _long_line(mebibytes: int) -> Misdeed:
    def lie(worker: Liar, request: Request) -> None:
        filler = "x" * (mebibytes * MIB)
        worker.reply(request, payload={**worker.payload(request), "filler": filler})

    return lie


def _motd(worker: Liar, request: Request) -> None:
    worker.write(b"Welcome to buildbox!\n")
    _honest(worker, request)


def _half(worker: Liar, _request: Request) -> None:
    worker.write(b'{"protocol_version":1,')
    os._exit(0)


def _endless_log(worker: Liar, request: Request) -> None:
    at = int(request["payload"].get("cursor") or 0)
    news = {"log_chunk": "x" * (256 << 10), "events": [], "next_cursor": str(at + 1), "state": "RUNNING"}
    worker.reply(request, payload={**news, "seq": 2})


def _another_sealing(made: Any) -> None:
    """A set that is right in itself, and of another job."""
    import msgspec

    made.job = msgspec.structs.replace(made.job, job_id="job-of-another-run")
    made.fill()


def _attests(**members: Any) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        made.put_manifest()
        made.put_attestation(**members)
        made.put_index()

    return change


def _record(name: str, **members: Any) -> Callable[[Any], None]:
    """One record of the set says something else."""

    def change(made: Any) -> None:
        said = json.loads(made.files[name])
        made.files[name] = json.dumps({**said, **members}).encode()

    return change


def _both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        for each in changes:
            each(made)

    return change


def _of_stand_ins(made: Any) -> None:
    """All that speaks for the set agrees that it is a simulation; the job is as it was asked for."""
    _record("summary.json", simulated=True)(made)
    made.put_manifest(simulated=True)
    made.put_attestation(simulated=True)
    made.put_index(simulated=True)


def _unchanged(_made: Any) -> None:
    pass


def _manifest_of_wrong_types(worker: Liar, request: Request) -> None:
    _, members = worker.packed(worker.a_set(request["payload"]["job_id"]), request)
    worker.reply(request, **{**members, "manifest": {"entries": "all of them"}})


def _header_of_another(worker: Liar, request: Request) -> None:
    body, members = worker.packed(worker.a_set(request["payload"]["job_id"]), request)
    worker.reply(request, **{**members, "job_id": "job-of-another-run"})
    worker.write(body)


def _more_than_announced(worker: Liar, request: Request) -> None:
    _honest(worker, request)
    worker.write(b"more\n")


def _body_for_ever(worker: Liar, request: Request) -> None:
    """As many bytes as anybody takes, of a set that is said to have as many as are taken."""
    _, members = worker.packed(worker.a_set(request["payload"]["job_id"]), request)
    members["stream"]["content_length"] = 8 << 30
    worker.reply(request, **members)
    while True:
        worker.write(bytes(MIB))


def _cut_body(worker: Liar, request: Request) -> None:
    _, members = worker.packed(worker.a_set(request["payload"]["job_id"]), request)
    members["stream"]["content_length"] = 1 << 30
    worker.reply(request, **members)
    worker.write(b"no more than this")
    os._exit(0)


def _flood(worker: Liar, request: Request) -> None:
    """64 MiB on stderr before the answer."""
    for _ in range(64):
        os.write(2, b"x" * MIB)
    _honest(worker, request)


def _event(**members: Any) -> dict[str, Any]:
    return {"n": 1, "at": "2026-01-01T00:00:00.000Z", "type": "note", "data": {}, **members}


def _takes_nothing(worker: Liar, request: Request) -> None:
    worker.source.read(request["payload"]["stream"]["content_length"])
    worker.reply(request, payload={"stored": False})


def _takes_otherwise(payload: dict[str, Any]) -> Misdeed:
    def lie(worker: Liar, request: Request) -> None:
        worker.source.read(request["payload"]["stream"]["content_length"])
        worker.reply(request, payload=payload)

    return lie


def _header_bomb(worker: Liar, request: Request) -> None:
    """A header that would be gigabytes where it is read as a whole."""
    _, members = worker.packed(worker.a_set(request["payload"]["job_id"]), request)
    head = {
        "protocol_version": request["protocol_version"],
        "request_id": request["request_id"],
        "ok": True,
    }
    start = json.dumps({**head, **members})[:-1].encode() + b',"x":['
    worker.write(start + b"[]," * (2 * MIB) + b"[]]}\n")


def _attestation_bomb(worker: Liar, request: Request) -> None:
    """An attestation of so many values, in the room that a file which is not there was announced for."""
    made = worker.a_set(request["payload"]["job_id"])  # which makes the packages known
    from rch.contract.manifest import sort_entries
    from rch.contract.records import Entry

    absent = Entry(path="zz.bin", type="file", size=140 * MIB, sha256="0" * 64)
    made.put_manifest(sort_entries([*made.entries(), absent]))
    made.put_attestation()
    made.put_index()
    start = made.files["attestation.json"].rstrip()[:-1] + b',"zz":['
    made.files["attestation.json"] = start + b"[]," * (45 * MIB) + b"[]]}"
    body, members = worker.packed(made, request)
    worker.reply(request, **members)
    worker.write(body)


MISDEEDS: dict[str, tuple[str, Misdeed]] = {
    # what is small on its way and would not be where it is read
    "header of values": ("fetch", _header_bomb),
    "attestation of values": ("fetch", _attestation_bomb),
    # before the protocol, and its envelope
    "talks before the protocol": ("probe", _motd),
    "probe is no JSON": ("probe", raw(b"{not json\n")),
    "probe of wrong types": ("probe", says(protocol_min="one")),
    "probe without capabilities": ("probe", says(capabilities=None)),
    "probe in another protocol": ("probe", envelope(protocol_version=7)),
    "capabilities of 3 MiB": ("probe", capable(tools={"x": "y" * (3 * MIB)})),
    "capabilities of 50 MB": ("probe", capable(tools={"x": "y" * (50 * MIB)})),
    "capabilities that control a terminal": ("probe", _honest),
    "range upside down": ("probe", says(protocol_min=5, protocol_max=1)),
    "no upload": ("probe", says(features=["session", "tail", "lease"])),
    # leases
    "lease of wrong types": ("reserve", says(fence="one")),
    "lease id that is a path": ("reserve", says(lease_id="../../../etc")),
    "lease of no time": ("reserve", says(ttl_seconds=0)),
    "lease of less than no time": ("reserve", says(ttl_seconds=-1)),
    "lease of all time": ("reserve", says(ttl_seconds=1 << 60)),
    "lease of a fraction": ("reserve", says(ttl_seconds=0.5)),
    "result and error": ("reserve", envelope(error={"code": "BUSY", "message": "?"})),
    "another request's answer": ("reserve", envelope(request_id="another-request-id")),
    "an answer in another protocol": ("reserve", envelope(protocol_version=2)),
    "an answer in no protocol": ("reserve", envelope(protocol_version=True)),
    "an error nobody knows": ("reserve", refuses("COFFEE")),
    "neither result nor error": ("reserve", envelope(ok="yes")),
    "no payload": ("reserve", lambda worker, request: worker.reply(request, payload=[])),
    "an object that names a member twice": ("reserve", raw(b'{"ok":true,"ok":true}\n')),
    "nested without end": ("reserve", raw(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n")),
    "lone surrogate": ("reserve", raw(b'{"ok":"\\ud800"}\n')),
    "no UTF-8": ("reserve", raw(b'{"ok":"\xff"}\n')),
    "line of 3 MiB": ("reserve", _long_line(3)),
    "line of 100 MB": ("reserve", _long_line(100)),
    "line without end": ("reserve", _endless),
    "busy for no time": ("reserve", refuses("BUSY", retry_after_seconds=0)),
    "busy for less than no time": ("reserve", refuses("BUSY", retry_after_seconds=-7)),
    "busy for ages": ("reserve", refuses("BUSY", retry_after_seconds=1_000_000_000)),
    "busy in words": ("reserve", refuses("BUSY", retry_after_seconds="soon")),
    "busy for NaN": ("reserve", refuses("BUSY", retry_after_seconds=float("nan"))),
    "busy for 1e400": (
        "reserve",
        lambda worker, request: worker.write(
            b'{"protocol_version":1,"request_id":"%b","ok":false,"error":{"code":"BUSY",'
            b'"message":"m","data":{"retry_after_seconds":1e400}}}\n' % request["request_id"].encode()
        ),
    ),
    # sources
    "source of wrong types": ("has_source", says(exists="yes")),
    "upload of wrong types": ("upload_source", _takes_otherwise({"stored": "yes"})),
    "upload that goes nowhere": ("upload_source", _takes_nothing),
    "upload with a negative offset": (
        "upload_source",
        _takes_otherwise({"stored": False, "next_offset": -1}),
    ),
    "upload refused as a feature": ("upload_source", refuses("FEATURE_MISSING")),
    # jobs
    "source that is never there": ("submit", refuses("SOURCE_MISSING")),
    "lease that is never alive": ("submit", refuses("LEASE_EXPIRED")),
    "key that never fits": ("submit", refuses("JOB_KEY_MISMATCH")),
    "submit in an unknown state": ("submit", says(state="BANANA")),
    "submit with seq 0": ("submit", says(seq=0)),
    "submit with seq in words": ("submit", says(seq="2")),
    "submit with a seq that none can hold": ("submit", says(seq=1 << 60)),
    "submit with a seq that leaps": ("submit", says(seq=1_000_000)),
    "submit to a state that is none": ("submit", says(state=["RUNNING"])),
    # tails
    "log of wrong types": ("tail", says(log_chunk=5)),
    "events of wrong types": ("tail", says(events={})),
    "event without a type": ("tail", says(events=[{"n": 1}])),
    "event in words": ("tail", says(events=[_event(n="one")])),
    "events of 600 KiB": ("tail", says(events=[_event(data={"x": "y" * (600 << 10)})])),
    "more log than was asked for": ("tail", says(log_chunk="x" * (300 << 10))),
    "cursor in numbers": ("tail", says(next_cursor=7)),
    "cursor that is a book": ("tail", says(next_cursor="x" * 2000)),
    "tail in an unknown state": ("tail", says(state="BANANA")),
    "state that goes back": ("tail", later(state="QUEUED", seq=3, next_cursor="2")),
    "seq that falls": ("tail", later(state="RUNNING", seq=1, next_cursor="2")),
    "seq that is repeated for another state": (
        "tail",
        later(state="CANCEL_REQUESTED", seq=2, next_cursor="2"),
    ),
    "seq that leaps": ("tail", later(state="RUNNING", seq=5000, next_cursor="2")),
    "end without an end": ("tail", later(next_cursor="2")),
    "log without end": ("tail", _endless_log),
    "log that begins anew for ever": ("tail", says(reset=True, next_cursor="1", state="RUNNING", seq=2)),
    "half an answer, always": ("tail", _half),
    # sets
    "header of another job": ("fetch", _header_of_another),
    "manifest of wrong types": ("fetch", _manifest_of_wrong_types),
    "more than was announced": ("fetch", _more_than_announced),
    "set of -1 bytes": ("fetch", sends(_unchanged, content_length=-1)),
    "set of a terabyte": ("fetch", sends(_unchanged, content_length=1 << 40)),
    "set of 1 GiB that is cut": ("fetch", _cut_body),
    "set without end": ("fetch", _body_for_ever),
    "set with another digest": ("fetch", sends(_unchanged, content_sha256="0" * 64)),
    "set of another job": ("fetch", sends(_another_sealing)),
    "attestation of another job": ("fetch", sends(_attests(job_id="job-of-another-run"))),
    "attestation for another asker": ("fetch", sends(_attests(host_nonce="m" * 32))),
    "attestation of another source": ("fetch", sends(_attests(source_sha256="e" * 64))),
    "success with an exit code": ("fetch", sends(_record("summary.json", exit_code=50))),
    "success of a failed job": ("fetch", sends(_record("job_state.json", state="FAILED"))),
    "failure with exit code 0": (
        "fetch",
        sends(_both(_record("summary.json", status="failed", failure_kind="SWIFTPM", exit_code=0))),
    ),
    "success of an unknown word": ("fetch", sends(_record("summary.json", status="splendid"))),
    "end that is none": ("fetch", sends(_record("job_state.json", state="RUNNING"))),
    "end before the end": ("fetch", sends(_record("job_state.json", seq=2))),
    "result of stand-ins": ("fetch", sends(_of_stand_ins)),
    "result of stand-ins by its summary alone": ("fetch", sends(_record("summary.json", simulated=True))),
    "result of a job that is a path": (
        "fetch",
        sends(_record("summary.json", cached_from_job_id="../../../etc/passwd")),
    ),
    "result of a job of long ago": (
        "fetch",
        sends(_record("summary.json", cached_from_job_id="job-of-long-ago-1")),
    ),
    "artifacts that are gone": ("fetch", refuses("ARTIFACTS_GONE")),
    # what harms nobody
    "flood on stderr": ("reserve", _flood),
    "release of wrong types": ("release", lambda worker, request: worker.reply(request, payload=7)),
    "silence": ("reserve", _silence),
}


def command(misdeed: str, folder: Path) -> list[str]:
    """The argv of such a worker."""
    return [sys.executable, "-S", "-E", __file__, misdeed, str(folder)]


if __name__ == "__main__":
    sys.exit(Liar(sys.argv[1], Path(sys.argv[2])).run())
