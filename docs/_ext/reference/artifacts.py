"""Every artifact: the file, who writes it and when, and its members."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from rch.contract import records
from rch.contract.records import Record, schema_id_of
from rch.contract.sets import ALWAYS, INDEXED
from reference.markdown import code, page, prose, schema_links, table
from reference.types_told import inner_of, struct_section


class Origin(NamedTuple):
    """Where a record lies, seen from the run's folder, who writes it, and when."""

    file: str
    writer: str
    when: str


SET = "steps/<action>/<job_id>/"
HOST = "host/<job_id>/"
RICH = "with the profile `rich`: "
SEALED = "when the job has ended, in the order of the seal"
ORIGINS: dict[str, Origin] = {
    "Accepted": Origin("accepted.json", "host", "before the run is answered as accepted"),
    "SourceManifest": Origin("source_manifest.json", "host", "with the snapshot, before acceptance"),
    "RunIndex": Origin(
        "run_index.json", "host", "at acceptance, and again whenever a file it names appears"
    ),
    "RunStateRecord": Origin("run_state.json", "host", "after each durable change of the run"),
    "WorkerSelection": Origin("worker_selection.json", "host", "when a worker is chosen, or none can be"),
    "CapabilitiesRecord": Origin("capabilities.json", "host", "with the selection"),
    "RunPlan": Origin("run_plan.json", "host", "when the run has its worker"),
    "RunSummary": Origin("run_summary.json", "host", "when the run has ended"),
    "HostMetrics": Origin(HOST + "host_metrics.json", "host", "when the step has ended"),
    "AttestationVerification": Origin(
        HOST + "attestation_verification.json", "host", "when the fetched set was verified"
    ),
    "Job": Origin(SET + "job.json", "worker", "at submit, as the host sent it"),
    "Invocation": Origin(SET + "invocation.json", "worker", "at submit, as the host sent it"),
    "ClassifierPolicyRecord": Origin(
        SET + "classifier_policy.json", "worker", "at submit, as the host sent it"
    ),
    "JobStateRecord": Origin(SET + "job_state.json", "worker", "after each change of the job"),
    "EffectiveConfig": Origin(SET + "effective_config.json", "worker", SEALED),
    "Toolchain": Origin(SET + "toolchain.json", "worker", SEALED),
    "Destination": Origin(SET + "destination.json", "worker", SEALED),
    "Summary": Origin(
        SET + "summary.json", "worker; host", f"{SEALED}; in {code(HOST)} where the host ends the step"
    ),
    "Metrics": Origin(SET + "metrics.json", "worker", SEALED),
    "ExecutorEnv": Origin(SET + "executor_env.json", "worker", SEALED),
    "BuildSummary": Origin(SET + "build_summary.json", "worker", RICH + SEALED),
    "TestSummary": Origin(SET + "test_summary.json", "worker", RICH + "of a test job, " + SEALED),
    "Manifest": Origin(SET + "manifest.json", "worker", "when every other file lies there; names them all"),
    "Attestation": Origin(SET + "attestation.json", "worker", "after the manifest, whose bytes it signs"),
    "JobIndex": Origin(SET + "job_index.json", "worker", "last: it commits the set"),
}
OTHER_FILES = {
    "job_key_inputs.json": "what the job key is made of, in canonical JSON: [job key](../job-key.md)",
    "build.log": "all that the tools printed, as it came",
    "events.jsonl": "an event a line: stages, tests, failures, diagnostics; with the profile `rich`",
    "result.xcresult": "Xcode's own result bundle, a folder; where xcodebuild wrote one",
    "junit.xml": "the tests as JUnit; of a test job, with the profile `rich`",
}
INTRO = """
A run leaves one folder, `<data>/artifacts/xcode/<run_id>/` ([places](../places.md)). Read it from its entry
points: `run_index.json` names what there is of the run, each step's `job_index.json` what there is of the
job. Whatever no index names has no standing.

Every JSON file has `schema_id`, `schema_version` and `created_at` (RFC 3339, UTC). A reader takes any
`schema_version` of the major that it knows and ignores members that it does not. Members that are *left
out* where they have nothing to say are marked so; others are null. Files are written to a temporary name,
made durable, and renamed: one that is there is whole.
"""


def kinds() -> list[type[Record]]:
    """Every record type that is written to a file."""
    found = []
    for name in records.__all__:
        each = getattr(records, name)
        if isinstance(each, type) and issubclass(each, Record) and name in ORIGINS:
            found.append(each)
    return sorted(found, key=lambda each: list(ORIGINS).index(each.__name__))


def artifacts_page(docs: Path) -> str:
    """The page."""
    listed = kinds()
    rows = []
    for kind in listed:
        origin = ORIGINS[kind.__name__]
        name = origin.file.rpartition("/")[2]
        rows.append((f"[{code(name)}](#artifact-{kind.__name__.lower()})", origin.writer, origin.when))
    parts = [INTRO, table(("file", "written by", "when"), rows)]
    parts.append("Beside them in a job's set:\n")
    parts.append(table(("file", "what it is"), [(code(name), text) for name, text in OTHER_FILES.items()]))
    always = ", ".join(code(INDEXED[name]) for name in ALWAYS)
    parts.append(f"Every set has {always}; `job_index.json` tells which of the others.\n")
    inner = inner_of(listed)
    links = {each: f"artifact-{each.__name__.lower()}" for each in inner}
    parts.append("## Files\n")
    parts += [_file(kind, links, docs) for kind in listed]
    parts.append("## What stands in them\n")
    parts += [struct_section(each, "artifact", links) for each in inner]
    return page("Artifacts", *parts)


def _file(kind: type[Record], links: dict[type[msgspec.Struct], str], docs: Path) -> str:
    origin = ORIGINS[kind.__name__]
    section = struct_section(kind, "artifact", links)
    head = f"### {kind.__name__}\n"
    name = origin.file.rpartition("/")[2]
    where = f"{code(schema_id_of(kind))} at {code(origin.file)}, by the {origin.writer}, {origin.when}."
    link = schema_links(docs, **{name: f"rch-xcode/{name.removesuffix('.json')}"})
    return section.replace(head, f"### {name}\n\n{where}\n\n{link}", 1)


def undocumented() -> set[str]:
    """Record types with a schema id that no row of `ORIGINS` names."""
    return {
        name
        for name in records.__all__
        if isinstance(each := getattr(records, name), type)
        and issubclass(each, Record)
        and "schema_id" in each.__struct_fields__
    } ^ set(ORIGINS)


__all__ = ["ORIGINS", "artifacts_page", "kinds", "prose", "undocumented"]
