"""Sections 8 and 10: a set that is served from the result cache is one of its own job all the same."""

from __future__ import annotations

from rch_conformance.checks import NotOffered
from rch_conformance.worker.checks.attestations import attestation_of, signed_by_the_advertised_key
from rch_conformance.worker.checks.records import names_its_job
from rch_conformance.worker.forms import sha256
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_CACHE = ("result_cache",)


def _served(rig: Rig) -> Outcome:
    """A build that an earlier one answers for; `NotOffered` where it was executed anew."""
    outcome = rig.served()
    if outcome.set.record("summary.json").get("cached_from_job_id") is None:
        raise NotOffered("result_cache", "an equal build was executed anew")
    return outcome


@check(
    "8", "the records of a set from the result cache name its own job, and where it is from", needs=_CACHE
)
def served_records_name_their_job(rig: Rig) -> None:
    outcome = _served(rig)
    names_its_job(outcome)
    summary = outcome.set.record("summary.json")
    expect(
        summary.get("cached_from_job_id") != outcome.job.job_id,
        "cached_from_job_id is the id of the job itself",
    )
    expect_same("attempts of the summary", summary.get("attempts"), 1)


@check("10", "a set from the result cache is attested anew: its own job, nonce and manifest", needs=_CACHE)
def served_sets_are_attested_anew(rig: Rig) -> None:
    outcome = _served(rig)
    told, job = attestation_of(outcome), outcome.job
    manifest = sha256(outcome.set.files.get("manifest.json", b""))
    wanted = {"run_id": job.run_id, "job_id": job.job_id, "job_key": job.key}
    wanted |= {"host_nonce": job.nonce, "manifest_sha256": manifest}
    for name, value in wanted.items():
        expect_same(name, told.get(name), value)
    if "attestation_signing" in rig.features:
        signed_by_the_advertised_key(rig, outcome)
