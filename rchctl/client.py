"""The blocking client of the local socket (spec section 12): JSON-RPC 2.0, one object a line.

Standard library alone. `Failure` of the daemon is rebuilt from the error's data; a connection
that breaks is `ConnectionLost`, which callers that wait for a run mend by a new one.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import rch
from rch.contract import framing
from rch.contract.errors import Failure, Kind
from rch.files.paths import HostPaths, check_socket_path
from rchctl.signals import window

PROTOCOL = (1, 1)
FEATURES = ("watch", "log_text")
RESTART = "rchctl daemon stop && rchctl daemon start"
CALL_SECONDS = 30.0
HELLO_SECONDS = 10.0
# The daemon keeps to 1 MiB a message; a longer list is not the reader's to refuse.
_MAX_LINE = 16 << 20
_READ = 1 << 16

Notify = Callable[[dict[str, Any]], None]


class ConnectionLost(Failure):
    """The daemon went away, or what it sends is no longer understood."""

    def __init__(self, message: str, hint: str = "rchctl daemon status") -> None:
        super().__init__(Kind.DAEMON, message, hint=hint)


class NoAnswer(ConnectionLost):
    """The daemon is there and says nothing."""


class NoDaemon(Failure):
    """Nobody listens at the socket."""

    def __init__(self, paths: HostPaths, why: str) -> None:
        super().__init__(Kind.DAEMON, f"no daemon answers at {paths.socket} ({why})")


class RemoteFailure(Failure):
    """A refusal of the daemon; its exit code wins over this client's registry."""

    def __init__(self, error: dict[str, Any]) -> None:
        data = error.get("data")
        facts: dict[str, Any] = data if isinstance(data, dict) else {}
        name, subkind, hint = facts.get("kind"), facts.get("subkind"), facts.get("hint")
        detail = facts.get("detail")
        super().__init__(
            Kind(name) if name in set(Kind) else Kind.INTERNAL,
            str(error.get("message") or "the daemon refused without a reason"),
            subkind=str(subkind) if subkind else None,
            hint=str(hint) if hint else None,
            data=detail if isinstance(detail, dict) else None,
        )
        self._code = facts.get("exit_code")

    @property
    def exit_code(self) -> int:
        """The daemon's word, if it is an exit code; else the registry's."""
        code = self._code
        return code if isinstance(code, int) and 0 < code < 256 else super().exit_code


class SentAway(RemoteFailure):
    """The daemon hung up with a reason, before it was asked anything or instead of an answer."""


