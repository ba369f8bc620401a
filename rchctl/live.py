"""A run that this client owns: submit it, show it, cancel it on a signal (spec section 4)."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl import quick
from rchctl.board import shown
from rchctl.client import Client, ConnectionLost, RemoteFailure
from rchctl.context import Context, Outcome, error_body
from rchctl.ending import AtEnd
from rchctl.findings import closing
from rchctl.follow import Follower
from rchctl.logs import Logs
from rchctl.progress import Progress
from rchctl.render import exit_code, run_error
from rchctl.signals import Guard, Interrupted, owes, window

ACKNOWLEDGE_SECONDS = 10.0
# Without progress from the snapshot of the source for so long, the daemon is taken for lost.
_SUBMIT_SILENCE = 120.0
_SUBMIT_TRIES = 3
_PAUSE = 0.2
_CANCELLING = "cancelling the run; once more to leave at once"


class Submission:
    """A call that makes a run, with a token, the user's or one of its own: a retry is the same run."""

    def __init__(
        self, context: Context, params: dict[str, Any], progress: Progress, method: str = "runs.submit"
    ) -> None:
        self._context = context
        self._method = method
        self._progress = progress
        # Progress is asked for even where it is not shown: it tells a busy daemon from a lost one.
        token = quick.token or os.urandom(16).hex()
        self._params = {"client_token": token, **params, "progress": True}
        self._pending: int | None = None
        self.client: Client | None = None
        # Whether the daemon may have the run.
        self.sent = False

    @property
    def connection(self) -> Client:
        """The connection that the answer came over."""
        if self.client is None:
            raise ConnectionLost("there is no connection to the daemon")
        return self.client

    def submit(self) -> dict[str, Any]:
        """The accepted run; tried again over a connection that breaks."""
        for left in reversed(range(_SUBMIT_TRIES)):
            try:
                return self.answer(_SUBMIT_SILENCE)
            except ConnectionLost:
                self.drop()
                if not left:
                    raise
        raise AssertionError

    def answer(self, silence: float, *, until: float = math.inf) -> dict[str, Any]:
        """Wait for the answer, sending first whatever is not sent on this connection."""
        client, request = self._begin(min(silence, until - time.monotonic()))
        return client.wait(request, silence, self._event, until=until)

    def _begin(self, within: float) -> tuple[Client, int]:
        """The request on its way, over a connection made within so many seconds if there is none."""
        if self.client is None:
            self.client = self._context.connect(max(within, 0.1))
            self._pending = None
        if self._pending is None:
            if not self.sent:
                with window():  # a signal until here has nothing to cancel
                    pass
            self.sent = True
            owes(cancel=True)
            self._pending = self.client.send(self._method, self._params)
        return self.client, self._pending

    def call_off(self, reason: str, until: float) -> tuple[Client, int] | None:
        """Ask for the end of what was submitted, answered or not; None where the daemon is too old.

        A new connection has the submit first: then the daemon knows the token in any case.
        """
        client, _ = self._begin(until - time.monotonic())
        if "cancel_token" not in (client.server.get("features") or ()):
            return None
        token = self._params["client_token"]
        return client, client.send("runs.cancel", {"client_token": token, "reason": reason})

    def _event(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        if event.get("type") == "stage" and isinstance(data, dict):
            self._progress.stage(data)

    def drop(self) -> None:
        """Hang up."""
        if self.client is not None:
            self.client.close()
        self.client = None


class LiveRun:
    """`verify` and `run` from the first byte to the exit code."""

    def __init__(
        self,
        context: Context,
        params: dict[str, Any],
        *,
        show_log: bool,
        show_progress: bool,
        method: str = "runs.submit",
        at_end: AtEnd | None = None,
    ) -> None:
        self._context = context
        self._at_end = at_end
        context.mark({"simulated": params.get("simulate")})
        self._progress = shown(context.console, enabled=show_progress)
        self._quiet = not show_progress
        self._submission = Submission(context, params, self._progress, method)
        self._show_log = show_log
        self._run: dict[str, Any] | None = None
        self._follower: Follower | None = None
        self._told = False

    def detach(self) -> Outcome:
        """Leave the run to the daemon."""
        run = self._submission.submit()
        self._context.mark(run)
        self._context.say_value(str(run["run_id"]))
        return Outcome(run)

    def execute(self) -> Outcome:
        """Stay until the run is over, or a signal ends it."""
        with Guard():
            try:
                return self._to_the_end()
            except Interrupted as stop:
                return self._cancel(stop)

    def _to_the_end(self) -> Outcome:
        run = self._run = self._submission.submit()
        self._context.mark(run)
        self._progress.accepted(run)
        self._follower = Follower(
            self._context,
            self._submission.connection,
            str(run["run_id"]),
            progress=self._progress,
            logs=Logs(self._context.console, aside=self._context.json) if self._show_log else None,
            leave_unreachable=True,
        )
        run = self._run = self._follower.follow()
        return self._ended(run)

    def _ended(self, run: dict[str, Any]) -> Outcome:
        self._progress.end()
        self._context.say(closing(run, self._context, quiet=self._quiet))
        if self._at_end is not None:
            self._at_end(run)
        return Outcome(run, exit_code(run), run_error(run))

    def _cancel(self, stop: Interrupted) -> Outcome:
        """The intent, durable at the daemon, or ten seconds of trying."""
        self._context.console.clear_status()
        if self._run is None and not self._submission.sent:
            raise Failure(Kind.CANCELLED, "interrupted before a run was submitted")
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        client = self._follower.client if self._follower else self._submission.client
        while True:
            try:
                return self._cancelled(self._ask(client, stop, deadline))
            except RemoteFailure as failure:
                if self._run is None and (
                    failure.kind is Kind.CANCELLED or failure.subkind == "UNKNOWN_RUN"
                ):
                    raise Failure(Kind.CANCELLED, "interrupted before a run was accepted") from failure
                raise self._unacknowledged(f"refused to end it: {failure.message}") from failure
            except Failure as failure:
                client = None
                self._submission.drop()
                if failure.kind is not Kind.DAEMON or time.monotonic() + _PAUSE > deadline:
                    raise self._unacknowledged("did not acknowledge it") from failure
                time.sleep(_PAUSE)

    def _ask(self, client: Client | None, stop: Interrupted, deadline: float) -> dict[str, Any]:
        if self._run is None:
            asked = self._submission.call_off(stop.reason, deadline)
            self._tell()
            if asked is not None:
                return asked[0].wait(asked[1], until=deadline)
            self._run = self._submission.answer(ACKNOWLEDGE_SECONDS, until=deadline)
            client = self._submission.client
        if client is None:
            client = self._context.connect(max(deadline - time.monotonic(), 0.1))
        request = client.send("runs.cancel", {"run": self._run["run_id"], "reason": stop.reason})
        self._tell()
        return client.wait(request, until=deadline)

    def _tell(self) -> None:
        """The cancel is on its way: say that a second signal leaves at once."""
        owes(cancel=False)
        if not self._told:
            self._told = True
            self._context.console.note(_CANCELLING)

    def _cancelled(self, run: dict[str, Any]) -> Outcome:
        run_id = run.get("run_id")
        if self._context.private:  # its end is this call's: nobody else could wait for it
            client = self._context.connect()
            follower = Follower(self._context, client, str(run_id), progress=self._progress)
            return self._ended(follower.follow())
        message = f"run {run_id} is being cancelled; its end: rchctl wait {run_id}"
        if not self._context.json:
            self._context.console.note(message)
        failure = Failure(Kind.CANCELLED, message, hint=f"rchctl wait {run_id}")
        return Outcome(run, failure.exit_code, error_body(failure))

    def _unacknowledged(self, what: str) -> Failure:
        if self._run is None:
            message = f"interrupted, and the daemon {what}; it may have the run"
            return Failure(Kind.CANCELLED, message, hint="rchctl list")
        run_id = self._run["run_id"]
        message = f"interrupted; the end of run {run_id} was asked for, and the daemon {what}"
        return Failure(Kind.CANCELLED, message, hint=f"rchctl cancel {run_id}")
