"""A simulated worker behind pipes, the demo project as its source, and what a host makes of a wish."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from support import jobs
from support.standin import DEMO
from support.worker_pipe import Bench, Pipe, artifacts, follow, is_running, submit, summary, tar

from rch.config.invocation import policy_from_bundle
from rch.config.worker_config import WorkerConfig
from rch.contract.canonical import jcs_sha256
from rch.contract.classifier import Rejected, classify
from rch.contract.destinations import resolve_destination
from rch.contract.records import Capabilities, Job, JobKeyInputs, Summary
from rch.contract.toolchain import choose_xcode, xcode_toolchain_inputs

WANTED = "platform=iOS Simulator,name=iPhone 16,OS=latest"


@dataclass(frozen=True, slots=True)
class Done:
    """A job at its end: its log, events and set. `attempt` is the execution that sealed it."""

    job: Job
    summary: Summary
    log: str
    events: list[dict[str, Any]]
    folder: Path

    @property
    def verdict(self) -> tuple[str, str, int]:
        """Status, outcome, exit code."""
        told = self.summary.verdict
        assert not isinstance(told, msgspec.UnsetType)
        return self.summary.status, told.outcome, self.summary.exit_code

    @property
    def evidence(self) -> list[str]:
        """What the verdict states, without its sources."""
        told = self.summary.verdict
        assert not isinstance(told, msgspec.UnsetType)
        return [each.fact for each in told.evidence]

    def json(self, name: str) -> dict[str, Any]:
        """A record of the set."""
        tree: dict[str, Any] = msgspec.json.decode((self.folder / name).read_bytes())
        return tree


class XcodeBench(Bench):
    """A bench whose worker's own config brings the stand-ins in."""

    def configure(self, text: str) -> None:
        (self.home / "config" / "worker.toml").write_text(f"simulate = true\n{text}")

    def source(self, pipe: Pipe, scenario: str = "", files: Mapping[str, str] | None = None) -> str:
        """Upload the demo project with a scenario in it; its digest."""
        content: dict[str, bytes | str] = {
            str(path.relative_to(DEMO)): path.read_bytes() for path in DEMO.rglob("*") if path.is_file()
        }
        if scenario:
            content["standin.toml"] = f'scenario = "{scenario}"\n'
        return self.upload(pipe, tar({**content, **(files or {})}))

    def wish(
        self,
        here: Capabilities,
        source: str,
        *argv: str,
        config: Mapping[str, Any] | None = None,
        run_id: str = "",
        xcode: str | None = None,
    ) -> Job:
        """A job for this source as a host plans it: `argv` is an action and flags beside the usual ones."""
        action, *flags = argv or ("test",)
        entry = choose_xcode(here, None, xcode)[0]
        table = (config or {}).get("destination") or {}
        where = resolve_destination(here, WANTED, action, table.get("provisioning", "existing"))
        repo = (DEMO / ".rch" / "xcode.toml").read_bytes()
        asked = (action, "-project", "Lantern.xcodeproj", "-scheme", "Lantern", "-destination", WANTED)
        verdict = classify(
            ("xcodebuild", *asked, *flags),
            policy_from_bundle(repo, WorkerConfig(), top_level=()),
            resolved_destination=where.value,
        )
        assert not isinstance(verdict, Rejected), verdict
        inputs = JobKeyInputs(
            source_sha256=source,
            sanitized_argv=verdict.sanitized_argv,
            toolchain=xcode_toolchain_inputs(here, entry),
            destination=where.inputs,
        )
        return msgspec.structs.replace(
            jobs.job(*verdict.sanitized_argv, config={"backend": "xcodebuild", **(config or {})}),
            run_id=run_id or f"run-{uuid.uuid4().hex}",
            job_id=f"job-{uuid.uuid4().hex}",
            job_key=jcs_sha256(inputs),
            job_key_inputs=inputs,
            xcode_version=entry.version,
            original_constraint=WANTED,
        )

    def running(self, job_id: str) -> list[int]:
        """The processes that were started for a job and live."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and f"/{job_id}/".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return [pid for pid in found if is_running(pid)]

    def run(self, scenario: str, *argv: str, files: Mapping[str, str] | None = None, **more: Any) -> Done:
        """Upload, submit, follow to the end."""
        with self.pipe() as pipe:
            here = self.capabilities(pipe)
            return self.done(pipe, self.wish(here, self.source(pipe, scenario, files), *argv, **more))

    def done(self, pipe: Pipe, job: Job) -> Done:
        """Submit a job and follow it to its end."""
        submit(pipe, job)
        log, events, _ = follow(pipe, job.job_id)
        return Done(job, summary(self, job), log, events, artifacts(self, job))


@contextmanager
def an_xcode_bench(root: Path, config: str = "") -> Iterator[XcodeBench]:
    """A bench; nothing of it runs on afterwards."""
    bench = XcodeBench(root, config)
    try:
        yield bench
    finally:
        bench.end()
