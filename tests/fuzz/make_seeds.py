"""Writes the seeds anew: `python tests/fuzz/make_seeds.py`. What was found (`found-*`) is left as it is.

They are small and right, so that what a fuzzer changes in them comes far; the hostile forms of
`support` are added when a target runs, and need no files.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from support import hostile_frames, tars, xcresults
from support.sets import JOB_ID, ArtifactSet, a_job, header_of

from rch.contract.attestation import sign
from rch.contract.framing import encode_line
from rch.contract.messages import in_kind
from rch.contract.records import Attestation, Invocation, encode_record
from rch.contract.worker_envelope import encode_error, encode_request
from rch.contract.worker_rpc import (
    Base,
    CancelRequest,
    Code,
    FetchRequest,
    HasSourceRequest,
    JobRequest,
    ProbeRequest,
    ReleaseRequest,
    ReserveRequest,
    RpcError,
    Stream,
    SubmitRequest,
    TailRequest,
    UploadRequest,
)

SEEDS = Path(__file__).parent / "seeds"
RECORDED = Path(__file__).parents[1] / "worker" / "recorded"
REQUEST_ID = "request-0001"
KEY = bytes(range(32))
LONG = "d/" * 45 + "012345678é.swift"


def tar_seeds() -> dict[str, bytes]:
    """Right sources, and one set as our writer makes it."""
    pax = tars.pax(tars.record(b"path", LONG.encode())) + tars.file(LONG.encode()[:100], b"x")
    return {
        "nothing": tars.END,
        "file": tars.file(b"a", b"hello\n") + tars.END,
        "two-files": tars.file(b"a/b", b"1" * 600) + tars.file(b"c", mode=b"0000755\0") + tars.END,
        "link": tars.file(b"d/e", b"1") + tars.link(b"l", b"d/e") + tars.END,
        "pax": pax + tars.END,
        "pax-link": tars.pax(tars.record(b"linkpath", LONG.encode()))
        + tars.link(b"l", LONG.encode()[:100])
        + tars.END,
    }


def request_seeds() -> dict[str, bytes]:
    """A line of each kind of request, without its newline."""
    stream = Stream(content_length=4, content_sha256="b" * 64)
    job = a_job()
    head = ArtifactSet(job=job).head()
    invocation = Invocation(
        **head,
        original_argv=("swift", "test"),
        sanitized_argv=job.job_key_inputs.sanitized_argv,
        accepted_action="test",
        rejected_flags=(),
        classifier_policy_sha256="c" * 64,
    )
    submit = SubmitRequest(job=job, invocation=invocation, job_state_seq=1, host_nonce="n" * 32)
    base = Base(source_sha256="c" * 64, removed=("a", "b"))
    asked = {
        "probe": (ProbeRequest(), 0),
        "status": (JobRequest(job_id=JOB_ID), 1),
        "release": (ReleaseRequest(lease_id="lease-000001", fence=3), 1),
        "has_source": (HasSourceRequest(source_sha256="a" * 64), 1),
        "cancel": (CancelRequest(job_id=JOB_ID, reason="USER"), 1),
        "fetch": (FetchRequest(job_id=JOB_ID, offset=7), 1),
        "submit": (submit, 1),
        "tail": (TailRequest(job_id=JOB_ID, cursor="c", wait_seconds=2.5), 1),
        "reserve": (ReserveRequest(run_id="run-000000001", host_id="host-00000001"), 1),
        "upload_source": (UploadRequest(source_sha256="a" * 64, stream=stream, base=base), 1),
    }
    return {
        op: encode_request(op, REQUEST_ID, payload, version)[:-1]
        for op, (payload, version) in asked.items()
    }


def response_seeds() -> dict[str, bytes]:
    """Answers, a refusal and the header of a set."""
    payloads: dict[str, object] = {
        "empty": {},
        "has-source": {"exists": True},
        "reserve": {
            "lease_id": "lease-000001",
            "fence": 3,
            "ttl_seconds": 90,
            "expires_at": "2026-01-01T00:00:00Z",
            "slots_total": 1,
            "slots_free": 0,
        },
        "submit": {"state": "RUNNING", "seq": 2},
        "tail": {"log_chunk": "line\n", "events": [], "next_cursor": "c", "state": "RUNNING"},
        "upload": {"stored": False, "next_offset": 7},
    }
    said = {"protocol_version": 1, "request_id": REQUEST_ID, "ok": True}
    made = {name: encode_line({**said, "payload": payload})[:-1] for name, payload in payloads.items()}
    refusal = RpcError(Code.BUSY, "no slot", {"retry_after_seconds": 3})
    made["refusal"] = encode_error(refusal, REQUEST_ID, 1)[:-1]
    header = header_of(small_set().sealed(), b"stream")
    made["fetch"] = encode_line({**msgspec.to_builtins(header), **said})[:-1]
    return made


def small_set() -> ArtifactSet:
    """A set of two files and a folder."""
    made = ArtifactSet(folders=["d"])
    made.files = {"d/a": b"1", "b": b""}
    made.put_manifest()
    return made


def attestation_seeds() -> dict[str, bytes]:
    """One with a signature and one without."""
    plain = Attestation(
        created_at="2026-01-01T00:00:00Z",
        run_id="run-1",
        job_id="job-1",
        job_key="a" * 64,
        source_sha256="b" * 64,
        worker={"name": "mini", "fingerprint": None},
        capabilities_sha256="c" * 64,
        backend={"name": "swiftpm", "version": "6.3.1"},
        manifest_sha256="d" * 64,
        host_nonce="e" * 32,
        simulated=False,
    )
    return {"signed.json": encode_record(sign(plain, KEY)), "unsigned.json": encode_record(plain)}


def dispatch_seeds() -> dict[str, bytes]:
    """Clients that begin well; the first byte says how the bytes are cut."""

    def call(number: int, method: str, **params: object) -> dict[str, object]:
        return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}

    hello = call(1, "hello", client="rchctl", version="0.1.0", protocol=[1, 1])
    talks = {
        "health": [call(1, "daemon.health")],
        "list": [hello, call(2, "runs.list", limit=3)],
        "watch": [
            hello,
            call(2, "runs.watch", run="all", after_seq=3),
            call(3, "runs.unwatch", subscription=1),
        ],
        "submit": [hello, call(2, "runs.submit", start="/p", actions=["build"])],
        "cancel": [hello, call(2, "runs.cancel", run="run-1", reason="USER")],
    }
    made = {name: b"\x3f" + b"".join(map(encode_line, talk)) for name, talk in talks.items()}
    # A peer may mix lines and header blocks, and is answered in kind.
    mixed = [
        in_kind(encode_line(each), framed=number != 1)
        for number, each in enumerate([*talks["watch"], hello])
    ]
    return {**made, "framed": b"\x3f" + b"".join(mixed)}


def log_seeds() -> dict[str, bytes]:
    """What tools print, with colours and control characters; the first byte says how it is cut."""
    made = {path.stem: b"\x07" + path.read_bytes() for path in RECORDED.glob("*.txt")}
    made["xcodebuild"] = (
        b"\x11/tree/a.swift:3:4: error: no\nTest case 'A.b()' passed on 'x' (0.1 seconds)\n"
        b"Testing failed:\n\tA.b()\n** TEST FAILED **\n\nThe following build commands failed:\n"
        b"\tCompileSwift normal\n(1 failure)\n"
    )
    made["escapes"] = "\x05\x1b[1merror:\x1b[0m \x1b]0;title\x07x\r\ny\rz\x9b31m\u202e\x90q\x9c\n".encode()
    return made


def database_seed() -> bytes:
    """A small database of a result bundle."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = xcresults.make_bundle(Path(folder) / "r.xcresult")
        return xcresults.make_database(bundle, {"S/a()": "Success", "S/b()": "Failure"}).read_bytes()


