"""The socket's methods that bring the worker's program to a machine, over a login of the user's own."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import structlog
from anyio import to_thread

import rch
from rch.config.inventory import load_inventory
from rch.contract import local_setup as setup
from rch.contract.errors import Failure, Kind
from rch.contract.local_door import AddressParams
from rchd.api_door import CONNECT_SECONDS, DoorApi, entry_of, ssh_module
from rchd.api_workers import PROBE_SECONDS
from rchd.core import events as ev
from rchd.driver import Driver
from rchd.edges.pool import WorkerPool, target_of
from rchd.edges.prober import Prober
from rchd.edges.socket import Connection
from rchd.edges.ssh_transport import Agent
from rchd.edges.wheels import NEEDS, Machine, Wheel, agent_wheel, needed

log = structlog.get_logger("rchd.setup")

LOOK_SECONDS = 120.0
INSTALL_SECONDS = 900.0
STEP_SECONDS = 120.0
OLDEST = (3, 11)
MOST_WHEELS = 256 << 20


class SetupApi:
    """One set-up at a time; `door` probes, `pool` and `prober` forget what they know of a worker."""

    def __init__(
        self, path: Path, *, door: DoorApi, pool: WorkerPool, prober: Prober, driver: Driver, agent: Agent
    ) -> None:
        self._path = path
        self._door = door
        self._pool = pool
        self._prober = prober
        self._driver = driver
        self._agent = agent
        self._one = anyio.Lock()

    async def looked(self, params: setup.LookParams, _connection: Connection) -> setup.LookView:
        """What is there; changes nothing."""
        agent = await to_thread.run_sync(agent_wheel)
        async with self._site(params.login) as site:
            facts = await _look(site, params.python, params.key)
        return msgspec.structs.replace(facts, build=_build(agent))

    async def installed(self, params: setup.InstallParams, connection: Connection) -> setup.InstallView:
        """Every step does no more than is left to do. A new version that does not answer is taken back."""
        async with self._one, self._site(params.login) as site:
            facts = await _look(site, params.python, params.key)
            python = _require(facts)
            agent = await to_thread.run_sync(agent_wheel)
            build = _build(agent)
            wheels: list[Wheel] = []
            if build not in facts.installed:
                there = _machine_of(facts)
                wheels = await to_thread.run_sync(_wheels, agent, there, params.wheels)
            made = await site.call(
                "install",
                {
                    "build": build,
                    "python": python,
                    "home": params.home,
                    "index": params.wheels is None,
                    "wanted": agent.name,
                    "wheels": [_listed(wheel) for wheel in wheels],
                },
                python=python,
                seconds=INSTALL_SECONDS,
                wheels=wheels,
            )
            log.info("setup.installed", worker=params.login.name, build=build, made=made.get("made"))
            let = await _step(site, "authorize", {"key": params.key, "line": params.line}, python)
            before = (await _step(site, "switch", {"build": build}, python)).get("before")
            before = before if isinstance(before, str) and before != build else None
            own = str(made.get("own"))
            try:
                answer = await self._door.tried(params.probe, connection)
                _same_key(answer.probe, own, params.probe.name)
            except Failure as failure:
                if before is None:
                    raise
                raise await _taken_back(site, failure, before, python) from failure
            await _step(site, "switch", {"build": build, "settled": True}, python)
            cleared = await _step(site, "prune", {"keep": [build, before or build]}, python)
        await self._renewed(params.probe.name)
        return setup.InstallView(
            build=build,
            version=rch.__version__,
            made=bool(made.get("made")),
            authorized=bool(let.get("changed")),
            own=own,
            probe_ms=answer.probe_ms,
            before=before,
            removed=tuple(map(str, cleared.get("removed") or ())),
            used=tuple(map(str, cleared.get("used") or ())),
        )

    @asynccontextmanager
    async def _site(self, login: AddressParams) -> AsyncIterator[Any]:
        """A connection of its own, with the user's keys and agent."""
        ssh, landing = await ssh_module("ssh"), await ssh_module("landing_site")
        connection = await ssh.dial(target_of(entry_of(login), CONNECT_SECONDS), self._agent, None)
        try:
            yield landing.Site(login.name, connection)
        finally:
            connection.abandon()

    async def _renewed(self, name: str) -> None:
        """Channels of the old version are left, and what it said of itself is asked anew."""
        inventory = load_inventory(self._path)
        entry = next((each for each in inventory.workers if each.name == name), None)
        if entry is not None:
            await self._pool.drop(name)
            report = await self._prober.probe(inventory, entry, PROBE_SECONDS)
            self._driver.post(ev.WorkerProbed(at=time.time(), report=report))


