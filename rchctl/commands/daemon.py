"""`rchctl daemon`: start it, stop it, look at it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import rch
from rch.contract.errors import Failure, Kind
from rch.files.locks import is_free
from rchctl import autostart
from rchctl.autostart import holder_of, hung_hint
from rchctl.client import RESTART, Client, ConnectionLost, NoDaemon
from rchctl.commands.status import health_line
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.progress import position
from rchctl.terminal import one_line

# Shutting down commits and hangs up; running jobs stay on their workers.
STOP_SECONDS = 30.0
LONGEST_DRAIN_SECONDS = 7 * 86400.0
_PAUSE = 0.02
_LOOK = 0.5
_NAMED = 5
_WORDS = {
    "start": "start it, where none runs",
    "stop": "end it; jobs go on",
    "restart": "end it and start it, as after an upgrade",
    "resume": "drain no more",
    "status": "pid, home, log",
    "logs": "what it says of itself",
    "install": "have systemd or launchd keep it",
    "uninstall": "have them keep it no more",
}
_FLAGS = {
    "--drain": ("stop", "restart"),
    "--follow": ("logs",),
    "--lines": ("logs",),
    "--systemd": ("install", "uninstall"),
    "--launchd": ("install", "uninstall"),
    "--dry-run": ("install", "uninstall"),
    "--force": ("install", "uninstall"),
    "--hardened": ("install",),
}


def configure(parser: VerbParser) -> None:
    """One word; how to stop; what to install."""
    parser.word(_WORDS, "jobs on workers outlive a stop", {**_FLAGS, "--timeout": _FLAGS["--drain"]})
    parser.add_argument(
        "--drain", action="store_true", help="stop, restart: first let come to its end what has a worker"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="with --drain: then leave the rest to the next start, which takes it up again",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="logs: go on as it grows")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=int, help="logs: the last N lines (50); 0: none of them"
    )
    parser.add_argument("--systemd", action="store_true", help="install, uninstall: a user unit of systemd")
    parser.add_argument("--launchd", action="store_true", help="install, uninstall: a LaunchAgent")
    parser.add_argument("--dry-run", action="store_true", help="install, uninstall: only show what is done")
    parser.add_argument(
        "--hardened", action="store_true", help="install: for a host whose workers are all elsewhere"
    )
    parser.add_argument(
        "--force", action="store_true", help="install, uninstall: files that others wrote, too"
    )
    parser.examples(
        "rchctl daemon install --dry-run                have systemd or launchd keep it: show what is done",
        "rchctl daemon logs -f                          what it says of itself",
        "rchctl daemon status                           pid, home, log; exit 4 if there is none",
        "rchctl daemon restart                          after an upgrade; what runs goes on",
        "rchctl daemon stop --drain --timeout 600       before the machine is switched off",
        "rchctl daemon resume                           drain no more",
    )


def run(context: Context) -> Outcome:
    """`start`, `stop` and `resume` are satisfied by what is so already."""
    args = context.args
    what = one_of("daemon", "word", args.what, _WORDS)
    for flag, words in _FLAGS.items():
        if getattr(args, flag[2:].replace("-", "_")) not in {None, False} and what not in words:
            raise UsageError(f"daemon: {flag} goes with {' or '.join(words)}, not with {what}")
    if args.timeout is not None and not args.drain:
        raise UsageError("daemon: --timeout is how long --drain waits: type --drain --timeout SECONDS")
    if args.timeout is not None and not 0 <= args.timeout <= LONGEST_DRAIN_SECONDS:
        raise UsageError(f"daemon: --timeout {args.timeout:g} is not 0 to {LONGEST_DRAIN_SECONDS:.0f}")
    if what == "logs":
        from rchctl.commands.daemon_logs import show

        return show(context)
    if what in {"install", "uninstall"}:
        from rchctl.commands import daemon_install

        return (
            daemon_install.install(context, _stop)
            if what == "install"
            else daemon_install.uninstall(context)
        )
    verbs = {"start": _start, "stop": _stop, "restart": restart, "resume": _resume, "status": _status}
    return verbs[what](context)


def _start(context: Context) -> Outcome:
    client = autostart.connect(context.paths, context.env, context.console)
    health = client.call("daemon.health", {})
    client.close()
    context.say(health_line(health))
    if health.get("status") == "draining" and not context.json:
        context.console.note("it takes no runs while it drains: rchctl daemon resume")
    return Outcome(health)


def restart(context: Context) -> Outcome:
    """Stop it and start it; what runs on workers goes on."""
    stopped = _stop(context)
    if stopped.exit_code:
        return stopped
    return _start(context)


def _status(context: Context) -> Outcome:
    client = Client.open(context.paths)
    try:
        client.hello(any_version=True)
        health = client.call("daemon.health", {})
    except ConnectionLost as failure:
        raise _stranger(context, failure.message) from failure
    finally:
        client.close()
    if not isinstance(health.get("pid"), int) or not isinstance(health.get("status"), str):
        raise _stranger(context, "its health has no pid and no status")
    context.say(health_line(health))
    for run in health.get("awaited", ()):
        context.say(f"  awaits  {_awaited(run)}\n")
    if health["status"] == "draining":
        then = "it ends" if health.get("exits") else "it waits for rchctl daemon stop, or resume"
        context.say(f"  then    {then}\n")
    context.say(f"  state   {one_line(health.get('home', ''))}\n")
    context.say(f"  log     {_log(health)}\n")
    context.say(f"  socket  {one_line(context.paths.socket)}\n")
    context.say(f"  kept by {_keeper(health)}\n")
    stale = health.get("version") != rch.__version__
    if stale:
        context.say(
            f"  stale   {_running(health)} runs, {rch.__version__} is installed: {_renewal(health)}\n"
        )
    return Outcome({**health, "stale": stale, "renewal": _renewal(health) if stale else None})


def _log(health: dict[str, Any]) -> str:
    if health.get("supervisor") == "systemd":
        return f"the journal of {one_line(health.get('unit') or 'rchd.service')}: rchctl daemon logs"
    return one_line(health.get("log_path", ""))


def _running(health: dict[str, Any]) -> str:
    return f"rchd {one_line(health.get('version') or 'of unknown version')}"


def _keeper(health: dict[str, Any]) -> str:
    """Who starts the daemon again when it ends."""
    manager, unit = health.get("supervisor"), one_line(health.get("unit") or "")
    if not manager:
        return "nobody: the next call starts it again (rchctl daemon install has systemd or launchd do so)"
    return f"{one_line(manager)} ({unit})" if unit else one_line(manager)


def _renewal(health: dict[str, Any]) -> str:
    """The command that has the installed version run."""
    manager, unit = health.get("supervisor"), one_line(health.get("unit") or "")
    if manager == "systemd" and unit:
        return f"systemctl --user restart {unit.removesuffix('.service')}"
    if manager == "launchd" and unit:
        return f"launchctl kickstart -k gui/$(id -u)/{unit}"
    return "rchctl daemon restart"


def _awaited(run: dict[str, Any]) -> str:
    """A run that the daemon waits for, on one line."""
    steps = [{"state": "RUNNING", "action": run["action"]}] if run.get("action") else []
    doing = position({**run, "state": "RUNNING", "steps": steps})
    return one_line(f"{run.get('run_id')}  {run.get('worker') or 'no worker yet'}: {doing}")


def _stranger(context: Context, why: str) -> Failure:
    """What listens does not answer as a daemon does; of a daemon that hangs, how to be rid of it."""
    if (pid := holder_of(context.paths)) is not None:
        return Failure(
            Kind.DAEMON,
            f"the daemon (pid {pid}) at {context.paths.socket} does not answer: {why}",
            hint=hung_hint(pid),
        )
    return Failure(
        Kind.DAEMON,
        f"what listens at {context.paths.socket} does not answer as rchd: {why}",
        hint=f"read {context.paths.log}, or set RCH_SOCKET to rchd's own socket",
    )


def _resume(context: Context) -> Outcome:
    client = Client.open(context.paths)
    try:
        server = client.hello(any_version=True)
        if _drains_by_itself(server):
            view = client.call("daemon.drain", {"off": True})
        elif client.call("daemon.health", {}).get("status") == "draining":
            version = server.get("version") or "of unknown version"
            raise Failure(Kind.DAEMON, f"rchd {version} cannot be told to drain no more", hint=RESTART)
        else:
            view = {"draining": False}
    finally:
        client.close()
    context.say("rchd takes runs\n")
    return Outcome(view)


def _drains_by_itself(server: dict[str, Any]) -> bool:
    return "drain_exit" in (server.get("features") or ())


def _stop(context: Context) -> Outcome:
    try:
        client = Client.open(context.paths)
    except NoDaemon:
        if not context.json:
            context.console.note(f"no daemon runs at {context.paths.socket}")
        return Outcome({"stopped": False})
    server = client.hello(any_version=True)
    last: dict[str, Any] = {}
    if context.args.drain:
        last = _Drain(context, client, by_itself=_drains_by_itself(server)).wait()
        if not last["draining"]:
            return _called_off(context, client, last)
    with suppress(ConnectionLost):  # it may be quicker with its end than with its answer
        last |= client.call("daemon.shutdown", {})
    _ended(context, client)
    left, queued = last.get("runs_running", 0), last.get("runs_queued", 0)
    rest = [f"{number} {name}" for number, name in ((left, "running"), (queued, "queued")) if number]
    more = f"; {', '.join(rest)}: taken up again by the next start" if rest else ""
    context.say(f"rchd stopped{more}\n")
    return Outcome({"stopped": True, **last})


def _called_off(context: Context, client: Client, health: dict[str, Any]) -> Outcome:
    """Somebody had the daemon take runs again: it is well, and what was asked for is not done."""
    client.close()
    message = "the drain was called off (rchctl daemon resume): rchd goes on and takes runs"
    failure = Failure(Kind.INTERNAL, message, hint="rchctl daemon stop --drain")
    if not context.json:
        context.console.error(message, failure.hint)
    return Outcome({**health, "stopped": False}, failure.exit_code, error_body(failure))


def _ended(context: Context, client: Client) -> None:
    """Wait until another one may start; its lock is the last thing that it lets go of."""
    deadline = time.monotonic() + STOP_SECONDS
    closed = client.wait_for_close(STOP_SECONDS)
    client.close()
    while closed and not is_free(context.paths.lock) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    if not closed or not is_free(context.paths.lock):
        raise Failure(
            Kind.DAEMON,
            f"the daemon has not ended within {STOP_SECONDS:.0f} s",
            hint=f"read {context.paths.log}",
        )


class _Drain:
    """The wait for a daemon that drains.

    It ends by itself, even if this client does not wait for it. An older daemon only drains
    (`by_itself` False): then it is this client that looks when nothing runs any more.
    """

    def __init__(self, context: Context, client: Client, *, by_itself: bool) -> None:
        self._context = context
        self._client = client
        self._by_itself = by_itself
        self._told: object = None

    def wait(self) -> dict[str, Any]:
        """What the daemon said last of itself: what is left where time was up, else nothing runs.

        `draining` is False where the drain was called off.
        """
        try:
            return self._wait(self._context.args.timeout)
        except KeyboardInterrupt:
            self._context.console.clear_status()
            then = "and ends then" if self._by_itself else "and stays"
            self._context.console.note(
                f"the daemon goes on draining {then}; to end it now: rchctl daemon stop;"
                " to have it take runs again: rchctl daemon resume"
            )
            raise

    def _wait(self, timeout: float | None) -> dict[str, Any]:
        asked = {"exit": True, "timeout_seconds": timeout} if self._by_itself else {}
        deadline = None if timeout is None else time.monotonic() + timeout
        health = self._client.call("daemon.drain", asked)
        queued = 0
        while True:
            self._show(health)
            try:
                if self._client.wait_for_close(_LOOK):
                    break
                health = self._client.call("daemon.health", {})
            except ConnectionLost:
                break
            queued = health.get("runs_queued", 0)
            if health.get("status") != "draining":
                self._context.console.clear_status()
                return {
                    "draining": False,
                    "runs_running": health.get("runs_running", 0),
                    "runs_queued": queued,
                    "awaited": [],
                }
            if not self._by_itself and (not health.get("runs_running") or _is_past(deadline)):
                break
        self._context.console.clear_status()
        left = health if _is_past(deadline) else {"runs_running": 0, "awaited": []}
        return {
            "draining": True,
            "runs_running": left.get("runs_running", 0),
            "runs_queued": queued,
            "awaited": left.get("awaited", []),
        }

    def _show(self, health: dict[str, Any]) -> None:
        """Which runs are left: a line when it is others than before."""
        awaited = health.get("awaited") or []
        count = len(awaited) or health.get("runs_running", 0)
        names = [_awaited(run) for run in awaited[:_NAMED]]
        more = [f"and {count - len(names)} more"] if names and count > len(names) else []
        text = f"draining: {count} runs left" if count != 1 else "draining: 1 run left"
        whole = "; ".join([text, *names, *more])
        console = self._context.console
        if self._context.json or whole == self._told:
            return
        self._told = whole
        if console.live:
            console.status(whole)
        else:
            console.note(whole)


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
