"""The artifact set of a mock job, right or with one fault in it. Pure: what is asked and how it ended.

The same submit, ending and time give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from rch.contract.canonical import jcs
from rch.contract.records import (
    BuildSummary,
    Destination,
    EffectiveConfig,
    Evidence,
    ExecutorEnv,
    JobStateRecord,
    Metrics,
    Summary,
    TestFailure,
    TestSummary,
    Toolchain,
    Verdict,
)
from rch.contract.tar import Member, write_tar
from rch.contract.toolchain import backend_of
from rch.contract.worker_rpc import SubmitRequest
from rch_conformance.mock.artifacts import ArtifactSet
from rch_conformance.mock.mac import NAME, OTHER_SEED, SEED
from rch_conformance.mock.story import SUITE, Ended, Ending, Test

_BUNDLE = {"Info.plist": b"<plist/>\n", "Data/data.0": b"rch-mock-worker: no result bundle of an Xcode\n"}


def right_set(ended: Ended, *, capabilities_sha256: str, simulated: bool, signs: bool) -> ArtifactSet:
    """The set as it should be, not yet sealed."""
    submit = ended.submit
    made = ArtifactSet(
        job=submit.job,
        nonce=submit.host_nonce,
        capabilities_sha256=capabilities_sha256,
        created_at=ended.at,
        worker_name=NAME,
        simulated=simulated,
        seed=SEED if signs else None,
    )
    _put_given(made, submit)
    _put_ending(made, ended)
    made.files["build.log"] = ended.log
    if submit.job.artifact_profile == "rich":
        _put_rich(made, ended)
    xcode = backend_of(submit.job.job_key_inputs.toolchain)[0] == "xcodebuild"
    if xcode and submit.job.action == "test" and ended.ending.status != "cancelled":
        made.folders += ["result.xcresult", "result.xcresult/Data"]
        made.files |= {f"result.xcresult/{name}": data for name, data in _BUNDLE.items()}
    return made


def _put_given(made: ArtifactSet, submit: SubmitRequest) -> None:
    """What follows from the submit alone."""
    job, head = made.job, made.head()
    made.put("job.json", job)
    made.put("job_key_inputs.json", jcs(job.job_key_inputs))
    made.put("invocation.json", submit.invocation)
    if submit.classifier_policy is not None:
        made.put("classifier_policy.json", submit.classifier_policy)
    told: Mapping[str, Any] = job.effective_config
    whole = told if isinstance(told.get("config"), dict) and "sources" in told else {"config": told}
    config = {"sources": (), "redactions": (), **whole}
    kept = {name: config[name] for name in ("config", "sources", "redactions")}
    made.put("effective_config.json", msgspec.convert({**head, **kept}, EffectiveConfig))
    xcode = {} if job.xcode_version is UNSET else {"xcode_version": job.xcode_version}
    made.put(
        "toolchain.json", msgspec.convert({**head, **xcode, **job.job_key_inputs.toolchain}, Toolchain)
    )
    device = {} if job.udid is UNSET else {"udid": job.udid}
    where = {**device, **job.job_key_inputs.destination, "original_constraint": job.original_constraint}
    made.put("destination.json", msgspec.convert({**head, **where}, Destination))


def _put_ending(made: ArtifactSet, ended: Ended) -> None:
    head, end, job = made.head(), ended.ending, made.job
    made.put(
        "summary.json",
        Summary(
            **head,
            status=end.status,
            failure_kind=None if end.kind is None else str(end.kind),
            failure_subkind=UNSET if end.kind is None else end.outcome,
            exit_code=end.exit_code,
            attempts=1,
            backend=backend_of(job.job_key_inputs.toolchain)[0],
            backend_exit_code=UNSET if end.backend_exit_code is None else end.backend_exit_code,
            human_summary=end.sentence,
            duration_ms=0,
            artifact_profile=job.artifact_profile,
            simulated=made.simulated,
            verdict=Verdict(
                outcome=end.outcome,
                evidence=(Evidence(source="worker", fact="made up by rch-mock-worker"),),
            ),
        ),
    )
    made.put("job_state.json", JobStateRecord(**head, state=end.state, seq=ended.seq, updated_at=ended.at))
    made.put(
        "metrics.json",
        Metrics(
            **head,
            stages_ms={},
            counts={"log_bytes": len(ended.log), "tests": len(end.tests)},
            host_timings={},
        ),
    )
    made.put("executor_env.json", ExecutorEnv(**head, keys=("HOME", "PATH", "TMPDIR")))


def _put_rich(made: ArtifactSet, ended: Ended) -> None:
    head, end = made.head(), ended.ending
    made.files["events.jsonl"] = b"".join(msgspec.json.encode(event) + b"\n" for event in ended.events)
    errors = end.diagnostics
    made.put(
        "build_summary.json",
        BuildSummary(
            **head,
            succeeded=end.outcome != "BUILD_FAILED" and end.status != "cancelled",
            error_count=len(errors),
            warning_count=0,
            diagnostics=errors,
            first_error=errors[0] if errors else None,
        ),
    )
    if made.job.action == "test":
        made.put("test_summary.json", _test_summary(head, end.tests))
        made.files["junit.xml"] = _junit(end, simulated=made.simulated)


def _test_summary(head: Mapping[str, Any], tests: tuple[Test, ...]) -> TestSummary:
    failed = tuple(
        TestFailure(name=one.name, suite=SUITE, message=one.failure) for one in tests if one.failure
    )
    passed = len(tests) - len(failed)
    return TestSummary(
        **head,
        total=len(tests),
        passed=passed,
        failed=len(failed),
        skipped=0,
        failures=failed,
        duration_ms=0,
    )


def _junit(end: Ending, *, simulated: bool) -> bytes:
    """The cases; what failed beside any test is a case of its own, so that no such file looks green."""
    mark = "simulated: " if simulated else ""
    cases = [(SUITE, one.name, one.failure) for one in end.tests]
    if end.kind is not None and end.outcome != "TESTS_FAILED":
        cases.append(("session", end.outcome, end.sentence))
    failures = sum(bool(failure) for _, _, failure in cases)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites name={_quoted(mark + NAME)}>"]
    lines.append(f'<testsuite name={_quoted(mark + SUITE)} tests="{len(cases)}" failures="{failures}">')
    for suite, name, failure in cases:
        told = f"<failure message={_quoted(failure)}/>" if failure else ""
        lines.append(f"<testcase classname={_quoted(suite)} name={_quoted(name)}>{told}</testcase>")
    return "\n".join([*lines, "</testsuite>", "</testsuites>", ""]).encode()


def _quoted(text: str) -> str:
    """The text as an attribute of XML."""
    for plain, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, written)
    return f'"{text}"'


# --- sets with a fault ------------------------------------------------------------------------


def faulty_tar(made: ArtifactSet, fault: str | None) -> bytes:
    """The set, sealed, as a tar with that fault in it; `cut` is a fault of the line and none here."""
    match fault:
        case "wrong-nonce":
            made.nonce = "of-another-asker"
        case "other-key":
            made.seed = OTHER_SEED
        case "unsigned":
            made.seed = None
        case "other-job":
            made.job = msgspec.structs.replace(made.job, job_id="job-of-another-run")
        case "bad-statement":
            made.forger = OTHER_SEED
    made.seal(**({"artifact_root_sha256": "0" * 64} if fault == "wrong-root" else {}))
    match fault:
        case "bad-signature":
            made.files["attestation.json"] = made.files["attestation.json"].replace(
                made.nonce.encode(), b"another-nonce", 1
            )
        case "wrong-digest":
            made.files["build.log"] = b"!" + made.files["build.log"][1:]
        case "missing-file":
            del made.files["metrics.json"]
        case "extra-file":
            made.files["Extra.txt"] = b"in no manifest\n"
    tar = made.tar()
    return _with_entry(tar, _ENTRIES[fault]) if fault in _ENTRIES else tar


_ENTRIES = {
    "unsafe-path": (b"../outside.txt", b"0", b""),
    "absolute-path": (b"/tmp/outside.txt", b"0", b""),
    "link": (b"link-to-outside", b"2", b"../../outside"),
    "twice": (b"summary.json", b"0", b""),
}


def _with_entry(tar: bytes, entry: tuple[bytes, bytes, bytes]) -> bytes:
    """The tar with one more, empty entry in front of its end: by hand, for our writer refuses its name."""
    name, kind, target = entry
    whole = b"".join(write_tar([(Member(path="x"), [])], canonical=False))[:512]
    header = bytearray(whole)
    header[0:100] = name.ljust(100, b"\0")
    header[156:157] = kind
    header[157:257] = target.ljust(100, b"\0")
    if kind == b"2":
        header[100:108] = b"0000777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return tar[:-1024] + bytes(header) + bytes(1024)


def digest(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()
