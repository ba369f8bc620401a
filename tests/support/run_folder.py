"""The folder of a run that has ended, written from records, as a report reads it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from msgspec import UNSET
from support.jobs import SWIFT, capabilities

from rch.contract.canonical import jcs
from rch.contract.records import (
    Accepted,
    AcceptedStep,
    AttestationVerification,
    BuildSummary,
    Diagnostic,
    Evidence,
    HostMetrics,
    JobIndex,
    JobKeyInputs,
    Metrics,
    RunIndex,
    RunOptions,
    RunPlan,
    RunStateRecord,
    RunSummary,
    Source,
    SourceEntry,
    SourceManifest,
    StepOutcome,
    StepPointer,
    Summary,
    TestFailure,
    TestNote,
    TestSummary,
    Verdict,
    encode_record,
)
from rch.contract.toolchain import host_destination_inputs, swift_toolchain_inputs

HOSTILE = (
    "<script>window.owned=1</script>\"'><img src=http://evil.invalid/x onerror=alert(1)></style>"
    "\u202egnp\x1b[31m"
)
"""A name that wants to be more than text."""

STATES = {"success": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED", "rejected": "FAILED"}


def run_id(number: int) -> str:
    """Ids that sort by their number."""
    return f"0198c2f0-7a11-7c3e-9b52-{number:012d}"


@dataclass
class RunFolder:
    """A run of one test step. What is set here is what its records say."""

    artifacts: Path
    number: int = 1
    project: str = "Greeter"
    root: str = "/home/ada/greeter"
    status: str = "success"
    subkind: str | None = None
    summary: str = "2 tests passed"
    simulated: bool = False
    scope: tuple[str, ...] = ()
    source: str = "a" * 64
    argv: tuple[str, ...] = ("test",)
    duration_ms: int = 5000
    created_at: str = "2026-01-02T03:04:05.678Z"
    cases: Sequence[tuple[str, str, str]] = (("S", "one()", "passed"), ("S", "two()", "passed"))
    failures: Sequence[TestFailure] = ()
    flaky: Sequence[TestNote] = ()
    diagnostics: Sequence[Diagnostic] = ()
    sources: dict[str, bytes] = field(default_factory=dict)
    log: str = "Compiling\n"
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Its id."""
        return run_id(self.number)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.artifacts / self.run_id

    @property
    def job_id(self) -> str:
        """The id of its one job."""
        return f"{self.run_id}-job"

    def write(self) -> RunFolder:
        """Put it on the disk."""
        for name, record in self._records().items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(record if isinstance(record, bytes) else encode_record(record))
        return self

    def _records(self) -> dict[str, Any]:
        step, host = f"steps/test/{self.job_id}", f"host/{self.job_id}"
        records = {f"{step}/{name}": each for name, each in self._job().items()}
        return {**self._run(step, host), **records, **self._host(host)}

    def _run(self, step: str, host: str) -> dict[str, Any]:
        head: dict[str, Any] = {"created_at": self.created_at, "run_id": self.run_id}
        mark: dict[str, Any] = {"simulated": True} if self.simulated else {}
        code = {"success": 0, "failed": 50, "cancelled": 80, "rejected": 10}[self.status]
        kind = {"failed": "SWIFTPM", "cancelled": "CANCELLED", "rejected": "CLASSIFIER_REJECTED"}.get(
            self.status
        )
        asked = AcceptedStep(
            index=0,
            action="test",
            job_id=self.job_id,
            host_nonce="n" * 32,
            original_argv=("swift", *self.argv),
            sanitized_argv=self.argv,
            scope=self.scope,
        )
        accepted = Accepted(
            **head,
            project=self.project,
            root=self.root,
            origin="terminal",
            client_token=None,
            steps=(asked,),
            options=self._options(),
            source=self._source(),
            git=None,
            effective_config={},
            config_sources=(),
            redactions=(),
            policy={},
            policy_sha256="c" * 64,
            bundle_ms=40,
        )
        outcome = StepOutcome(
            index=0, action="test", job_id=self.job_id, status=self.status, exit_code=code
        )
        counts = {
            f"steps_{each}": 0 for each in ("succeeded", "failed", "cancelled", "skipped", "rejected")
        }
        counts[f"steps_{'succeeded' if self.status == 'success' else self.status}"] = 1
        summary = RunSummary(
            **{**head, **counts},
            status=self.status,
            exit_code=code,
            step_count=1,
            duration_ms=self.duration_ms,
            human_summary=self.summary,
            failure_kind=kind,
            failure_subkind=self.subkind or UNSET,
            steps=(outcome,),
            git=None,
            simulated=self.simulated,
            worker="mini",
            scope=self.scope or UNSET,
        )
        pointer = StepPointer(
            index=0,
            action="test",
            job_id=self.job_id,
            job_index_path=f"{step}/job_index.json",
            status=self.status,
            exit_code=code,
            host_metrics_path=f"{host}/host_metrics.json",
            attestation_verification_path=f"{host}/attestation_verification.json",
        )
        names = ("accepted", "run_summary", "run_plan", "run_state", "source_manifest")
        pointers: dict[str, Any] = {name: f"{name}.json" for name in names}
        return {
            "accepted.json": accepted,
            "run_summary.json": summary,
            "run_plan.json": RunPlan(
                **head,
                steps=(),
                selected_worker="mini",
                selected_worker_host="mini.local",
                continue_on_failure=False,
                protocol_version=1,
            ),
            "run_state.json": RunStateRecord(
                **head, state=STATES[self.status], seq=3, updated_at=self.created_at, current_step=None
            ),
            "source_manifest.json": SourceManifest(
                **head, source_sha256=self.source, entries=tuple(self._entries())
            ),
            "run_index.json": RunIndex(**head, **mark, **pointers, steps=(pointer,)),
        }

    def _options(self) -> RunOptions:
        return RunOptions(
            backend="swiftpm",
            artifact_profile="rich",
            continue_on_failure=False,
            queue=True,
            priority=100,
            tags=(),
            on_busy="next",
            max_wait_seconds=1,
            probe_ttl_seconds=1,
            overall_seconds=1,
            idle_log_seconds=1,
            connect_timeout_seconds=1,
            toolchain={},
            destination=None,
            simulate=self.simulated,
        )

    def _source(self) -> Source:
        return Source(
            source_sha256=self.source,
            content_sha256="b" * 64,
            spool_name="s",
            tar_bytes=10240,
            compressed_bytes=1850,
            files=7,
        )

    def _entries(self) -> list[SourceEntry]:
        return [
            SourceEntry(path=path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in sorted(self.sources.items())
        ]

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = {"created_at": self.created_at, "run_id": self.run_id, "job_id": self.job_id}
        return {**head, "job_key": "e" * 64}

    def _job(self) -> dict[str, Any]:
        head = self._head()
        outcomes = [outcome for *_, outcome in self.cases]
        here = capabilities()
        inputs = JobKeyInputs(
            source_sha256=self.source,
            sanitized_argv=self.argv,
            toolchain=swift_toolchain_inputs(here, SWIFT),
            destination=host_destination_inputs(here),
        )
        evidence = (Evidence(source="phase test", fact="exit code 0"),)
        files = ("summary.json", "metrics.json", "test_summary.json", "build_summary.json")
        named = {name.partition(".")[0]: name for name in (*files, "job_key_inputs.json", "junit.xml")}
        return {
            "summary.json": Summary(
                **head,
                status=self.status,
                failure_kind=None if self.status == "success" else "SWIFTPM",
                exit_code=0,
                attempts=1,
                backend="swiftpm",
                human_summary=self.summary,
                duration_ms=self.duration_ms - 500,
                artifact_profile="rich",
                simulated=self.simulated,
                verdict=Verdict(outcome=self.subkind or "PASSED", evidence=evidence),
                **self.members,
            ),
            "metrics.json": Metrics(
                **head,
                stages_ms={"unpack": 20, "build": 3000, "test": 900},
                counts={"log_bytes": 9},
                host_timings={},
            ),
            "test_summary.json": TestSummary(
                **head,
                total=len(outcomes),
                passed=sum(each in {"passed", "flaky"} for each in outcomes),
                failed=outcomes.count("failed"),
                skipped=outcomes.count("skipped"),
                failures=tuple(self.failures),
                flaky=tuple(self.flaky),
                duration_ms=900,
                slowest=tuple(
                    TestNote(name=name, suite=suite, duration_ms=9) for suite, name, _ in self.cases[:10]
                ),
            ),
            "build_summary.json": BuildSummary(
                **head,
                succeeded=True,
                error_count=sum(each.severity == "error" for each in self.diagnostics),
                warning_count=sum(each.severity == "warning" for each in self.diagnostics),
                diagnostics=tuple(self.diagnostics),
                first_error=None,
            ),
            "job_key_inputs.json": jcs(inputs),
            "junit.xml": junit(self.cases),
            "build.log": self.log.encode("utf-8", "surrogatepass"),
            "job_index.json": JobIndex(
                **head, artifact_profile="rich", files={**named, "build_log": "build.log"}
            ),
        }

    def _host(self, host: str) -> dict[str, Any]:
        head = self._head()
        stages = {
            "bundle": 40,
            "queue": 300,
            "selecting": 9,
            "reserving": 8,
            "uploading": 100,
            "releasing": 5,
        }
        return {
            f"{host}/host_metrics.json": HostMetrics(
                **head, stages_ms={**stages, "submitting": 7, "fetching": 6, "publishing": 5}, counts={}
            ),
            f"{host}/attestation_verification.json": AttestationVerification(
                **head, result="unpinned", detail="signed by SHA256:00", manifest_sha256="f" * 64
            ),
        }


def junit(cases: Sequence[tuple[str, str, str]]) -> bytes:
    """`junit.xml` of suites, names and outcomes; what XML cannot hold reads `?`, as a worker writes it."""
    inner = {
        "failed": "<failure message='no'/>",
        "skipped": "<skipped/>",
        "flaky": "<flakyFailure message='once'/>",
        "expected": "<system-out>failed as expected: yes</system-out>",
    }
    rows = [
        f"<testcase classname={_quoted(suite)} name={_quoted(name)} time='0.012'>"
        f"{inner.get(outcome, '')}</testcase>"
        for suite, name, outcome in cases
    ]
    head = "<?xml version='1.0' encoding='UTF-8'?><testsuites><testsuite name='x'>"
    return f"{head}{''.join(rows)}</testsuite></testsuites>".encode()


def _quoted(text: str) -> str:
    return quoteattr(re.sub("[\x00-\x08\x0b-\x1f]", "?", text))


def hostile_run(artifacts: Path) -> RunFolder:
    """A run all of whose texts want something else."""
    return RunFolder(
        artifacts,
        project=HOSTILE,
        status="failed",
        subkind="TESTS_FAILED",
        summary=HOSTILE,
        scope=(HOSTILE,),
        argv=("test", HOSTILE),
        cases=((HOSTILE, HOSTILE, "failed"), ("S", "two()", "flaky")),
        failures=(TestFailure(name=HOSTILE, suite=HOSTILE, message=HOSTILE, path=HOSTILE, line=3),),
        flaky=(TestNote(name=HOSTILE, suite="S", message=HOSTILE),),
        diagnostics=(Diagnostic(path=HOSTILE, line=1, column=1, severity=HOSTILE, message=HOSTILE),),
        log=f"{HOSTILE}\n</pre></details>{HOSTILE}\ud800\n",
    )
