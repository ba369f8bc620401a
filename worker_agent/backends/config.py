"""The part of a job's config that a backend and its verdict need."""

from __future__ import annotations

from typing import Any

from rch.contract.records import Job


def config_of(job: Job) -> dict[str, Any]:
    """The config table of a job, whose `effective_config` is that table or the body of its record."""
    told = job.effective_config
    body = told.get("config")
    return body if isinstance(body, dict) and "sources" in told else told


def allow_no_tests(job: Job) -> bool:
    """`run.allow_no_tests`: whether a test job in which no test ran may pass."""
    run = config_of(job).get("run")
    return isinstance(run, dict) and run.get("allow_no_tests") is True
