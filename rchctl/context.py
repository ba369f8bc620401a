"""What a verb is given, and what it gives back."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from rch.contract.errors import Failure
from rch.files.paths import HostPaths, host_paths
from rchctl.console import SIMULATED, Console

if TYPE_CHECKING:
    from rchctl.client import Client


class Outcome(NamedTuple):
    """How a verb ended. `data` is what `--json` prints; `error` stands beside a run that failed."""

    data: dict[str, Any]
    exit_code: int = 0
    error: dict[str, Any] | None = None


def error_body(failure: Failure) -> dict[str, Any]:
    """A failure as the envelope tells it."""
    return {
        "kind": str(failure.kind),
        "subkind": failure.subkind,
        "message": failure.message,
        "hint": failure.hint,
        "exit_code": failure.exit_code,
    }


class Context:
    """One call of the client: its arguments, its terminal and its places."""

    private = False
    """Whether its daemon is for this call alone, and ends with it."""

    def __init__(
        self, verb: str, args: argparse.Namespace, console: Console, env: Mapping[str, str]
    ) -> None:
        self.verb = verb
        self.args = args
        self.console = console
        self.env = env

    @property
    def json(self) -> bool:
        """Whether stdout belongs to the envelope."""
        return bool(self.args.json)

    @cached_property
    def paths(self) -> HostPaths:
        """The host's places."""
        return host_paths(self.env)

    @property
    def may_start(self) -> bool:
        """Whether a missing daemon may be started."""
        return not self.args.no_autostart and self.env.get("RCH_NO_AUTOSTART", "") in {"", "0"}

    def connect(self, within: float | None = None, *, start: bool = True) -> Client:
        """A greeted connection, the daemon started if need be; `Failure` DAEMON otherwise.

        `start=False`: a daemon that was stopped stays so.
        """
        from rchctl import autostart

        seconds = autostart.START_SECONDS if within is None else min(within, autostart.START_SECONDS)
        return autostart.connect(
            self.paths, self.env, self.console, may_start=start and self.may_start, within=seconds
        )

    def call(self, method: str, params: dict[str, Any], *, timeout: float | None = None) -> dict[str, Any]:
        """One request on a connection of its own."""
        client = self.connect()
        try:
            return client.call(method, params) if timeout is None else client.call(method, params, timeout)
        finally:
            client.close()

    def say(self, text: str) -> None:
        """Data for people: nothing under `--json`."""
        if not self.json:
            self.console.out(text)

    def say_value(self, value: str) -> None:
        """One value on a line of its own, which a script reads as it is: in a pipe it has no mark."""
        if self.console.mark and not self.console.out_is_terminal and not self.json:
            self.console.note("a simulation: its tools are stand-ins")
            mark, self.console.mark = self.console.mark, ""
            self.console.value(f"{value}\n")
            self.console.mark = mark
        elif not self.json:
            self.console.value(f"{value}\n")

    def mark(self, run: dict[str, Any]) -> None:
        """Every line about a simulated run says so."""
        if run.get("simulated"):
            self.console.mark = SIMULATED