def all_seeds() -> dict[str, dict[str, bytes]]:
    """Every target's seeds."""
    report = xcresults.report_of(
        xcresults.case("a()"), xcresults.case("b()", "failed", xcresults.failure("A.swift:3: no"))
    )
    manifest = encode_record(small_set().sealed())
    sources = tar_seeds()
    return {
        "source_tar": sources,
        "artifact_tar": {
            **{name: data for name, data in sources.items() if "link" not in name},
            "folder": tars.folder(b"d/") + tars.file(b"d/a", b"1") + tars.END,
            "set": small_set().tar(),
        },
        "thin": {
            "nothing": b"\n" + tars.END,
            "removed": b"Sources/a.swift,Sources/b\n" + tars.END,
            "changed": b"\n" + tars.file(b"Sources/a.swift", b"let a = 1\n") + tars.END,
            "added": b"d/e/f\n" + tars.file(b"d/e/g") + tars.link(b"z", b"d/e/g") + tars.END,
        },
        "zstd": {
            "packed": hostile_frames.packed(b"line\n" * 200),
            "sum": hostile_frames.packed(b"0123456789" * 50, checksum=True),
            "no-size": hostile_frames.packed(b"abc" * 100, size=False),
            "empty": hostile_frames.packed(b""),
            "blocks": hostile_frames.header()
            + hostile_frames.block(hostile_frames.RLE, 300, b"x")
            + hostile_frames.block(hostile_frames.RAW, 3, b"abc", last=True),
        },
        "framing": {"lines": b'\x05{"a":1}\n{"b":[1,2.5,"\\u00e9"]}\n\n{"c":{"d":null}}\n'},
        "request": request_seeds(),
        "response": response_seeds(),
        "manifest": {"one.json": manifest, "two.json": manifest + b"\0" + manifest},
        "attestation": attestation_seeds(),
        "dispatch": dispatch_seeds(),
        "xunit": {path.name: path.read_bytes() for path in RECORDED.glob("*.xml")},
        "xcresult": {
            "tests.json": xcresults.data(report),
            "summary.json": xcresults.data(xcresults.summary_of(report)),
            "build.json": xcresults.data(xcresults.build_of()),
        },
        "database": {"small.sqlite3": database_seed()},
        "log": log_seeds(),
        "toml": {
            "xcode.toml": b'schema_version = 1\nbackend = "swiftpm"\n[project]\nschemes = ["App"]\n',
            "workers.toml": b'[[worker]]\nname = "mini"\nhost = "mini"\npriority = 10\ntags = ["a"]\n',
        },
    }


def main() -> None:
    """Write them all."""
    for target, made in all_seeds().items():
        folder = SEEDS / target
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if not path.name.startswith("found-"):
                path.unlink()
        for name, data in made.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