class Client:
    """One connection. Use from one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = framing.LineReader(_MAX_LINE)
        self._notes: deque[dict[str, Any]] = deque()
        self._answers: dict[int, dict[str, Any]] = {}
        self._last_id = 0
        self.server: dict[str, Any] = {}

    @classmethod
    def open(cls, paths: HostPaths) -> Self:
        """A connection without greeting; `NoDaemon` if nobody listens."""
        check_socket_path(paths.socket)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(HELLO_SECONDS)
        deadline = time.monotonic() + HELLO_SECONDS
        while True:
            try:
                sock.connect(str(paths.socket))
            except BlockingIOError as error:  # its queue of connections is full
                if time.monotonic() > deadline:
                    sock.close()
                    raise ConnectionLost(f"the daemon at {paths.socket} takes no connection") from error
                with window():
                    time.sleep(0.01)
            except OSError as error:
                sock.close()
                raise NoDaemon(paths, error.strerror or str(error)) from error
            else:
                return cls(sock)

    def release(self) -> socket.socket:
        """The socket itself, for whoever speaks over it from now on; `close` still ends it."""
        return self._sock

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def hello(self, *, any_version: bool = False, silence: float = HELLO_SECONDS) -> dict[str, Any]:
        """Greet; refuses a daemon that speaks another protocol, with the command that mends it.

        `any_version`: for the requests that work across all versions.
        """
        ours = {
            "client": "rchctl",
            "version": rch.__version__,
            "protocol": PROTOCOL,
            "features": FEATURES,
        }
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            ours["agent"] = str(Path(agent).absolute())
        try:
            self.server = self.call("hello", ours, silence)
        except SentAway:
            raise
        except RemoteFailure as failure:
            if any_version:
                return self.server
            if failure.kind is not Kind.DAEMON:
                raise
            raise self._other_protocol(self._their_version(), failure.message) from failure
        spoken = self.server.get("protocol")
        if any_version or (isinstance(spoken, int) and PROTOCOL[0] <= spoken <= PROTOCOL[1]):
            return self.server
        raise self._other_protocol(self.server.get("version"), f"it speaks protocol {spoken}")

    def _their_version(self) -> object:
        """What the daemon says of itself across all versions."""
        try:
            return self.call("daemon.health", {}, HELLO_SECONDS).get("version")
        except Failure:
            return None

    @staticmethod
    def _other_protocol(version: object, theirs: str) -> Failure:
        low, high = PROTOCOL
        spoken = str(low) if low == high else f"{low} to {high}"
        return Failure(
            Kind.DAEMON,
            f"rchctl {rch.__version__} speaks protocol {spoken} and does not understand"
            f" rchd {version or 'of unknown version'}: {theirs}",
            subkind="PROTOCOL",
            hint=RESTART,
        )

    def send(self, method: str, params: Any) -> int:
        """Send a request; its id is for `wait`."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        try:
            self._sock.sendall(framing.encode_line(request))
        except OSError as error:
            self._receive(0)  # it may have said why before it hung up
            raise ConnectionLost(
                f"the connection to the daemon broke: {error.strerror or error}"
            ) from error
        return self._last_id

    def wait(
        self,
        request: int,
        silence: float = CALL_SECONDS,
        notify: Notify | None = None,
        *,
        until: float = math.inf,
    ) -> dict[str, Any]:
        """The result of `request`; fails when nothing at all comes for `silence` seconds.

        It fails at `until` on the monotonic clock too, whatever comes. Notifications go to
        `notify` as they come, else they are kept for `notification`.
        """
        while request not in self._answers:
            while notify is not None and self._notes:
                notify(self._notes.popleft())
            left = until - time.monotonic()
            if left <= 0 or not self._receive(min(silence, left)):
                raise NoAnswer(f"the daemon did not answer within {min(silence, left):.0f} s")
        while notify is not None and self._notes:
            notify(self._notes.popleft())
        answer = self._answers.pop(request)
        if isinstance(error := answer.get("error"), dict):
            raise RemoteFailure(error)
        result = answer.get("result")
        return result if isinstance(result, dict) else {}

    def call(self, method: str, params: Any, silence: float = CALL_SECONDS) -> dict[str, Any]:
        """One request and its result."""
        return self.wait(self.send(method, params), silence)

    def notification(self, timeout: float) -> dict[str, Any] | None:
        """The params of the next notification, or None after `timeout` seconds of silence."""
        deadline = time.monotonic() + timeout
        while not self._notes:
            left = deadline - time.monotonic()
            if left <= 0 or not self._receive(left):
                return None
        return self._notes.popleft()

    def wait_for_close(self, timeout: float) -> bool:
        """Whether the daemon hung up within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._receive(left)
        except ConnectionLost:
            return True
        return False

    def _receive(self, timeout: float) -> bool:
        """Take in what is there; False when nothing came in time."""
        with window():
            ready, _, _ = select.select([self._sock], [], [], max(timeout, 0))
        if not ready:
            return False
        try:
            data = self._sock.recv(_READ)
        except OSError as error:
            raise ConnectionLost(
                f"the connection to the daemon broke: {error.strerror or error}"
            ) from error
        if not data:
            raise ConnectionLost("the daemon closed the connection")
        self._lines.feed(data)
        try:
            while (line := self._lines.line()) is not None:
                self._sort(framing.decode_object(line))
        except framing.FrameError as error:
            raise ConnectionLost(f"the daemon's answer is not understood: {error}") from error
        return True

    def _sort(self, message: dict[str, Any]) -> None:
        if message.get("method") == "runs.event" and isinstance(message.get("params"), dict):
            self._notes.append(message["params"])
        elif isinstance(message.get("id"), int):
            self._answers[message["id"]] = message
        elif isinstance(error := message.get("error"), dict):
            raise SentAway(error)
