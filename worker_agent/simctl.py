"""`simctl`, asked for one thing at a time and never waited for without an end (spec sections 7, 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from worker_agent.results.tool import ToolOutput, run_tool
from worker_agent.toolchains.apple import AppleTools
from worker_agent.toolchains.simulators import EPHEMERAL_PREFIX, SIMCTL, json_of

LIST_SECONDS = 60.0
CREATE_SECONDS = 120.0
SHUTDOWN_SECONDS = 60.0
DELETE_SECONDS = 60.0
_MAX_OUTPUT = 32 << 20


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A device as `simctl list` tells it; `state` is Shutdown, Booting, Booted and the like."""

    udid: str
    name: str
    state: str = ""
    deviceTypeIdentifier: str = ""  # noqa: N815  (Apple's name)
    isAvailable: bool = True  # noqa: N815  (Apple's name)
    runtime: str = ""


class SimctlError(Exception):
    """`simctl` did not do what it was asked; the words say why."""


@dataclass(frozen=True, slots=True)
class Simctl:
    """The simulator service of one Xcode: `env` names it by DEVELOPER_DIR, `cwd` is where it is started."""

    program: str
    env: Mapping[str, str]
    cwd: Path | None = None

    @classmethod
    def of(cls, apple: AppleTools | None, env: Mapping[str, str], cwd: Path | None = None) -> Simctl:
        """This machine's, or that of a simulated worker."""
        return cls(apple.xcrun if apple else SIMCTL[0], env, cwd)

    def argv(self, *words: str) -> tuple[str, ...]:
        """The command line of a subcommand."""
        return (self.program, "simctl", *words)

    def devices(self) -> tuple[Listed, ...]:
        """Every device; what has not the form of one is left out."""
        output = self._run(("list", "--json", "devices"), LIST_SECONDS)
        try:
            told = decode_json(json_of(output.data.decode(errors="replace")))
            tables = told["devices"]
        except (msgspec.DecodeError, TypeError, KeyError) as error:
            raise SimctlError("simctl list: no list of devices") from error
        return tuple(_listed(tables)) if isinstance(tables, dict) else ()

    def create(self, name: str, device_type: str, runtime: str) -> str:
        """Make a device; its identifier."""
        said = (
            self._run(("create", name, device_type, runtime), CREATE_SECONDS)
            .data.decode(errors="replace")
            .split()
        )
        if not said:
            raise SimctlError("simctl create: no identifier")
        return said[-1]

    def shut_down(self, udid: str) -> None:
        """Have a device off; one that is off already is fine."""
        with suppress(SimctlError):
            self._run(("shutdown", udid), SHUTDOWN_SECONDS)

    def delete(self, udid: str) -> None:
        """Have a device gone."""
        self.shut_down(udid)
        self._run(("delete", udid), DELETE_SECONDS)

    def _run(self, words: tuple[str, ...], seconds: float) -> ToolOutput:
        output = run_tool(self.argv(*words), self.env, seconds=seconds, max_bytes=_MAX_OUTPUT, cwd=self.cwd)
        if output.problem is not None:
            raise SimctlError(f"simctl {words[0]} {output.problem}")
        return output


def ephemeral_name(job_id: str) -> str:
    """The name of the simulator that is made for a job."""
    return EPHEMERAL_PREFIX + job_id


def _listed(tables: Mapping[str, object]) -> Iterable[Listed]:
    for runtime, rows in tables.items():
        for row in rows if isinstance(rows, list) else ():
            with suppress(msgspec.ValidationError, TypeError):
                yield msgspec.convert({**row, "runtime": runtime}, Listed)
