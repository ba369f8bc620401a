"""The daemon put together: locks, state, driver, socket, and an orderly end."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from rch.config.daemon_config import DaemonConfig, load_daemon_config
from rch.config.inventory import WorkerEntry, load_inventory
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.files.durable import make_dirs
from rch.files.filesystems import shared_kind
from rch.files.locks import FileLock, NoLocks
from rch.files.paths import HostPaths, check_socket_path
from rchd.api import Api
from rchd.api_daemon import DaemonApi, Replies
from rchd.api_door import DoorApi
from rchd.api_gc import GcApi
from rchd.api_hostgc import HostGcApi
from rchd.api_metrics import MetricsApi
from rchd.api_plan import PlanApi
from rchd.api_setup import SetupApi
from rchd.api_workers import WorkersApi
from rchd.core import events as ev
from rchd.core.ask import farewell
from rchd.core.daemon import Core
from rchd.driver import Driver, Record
from rchd.edges import known_types, leavings, logfile, private, process, store_health
from rchd.edges.agents import Agents
from rchd.edges.clock import now
from rchd.edges.core_rows import load_core
from rchd.edges.drained import Drained
from rchd.edges.host_id import host_id
from rchd.edges.housekeeping import Housekeeper
from rchd.edges.hub import Hub
from rchd.edges.intake import plain_folder
from rchd.edges.listener import Listener, listening
from rchd.edges.meters import Meters
from rchd.edges.notify import Notifier
from rchd.edges.patience import PatientPerformer
from rchd.edges.performer import Performer
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import Prober
from rchd.edges.recorder import recordings
from rchd.edges.service import PATIENCE_SECONDS, Service
from rchd.edges.socket import Server
from rchd.edges.spool import bundles_of
from rchd.edges.store import SqliteStore
from rchd.observe import ObservedIntake, Observer, keep_textfile

log = structlog.get_logger("rchd")

GRACE_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0


async def serve(
    paths: HostPaths,
    ready: Callable[[], None],
    transcript: Path | None = None,
    service: Service | None = None,
    settings: DaemonConfig | None = None,
    client: int | None = None,
) -> None:
    """Run the daemon until it is told to stop; `ready` is called when it answers.

    With `transcript`, what happens is recorded there (docs/transcripts.md). `service` is the manager
    that started it, `settings` its own part of the config. With `client` it is a private daemon, and ends
    when that descriptor does (`edges/private.py`).
    `Failure` DAEMON where another daemon runs on this state or socket, or state is unusable.
    """
    service, settings = service or Service(), settings or DaemonConfig()
    known_types.build()
    check_socket_path(paths.socket)
    make_dirs(paths.state_dir)
    make_dirs(paths.artifacts)
    _own_disk("state directory", paths.state_dir, "RCH_HOME")
    lock = FileLock(paths.lock, f"rchd at {paths.socket}")
    if not _taken(lock):
        raise Failure(
            Kind.DAEMON,
            f"another daemon runs on {paths.state_dir} ({lock.holder() or 'holder unknown'})",
            subkind="ALREADY_RUNNING",
        )
    with lock:
        # Before it listens: who connects finds a daemon that has its state, or none.
        if client is None:
            store_health.refuse_a_lost_one(paths.database, paths.artifacts)
        store = SqliteStore.open(paths.database)
        try:
            core = load_core(store, paths.artifacts)
            given = service.socket_at(paths.socket)
            keep = settings.transcripts.keep_bytes if client is None else 0
            with (
                listening(paths.socket, given) as listener,
                recordings(transcript, paths.transcripts, keep, core) as record,
            ):
                _own_disk("socket's folder", paths.socket.parent, "RCH_SOCKET")
                await _run(paths, store, core, record, listener, ready, service, settings, client)
        finally:
            store.close()
            process.has_left()


def _own_disk(what: str, folder: Path, variable: str) -> None:
    """`Failure` DAEMON where `folder` is shared with other machines: no lock there is one (fault H6)."""
    if (kind := shared_kind(folder)) is not None:
        raise Failure(
            Kind.DAEMON,
            f"the {what} {folder} is on a network file system ({kind}), where locks cannot be trusted",
            subkind="STATE",
            hint=f"set {variable} to a folder on a disk of this machine",
        )


def _taken(lock: FileLock) -> bool:
    try:
        return lock.try_acquire()
    except NoLocks as error:
        raise Failure(
            Kind.DAEMON,
            f"{error.filename} cannot be locked: {error.strerror}",
            subkind="STATE",
            hint="set RCH_HOME to a folder on a disk of this machine",
        ) from error


async def _run(
    paths: HostPaths,
    store: SqliteStore,
    core: Core,
    record: Record,
    listener: Listener,
    ready: Callable[[], None],
    service: Service,
    settings: DaemonConfig,
    client: int | None,
) -> None:
    notifier = Notifier(paths.config_toml)
    observer = Observer(on_end=lambda run: notifier.ended(core.view(run)))
    observer.knows(core.runs.values())
    descriptors = process.raise_descriptors()
    drained, agents = Drained(paths.drained), Agents(os.environ.get("SSH_AUTH_SOCK"))
    pool = WorkerPool(
        _known_workers(paths.workers_toml), standby_home=paths.standby_worker, agent=agents.pick
    )
    prober = Prober(pool, lambda: load_inventory(paths.workers_toml))
    hub, replies = Hub(str(paths.artifacts)), Replies()
    keeper = Housekeeper(paths.artifacts, store)
    if client is None:  # else what lies there is the usual daemon's
        await anyio.to_thread.run_sync(_clear, keeper, paths, store, core)
    performer = PatientPerformer(
        pool=pool,
        prober=prober,
        host_id=host_id(paths.host_id_file),
        artifacts_root=paths.artifacts,
        spool=paths.spool,
    )
    driver = Driver(
        core=core,
        store=store,
        performer=performer,
        hub=hub,
        artifacts=paths.artifacts,
        reply=replies.give,
        record=record,
        watcher=observer,
    )
    async with anyio.create_task_group() as whole:
        async with anyio.create_task_group() as group:

            def stop() -> None:
                """End all tasks; whoever follows is told first that it is no crash."""
                process.begin_to_leave()
                service.tell(patience=PATIENCE_SECONDS, STOPPING=1)
                hub.farewell(driver.seq, timestamp(now()))
                group.cancel_scope.cancel()

            daemon = DaemonApi(
                paths=paths,
                driver=driver,
                replies=replies,
                connections=lambda: len(server.connections),
                stop=stop,
                group=group,
                service=service,
                agents=agents,
            )
            intake = _intake(paths, core, observer, client)

            def meters() -> Meters:
                held = driver.trouble is not None
                observer.look(core, connections=len(server.connections), held=held)
                return observer.meters

            host_gc = HostGcApi(
                keeper, driver, partial(load_daemon_config, paths.config_toml), observer.collected
            )

            def answers() -> None:
                service.tell(patience=PATIENCE_SECONDS, READY=1, STATUS=daemon.status_line())
                ready()

            door = DoorApi(paths.workers_toml, prober, driver, agents.pick, drained)
            group.start_soon(intake.tend)
            api = Api(
                paths=paths,
                driver=driver,
                store=store,
                hub=hub,
                intake=intake,
                workers=WorkersApi(paths.workers_toml, prober, driver, drained),
                plan=PlanApi(intake, prober, driver),
                gc=GcApi(paths.workers_toml, pool),
                door=door,
                setup=SetupApi(
                    paths.workers_toml,
                    door=door,
                    pool=pool,
                    prober=prober,
                    driver=driver,
                    agent=agents.pick,
                ),
                daemon=daemon,
                replies=replies,
                metrics=MetricsApi(meters),
                host_gc=host_gc,
            )
            server = Server(group, observer.around(api.answer), cap=descriptors // 2)
            whole.start_soon(process.until_signals, stop, listener.close)
            for task in (notifier.run, driver.run, observer.feel_lag):
                group.start_soon(task)
            group.start_soon(_heartbeat, hub, driver)
            group.start_soon(service.tend, driver, daemon.status_line)
            group.start_soon(logfile.keep_small, paths.log, settings.log)
            if client is None:
                group.start_soon(host_gc.tend)
                _export(group, settings, meters)
            else:
                group.start_soon(private.until_left, client, core, daemon, driver.post, stop)
            driver.post(ev.Started(at=now(), drained=drained.reasons()))
            log.info("daemon.started", socket=str(paths.socket), runs=len(core.runs))
            await server.serve(listener, answers)
        intake.close()
        await _leave(core, performer, pool)
        whole.cancel_scope.cancel()


def _clear(keeper: Housekeeper, paths: HostPaths, store: SqliteStore, core: Core) -> None:
    """What an earlier daemon left half-done."""
    keeper.finish()
    leavings.clear(paths, store, tuple(core.runs.values()))


def _intake(paths: HostPaths, core: Core, observer: Observer, client: int | None) -> ObservedIntake:
    """What takes runs in; those of a private daemon are marked as such."""
    make = plain_folder if client is None else partial(private.make_marked, lock=paths.lock)
    intake = ObservedIntake(paths, partial(_live_bundles, core), make=make)
    intake.observer = observer
    return intake


def _export(group: TaskGroup, settings: DaemonConfig, meters: Callable[[], Meters]) -> None:
    """Keep the file of numbers, if one is asked for."""
    if settings.metrics.textfile is not None:
        place, seconds = Path(settings.metrics.textfile), settings.metrics.interval_seconds
        group.start_soon(keep_textfile, place, float(seconds), meters)


async def _leave(core: Core, performer: Performer, pool: WorkerPool) -> None:
    """Give what runs at workers the time that it needs, and hang up."""
    with anyio.move_on_after(GRACE_SECONDS, shield=True):
        async with anyio.create_task_group() as leaving:
            for effect in farewell(core.runs.values()):
                leaving.start_soon(performer.perform, effect, lambda _event: None)
    with anyio.move_on_after(GRACE_SECONDS, shield=True):
        await pool.close()
    log.info("daemon.stopped", runs=len(core.runs))


def _live_bundles(core: Core) -> frozenset[str]:
    return frozenset().union(*(bundles_of(run.accepted.source) for run in core.runs.values()))


async def _heartbeat(hub: Hub, driver: Driver) -> None:
    """In silence, followers learn that the daemon is there, and whether it is stuck."""
    while True:
        await anyio.sleep(HEARTBEAT_SECONDS)
        hub.heartbeat(driver.seq, timestamp(now()), driver.trouble)


def _known_workers(path: Path) -> tuple[WorkerEntry, ...]:
    """The inventory at start, for the runs that are taken up; a broken one is told at their next call."""
    try:
        return load_inventory(path).everyone
    except Failure as failure:
        log.warning("inventory.refused", message=failure.message)
        return ()