async def _look(site: Any, python: str | None, key: str | None) -> setup.LookView:
    request = {"python": python, "key": key}
    found = await site.call("look", request, python=python or "python3", seconds=LOOK_SECONDS)
    try:
        facts = msgspec.convert(found, setup.LookView)
    except msgspec.ValidationError as error:
        raise Failure(Kind.SSH, f"the worker's facts are none: {error}", subkind="SETUP") from error
    able = [each.path for each in facts.pythons if each.version[:2] >= OLDEST and each.venv]
    return msgspec.structs.replace(facts, python=able[0] if able else None)


def _require(facts: setup.LookView) -> str:
    if facts.python is not None:
        return facts.python
    seen = (
        ", ".join(f"{each.path} ({'.'.join(map(str, each.version))})" for each in facts.pythons) or "none"
    )
    without = any(each.version[:2] >= OLDEST for each in facts.pythons)
    lacks = "install its venv (Debian: apt-get install python3-venv)" if without else "install one"
    raise Failure(
        Kind.SSH,
        f"no Python 3.11 or newer with venv is there: {seen or 'none'}",
        subkind="SETUP",
        hint=f"{lacks}, or say where it is: --python PATH",
    )


def _machine_of(facts: setup.LookView) -> Machine:
    chosen = next(each for each in facts.pythons if each.path == facts.python)
    return Machine(facts.system, chosen.machine, ".".join(map(str, chosen.version[:2])), chosen.libc)


def _wheels(agent: Wheel, there: Machine, folder: str | None) -> list[Wheel]:
    """All that is sent; what lies in `folder` goes before what is installed here."""
    here = Machine(
        platform.system(),
        platform.machine(),
        ".".join(map(str, sys.version_info[:2])),
        " ".join(platform.libc_ver()),
    )
    found = {wheel.name: wheel for wheel in needed(there, here)}
    if folder is not None:
        try:
            paths = sorted(Path(folder).glob("*.whl"))
            found |= {path.name: Wheel(path.name, path.read_bytes(), "") for path in paths}
        except OSError as error:
            raise Failure(Kind.USAGE, f"--wheels {folder}: {error.strerror}") from error
        if not paths:
            hint = f"pip download -d DIR {shlex.join(NEEDS)}"
            raise Failure(Kind.USAGE, f"--wheels {folder} holds no wheel", hint=hint)
    if sum(len(wheel.data) for wheel in found.values()) > MOST_WHEELS:
        raise Failure(Kind.USAGE, f"--wheels {folder} holds more than {MOST_WHEELS >> 20} MiB")
    return [*found.values(), agent]


def _listed(wheel: Wheel) -> dict[str, Any]:
    import hashlib

    return {
        "name": wheel.name,
        "size": len(wheel.data),
        "sha256": hashlib.sha256(wheel.data).hexdigest(),
    }


def _build(agent: Wheel) -> str:
    """Names a version's folder: equal files, equal name, on whatever host."""
    return f"{rch.__version__}-{agent.digest[:12]}"


async def _step(site: Any, op: str, request: dict[str, Any], python: str) -> dict[str, Any]:
    answer: dict[str, Any] = await site.call(op, request, python=python, seconds=STEP_SECONDS)
    return answer


async def _taken_back(site: Any, why: Failure, before: str, python: str) -> Failure:
    """`why`, once the version before is in force again; or with why it is not."""
    try:
        await _step(site, "switch", {"build": before, "settled": True}, python)
    except Failure as failure:
        return why.reworded(f"{why.message}; and {before} is not in force again: {failure.message}")
    log.warning("setup.taken_back", before=before, why=why.message)
    return why.reworded(f"{why.message}; version {before} is in force again")


def _same_key(probe: dict[str, Any], own: str, name: str) -> None:
    """Whoever answers the key is who was set up."""
    told = (probe.get("capabilities") or {}).get("attestation_pubkey_fingerprint")
    if told != own:
        raise Failure(
            Kind.ATTESTATION,
            f"worker {name}: its forced command answers with the key {told}, what was installed has {own}",
            hint="two installations with homes of their own: name one with --home, or take the line out",
        )
