"""Mutants of what the records of a set say (sections 8, 10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from conformance.mutants import module, mutant, replaced, wrap


def _seal() -> Any:
    return module("worker_agent.results.seal")


def _finish() -> Any:
    return module("worker_agent.results.finish")


@mutant("summary without a verdict", "verdict-is-on-record")
def _no_verdict() -> None:
    def silent(real: Any) -> Any:
        return lambda *given, **named: replaced(real(*given, **named), verdict=msgspec.UNSET)

    wrap(module("worker_agent.results.summaries"), "summary", silent)


@mutant("effective configuration empty", "configuration-is-kept")
def _no_configuration() -> None:
    def empty(real: Any) -> Any:
        return lambda job, at: replaced(real(job, at), config={}, sources=())

    wrap(_seal(), "effective_config", empty)


@mutant("another policy in the set", "policy-is-kept")
def _other_policy() -> None:
    def other(real: Any) -> Any:
        def write(folder: Path, submit: Any, *given: Any, **named: Any) -> Any:
            record = replaced(submit.classifier_policy, policy={"backend": "other"})
            return real(folder, replaced(submit, classifier_policy=record), *given, **named)

        return write

    for owner in (_seal(), _finish()):
        if hasattr(owner, "write_given"):
            wrap(owner, "write_given", other)


@mutant("minimal profile is a rich one", "minimal-job-that-ran")
def _always_rich() -> None:
    def rich(real: Any) -> Any:
        def write(layout: Any, submit: Any, *given: Any, **named: Any) -> Any:
            job = replaced(submit.job, artifact_profile="rich")
            return real(layout, replaced(submit, job=job), *given, **named)

        return write

    wrap(_finish(), "_write_rich", rich)


@mutant("pointers of the index swapped", "pointers-are-right")
def _swapped_pointers() -> None:
    indexed = dict(_seal().INDEXED)
    indexed["manifest"], indexed["summary"] = indexed["summary"], indexed["manifest"]
    _seal().INDEXED = indexed


@mutant("another profile in the index", "profile-is-named")
def _other_profile() -> None:
    def other(real: Any) -> Any:
        return lambda **members: real(**{**members, "artifact_profile": "minimal"})

    wrap(_seal(), "JobIndex", other)


@mutant("no events", "events-are-those-of-the-tail")
def _no_events() -> None:
    def empty(real: Any) -> Any:
        def write(layout: Any, *given: Any, **named: Any) -> Any:
            told = real(layout, *given, **named)
            if layout.events.exists():
                layout.events.write_bytes(b"")
            return told

        return write

    wrap(_finish(), "_write_rich", empty)
    module("worker_agent.tail")._lines = lambda *_: []


@mutant("every test result PASSED", "failed-tests-are-attested")
def _all_passed() -> None:
    module("rch.contract.provenance")._result = lambda _told: "PASSED"


@mutant("provenance without the toolchain", "provenance-names-the-toolchain")
def _source_alone() -> None:
    def alone(real: Any) -> Any:
        def provenance(told: Any) -> Any:
            made = real(told)
            definition = made["buildDefinition"]
            definition["resolvedDependencies"] = definition["resolvedDependencies"][:1]
            return made

        return provenance

    wrap(module("rch.contract.provenance"), "_provenance", alone)


@mutant("attestation of a failed job not signed", "key-is-the-advertised-one")
def _failed_unsigned() -> None:
    def careless(real: Any) -> Any:
        def commit(folder: Path, submit: Any, **named: Any) -> Any:
            if json.loads((folder / "job_state.json").read_bytes())["state"] == "FAILED":
                named["seed"] = None
            return real(folder, submit, **named)

        return commit

    wrap(_seal(), "commit", careless)


@mutant("attestation without the worker's name", "attestation-names-the-worker")
def _nameless() -> None:
    def nameless(real: Any) -> Any:
        return lambda **members: real(**{**members, "worker": {**members["worker"], "name": ""}})

    wrap(_seal(), "Attestation", nameless)


@mutant("statements signed by another as well", "envelopes-are-signed")
def _two_signatures() -> None:
    def twice(real: Any) -> Any:
        def enclose(statement: Any, seed: Any) -> Any:
            envelope = real(statement, seed)
            (own,) = envelope.signatures
            return replaced(envelope, signatures=(own, replaced(own, keyid=f"SHA256:{'0' * 64}")))

        return enclose

    wrap(_seal(), "enclose", twice)
