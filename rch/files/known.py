"""What the host's records beside a set say of its job, where no daemon is asked (spec section 10)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from rch.contract.attested import Known, capabilities_digest
from rch.contract.records import (
    Accepted,
    AttestationVerification,
    CapabilitiesRecord,
    Record,
    RunIndex,
    Summary,
    decode_record,
)
from rch.files.regular import open_regular

REJECTED = ".rejected"
VERIFICATION = "attestation_verification.json"
HOSTS = ("accepted.json", "capabilities.json", "run_index.json", "host")
"""What the host keeps in a run's folder beside `steps`."""
ALONE = "it lies as in a run, and no record of the host lies there: accepted.json, capabilities.json, host/"
MAX_BYTES = 64 << 20
_R = TypeVar("_R", bound=Record)


class Beside(NamedTuple):
    """`worker` is the inventory's name of who made the set, None if nobody says; `problems` are lines.

    `refused` is what the host found wrong when it fetched a set that it kept as rejected, and whether
    that was its attestation; None where nothing is on record. `alone`: it lies as in a run, and no record
    of the host lies there, which is the only problem then.
    """

    known: Known
    worker: str | None = None
    problems: tuple[str, ...] = ()
    refused: tuple[tuple[str, ...], bool] | None = None
    alone: bool = False


def place_in_run(step: Path) -> Path | None:
    """Where the set at `step` lies, `<run>/steps/<action>/<job_id>`, however it is spelled; None elsewhere.

    Links and `..` are followed, but for a link in such a place: that is what stands there.
    """
    for place in (step.parent.resolve() / step.name, step.resolve()):
        if place.name != ".." and len(place.parents) > 2 and place.parents[1].name == "steps":
            return place
    return None


def beside(step: Path) -> Beside:
    """What is known of the set at `step`; nothing where it lies by itself. What is missing is a problem."""
    place = place_in_run(step)
    if place is None:
        return Beside(Known())
    run, job_id = place.parents[2], place.name.removesuffix(REJECTED)
    if not any(os.path.lexists(run / name) for name in HOSTS):
        return Beside(Known(job_id=job_id), problems=(ALONE,), alone=True)
    problems: list[str] = []
    if place.is_symlink():
        problems.append(f"{place.name}: is a link, and no folder that a set was published to")
    accepted = _required(run / "accepted.json", Accepted, problems)
    known = _asked(accepted, job_id, place.parent.name, problems)
    said = _required(run / "capabilities.json", CapabilitiesRecord, problems)
    if said is not None:
        known = replace(
            known,
            capabilities_sha256=said.capabilities_sha256 or capabilities_digest(said.capabilities),
            fingerprint=said.capabilities.attestation_pubkey_fingerprint,
        )
    worker = None if said is None else said.worker
    if place.name.endswith(REJECTED):
        return Beside(known, worker, tuple(problems), _refused(place.with_name(job_id) / "summary.json"))
    known = replace(known, noted=noted(run / "host" / job_id, problems))
    return Beside(known, worker, tuple(problems))


def noted(host: Path, problems: list[str]) -> AttestationVerification | None:
    """What the host wrote down when it had fetched a set, in its own folder of the job."""
    return _required(host / VERIFICATION, AttestationVerification, problems)


def hosts_own(step: Path) -> list[str]:
    """What speaks against a step in which only the host's own words stand, a line each."""
    problems: list[str] = []
    place = place_in_run(step)
    if place is not None and os.path.lexists(place.parents[2] / "host" / place.name / VERIFICATION):
        problems.append(f"{VERIFICATION}: a worker's set was verified here, and it is gone")
    said = _record(step / "summary.json", Summary, problems)
    if said is not None and said.status == "success":
        problems.append("summary.json: says success, and there is no worker's set")
    return problems


def fetched_jobs(run: Path) -> tuple[list[str], list[str]]:
    """The places of the sets that a run's index says were verified, relative to the run, and problems."""
    problems: list[str] = []
    index = _required(run / "run_index.json", RunIndex, problems)
    steps = () if index is None else index.steps
    return [
        f"steps/{each.action}/{each.job_id}"
        for each in steps
        if each.attestation_verification_path is not None
    ], problems


def _asked(accepted: Accepted | None, job_id: str, action: str, problems: list[str]) -> Known:
    if accepted is None:
        return Known(job_id=job_id)
    step = next((each for each in accepted.steps if each.job_id == job_id), None)
    if step is None:
        problems.append(f"accepted.json: the run has no job {job_id}")
        return Known(job_id=job_id)
    if step.action != action:
        problems.append(f"accepted.json: job {job_id} is a {step.action}, and lies as a {action}")
    return Known(
        job_id=job_id,
        asked={
            "run_id": accepted.run_id,
            "job_id": job_id,
            "action": step.action,
            "source_sha256": accepted.source.source_sha256,
            "artifact_profile": accepted.options.artifact_profile,
        },
        host_nonce=step.host_nonce,
    )


def _refused(path: Path) -> tuple[tuple[str, ...], bool] | None:
    """The errors in the summary that the host wrote for a set that it refused."""
    said = _record(path, Summary, [])
    if said is None or said.failure_kind not in {"ARTIFACTS", "ATTESTATION"}:
        return None
    errors = said.integrity_errors if isinstance(said.integrity_errors, tuple) else ()
    return errors or (said.human_summary,), said.failure_kind == "ATTESTATION"


def _required(path: Path, kind: type[_R], problems: list[str]) -> _R | None:
    """As `_record`, and that there is none is a problem too."""
    before = len(problems)
    found = _record(path, kind, problems)
    if found is None and len(problems) == before:
        problems.append(f"{path.name}: missing")
    return found


def _record(path: Path, kind: type[_R], problems: list[str]) -> _R | None:
    """A record of the host; None if there is none, also where it cannot be read, which is a problem."""
    try:
        with open_regular(path) as file:
            size = min(os.fstat(file.fileno()).st_size, MAX_BYTES)
            return decode_record(file.read(size), kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror or error}")
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
    return None
