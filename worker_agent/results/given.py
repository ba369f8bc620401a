"""The records of a set that follow from the submit alone, and whether they can be made (section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UnsetType

from rch.contract.records import Destination, EffectiveConfig, Job, Toolchain, schema_id_of
from rch.contract.worker_rpc import SubmitRequest
from worker_agent.backends.config import config_of

PROFILES = frozenset({"minimal", "rich"})


def envelope(job: Job, created_at: str) -> dict[str, Any]:
    """The members that every record of the job has."""
    return {
        "created_at": created_at,
        "run_id": job.run_id,
        "job_id": job.job_id,
        "job_key": job.job_key,
    }


def effective_config(job: Job, created_at: str) -> EffectiveConfig:
    """`effective_config.json` from what the host sent in the job."""
    told: dict[str, Any] = job.effective_config
    whole = isinstance(told.get("config"), dict) and "sources" in told
    body: dict[str, Any] = told if whole else {"config": told}
    table = {
        "config": body["config"],
        "sources": body.get("sources", ()),
        "redactions": body.get("redactions", ()),
    }
    return msgspec.convert({**envelope(job, created_at), **table}, EffectiveConfig)


def toolchain(job: Job, created_at: str) -> Toolchain:
    """`toolchain.json`: the members of the job's identity, and the name of an Xcode's build."""
    named = {} if isinstance(job.xcode_version, UnsetType) else {"xcode_version": job.xcode_version}
    members = {**named, **job.job_key_inputs.toolchain}
    return msgspec.convert({**envelope(job, created_at), **members}, Toolchain)


def destination(job: Job, created_at: str, device: Mapping[str, Any] | None = None) -> Destination:
    """`destination.json`, present for every job; `device` is what the worker found and made for it."""
    used = {} if isinstance(job.udid, UnsetType) else {"udid": job.udid}
    members = {
        **used,
        **(device or {}),
        **job.job_key_inputs.destination,
        "original_constraint": job.original_constraint,
    }
    return msgspec.convert({**envelope(job, created_at), **members}, Destination)


def fault_of(submit: SubmitRequest) -> str | None:
    """Why no set of this submit could be sealed or believed, None if one can.

    Asked before anything is executed: a job that ran and left nothing helps nobody.
    """
    job = submit.job
    if job.artifact_profile not in PROFILES:
        return f"job.artifact_profile {job.artifact_profile[:40]!r} is not minimal or rich"
    if not submit.host_nonce:
        return "host_nonce is empty"
    stranger = _stranger(submit)
    if stranger is not None:
        return stranger
    if not isinstance(config_of(job).get("project", {}), dict):
        return "effective_config.project is no table"
    for make in (effective_config, toolchain, destination):
        try:
            make(job, job.created_at)
        except (msgspec.ValidationError, TypeError) as error:
            return f"{make.__name__}: {error}"
    return None


def _stranger(submit: SubmitRequest) -> str | None:
    """What speaks of another job, action or kind of record than the submit is about."""
    job = submit.job
    wanted = (job.run_id, job.job_id, job.job_key)
    given = (("invocation", submit.invocation), ("classifier_policy", submit.classifier_policy))
    for name, record in given:
        if record is not None and (record.run_id, record.job_id, record.job_key) != wanted:
            return f"{name} speaks of another job than {job.job_id}"
    for one in (job, submit.invocation, submit.classifier_policy):
        if one is not None and one.schema_id != schema_id_of(type(one)):
            return f"schema_id {one.schema_id[:80]!r} is not {schema_id_of(type(one))!r}"
    if submit.invocation.accepted_action != job.action:
        return f"invocation.accepted_action is not {job.action}"
    return None
