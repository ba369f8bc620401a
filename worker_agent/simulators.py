"""The simulator of a job: chosen or made, booted, given back (spec sections 7, 11; fault W3).

    state/simulators/<job_id>   a simulator is being made for the job, or was: written before that,
                                and removed once it is gone
    locks/simulator-<udid>.lock held by the job that runs on a device which was there before

Only what a job booted itself is ever shut down for it, and only what was made for it is deleted.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UnsetType

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind
from rch.contract.ids import is_id
from rch.contract.records import Ephemeral, Job
from rch.files.durable import make_dirs, write_atomic
from rch.files.locks import FileLock
from worker_agent.clock import now
from worker_agent.model import Parted, Phase
from worker_agent.simctl import Listed, Simctl, SimctlError, ephemeral_name
from worker_agent.worker import Worker

_OFF = "Shutdown"
_BOOTED = "Booted"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a simulator that is made for a job; `udid` is None until it is there."""

    created_at: str
    udid: str | None = None


class JobSimulator:
    """The simulator of one job, whose lock the caller owns."""

    def __init__(self, worker: Worker, job: Job, simctl: Simctl) -> None:
        self.udid: str | None = None
        self._worker = worker
        self._job = job
        self._simctl = simctl
        self._named = job.job_key_inputs.destination
        self._lock: FileLock | None = None
        self._off = False
        self._parted: Parted | None = None

    @property
    def ephemeral(self) -> bool:
        """Whether it is made for the job."""
        return is_ephemeral(self._job)

    # --- having one -------------------------------------------------------------------

    def take(self) -> bool:
        """Have a device; False while others have every one that would do. `Failure` INFRASTRUCTURE."""
        try:
            return self._make() if self.ephemeral else self._choose()
        except SimctlError as error:
            raise _broken(f"no simulator {self._named['name']!r} can be had: {error}") from error

    def _make(self) -> bool:
        inputs, job_id = self._named, self._job.job_id
        note = Note(created_at=now())
        _write(self._worker, job_id, note)
        _delete_named(self._simctl, job_id)
        name = ephemeral_name(job_id)
        kind, runtime = inputs["device_type_identifier"], inputs["sim_runtime_identifier"]
        self.udid = self._simctl.create(name, kind, runtime)
        _write(self._worker, job_id, msgspec.structs.replace(note, udid=self.udid))
        self._off = True
        return True

    def _choose(self) -> bool:
        fitting = [each for each in self._simctl.devices() if self._fits(each)]
        if not fitting:
            raise SimctlError("there is none of its kind and system")
        wanted = None if isinstance(self._job.udid, UnsetType) else self._job.udid
        for device in sorted(fitting, key=lambda each: (each.udid != wanted, each.udid)):
            lock = FileLock(
                self._worker.paths.locks / f"simulator-{device.udid}.lock", f"job {self._job.job_id}"
            )
            if lock.try_acquire():
                self.udid, self._lock, self._off = device.udid, lock, device.state == _OFF
                return True
        return False

    def _fits(self, device: Listed) -> bool:
        named = self._named
        wanted = (named["name"], named["device_type_identifier"], named["sim_runtime_identifier"])
        return device.isAvailable and wanted == (device.name, device.deviceTypeIdentifier, device.runtime)

    def boot(self, tree: Path) -> Phase | None:
        """The process that ends once the device has booted; None where nothing needs it."""
        if self.udid is None or self._job.action != "test":
            return None
        return Phase("boot", self._simctl.argv("bootstatus", self.udid, "-b"), tree)

    def not_booted(self, why: str) -> Failure:
        """What a boot that failed comes to; the device is off again."""
        self.shut_down()
        return _broken(
            f"simulator {self._named['name']!r} ({self._named['os_version']}) did not boot: {why}"
        )

    # --- giving it back ---------------------------------------------------------------

    def shut_down(self) -> None:
        """Have it off again, if the job found it off or made it."""
        if self.udid is not None and self._off:
            self._simctl.shut_down(self.udid)

    def renew(self) -> None:
        """Let go of it, so that the next `take` begins with one that is off, or another one."""
        self.shut_down()
        self.release()
        self.udid = None

    def part(self) -> Parted:
        """Delete what was made for the job. What is told is the same whenever it is asked again."""
        if self._parted is None:
            self._parted = self._part()
        return self._parted

    def _part(self) -> Parted:
        used = {} if self.udid is None else {"udid": self.udid}
        note = _read(self._worker, self._job.job_id)
        if note is None:
            return Parted(device=used)
        problem = None
        try:
            _delete_named(self._simctl, self._job.job_id)
        except SimctlError as error:
            problem = f"the simulator {ephemeral_name(self._job.job_id)} could not be deleted: {error}"
        else:
            _forget(self._worker, self._job.job_id)
        if note.udid is None:
            return Parted(device=used, problem=problem)
        told = Ephemeral(
            udid=note.udid,
            created_at=note.created_at,
            deleted_at=None if problem else now(),
            cleanup_ok=problem is None,
        )
        return Parted(device={"udid": note.udid, "ephemeral": told}, problem=problem)

    def release(self) -> None:
        """Let others have a device that was there before."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def runs_on_simulator(job: Job) -> bool:
    """Whether a job's destination is a simulator."""
    return "sim_runtime_identifier" in job.job_key_inputs.destination


def is_ephemeral(job: Job) -> bool:
    """Whether a simulator is made for the job."""
    return job.job_key_inputs.destination.get("provisioning") == "ephemeral"


def sweep_simulators(worker: Worker, _now: float = 0.0) -> None:
    """Delete simulators that were made for jobs which nobody owns any more."""
    folder = _folder(worker)
    notes = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    ours = [job_id for job_id in sorted(notes) if is_id(job_id) and not worker.jobs.alive(job_id)]
    if not ours:
        return
    developer = next((one.developer_dir for one in worker.toolchains() if one.developer_dir), None)
    if developer is None:
        return
    env = {key: worker.env[key] for key in ("HOME", "PATH", "TMPDIR") if key in worker.env}
    simctl = Simctl.of(worker.apple, {**env, "DEVELOPER_DIR": developer})
    for job_id in ours:
        lock = worker.jobs.lock(job_id)
        if not lock.try_acquire():
            continue
        try:
            with suppress(SimctlError):  # it is tried again by the next sweep
                _delete_named(simctl, job_id)
                _forget(worker, job_id)
        finally:
            lock.release()


def _delete_named(simctl: Simctl, job_id: str) -> None:
    """Have every device gone that bears a job's name; all are tried."""
    problem: SimctlError | None = None
    for device in simctl.devices():
        if device.name == ephemeral_name(job_id):
            try:
                simctl.delete(device.udid)
            except SimctlError as error:
                problem = error
    if problem is not None:
        raise problem


def _broken(message: str) -> Failure:
    return Failure(Kind.EXECUTOR, message, subkind="INFRASTRUCTURE")


def _folder(worker: Worker) -> Path:
    return worker.paths.state_dir / "simulators"


def _write(worker: Worker, job_id: str, note: Note) -> None:
    make_dirs(_folder(worker))
    write_atomic(_folder(worker) / job_id, msgspec.json.encode(note), mode=0o600)


def _read(worker: Worker, job_id: str) -> Note | None:
    try:
        return decode_json((_folder(worker) / job_id).read_bytes(), Note)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        return Note(created_at=now())


def _forget(worker: Worker, job_id: str) -> None:
    (_folder(worker) / job_id).unlink(missing_ok=True)
