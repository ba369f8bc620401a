"""`rchctl daemon`: start it, stop it, look at it."""

from __future__ import annotations

import time

from rch.contract.errors import Failure, Kind
from rch.files.locks import is_free
from rchctl import autostart
from rchctl.client import Client, ConnectionLost, NoDaemon
from rchctl.commands.status import health_line
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser, one_of
from rchctl.terminal import one_line

# Shutting down commits and hangs up; running jobs stay on their workers.
STOP_SECONDS = 30.0
_PAUSE = 0.02


def configure(parser: VerbParser) -> None:
    """`start`, `stop` or `status`."""
    parser.add_argument("what", metavar="start|stop|status", help="jobs on workers outlive a stop")
    parser.examples(
        "rchctl daemon status                           pid, home, log; exit 4 if there is none",
        "rchctl daemon stop && rchctl daemon start      after an upgrade",
    )


def run(context: Context) -> Outcome:
    """`start` and `stop` are satisfied by what is so already."""
    what = one_of("daemon", "word", context.args.what, ("start", "stop", "status"))
    return {"start": _start, "stop": _stop, "status": _status}[what](context)


def _start(context: Context) -> Outcome:
    client = autostart.connect(context.paths, context.env, context.console)
    health = client.call("daemon.health", {})
    client.close()
    context.say(health_line(health))
    return Outcome(health)


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
    context.say(f"  state   {one_line(health.get('home', ''))}\n")
    context.say(f"  log     {one_line(health.get('log_path', ''))}\n")
    context.say(f"  socket  {one_line(context.paths.socket)}\n")
    return Outcome(health)


def _stranger(context: Context, why: str) -> Failure:
    """What listens does not answer as a daemon does."""
    return Failure(
        Kind.DAEMON,
        f"what listens at {context.paths.socket} does not answer as rchd: {why}",
        hint=f"read {context.paths.log}, or set RCH_SOCKET to rchd's own socket",
    )


def _stop(context: Context) -> Outcome:
    try:
        client = Client.open(context.paths)
    except NoDaemon:
        if not context.json:
            context.console.note(f"no daemon runs at {context.paths.socket}")
        return Outcome({"stopped": False})
    client.hello(any_version=True)
    try:
        drained = client.call("daemon.shutdown", {})
    except ConnectionLost:
        drained = {}  # it was quicker with its end than with its answer
    deadline = time.monotonic() + STOP_SECONDS
    closed = client.wait_for_close(STOP_SECONDS)
    client.close()
    # Its lock is the last thing that it lets go of; only then may another one start.
    while closed and not is_free(context.paths.lock) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    if not closed or not is_free(context.paths.lock):
        raise Failure(
            Kind.DAEMON,
            f"the daemon has not ended within {STOP_SECONDS:.0f} s",
            hint=f"read {context.paths.log}",
        )
    left = drained.get("runs_running", 0)
    context.say(f"rchd stopped{f'; {left} running: taken up again by the next start' if left else ''}\n")
    return Outcome({"stopped": True, **drained})
