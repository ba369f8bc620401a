"""What the host's records beside a set say of its job, where no daemon is asked (spec section 10)."""

from __future__ import annotations

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

REJECTED = ".rejected"
MAX_BYTES = 64 << 20
_R = TypeVar("_R", bound=Record)


class Beside(NamedTuple):
    """`worker` is the inventory's name of who made the set, None if nobody says; `problems` are lines.

    `refused` is what the host found wrong when it fetched a set that it kept as rejected, and whether
    that was its attestation; None where nothing is on record.
    """

    known: Known
    worker: str | None = None
    problems: tuple[str, ...] = ()
    refused: tuple[tuple[str, ...], bool] | None = None


def run_of(step: Path) -> Path | None:
    """The run's folder of a set at `<run_id>/steps/<action>/<job_id>`; None for a set elsewhere."""
    parents = step.absolute().parents
    if len(parents) < 3 or parents[1].name != "steps":
        return None
    run = parents[2]
    return run if (run / "run_index.json").is_file() or (run / "accepted.json").is_file() else None


def beside(step: Path) -> Beside:
    """What is known of the set at `step`; nothing where it lies by itself."""
    run = run_of(step)
    if run is None:
        return Beside(Known())
    job_id = step.name.removesuffix(REJECTED)
    problems: list[str] = []
    accepted = _record(run / "accepted.json", Accepted, problems)
    known = _asked(accepted, job_id, step.parent.name, problems)
    said = _record(run / "capabilities.json", CapabilitiesRecord, problems)
    if said is not None:
        known = replace(
            known,
            capabilities_sha256=capabilities_digest(said.capabilities),
            fingerprint=said.capabilities.attestation_pubkey_fingerprint,
        )
    worker = None if said is None else said.worker
    if step.name.endswith(REJECTED):
        return Beside(known, worker, tuple(problems), _refused(step.with_name(job_id) / "summary.json"))
    known = replace(known, noted=noted(run / "host" / job_id, problems))
    return Beside(known, worker, tuple(problems))


def noted(host: Path, problems: list[str]) -> AttestationVerification | None:
    """What the host wrote down when it had fetched a set, in its own folder of the job."""
    path = host / "attestation_verification.json"
    found = _record(path, AttestationVerification, problems)
    if found is None and not path.exists():
        problems.append(f"{path.name}: missing")
    return found


def fetched_jobs(run: Path) -> tuple[list[str], list[str]]:
    """The places of the sets that a run's index says were verified, relative to the run, and problems."""
    problems: list[str] = []
    index = _record(run / "run_index.json", RunIndex, problems)
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


def _record(path: Path, kind: type[_R], problems: list[str]) -> _R | None:
    """A record of the host; None if there is none, also where it cannot be read, which is a problem."""
    try:
        with path.open("rb") as file:
            return decode_record(file.read(MAX_BYTES), kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{path.name}: {error.strerror or error}")
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
    return None
