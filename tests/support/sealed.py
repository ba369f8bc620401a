"""Sets as a worker seals them, and the run's folder on the host around them, to be tampered with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from support import jobs
from support.playbook import accepted
from support.sets import ArtifactSet, compressed, header_of, places_of

from rch.contract.attestation import sign
from rch.contract.attested import Known
from rch.contract.canonical import jcs_sha256
from rch.contract.records import (
    AcceptedStep,
    Attestation,
    Capabilities,
    CapabilitiesRecord,
    Job,
    Manifest,
    decode_record,
    encode_record,
    stable_capabilities,
)
from rch.contract.signing import fingerprint_of, public_key_of
from rchd.edges import artifacts
from worker_agent.model import PhaseExit
from worker_agent.results.finish import Ending, finish
from worker_agent.results.logfacts import LogFacts

SEED, OTHER_SEED = bytes(range(32)), bytes(range(1, 33))
KEY, OTHER_KEY = (fingerprint_of(public_key_of(seed)) for seed in (SEED, OTHER_SEED))
NONCE, WORKER = "nonce-1", "mini"
XUNIT = "<testsuites><testsuite>{}</testsuite></testsuites>"
CASE = '<testcase classname="M.A" name="{}"/>'
BUNDLE = {
    "Info.plist": b"<plist/>",
    "database.sqlite3": b"SQLite format 3\0",
    "Data/data.0~x": b"\x00\x01\x02",
}


def a_job(**changes: Any) -> Job:
    """A test job; `source_sha256` and `toolchain` enter its key."""
    job = jobs.job()
    inputs = {name: changes.pop(name) for name in ("source_sha256", "toolchain") if name in changes}
    key_inputs = msgspec.structs.replace(job.job_key_inputs, **inputs)
    return msgspec.structs.replace(
        job, **{"job_key_inputs": key_inputs, "job_key": jcs_sha256(key_inputs), **changes}
    )


def capabilities(seed: bytes | None = SEED, *, simulated: bool = False) -> Capabilities:
    """What the worker says of itself, its key among it."""
    key = None if seed is None else fingerprint_of(public_key_of(seed))
    return msgspec.structs.replace(
        jobs.capabilities(), attestation_pubkey_fingerprint=key, simulated=simulated
    )


def sealed(
    root: Path,
    job: Job | None = None,
    *,
    seed: bytes | None = SEED,
    nonce: str = NONCE,
    tests: tuple[str, ...] = ("testOne", "testTwo"),
    simulated: bool = False,
    bundle: Mapping[str, bytes] = BUNDLE,
) -> Path:
    """The folder of a set that the worker's own code has made of a job that succeeded."""
    job = job or a_job()
    layout = jobs.layout(root)
    layout.log.write_text("Build complete!\n" + "a line of the log\n" * 40)
    layout.events.write_text('{"n":1,"at":"2026-01-02T03:04:05.678Z","type":"stage"}\n')
    for name, body in (("xunit.xml", "".join(map(CASE.format, tests))), ("xunit-swift-testing.xml", "")):
        (layout.scratch / name).write_text(XUNIT.format(body))
    for name, data in bundle.items():
        path = layout.artifacts / "result.xcresult" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    phases = [PhaseExit("build", 0, None, 900)]
    phases += [PhaseExit("test", 0, None, 80)] if job.action == "test" else []
    finish(
        layout,
        jobs.submit(job, nonce=nonce),
        Ending(
            phases=tuple(phases),
            ended=None,
            state=jobs.state(job),
            attempts=1,
            duration_ms=1234,
            log=LogFacts(vouched=tuple(f"A.{name}" for name in tests)),
        ),
        worker_name=WORKER,
        capabilities=capabilities(seed, simulated=simulated),
        now=lambda: jobs.NOW,
        seed=seed,
    )
    return layout.artifacts


def loaded(folder: Path, job: Job | None = None) -> ArtifactSet:
    """The set in memory."""
    made = ArtifactSet(job=job or a_job(), nonce=NONCE, folders=[])
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            made.folders.append(name)
        else:
            made.files[name] = path.read_bytes()
    return made


def attestation_of(made: ArtifactSet) -> Attestation:
    """As it lies in the set."""
    return decode_record(made.files["attestation.json"], Attestation)


def edited(made: ArtifactSet, name: str, **members: Any) -> None:
    """Other members in a JSON file of the set; `...` takes one out."""
    told = {**json.loads(made.files[name]), **members}
    kept = {key: value for key, value in told.items() if value is not ...}
    made.files[name] = json.dumps(kept, indent=2).encode()


def signed_anew(made: ArtifactSet, seed: bytes = SEED, **members: Any) -> None:
    """Other members in the attestation, and a signature that is right for them."""
    said = msgspec.structs.replace(attestation_of(made), **members)
    made.files["attestation.json"] = encode_record(sign(said, seed))


@dataclass
class Host:
    """The host's side of one job: its run's folder below `root`, and what it asked for."""

    root: Path
    job: Job
    nonce: str = NONCE
    told: Capabilities | None = None

    def __post_init__(self) -> None:
        self.at = places_of(self.root, self.job)
        run = self.root / self.job.run_id
        run.mkdir(parents=True, exist_ok=True)
        request = accepted(self.job.run_id, (self.job.action,))
        inputs = self.job.job_key_inputs
        step = AcceptedStep(
            index=0,
            action=self.job.action,
            job_id=self.job.job_id,
            host_nonce=self.nonce,
            original_argv=("swift", *inputs.sanitized_argv),
            sanitized_argv=inputs.sanitized_argv,
        )
        source = msgspec.structs.replace(request.source, source_sha256=inputs.source_sha256)
        request = msgspec.structs.replace(request, steps=(step,), source=source)
        (run / "accepted.json").write_bytes(encode_record(request))
        if self.told is not None:
            record = CapabilitiesRecord(
                created_at=jobs.NOW, run_id=self.job.run_id, worker=WORKER, capabilities=self.told
            )
            (run / "capabilities.json").write_bytes(encode_record(record))

    def known(self, *pins: str) -> Known:
        """What the daemon knows when it fetches."""
        told = self.told
        return Known(
            job=self.job,
            host_nonce=self.nonce,
            capabilities_sha256=None if told is None else jcs_sha256(stable_capabilities(told)),
            fingerprint=None if told is None else told.attestation_pubkey_fingerprint,
            pins=pins,
        )

    def fetch(
        self, made: ArtifactSet, *pins: str, header: Manifest | None = None, tar: bytes | None = None
    ) -> artifacts.Verified:
        """Take the set as it comes from the worker; `Mismatch` where it is not believed."""
        artifacts.prepare(self.at)
        stream = compressed(made.tar() if tar is None else tar)
        self.at.stream.write_bytes(stream)
        return artifacts.unpack_and_verify(
            self.at,
            header_of(header or made.sealed(), stream),
            self.known(*pins),
            max_bytes=1 << 30,
            now=jobs.NOW,
        )
