"""Section 7: which worker, which toolchain and destination, and what the job key is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from rch.contract.decoding import decode_json
from rch_conformance import fixtures
from rch_conformance.host.rig import spare_of
from rch_conformance.host.seen import Run, require, require_equal, transcript
from rch_conformance.host.suite import looks_at

_SWIFT = {"swift_version", "toolchain_dir", "os_name", "os_version", "arch"}
_XCODE = {"xcode_build", "developer_dir", "macos_version", "macos_build", "arch"}
_SIMULATOR = {"sim_runtime_identifier", "sim_runtime_build", "device_type_identifier"}
_PLACE = {"platform", "name", "os_version", "provisioning"}


@looks_at("7", "The source has the golden digest, whatever machine it is bundled on", "success", "app")
def source_has_the_golden_digest(success: Run, app: Run) -> None:
    for name, run in (("package", success), ("app", app)):
        seen = {each.payload["source_sha256"] for each in run.asked("upload_source")}
        require_equal(seen, {_golden(name)["source_sha256"]}, f"source_sha256 of the fixture {name}")


@looks_at("7", "The jobs of the fixtures have the golden keys", "success", "app")
def jobs_have_the_golden_keys(success: Run, app: Run) -> None:
    for name, run in (("package", success), ("app", app)):
        seen = {each["action"]: each["job_key"] for each in _jobs(run)}
        require_equal(seen, _golden(name)["job_key"], f"job_key of the fixture {name}")


@looks_at("7", "A job key is the SHA-256 of the canonical JSON of its inputs", "success", "app")
def key_is_that_of_its_inputs(*runs: Run) -> None:
    for job in (job for run in runs for job in _jobs(run)):
        text = json.dumps(job["job_key_inputs"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        require_equal(job["job_key"], hashlib.sha256(text.encode()).hexdigest(), "job_key")


@looks_at(
    "7", "The inputs of a key are source, argv, toolchain and destination, and no more", "success", "app"
)
def inputs_are_complete(success: Run, app: Run) -> None:
    for run, tools, place in ((success, _SWIFT, _PLACE), (app, _XCODE, _PLACE | _SIMULATOR)):
        for job in _jobs(run):
            inputs = job["job_key_inputs"]
            wanted = {"source_sha256", "sanitized_argv", "toolchain", "destination"}
            require_equal(set(inputs), wanted, "members of job_key_inputs")
            require_equal(set(inputs["toolchain"]), tools, "members of toolchain")
            require_equal(set(inputs["destination"]), place, "members of destination")


@looks_at("7", "OS=latest becomes the newest runtime of the worker, in destination and argv", "app")
def latest_becomes_concrete(app: Run) -> None:
    for job in _jobs(app):
        where = job["job_key_inputs"]["destination"]
        require_equal(where["os_version"], "18.2", "os_version")
        argv = job["job_key_inputs"]["sanitized_argv"]
        require("latest" not in " ".join(argv), "no OS=latest in sanitized_argv", argv)
        require("OS=latest" in job["original_constraint"], "the wish in original_constraint", job)


@looks_at("7", "No device's UDID is part of a key", "app")
def udid_is_no_part_of_a_key(app: Run) -> None:
    for job in _jobs(app):
        require("00000000-0000-4000-8000" not in json.dumps(job["job_key_inputs"]), "no UDID", job)


@looks_at(
    "7",
    "worker_selection.json has the chosen worker, the versions, and every other with its reason",
    "success",
)
def selection_is_on_record(success: Run) -> None:
    told = success.record("worker_selection.json")
    require_equal(told["selected_worker"], "success", "selected_worker")
    require_equal(told["negotiated_protocol_version"], 1, "negotiated_protocol_version")
    require_equal(told["worker_protocol_range"], {"min": 1, "max": 1}, "worker_protocol_range")
    others = [each for each in told["candidates"] if each["worker"] != "success"]
    require(
        others and all(each["reason"] and not each["chosen"] for each in others), "a reason each", others
    )


@looks_at("7", "Of two workers that could serve, the one of the lower priority number does", "preferred")
def priority_is_heeded(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    chosen = run.record("worker_selection.json")["selected_worker"]
    require_equal(chosen, "preferred", "selected_worker, before one that is first by its name")
    spare = transcript(run.state.with_name(spare_of(run.state.name)))
    require_equal([each.op for each in spare if each.op != "probe"], [], "requests to the other worker")


@looks_at("7", "Where the first worker is busy the next one serves, and that is on record", "next")
def next_worker_serves(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    spare = spare_of(run.state.name)
    require_equal({each.op for each in run.asked("reserve", "submit")}, {"reserve"}, "asked of the first")
    submits = [each for each in transcript(run.state.with_name(spare)) if each.op == "submit"]
    require_equal(len(submits), 1, "submits to the next worker")
    told = run.record("worker_selection.json")
    require_equal(told["selected_worker"], spare, "selected_worker")
    (first,) = [each for each in told["candidates"] if each["worker"] == run.state.name]
    require(first["reason"] and not first["chosen"], "why the first was skipped", first)


@looks_at("7", "capabilities.json has what the worker said when it was selected", "success")
def capabilities_are_kept(success: Run) -> None:
    told = success.asked("probe")[0].answer["payload"]["capabilities"]
    kept = success.record("capabilities.json")
    require_equal(kept["worker"], "success", "worker")
    for name in ("hostname", "os_version", "toolchains", "runtimes", "attestation_pubkey_fingerprint"):
        require_equal(kept["capabilities"][name], told[name], f"{name} of capabilities.json")


@looks_at("7", "A worker whose probe fails is named with its error, and the run ends 20", "absent")
def failed_probe_is_named(run: Run) -> None:
    require_equal((run.failure[0], run.failure[2]), ("SSH", 20), "failure kind and exit code")
    require("absent" in run.summary["human_summary"], "the worker's name", run.summary["human_summary"])


@looks_at("9", "A worker that says simulated gets no real run: 91, and nothing is reserved", "stand-in")
def simulated_worker_serves_no_real_run(run: Run) -> None:
    require_equal((run.failure[0], run.failure[2]), ("WORKER_INCOMPATIBLE", 91), "kind and exit code")
    require_equal({each.op for each in run.asked()} - {"probe"}, set(), "requests but probe")


@looks_at(
    "9", "A simulation is called one in every record, and its green is no success on screen", "simulation"
)
def simulation_is_marked(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    require(run.summary["simulated"] is True, "simulated in run_summary.json", run.summary)
    require(run.index.get("simulated") is True, "simulated in run_index.json")
    require(run.ended.told["data"].get("simulated") is True, "simulated in --json")


@looks_at("7", "A worker without the toolchain serves nothing: 91, with its reason", "no-toolchain")
def missing_toolchain_is_told(run: Run) -> None:
    require_equal((run.failure[0], run.failure[2]), ("WORKER_INCOMPATIBLE", 91), "kind and exit code")
    told = [each["reason"] for each in run.record("worker_selection.json")["candidates"]]
    require(any("Swift" in reason for reason in told), "the missing Swift in worker_selection.json", told)
    require_equal({each.op for each in run.asked()} - {"probe"}, set(), "requests but probe")


def _jobs(run: Run) -> list[dict[str, Any]]:
    return [each.payload["job"] for each in run.asked("submit")]


def _golden(name: str) -> dict[str, Any]:
    golden: dict[str, Any] = decode_json(fixtures.GOLDEN.read_bytes(), dict[str, Any])[name]
    return golden
