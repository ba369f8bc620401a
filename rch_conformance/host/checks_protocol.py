"""Section 3: the envelope, versions, features, refusals, leases and transfers, as a host keeps them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from rch.contract.canonical import jcs_sha256
from rch.contract.ids import is_id
from rch_conformance.checks import NotOffered
from rch_conformance.host.cases import WHOLE_RUN_SECONDS
from rch_conformance.host.seen import Asked, Run, require, require_equal
from rch_conformance.host.suite import ends, looks_at


@looks_at("3.1", "The first question to a worker is probe, in protocol version 0", "success")
def probe_comes_first(success: Run) -> None:
    first = success.asked()[0]
    require_equal((first.op, first.version), ("probe", 0), "the first request")


@looks_at("3.1", "Every other question is in the version that both speak", "success", "protocol-1-to-9")
def version_is_agreed(success: Run, later: Run) -> None:
    for run in (success, later):
        versions = {each.version for each in run.asked() if each.op != "probe"}
        require_equal(versions, {1}, "protocol versions of requests")
    require_equal(later.ended.code, 0, "exit code with a worker that speaks 1 to 9")


@looks_at("3.1", "Each request has an id that is one", "success")
def request_ids_are_ids(success: Run) -> None:
    wrong = [each.request_id for each in success.asked() if not is_id(each.request_id)]
    require(not wrong, "ids of 10 to 64 letters, digits, - and _", wrong)


@looks_at("3.1", "A worker of another protocol is asked for nothing, and the run ends 91", "protocol-9")
def other_protocol_is_refused(run: Run) -> None:
    require_equal(run.failure, ("WORKER_INCOMPATIBLE", None, 91), "failure kind, subkind and exit code")
    require_equal({each.op for each in run.asked()}, {"probe"}, "operations asked for")


@looks_at("3.1", "A missing required feature is named, and the run ends 91", "no-upload")
def missing_feature_is_named(run: Run) -> None:
    kind, _, code = run.failure
    require_equal((kind, code), ("WORKER_INCOMPATIBLE", 91), "failure kind and exit code")
    require("upload" in run.summary["human_summary"], "the feature upload by its name", run.summary)


@looks_at("3.1", "A worker without sessions is asked once a channel", "no-session")
def without_session_one_shot(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    most = max(Counter(each.channel for each in run.asked()).values())
    require_equal(most, 1, "requests of one channel")


@looks_at("3.1", "UNSUPPORTED_PROTOCOL ends the run 91", "unsupported-protocol")
def unsupported_protocol_ends(run: Run) -> None:
    kind, _, code = run.failure
    require_equal((kind, code), ("WORKER_INCOMPATIBLE", 91), "failure kind and exit code")


@looks_at("3.1", "A lost source is uploaded again and the job submitted once more", "source-lost")
def source_missing_uploads_again(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    ops = [each.op for each in run.asked("upload_source", "submit")]
    require_equal(ops, ["upload_source", "submit", "upload_source", "submit"], "uploads and submits")


@looks_at("3.1", "BASE_MISSING for a thin upload leads to a full one", "base-missing", "changed")
def base_missing_uploads_all(first: Run, changed: Run) -> None:
    require_equal((first.ended.code, changed.ended.code), (0, 0), "exit codes")
    uploads = changed.asked("upload_source")
    if not any(each.payload.get("base") for each in uploads):
        raise NotOffered("upload_thin", "the host sends a changed source as a whole")
    last = uploads[-1]
    require(not last.payload.get("base"), "a full upload after BASE_MISSING", last.payload)
    (submit,) = changed.asked("submit")
    source = submit.payload["job"]["job_key_inputs"]["source_sha256"]
    require_equal(last.payload["source_sha256"], source, "source_sha256 of the full upload")


@looks_at("3.1", "A source that is lost each time is not uploaded for ever", "source-never")
def source_missing_ends(run: Run) -> None:
    require_equal(run.failure[2], 30, "exit code")
    require_equal(len(run.asked("submit")), 2, "submits")


@looks_at(
    "3.4", "An expired lease at submit is reserved anew exactly once, and that is on record", "lease-lost"
)
def lease_expired_reserves_once(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    ops = [each.op for each in run.asked("reserve", "submit")]
    require_equal(ops, ["reserve", "submit", "reserve", "submit"], "reserves and submits")
    require(run.record("run_state.json").get("lease_renewed") is True, "lease_renewed in run_state.json")


@looks_at("3.4", "A lease that is expired at every submit ends the run after one more try", "lease-never")
def lease_never_ends(run: Run) -> None:
    require(run.ended.code != 0, "a failure", run.ended.code)
    counts = Counter(each.op for each in run.asked("reserve", "submit"))
    require_equal((counts["reserve"], counts["submit"]), (2, 2), "reserves and submits")


@looks_at(
    "3.4",
    "The run reserves once, before its first submit, and each submit bears lease and fence",
    "success",
)
def submits_bear_the_lease(success: Run) -> None:
    asked = success.asked("reserve", "submit")
    require_equal([each.op for each in asked], ["reserve", "submit", "submit"], "reserves and submits")
    lease = _lease(asked[0])
    for each in asked[1:]:
        require_equal(_claim(each), lease, "lease_id and fence of a submit")


@looks_at(
    "3.4", "The lease is given back at the end, with its fence", "success", "build-failed", "interrupted"
)
def lease_is_released(*runs: Run) -> None:
    for run in runs:
        last = run.asked("reserve", "submit", "fetch", "cancel", "release")[-1]
        require_equal(last.op, "release", "the last request of a run")
        require_equal(_claim(last), _lease(run.asked("reserve")[0]), "lease_id and fence that are released")


@looks_at("3.4", "A short lease is renewed at about a third of its life", "renewals")
def leases_are_renewed(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    first, renewals = run.asked("reserve"), run.asked("renew")
    require_equal(len(first), 1, "new reserves")
    ttl = first[0].answer["payload"]["ttl_seconds"] * 1000
    gaps = [after.at_ms - before.at_ms for before, after in pairwise([first[0], *renewals])]
    require(len(gaps) >= 3, f"a renewal at each third of {ttl} ms in a job of 5 s", gaps)
    require(max(gaps) < ttl, f"no pause of {ttl} ms or more between renewals", gaps)
    require(min(gaps) > ttl / 10, f"no renewal sooner than {ttl / 10:g} ms after the last one", gaps)
    for each in renewals:
        require_equal(_claim(each), _lease(first[0]), "lease_id and fence of a renewal")


@looks_at("3.4", "A busy worker is left alone for as long as it asks", "busy-twice")
def busy_is_respected(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    reserves = run.asked("reserve")
    require_equal([each.refused for each in reserves], ["BUSY", "BUSY", None], "answers to reserve")
    gaps = [after.at_ms - before.at_ms for before, after in pairwise(reserves)]
    require(min(gaps) >= 950, "at least the second of retry_after_seconds between reserves", gaps)


@looks_at("3.4", "With --no-queue a busy worker is asked once, and the run ends 90", "busy")
def busy_without_queue(run: Run) -> None:
    require_equal(run.failure, ("WORKER_BUSY", None, 90), "failure kind, subkind and exit code")
    require_equal(len(run.asked("reserve")), 1, "reserves")


@looks_at("3.2", "An upload announces what it sends, and the worker finds it so", "success")
def upload_is_what_it_says(success: Run) -> None:
    (upload,) = success.asked("upload_source")
    stream, came = upload.payload["stream"], upload.answer["body"]
    require_equal(came, {"bytes": stream["content_length"], "sha256": stream["content_sha256"]}, "the body")
    require_equal(upload.refused, None, "refusal of the upload")
    wanted = {"content_length", "content_sha256", "compression", "format"}
    require(wanted <= set(stream), f"{sorted(wanted)} in stream", sorted(stream))


@looks_at("3.3", "A source that is there already is not sent again", "success", "again")
def known_source_is_not_sent(success: Run, again: Run) -> None:
    require_equal(again.ended.code, 0, "exit code")
    require_equal(len(again.asked("upload_source")), 0, "uploads of the second run")
    require_equal(len(success.asked("upload_source")), 1, "uploads of the first run")


@looks_at("3.3", "A submit names a job with its own key, its first seq, and a nonce of its own", "success")
def submits_are_whole(success: Run) -> None:
    submits = success.asked("submit")
    for each in submits:
        job, invocation = each.payload["job"], each.payload["invocation"]
        require_equal(job["job_key"], jcs_sha256(job["job_key_inputs"]), "job_key")
        require_equal(invocation["job_id"], job["job_id"], "job_id of the invocation")
        require_equal(each.payload["job_state_seq"], 1, "job_state_seq")
    nonces = {each.payload["host_nonce"] for each in submits}
    require(len(nonces) == len(submits) and all(nonces), "a host_nonce a job", nonces)


@looks_at("3.3", "Each job is submitted once where nothing goes wrong", "success")
def jobs_are_submitted_once(success: Run) -> None:
    ids = [each.payload["job"]["job_id"] for each in success.asked("submit")]
    require_equal(len(ids), len(set(ids)), "submits of a job")


@looks_at("3.3", "A tail goes on where the last answer ended", "cut-tail", "success")
def tails_go_on(cut: Run, success: Run) -> None:
    for run in (cut, success):
        require_equal(run.ended.code, 0, "exit code")
        given: dict[str, set[str | None]] = {}
        for each in run.asked("tail"):
            job = each.payload["job_id"]
            require(
                each.payload.get("cursor") in given.setdefault(job, {None}),
                f"a cursor that was given for {job}",
                each.payload,
            )
            given[job].add(each.answer.get("payload", {}).get("next_cursor"))


@looks_at("3.3", "After a cut line the log is whole, and no line of it comes twice", "cut-tail")
def log_is_whole_after_a_cut(run: Run) -> None:
    job = run.job("build")
    (step,) = run.steps("build")
    live, kept = run.dir / str(step["live_log_path"]), job / "build.log"
    require_equal(live.read_text(), kept.read_text(), "the live log against build.log")


@looks_at("3.3", "The status of a worker without tail is asked for, and the run succeeds", "no-tail")
def without_tail_polls(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    require(run.asked("status"), "status", [each.op for each in run.asked()])
    require(not run.asked("tail"), "no tail", [each.op for each in run.asked()])


@looks_at("3.4", "A worker without leases is used without any", "no-lease")
def without_lease(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    _require_no_leases(run)


@looks_at(
    "3.4", "Without leases a busy worker is handed the job again, not sooner than it asks", "no-lease-busy"
)
def busy_without_lease(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    _require_no_leases(run)
    submits = run.asked("submit")
    require_equal([each.refused for each in submits], ["BUSY", "BUSY", None], "answers to submit")
    require_equal(len({each.payload["job"]["job_id"] for each in submits}), 1, "jobs submitted")
    gaps = [after.at_ms - before.at_ms for before, after in pairwise(submits)]
    require(min(gaps) >= 950, "at least the second of retry_after_seconds between submits", gaps)


@looks_at("3.4", "Without leases and with --no-queue a busy worker ends the run 90", "no-lease-taken")
def busy_without_lease_nor_queue(run: Run) -> None:
    require_equal(run.failure, ("WORKER_BUSY", None, 90), "failure kind, subkind and exit code")
    require(len(run.asked("submit")) <= 1, "one submit at most", len(run.asked("submit")))
    _require_no_leases(run)


@looks_at("3.4", "Ctrl-C cancels a job that has no lease", "no-lease-long-job")
def interrupt_without_lease(run: Run) -> None:
    require_equal(run.failure, ("CANCELLED", None, 80), "failure kind, subkind and exit code")
    require(run.asked("cancel"), "a cancel of the job", [each.op for each in run.asked()])
    _require_no_leases(run)


@looks_at("3.4", "A lease that is never renewed is asked for the whole run", "no-renewals")
def lease_for_the_whole_run(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    reserves = run.asked("reserve", "renew")
    require_equal([each.op for each in reserves], ["reserve"], "reserves and renewals")
    ttl = reserves[0].payload.get("ttl_seconds")
    least = WHOLE_RUN_SECONDS
    require(isinstance(ttl, int) and ttl >= least, f"a ttl_seconds of {least} at least", ttl)


@looks_at("3.1", "A worker that offers upload alone is used", "upload-alone")
def upload_is_enough(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    _require_no_leases(run)
    require(not run.asked("tail"), "no tail", [each.op for each in run.asked()])


def _require_no_leases(run: Run) -> None:
    """Nothing is asked that a worker without leases does not know."""
    ops = [each.op for each in run.asked()]
    require(not {"reserve", "renew", "release"} & set(ops), "no reserve, renewal or release", ops)
    named = [each.op for each in run.asked() if each.payload.get("lease_id") is not None]
    require(not named, "no lease_id in any request", named)


@looks_at("3.3", "A cut answer to submit leads to no second job", "cut-line")
def cut_submit_is_the_same_job(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    require_equal(len({each.payload["job"]["job_id"] for each in run.asked("submit")}), 1, "jobs submitted")
    require_equal(len({each.payload["host_nonce"] for each in run.asked("submit")}), 1, "nonces of the job")


@looks_at("3.2", "A cut fetch is made again, and what came is used or thrown away", "cut-fetch")
def cut_fetch_is_made_again(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    require(len(run.asked("fetch")) >= 2, "a second fetch", len(run.asked("fetch")))


def _lease(reserve: Asked) -> tuple[object, object]:
    told = reserve.answer.get("payload", {})
    return told.get("lease_id"), told.get("fence")


def _claim(request: Asked) -> tuple[object, object]:
    return request.payload.get("lease_id"), request.payload.get("fence")


def _ends(case: str, name: str, kind: str, subkind: str | None, code: int) -> None:
    ends("3.1", name, case, kind, subkind, code)


_BROKEN = ("EXECUTOR", "PROTOCOL_ERROR", 40)
_ends("rejected", "CLASSIFIER_REJECTED of a worker ends the run 10", "CLASSIFIER_REJECTED", None, 10)
_ends(
    "toolchain-changed", "TOOLCHAIN_CHANGED ends the run 91", "WORKER_INCOMPATIBLE", "TOOLCHAIN_CHANGED", 91
)
_ends("invalid-request", "INVALID_REQUEST ends the run 40", *_BROKEN)
_ends("feature-missing", "FEATURE_MISSING ends the run 91", "WORKER_INCOMPATIBLE", "FEATURE_MISSING", 91)
_ends("unknown-operation", "UNKNOWN_OPERATION ends the run 91", "WORKER_INCOMPATIBLE", None, 91)
_ends("gone", "ARTIFACTS_GONE ends the run 70", "ARTIFACTS", "GONE", 70)
_ends("too-large", "PAYLOAD_TOO_LARGE ends the run 92", "BUNDLER", "SIZE_EXCEEDED", 92)
_ends("no-space", "NO_SPACE for an upload ends the run 30", "TRANSFER", "NO_SPACE", 30)
_ends("no-space-at-submit", "NO_SPACE for a job ends the run 40", "EXECUTOR", "NO_SPACE", 40)
_ends("internal", "INTERNAL ends the run 40", *_BROKEN)
_ends("key-mismatch", "JOB_KEY_MISMATCH ends the run 40", *_BROKEN)
_ends(
    "range-upside-down",
    "A range whose minimum is above its maximum ends the run 91",
    "WORKER_INCOMPATIBLE",
    None,
    91,
)
_ends("other-request", "An answer to another request ends the run 40", *_BROKEN)
_ends("no-json", "An answer that is no JSON ends the run 40", *_BROKEN)
_ends("state-unknown", "A state that no contract knows ends the run 40", *_BROKEN)
ends("4", "A seq that falls ends the run 40", "seq-falls", *_BROKEN)
