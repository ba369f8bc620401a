"""Section 8: a set's files, its manifest and its commit marker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rch_conformance.worker.forms import jcs, jcs_sha256, sha256
from rch_conformance.worker.jobs import ArtifactSet
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_UNLISTED = frozenset({"manifest.json", "attestation.json", "job_index.json"})
_ALWAYS = (
    "job.json",
    "job_state.json",
    "job_key_inputs.json",
    "invocation.json",
    "classifier_policy.json",
    "effective_config.json",
    "toolchain.json",
    "destination.json",
    "summary.json",
    "metrics.json",
    "executor_env.json",
    "manifest.json",
    "attestation.json",
    "job_index.json",
    "build.log",
)
_RICH = ("events.jsonl", "build_summary.json")
_RICH_TESTS = ("test_summary.json", "junit.xml")


def _sets(rig: Rig) -> Iterator[tuple[str, ArtifactSet]]:
    for name, outcome in _outcomes(rig):
        yield name, outcome.set


def _outcomes(rig: Rig) -> Iterator[tuple[str, Outcome]]:
    """Sets of jobs that ended in each way, and what each is called."""
    yield "a build", rig.built()
    yield "a test job", rig.passed()
    yield "a failed test job", rig.failed()
    yield "a cancelled job", rig.cancelled()
    yield "a job that never ran", rig.buried()


def _entries(found: ArtifactSet) -> list[dict[str, Any]]:
    entries = found.record("manifest.json").get("entries")
    expect(isinstance(entries, list) and entries, "manifest.json has no entries")
    return [each for each in entries or () if isinstance(each, dict)]


@check("8", "a set has every file of its scope, also that of a failed and of a cancelled job")
def sets_are_complete(rig: Rig) -> None:
    for what, found in _sets(rig):
        missing = [name for name in _ALWAYS if name not in found.files]
        expect(not missing, f"the set of {what} has no {', '.join(missing)}")


@check("8", "the profile rich adds events and summaries, and a minimal set has none of them")
def profiles_differ(rig: Rig) -> None:
    for name in _RICH:
        expect(name in rig.built().set.files, f"the rich set of a build has no {name}")
    for name in (*_RICH, *_RICH_TESTS):
        expect(name in rig.passed().set.files, f"the rich set of a test job has no {name}")
        expect(name not in rig.buried().set.files, f"a minimal set has {name}")


@check("8", "a test job of an Xcode has its result bundle in the set")
def result_bundle_is_kept(rig: Rig) -> None:
    if rig.project().backend != "xcodebuild":
        return
    below = [name for name in rig.passed().set.files if name.startswith("result.xcresult/")]
    expect(below, "the set of a test job has no result.xcresult/")


@check("8", "a set holds files and folders alone, each name once")
def sets_hold_plain_members(rig: Rig) -> None:
    for what, found in _sets(rig):
        expect(not found.others, f"the set of {what} has links or other things: {found.others[:5]}")
        expect(not found.twice, f"the set of {what} has names that come twice: {found.twice[:5]}")
        for name in (*found.files, *found.folders):
            bad = name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/"))
            expect(not bad, f"the set of {what} has the name {name!r}")


@check("8", "the manifest lists every file and folder but the three that close the set, and nothing else")
def manifest_is_complete(rig: Rig) -> None:
    for what, found in _sets(rig):
        listed = [str(entry.get("path")) for entry in _entries(found)]
        there = (found.files.keys() | found.folders) - _UNLISTED
        expect(len(set(listed)) == len(listed), f"the manifest of {what} lists a name twice")
        extra, missing = sorted(there - set(listed)), sorted(set(listed) - there)
        expect(not extra, f"the set of {what} has what no manifest lists: {extra[:5]}")
        expect(not missing, f"the set of {what} has not what its manifest lists: {missing[:5]}")


@check("8", "the manifest is sorted by the bytes of the paths")
def manifest_is_sorted(rig: Rig) -> None:
    for what, found in _sets(rig):
        listed = [str(entry.get("path")).encode() for entry in _entries(found)]
        expect(listed == sorted(listed), f"the manifest of {what} is not sorted by the bytes of its paths")


@check("8", "each size in the manifest is that of the file, and 0 for a folder")
def sizes_are_right(rig: Rig) -> None:
    for what, found in _sets(rig):
        for entry in _entries(found):
            path = str(entry.get("path"))
            wanted = len(found.files.get(path, b"")) if entry.get("type") == "file" else 0
            expect_same(f"the size of {path} in the manifest of {what}", entry.get("size"), wanted)


@check("8", "each digest in the manifest is that of the file, and null for a folder")
def digests_are_right(rig: Rig) -> None:
    for what, found in _sets(rig):
        for entry in _entries(found):
            path, kind = str(entry.get("path")), entry.get("type")
            expect(kind in {"file", "directory"}, f"{path} is listed as {kind!r}")
            wanted = sha256(found.files.get(path, b"")) if kind == "file" else None
            expect_same(f"the sha256 of {path} in the manifest of {what}", entry.get("sha256"), wanted)


@check("8", "artifact_root_sha256 is the SHA-256 of the entries' canonical form")
def root_is_right(rig: Rig) -> None:
    for what, found in _sets(rig):
        root = found.record("manifest.json").get("artifact_root_sha256")
        expect_same(f"artifact_root_sha256 of {what}", root, jcs_sha256(_entries(found)))


@check("8", "the manifest in the header of a fetch is that of the set")
def header_has_the_manifest(rig: Rig) -> None:
    for what, found in _sets(rig):
        told = found.header.get("manifest")
        expect(
            told == found.record("manifest.json"), f"the header's manifest of {what} is not manifest.json"
        )


@check("8", "job_index.json is there and points to every file of the set: it was written last")
def index_names_every_file(rig: Rig) -> None:
    for what, found in _sets(rig):
        files = found.record("job_index.json").get("files")
        pointers = set(map(str, files.values())) if isinstance(files, dict) else set()
        there = {name.partition("/")[0] for name in found.files} - {"job_index.json"}
        unnamed = sorted(there - {pointer.partition("/")[0] for pointer in pointers})
        expect(not unnamed, f"job_index.json of {what} does not point to {', '.join(unnamed)}")
        nowhere = sorted(pointers - found.files.keys() - found.folders)
        expect(not nowhere, f"job_index.json of {what} points to what is not there: {', '.join(nowhere)}")


@check("8", "what closes a set was written in order: attestation after manifest, index after both")
def closing_order(rig: Rig) -> None:
    for what, found in _sets(rig):
        manifest, attestation = found.files.get("manifest.json", b""), found.record("attestation.json")
        expect_same(f"manifest_sha256 of {what}", attestation.get("manifest_sha256"), sha256(manifest))
        files = found.record("job_index.json").get("files")
        pointers = files.values() if isinstance(files, dict) else ()
        for name in ("manifest.json", "attestation.json"):
            expect(
                name in pointers, f"job_index.json of {what} does not know {name}: it was written before"
            )


@check("8", "job_key_inputs.json is the canonical form itself, whose SHA-256 is the job_key")
def key_inputs_are_the_form(rig: Rig) -> None:
    for what, outcome in _outcomes(rig):
        data = outcome.set.files.get("job_key_inputs.json", b"")
        expect(data == jcs(outcome.job.inputs), f"job_key_inputs.json of {what} is not the canonical form")
        expect_same(f"the SHA-256 of job_key_inputs.json of {what}", sha256(data), outcome.job.key)
