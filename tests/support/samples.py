"""Samples of artifacts and messages for `docs/examples`, the same bytes at each call.

Nothing is written by hand: the core is driven through a run, the worker's own code seals the set and the
host's own code verifies it. What they are given is fixed: times, ids, nonces and the worker's key. The
tools' words are made up, since no tool runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from support import jobs
from support.playbook import Playbook, accepted, report
from support.sample_messages import local_samples, worker_samples
from support.sealed import CASE, SEED, XUNIT, capabilities
from support.sets import ArtifactSet, compressed, header_of, places_of

from rch.contract.attested import Known
from rch.contract.canonical import jcs_sha256
from rch.contract.ids import parse_timestamp
from rch.contract.records import (
    Accepted,
    ConfigSource,
    Git,
    SourceEntry,
    SourceManifest,
    encode_record,
)
from rch.contract.worker_rpc import SubmitRequest
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.projections import projections
from rchd.edges import artifacts
from worker_agent.artifacts import Packed
from worker_agent.buildfiles import EventFile
from worker_agent.model import JobLayout, PhaseExit
from worker_agent.results.finish import Ending, finish
from worker_agent.results.lines import TestSaid
from worker_agent.results.logfacts import LogFacts, Seen

GREEN = "0198c2f0-7a11-7c3e-9b52-000000000001"
REFUSED = "0198c2f0-7a11-7c3e-9b52-000000000002"
NOW = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T03:04:17.012Z"
WORKER = "mini"
TESTS = ("greets", "saysGoodbye")
SOURCES = {"Package.swift": b"// swift-tools-version:6.0\n", "Sources/Greeter.swift": b"let greeting = 1\n"}
LOG = """Building for debugging...
[3/3] Compiling Greeter Greeter.swift
Build complete! (1.02s)
Test Suite 'GreeterTests' passed
"""


def samples(room: Path) -> dict[str, bytes]:
    """Path below docs/examples -> bytes. `room` is an empty folder, for what is made on the way."""
    play, run, submit, made = _to_its_end(room / "green")
    told = {f"rch-xcode/green/{name}": data for name, data in _green(room / "green", run, made).items()}
    told |= {f"rch-xcode/refused/{name}": data for name, data in _refused().items()}
    lines = worker_samples(submit, made.sealed(), capabilities(SEED), _packed(room, made))
    told |= {f"worker-rpc/{name}": data for name, data in lines.items()}
    begun, queued = _begun(_accepted(GREEN, ("swift", "test")))
    local = local_samples(begun.core.view(queued), play.core.view(run))
    return told | {f"local-api/{name}": data for name, data in local.items()}


def _packed(room: Path, made: ArtifactSet) -> Packed:
    """The set as it goes to the host, but not compressed: another zstd would give other bytes."""
    tar = made.tar()
    header = header_of(made.sealed(), tar)
    plain = msgspec.structs.replace(header.stream, compression="none")
    return Packed(header=msgspec.structs.replace(header, stream=plain), path=room)


def _accepted(run_id: str, argv: tuple[str, ...]) -> Accepted:
    """A run of one `swift test`."""
    given = accepted(run_id, ("test",), rejected=argv[1] != "test")
    (step,) = given.steps
    step = msgspec.structs.replace(
        step,
        job_id=f"{run_id[:-4]}{int(run_id[-4:]) + 1000}",
        host_nonce=hashlib.sha256(run_id.encode()).hexdigest()[:32],
        original_argv=argv,
    )
    config = ConfigSource(origin="default", sha256=hashlib.sha256(b"").hexdigest())
    return msgspec.structs.replace(
        given,
        created_at=NOW,
        project="greeter",
        root="/home/me/greeter",
        steps=(step,),
        policy_sha256=jcs_sha256(given.policy),
        git=Git(commit="4b825dc642cb6eb9a060e54bf8d69288fbee4904", branch="main", dirty=False),
        config_sources=(config,),
        bundle_ms=12,
    )


def _begun(asked: Accepted) -> tuple[Playbook, m.Run]:
    play = Playbook()
    play.at = parse_timestamp(NOW)
    return play, play.accept(asked)


def _refused() -> dict[str, bytes]:
    """A run whose one step the gate refused: nothing was executed, the host's summary stands for it."""
    _, run = _begun(_accepted(REFUSED, ("swift", "archive")))
    return _projected(run)


