"""The stand-in `simctl`: lists, makes, boots and deletes simulators that are rows of a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worker_agent.standin import devices, facts
from worker_agent.standin.context import Context
from worker_agent.standin.devices import BOOTED, SHUTDOWN
from worker_agent.standin.scenario import Scenario, ScenarioError, find

_PROFILES = "/Library/Developer/CoreSimulator/Volumes"
_USAGE = "usage: simctl [--set <path>] [--profiles <path>] <subcommand> ...\n"
_KINDS = ("devicetypes", "runtimes", "devices", "pairs")


class SimError(Exception):
    """An error of the simulator service; the exit code is its code's lowest byte."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    def words(self) -> str:
        """As the tool prints it."""
        head = "An error was encountered processing the command (domain=com.apple.CoreSimulator.SimError, "
        return f"{head}code={self.code}):\n{self}\n"


def main(argv: Sequence[str], context: Context) -> int:
    """Run one subcommand; its exit code."""
    verb, *words = [*argv] or ["help"]
    run = _VERBS.get(verb)
    if run is None:
        context.output.complain(f"Unrecognized subcommand: {verb}\n{_USAGE}" if argv else _USAGE)
        return 1
    try:
        run(words, context, _scenario(context))
    except SimError as error:
        context.output.flush()
        context.output.complain(error.words())
        return error.code & 0xFF
    return 0


def _scenario(context: Context) -> Scenario:
    """What is played. One that cannot be read is for xcodebuild to tell, not for a boot to fail of."""
    try:
        return find(context.env, (context.cwd, context.root)).scenario("simctl")
    except ScenarioError:
        return Scenario()


def _named(simulators: devices.Simulators, words: Sequence[str]) -> dict[str, Any]:
    named = next((word for word in words if not word.startswith("-")), "")
    row = simulators.find(named)
    if row is None:
        raise SimError(404, f"Invalid device: {named}")
    return row


# --- list ---------------------------------------------------------------------------------


def _list(words: Sequence[str], context: Context, scenario: Scenario) -> None:
    kinds = [word for word in words if word in _KINDS]
    term = next((word for word in words if word not in _KINDS and not word.startswith("-")), "")
    whole: Mapping[str, Callable[[], Any]] = {
        "devicetypes": lambda: [_device_type(one, context) for one in facts.DEVICE_TYPES],
        "runtimes": lambda: _runtimes(context, scenario),
        "devices": lambda: _devices(context, term),
        "pairs": dict,
    }
    told = {kind: whole[kind]() for kind in kinds or _KINDS}
    if {"-j", "--json"} & set(words):
        context.output.document(told)
        return
    for kind, of_it in told.items():
        context.output.say(f"== {kind.title()} ==\n")
        _text(of_it, context)


def _text(of_it: Any, context: Context) -> None:
    if isinstance(of_it, list):
        for one in of_it:
            context.output.say(f"{one['name']} ({one['identifier']})\n")
        return
    for runtime, rows in of_it.items():
        context.output.say(f"-- {runtime.rpartition('.')[2]} --\n")
        for row in rows:
            context.output.say(f"    {row['name']} ({row['udid']}) ({row['state']}) \n")


def _device_type(one: facts.DeviceType, context: Context) -> dict[str, Any]:
    platform = context.developer_dir / "Platforms/iPhoneOS.platform/Library/Developer/CoreSimulator"
    major, minor, patch = (int(part) for part in one.minimum.split("."))
    return {
        "bundlePath": str(platform / "Profiles/DeviceTypes" / f"{one.name}.simdevicetype"),
        "identifier": facts.SIM_TYPE + one.identifier,
        "maxRuntimeVersion": 4_294_967_295,
        "maxRuntimeVersionString": "65535.255.255",
        "minRuntimeVersion": (major << 16) + (minor << 8) + patch,
        "minRuntimeVersionString": one.minimum,
        "modelIdentifier": one.model,
        "name": one.name,
        "productFamily": one.family,
    }


def _runtimes(context: Context, scenario: Scenario) -> list[dict[str, Any]]:
    known = (*facts.RUNTIMES, facts.TWIN) if scenario.two_runtimes else facts.RUNTIMES
    return [_runtime(one, context) for one in known]


def _runtime(one: facts.SimRuntime, context: Context) -> dict[str, Any]:
    volume = f"{_PROFILES}/{one.platform}_{one.build}/Library/Developer/CoreSimulator/Profiles/Runtimes"
    supported = [
        {
            key: _device_type(kind, context)[key]
            for key in ("bundlePath", "identifier", "name", "productFamily")
        }
        for kind in facts.DEVICE_TYPES
        if _fits(kind, one)
    ]
    return {
        "bundlePath": f"{volume}/{one.name}.simruntime",
        "buildversion": one.build,
        "identifier": facts.SIM_RUNTIME + one.identifier,
        "isAvailable": True,
        "isInternal": False,
        "name": one.name,
        "platform": one.platform,
        "runtimeRoot": f"{volume}/{one.name}.simruntime/Contents/Resources/RuntimeRoot",
        "supportedDeviceTypes": supported,
        "version": one.version,
    }


def _fits(kind: facts.DeviceType, runtime: facts.SimRuntime) -> bool:
    return int(kind.minimum.partition(".")[0]) <= int(runtime.version.partition(".")[0])


