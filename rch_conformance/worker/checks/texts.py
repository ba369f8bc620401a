"""Section 2: ids, time, text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same, operations_on_jobs

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*")
_BAD_IDS = (
    "short",
    "x" * 65,
    "-begins-with-a-dash",
    "../../../etc/passwd",
    "has a blank in it",
    "späte-idee-1",
)


@check("2", "a request_id of 10 characters and one of 64 are taken and echoed")
def request_ids_of_both_lengths(rig: Rig) -> None:
    for request_id in ("A" * 10, "z9_-" * 16):
        answer = rig.ask("probe", request_id=request_id)
        expect(answer.ok, f"a request_id of {len(request_id)} characters was refused: {answer.shown()}")
        expect_same("request_id", answer.raw.get("request_id"), request_id)


@check("2", "a request_id that is no id is answered INVALID_REQUEST")
def bad_request_id_is_refused(rig: Rig) -> None:
    for request_id in _BAD_IDS:
        rig.ask("probe", request_id=request_id).refused_with("INVALID_REQUEST")


@check("2", "a bad request_id is echoed if it is a string of at most 256 characters, and only then")
def bad_request_id_is_echoed(rig: Rig) -> None:
    for request_id in ("short", "y" * 256):
        answer = rig.ask("probe", request_id=request_id)
        expect_same("request_id of the refusal", answer.raw.get("request_id"), request_id)
    for other in ("y" * 257, 12, ["x"], None):
        echoed = rig.ask("probe", request_id=other).raw.get("request_id")
        expect(echoed is None, f"the request_id {other!r:.40} was echoed as {echoed!r:.80}")


@check("2", "a job_id, run_id or lease_id that is no id is refused before it touches a path")
def bad_ids_are_refused(rig: Rig) -> None:
    for bad in _BAD_IDS:
        for op in operations_on_jobs(rig):
            rig.ask(op, {"job_id": bad}).refused_with("INVALID_REQUEST")
        rig.ask("cancel", {"job_id": bad, "reason": "USER"}).refused_with("INVALID_REQUEST")


@check("2", "a run_id that is no id gets no lease", needs=("lease",))
def bad_run_id_gets_no_lease(rig: Rig) -> None:
    for bad in _BAD_IDS:
        rig.reserve(bad).refused_with("INVALID_REQUEST")
    answer = rig.ask("release", {"lease_id": "../x", "fence": 1})
    answer.refused_with("INVALID_REQUEST")


@check("2", "every timestamp of an answer is RFC 3339 in UTC with a Z")
def timestamps_of_answers(rig: Rig) -> None:
    told: dict[str, Any] = {
        "probe": rig.probe(),
        "status": rig.built().status,
        "tail": rig.built().log.events,
    }
    if "lease" in rig.features:
        told["reserve"] = rig.lease(rig.run_id).granted
    _hold(told)
    for name in ("created_at", "updated_at"):
        value = rig.built().status.get(name)
        expect(
            isinstance(value, str) and _TIMESTAMP.fullmatch(value),
            f"status: {name} is {value!r}, not RFC 3339 with a Z",
        )


@check("2", "every timestamp of a record is RFC 3339 in UTC with a Z")
def timestamps_of_records(rig: Rig) -> None:
    found = rig.built().set
    for name in sorted(found.files):
        if name.endswith(".json") and "/" not in name:
            _hold({name: found.record(name)})


def _hold(told: Any) -> None:
    for place, value in _times(told, ""):
        expect(_TIMESTAMP.fullmatch(value), f"{place} is {value!r}, not RFC 3339 in UTC with a Z")


def _times(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _times(inside, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for at, inside in enumerate(value):
            yield from _times(inside, f"{place}[{at}]")
    elif isinstance(value, str) and _LIKE_A_TIME.fullmatch(value):
        yield place, value