def _to_its_end(room: Path) -> tuple[Playbook, m.Run, SubmitRequest, ArtifactSet]:
    """A run of one job whose two tests passed, signed by the worker and verified by the host."""
    play, run = _begun(_accepted(GREEN, ("swift", "test")))
    told = capabilities(SEED)
    probe = report(WORKER)
    assert probe.result is not None
    probe = msgspec.structs.replace(probe, result=msgspec.structs.replace(probe.result, capabilities=told))
    play.answer(run, ev.Probed, reports=(probe,), embedded=False)
    play.grant(run, WORKER)
    (submit,) = [
        each for each in play.answer(run, ev.SourceKnown, exists=True) if isinstance(each, fx.Submit)
    ]
    asked = SubmitRequest(
        job=submit.job,
        invocation=submit.invocation,
        classifier_policy=submit.policy,
        job_state_seq=submit.job_state_seq,
        host_nonce=submit.host_nonce,
        host_timings=submit.timings,
    )
    made = _sealed(room, asked)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    at = places_of(room / "host", submit.job)
    artifacts.prepare(at)
    stream = compressed(made.tar())
    at.stream.write_bytes(stream)
    known = Known(
        job=submit.job,
        host_nonce=submit.host_nonce,
        capabilities_sha256=None,
        fingerprint=told.attestation_pubkey_fingerprint,
        pins=(str(told.attestation_pubkey_fingerprint),),
    )
    good = artifacts.unpack_and_verify(
        at, header_of(made.sealed(), stream), known, max_bytes=1 << 30, now=LATER
    )
    state = good.state
    play.answer(
        run, ev.Fetched, summary=good.summary, state=state.state, seq=state.seq, updated_at=state.updated_at
    )
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    return play, run, asked, made


def _green(room: Path, run: m.Run, made: ArtifactSet) -> dict[str, bytes]:
    """The run's folder."""
    job = made.job
    step = f"steps/test/{job.job_id}"
    whole = {f"{step}/{name}": data for name, data in made.files.items()}
    verification = places_of(room / "host", job).host / "attestation_verification.json"
    manifest = encode_record(_source_manifest(run.accepted))
    return {
        **_projected(run),
        **whole,
        f"host/{job.job_id}/{verification.name}": verification.read_bytes(),
        "source_manifest.json": manifest,
    }


def _projected(run: m.Run) -> dict[str, bytes]:
    cut = len(run.run_id) + 1
    return {path[cut:]: data for path, data in projections(run).items()}


def _sealed(room: Path, asked: SubmitRequest) -> ArtifactSet:
    """The set as the worker's own code closes it."""
    layout: JobLayout = jobs.layout(room)
    layout.log.write_text(LOG)
    events = EventFile(layout.events, lambda: NOW)
    events.write("stage", {"name": "test", "state": "started"})
    for name in TESTS:
        for told in Seen().test(TestSaid("xctest", f"GreeterTests.{name}", "passed")):
            events.write(told.type, told.data)
    events.write("stage", {"name": "test", "state": "ended", "ms": 980})
    events.close()
    cases = "".join(map(CASE.format, TESTS))
    for name, body in (("xunit.xml", cases), ("xunit-swift-testing.xml", "")):
        (layout.scratch / name).write_text(XUNIT.format(body))
    finish(
        layout,
        asked,
        Ending(
            phases=(PhaseExit("build", 0, None, 1020), PhaseExit("test", 0, None, 980)),
            ended=None,
            state=jobs.state(asked.job),
            attempts=1,
            duration_ms=2310,
            log=LogFacts(vouched=tuple(f"A.{name}" for name in TESTS)),
            env={"HOME": "/Users/ci", "PATH": "/usr/bin:/bin", "TMPDIR": "/tmp"},
        ),
        worker_name=WORKER,
        capabilities=capabilities(SEED),
        now=lambda: LATER,
        seed=SEED,
    )
    made = ArtifactSet(job=asked.job, nonce=asked.host_nonce, folders=[])
    for path in sorted(layout.artifacts.rglob("*")):
        name = path.relative_to(layout.artifacts).as_posix()
        if path.is_dir():
            made.folders.append(name)
        else:
            made.files[name] = path.read_bytes()
    return made


def _source_manifest(asked: Accepted) -> SourceManifest:
    entries = tuple(
        SourceEntry(path=path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(SOURCES.items())
    )
    return SourceManifest(
        created_at=NOW, run_id=asked.run_id, source_sha256=asked.source.source_sha256, entries=entries
    )
