"""Sections 2 to 4: ids, nonces, leases and patience, over the runs of one host."""

from __future__ import annotations

import re
from itertools import combinations

from rch_conformance.host.seen import Run, require, require_equal
from rch_conformance.host.suite import looks_at

_UUID7 = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?7[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}", re.IGNORECASE
)
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)
_HELD_TAILS, _UNHELD_TAILS = 50, 15


@looks_at("2", "run_id and job_id are UUIDv7 or ULID", "success", "again", "build-failed")
def ids_are_sortable(*runs: Run) -> None:
    for run in runs:
        for each in (run.dir.name, *_job_ids(run)):
            require(_UUID7.fullmatch(each) or _ULID.fullmatch(each), "a UUIDv7 or a ULID", each)


@looks_at("2", "The ids of a later run sort after those of an earlier one", "success", "again")
def later_ids_sort_after(success: Run, again: Run) -> None:
    require(success.dir.name < again.dir.name, f"a run_id after {success.dir.name}", again.dir.name)
    before, after = max(_job_ids(success)), min(_job_ids(again))
    require(before < after, f"job_ids after {before}", after)


@looks_at("3.1", "No two requests have one request_id", "success", "again", "build-failed")
def request_ids_are_distinct(*runs: Run) -> None:
    ids = [each.request_id for run in runs for each in run.asked()]
    require_equal(len(set(ids)), len(ids), "distinct ids of the requests")


@looks_at("3.3", "No two jobs have one nonce, over all runs", "success", "again", "build-failed")
def nonces_differ_over_runs(*runs: Run) -> None:
    nonces = [{each.payload["host_nonce"] for each in run.asked("submit")} for run in runs]
    for one, other in combinations(nonces, 2):
        require(not one & other, "nonces of two runs that differ", one & other)


@looks_at("3.4", "An upload bears lease and fence", "success")
def uploads_bear_the_lease(success: Run) -> None:
    told = success.asked("reserve")[0].answer["payload"]
    for each in success.asked("upload_source"):
        claim = (each.payload.get("lease_id"), each.payload.get("fence"))
        require_equal(claim, (told["lease_id"], told["fence"]), "lease_id and fence of an upload")


@looks_at("3.3", "A tail is held by the worker, or made at leisure: no busy loop", "renewals")
def tails_are_held(run: Run) -> None:
    tails = run.asked("tail")
    held = all((each.payload.get("wait_seconds") or 0) > 0 for each in tails)
    most = _HELD_TAILS if held else _UNHELD_TAILS
    require(len(tails) <= most, f"at most {most} tails of a job of 5 s with a log of few lines", len(tails))


@looks_at("3.1", "Members that the host does not know are taken and ignored", "unknown-members")
def unknown_members_are_taken(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code with members of a later age in every answer")


def _job_ids(run: Run) -> list[str]:
    return [str(each["job_id"]) for each in run.record("run_plan.json")["steps"]]
