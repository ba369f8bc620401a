"""Sections 8 and 10: what a host keeps of a run, what it refuses of a set, and whose word it takes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rch.contract.canonical import jcs_sha256
from rch.contract.ids import is_timestamp
from rch.contract.manifest import UNLISTED
from rch_conformance.host.records import decode
from rch_conformance.host.rig import records_of
from rch_conformance.host.seen import Run, require, require_equal
from rch_conformance.host.suite import ends, looks_at

_NO_ENVELOPE = {"job_key_inputs.json"}
_MISMATCH = ("ARTIFACTS", "INTEGRITY_MISMATCH", 70)
_UNTRUSTED = ("ATTESTATION", None, 93)


@looks_at(
    "8", "Every JSON artifact has schema, version, time and ids", "success", "build-failed", "refused-here"
)
def records_have_envelopes(*runs: Run) -> None:
    for run in runs:
        for path, told in records_of(run):
            if path.name in _NO_ENVELOPE:
                continue
            name = str(path.relative_to(run.dir))
            require(str(told.get("schema_id", "")).startswith("rch-xcode/"), f"schema_id in {name}", told)
            require(is_timestamp(told.get("created_at")), f"created_at with Z in {name}", told)
            require_equal(told.get("run_id"), run.dir.name, f"run_id of {name}")
            if "steps" in path.relative_to(run.dir).parts:
                require_equal(told.get("job_id"), path.parent.name, f"job_id of {name}")
                require("job_key" in told, f"job_key in {name}", told)


@looks_at(
    "8", "Every JSON artifact is a record of its schema", "success", "build-failed", "refused-here", "app"
)
def records_are_valid(*runs: Run) -> None:
    for run in runs:
        for path, _ in records_of(run):
            if path.name not in _NO_ENVELOPE:
                decode(path)


@looks_at(
    "8",
    "run_index.json leads to every file of the run, and to nothing that is not there",
    "success",
    "busy",
)
def index_leads_to_files(*runs: Run) -> None:
    wanted = ("run_summary", "run_plan", "run_state", "worker_selection", "capabilities", "source_manifest")
    for run in runs:
        index = run.index
        require(set(wanted) <= set(index), "the pointers of the contract", sorted(index))
        pointers = [index[name] for name in wanted]
        pointers += [
            value for step in index["steps"] for name, value in step.items() if name.endswith("_path")
        ]
        gone = [each for each in pointers if each is not None and not (run.dir / each).exists()]
        require(not gone, "pointers to what is there", gone)
    success = runs[0]
    require(None not in [success.index[name] for name in wanted], "each file of a success", success.index)
    steps = [(each["index"], each["action"], each["status"], each["exit_code"]) for each in success.steps()]
    require_equal(steps, [(0, "build", "success", 0), (1, "test", "success", 0)], "steps of run_index.json")


@looks_at("8", "run_summary.json counts its steps", "success", "build-failed", "goes-on", "refused-here")
def summary_counts(*runs: Run) -> None:
    words = {"succeeded": "success", "failed": "failed", "cancelled": "cancelled"}
    words |= {"skipped": "skipped", "rejected": "rejected"}
    for run in runs:
        told = run.summary
        statuses = [each["status"] for each in told["steps"]]
        require_equal(told["step_count"], len(statuses), "step_count")
        for member, status in words.items():
            require_equal(told[f"steps_{member}"], statuses.count(status), f"steps_{member}")


@looks_at("8", "A published set is what its manifest says, to the byte", "success", "app", "tests-failed")
def sets_are_what_they_say(*runs: Run) -> None:
    for run in runs:
        for step in run.steps():
            _require_set(run, run.job(step["action"]))


@looks_at("8", "job_index.json names what is there, and is the worker's own", "success")
def job_index_is_kept(success: Run) -> None:
    for step in success.steps():
        folder = success.job(step["action"])
        files = _read(success, folder / "job_index.json")["files"]
        gone = [path for path in files.values() if not (folder / path).exists()]
        require(not gone, "files that are there", gone)
        named = {"job", "summary", "manifest", "attestation", "build_log", "job_state"}
        require(named <= set(files), "the files of every set", sorted(files))


@looks_at("8", "The host adds nothing to a fetched set: what it knows lies in host/", "success")
def sets_are_not_edited(success: Run) -> None:
    for step in success.steps():
        folder = success.job(step["action"])
        manifest = (folder / "manifest.json").read_bytes()
        said = _read(success, folder / "attestation.json")["manifest_sha256"]
        require_equal(hashlib.sha256(manifest).hexdigest(), said, "manifest_sha256 of the attestation")
        own = success.dir / "host" / str(step["job_id"])
        require((own / "attestation_verification.json").is_file(), "attestation_verification.json in host/")
        require_equal((own / "live.log").read_bytes(), (folder / "build.log").read_bytes(), "the live log")


@looks_at("8", "A set that fails its digests is fetched once more, and no third time", "wrong-digest")
def bad_set_is_fetched_twice(run: Run) -> None:
    require_equal(run.failure, _MISMATCH, "failure kind, subkind and exit code")
    require_equal(len(run.asked("fetch")), 2, "fetches")


@looks_at("8", "A set that is right the second time is taken", "wrong-digest-once")
def second_fetch_may_be_right(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    require_equal(len(run.asked("fetch")), 2, "fetches")
    _require_set(run, run.job("build"))


@looks_at(
    "8",
    "A bad set is kept beside as .rejected, and nothing of it is published",
    "wrong-digest",
    "extra-file",
)
def bad_sets_are_kept_beside(*runs: Run) -> None:
    for run in runs:
        folder = run.job("build")
        beside = folder.with_name(f"{folder.name}.rejected")
        require(beside.is_dir(), "the bad set beside the step's place", sorted(folder.parent.iterdir()))
        require(not (folder / "build.log").exists(), "no file of the bad set at the step's place")
        (step,) = run.steps("build")
        require(step["status"] == "failed", "a failed step in run_index.json", step)


@looks_at("8", "The errors of a bad set are told one by one", "wrong-digest")
def integrity_errors_are_told(run: Run) -> None:
    found = [
        told["integrity_errors"]
        for path, told in records_of(run)
        if path.name == "summary.json" and told.get("integrity_errors")
    ]
    require(
        found and any("build.log" in line for line in found[0]), "integrity_errors with build.log", found
    )


@looks_at("8", "The reasons of a worker that rejects a command line are told", "rejected")
def workers_reasons_are_told(run: Run) -> None:
    found = [told["rejection_reasons"] for _, told in records_of(run) if told.get("rejection_reasons")]
    wanted = [{"code": "DENIED_FLAG", "subject": "-sdk", "message": "not here"}]
    require_equal(found[:1], [wanted], "rejection_reasons of the step's summary.json")


@looks_at(
    "8", "Nothing of an unsafe set is written outside of its folder", "unsafe-path", "absolute-path", "link"
)
def unsafe_sets_write_nowhere_else(*runs: Run) -> None:
    for run in runs:
        strays = [*run.dir.rglob("outside.txt"), *run.dir.rglob("link-to-outside")]
        require(not strays, "no entry of the unsafe kind", strays)
        require(not Path("/tmp/outside.txt").exists(), "no /tmp/outside.txt")  # noqa: S108  (what the set names)


@looks_at("3.2", "A set that comes uncompressed is taken", "plain-set")
def plain_set_is_taken(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    _require_set(run, run.job("build"))


@looks_at("10", "A set that the pinned key signed is verified, and that is on record", "success", "app")
def pinned_key_is_verified(*runs: Run) -> None:
    for run in runs:
        for step in run.steps():
            told = run.record(str(step["attestation_verification_path"]))
            require_equal(told["result"], "verified", "result of attestation_verification.json")


@looks_at("10", "A set that is not trusted is not published", "unsigned", "other-key", "wrong-nonce")
def untrusted_sets_are_not_published(*runs: Run) -> None:
    for run in runs:
        folder = run.job("build")
        require(not (folder / "manifest.json").exists(), "no manifest.json at the step's place")


def _bad(case: str, name: str) -> None:
    ends("8", name, case, *_MISMATCH)


_bad("missing-file", "A set without a file of its manifest is refused")
_bad("extra-file", "A set with a file beyond its manifest is refused")
_bad("unsafe-path", "A set with .. in a path is refused")
_bad("absolute-path", "A set with an absolute path is refused")
_bad("link", "A set with a link is refused")
_bad("twice", "A set with an entry twice is refused")
_bad("wrong-root", "A set whose artifact_root_sha256 is not that of its entries is refused")
_bad("other-job", "A set of another job is refused")
ends("10", "An unsigned set of a pinned worker is refused: 93", "unsigned", *_UNTRUSTED)
ends("10", "A wrong signature is refused: 93", "bad-signature", *_UNTRUSTED)
ends("10", "A signature of a key that is not the pinned one is refused: 93", "other-key", *_UNTRUSTED)
ends("10", "An attestation with another nonce is refused: 93", "wrong-nonce", *_UNTRUSTED)

ends("10", "A DSSE statement whose signature does not verify is refused: 93", "bad-statement", *_UNTRUSTED)


def _read(run: Run, path: Path) -> dict[str, Any]:
    return run.record(str(path.relative_to(run.dir)))


def _require_set(run: Run, folder: Path) -> None:
    """Names, sizes, digests and root, computed here."""
    manifest = _read(run, folder / "manifest.json")
    entries = {each["path"]: each for each in manifest["entries"]}
    require_equal(list(entries), sorted(entries, key=str.encode), "the order of the entries")
    require_equal(jcs_sha256(manifest["entries"]), manifest["artifact_root_sha256"], "artifact_root_sha256")
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    require_equal(set(there) - UNLISTED, set(entries), f"the files in {folder.name}")
    for name, entry in entries.items():
        path = there[name]
        require_equal("directory" if path.is_dir() else "file", entry["type"], f"type of {name}")
        if entry["type"] == "file":
            data = path.read_bytes()
            found = (len(data), hashlib.sha256(data).hexdigest())
            require_equal(found, (entry["size"], entry["sha256"]), f"size and digest of {name}")