def _devices(context: Context, term: str) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {
        facts.SIM_RUNTIME + one.identifier: [] for one in facts.RUNTIMES
    }
    for row in devices.look(context.root).rows:
        if term in {"", "available", row["udid"], row["name"]} or (
            term == "booted" and devices.state(row) == BOOTED
        ):
            tables.setdefault(facts.SIM_RUNTIME + row["runtime"], []).append(_device(row, context))
    return tables


def _device(row: dict[str, Any], context: Context) -> dict[str, Any]:
    place = devices.state_file(context.root).parent
    told = {
        "dataPath": str(place / row["udid"] / "data"),
        "dataPathSize": 18_337_792,
        "deviceTypeIdentifier": facts.SIM_TYPE + row["type"],
        "isAvailable": True,
        "logPath": str(place / "Logs" / row["udid"]),
        "name": row["name"],
        "state": devices.state(row),
        "udid": row["udid"],
    }
    return {**told, "lastBootedAt": row["last_booted"]} if row["last_booted"] else told


# --- changes ------------------------------------------------------------------------------


def _create(words: Sequence[str], context: Context, _scenario: Scenario) -> None:
    name, kind_named, *rest = [*words, "", ""][: max(2, len(words))]
    kind = facts.device_type(kind_named)
    if kind is None:
        raise SimError(401, f"Invalid device type: {kind_named}")
    fitting = [one for one in facts.RUNTIMES if _fits(kind, one)]
    runtime = facts.runtime(rest[0]) if rest else fitting[-1]
    if runtime is None:
        raise SimError(402, f"Invalid runtime: {rest[0]}")
    if runtime not in fitting:
        raise SimError(403, "Incompatible device")
    with devices.change(context.root) as simulators:
        context.output.say(simulators.create(name, kind, runtime) + "\n")


def _start(row: dict[str, Any], scenario: Scenario) -> None:
    if row["state"] == BOOTED:
        raise SimError(405, f"Unable to boot device in current state: {devices.state(row)}")
    if scenario.no_boot:
        raise SimError(405, "Unable to boot device in current state: Shutdown")
    ready = time.time() + scenario.boot_seconds
    row.update(state=BOOTED, ready_at=ready, last_booted=devices.now_text())


def _boot(words: Sequence[str], context: Context, scenario: Scenario) -> None:
    with devices.change(context.root) as simulators:
        _start(_named(simulators, words), scenario)


def _bootstatus(words: Sequence[str], context: Context, scenario: Scenario) -> None:
    """Wait until a device has booted; `-b` boots one that is off, which is else waited for, too."""
    with devices.change(context.root) as simulators:
        row = _named(simulators, words)
        if devices.state(row) == BOOTED:
            context.output.say(f"Monitoring boot status for {row['name']} ({row['udid']}).\n")
            context.output.say("Device already booted, nothing to do.\n")
            return
        if "-b" in words and row["state"] == SHUTDOWN:
            _start(row, scenario)
        udid, name = row["udid"], row["name"]
    begun = time.monotonic()
    context.output.say(f"Monitoring boot status for {name} ({udid}).\n")
    while devices.state(_named(devices.look(context.root), [udid])) != BOOTED:
        context.output.flush()
        time.sleep(0.05)
    elapsed = int(time.monotonic() - begun)
    at = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime())
    took = f"{elapsed // 60:02d}:{elapsed % 60:02d}"
    context.output.say(f"[{at}] Status=4294967295, isTerminal=YES, Elapsed={took}.\n\tFinished\n")


def _shutdown(words: Sequence[str], context: Context, _scenario: Scenario) -> None:
    with devices.change(context.root) as simulators:
        if "all" in words:
            for row in simulators.rows:
                row["state"] = SHUTDOWN
            return
        row = _named(simulators, words)
        if row["state"] == SHUTDOWN:
            raise SimError(405, "Unable to shutdown device in current state: Shutdown")
        row["state"] = SHUTDOWN


def _delete(words: Sequence[str], context: Context, scenario: Scenario) -> None:
    with devices.change(context.root) as simulators:
        if "unavailable" in words:
            return
        gone = simulators.rows if "all" in words else [_named(simulators, [word]) for word in words]
        if scenario.no_delete:
            raise SimError(405, "Unable to delete device in current state: Busy")
        udids = {row["udid"] for row in gone}
        simulators.rows = [row for row in simulators.rows if row["udid"] not in udids]


def _erase(words: Sequence[str], context: Context, _scenario: Scenario) -> None:
    with devices.change(context.root) as simulators:
        row = _named(simulators, words)
        if row["state"] != SHUTDOWN:
            raise SimError(405, f"Unable to erase contents and settings in current state: {row['state']}")
        row["last_booted"] = None


def _help(_words: Sequence[str], context: Context, _scenario: Scenario) -> None:
    context.output.say(_USAGE)


_VERBS: Mapping[str, Callable[[Sequence[str], Context, Scenario], None]] = {
    "list": _list,
    "create": _create,
    "boot": _boot,
    "bootstatus": _bootstatus,
    "shutdown": _shutdown,
    "delete": _delete,
    "erase": _erase,
    "help": _help,
}
