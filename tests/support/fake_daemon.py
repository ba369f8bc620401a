"""A small daemon for the client's tests: real socket, real contract, runs moved by the test.

As a program (`python fake_daemon.py run`) it stands in for `rchd`: it takes the state lock,
listens at the host's socket and ends on `daemon.shutdown`. `FAKE_DAEMON_STARTS` names a file
that gets a line a start, `FAKE_DAEMON_FAIL` a text to end with instead.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

import rch
from rch.contract import framing, local_api
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.states import is_terminal
from rch.files.locks import FileLock
from rch.files.paths import host_paths

RUN_ID = "0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a01"
PATIENCE = 60.0

Handler = Callable[[dict[str, Any], "Connection"], dict[str, Any]]


def run_view(run_id: str = RUN_ID, **changes: Any) -> dict[str, Any]:
    """A run as the contract shapes it, with `changes`."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "state": "QUEUED",
        "seq": 1,
        "phase": "waiting",
        "created_at": "2026-01-02T03:04:05.000Z",
        "updated_at": "2026-01-02T03:04:05.000Z",
        "project": "Demo",
        "root": "/src/demo",
        "origin": "terminal",
        "steps": [],
        "run_dir": "/artifacts/" + run_id,
        "source_sha256": "0" * 64,
        **changes,
    }
    return dict(msgspec.to_builtins(msgspec.convert(fields, local_api.RunView)))


def step_view(index: int, action: str, state: str = "PLANNED", **changes: Any) -> dict[str, Any]:
    """A step of a run."""
    return {
        "index": index,
        "action": action,
        "job_id": f"job-{action}-000{index}",
        "state": state,
        "seq": 1,
        **changes,
    }


class Connection:
    """One client. Writes are whole lines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.watching: dict[int, str] = {}
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """One object; a client that is gone is no matter."""
        with self._lock:
            try:
                self.sock.sendall(framing.encode_line({"jsonrpc": "2.0", **message}))
            except OSError:
                return

    def notify(self, subscription: int, kind: str, run_id: str | None, **fields: Any) -> None:
        """One `runs.event`, in the contract's shape."""
        event = msgspec.convert(
            {
                "subscription": subscription,
                "seq": fields.pop("seq", 1),
                "type": kind,
                "run_id": run_id,
                "at": timestamp(time.time()),
                **fields,
            },
            local_api.RunEvent,
        )
        self.send({"method": "runs.event", "params": msgspec.to_builtins(event)})


class FakeDaemon:
    """Answers the contract's methods; tests move the runs and drop connections."""

    def __init__(self, path: Path, version: str = rch.__version__, protocol: int = 1) -> None:
        self.path = path
        self.version = version
        self.protocol = protocol
        self.features: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {RUN_ID: run_view()}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.handlers: dict[str, Handler] = {}
        self.stopped = threading.Event()
        self._news = threading.Condition()
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._subscriptions = 0
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listen(self) -> None:
        """Begin to answer."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._spawn(self._accept, self._listener)

    def close(self) -> None:
        """Hang up and listen no more."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self.path.unlink(missing_ok=True)
        self.drop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(PATIENCE)
        self._threads.clear()

    def drop(self) -> None:
        """Hang up on every client."""
        for connection in list(self._connections):
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def on(self, method: str, handler: Handler | Failure | dict[str, Any]) -> None:
        """Answer `method` so: a function's result, a refusal, or these very values."""

        def answer(params: dict[str, Any], connection: Connection) -> dict[str, Any]:
            if isinstance(handler, Failure):
                raise handler
            return handler(params, connection) if callable(handler) else handler

        self.handlers[method] = answer

    def wait_for(self, method: str, times: int = 1) -> dict[str, Any]:
        """The params of the `times`-th call of `method`, once it has come."""

        def seen() -> list[dict[str, Any]]:
            return [params for name, params in self.calls if name == method]

        with self._news:
            if not self._news.wait_for(lambda: len(seen()) >= times, PATIENCE):
                raise AssertionError(f"{method} was not called {times} times: {self.calls}")
            return seen()[times - 1]

    def wait_for_watcher(self) -> None:
        """Until somebody follows a run."""
        with self._news:
            watched = self._news.wait_for(
                lambda: any(each.watching for each in self._connections), PATIENCE
            )
            assert watched, self.calls

    def count(self, method: str) -> int:
        """How often `method` was called."""
        return sum(name == method for name, _ in self.calls)

    def change(self, run_id: str = RUN_ID, **changes: Any) -> None:
        """Move a run on and tell its watchers."""
        before = self.runs[run_id]
        self.runs[run_id] = run_view(**{**before, "seq": before["seq"] + 1, **changes})
        self.tell("run", run_id, run=self.runs[run_id], seq=self.runs[run_id]["seq"])

    def tell(self, kind: str, run_id: str = RUN_ID, **fields: Any) -> None:
        """One event to every watcher of the run."""
        for connection in list(self._connections):
            for subscription, run in list(connection.watching.items()):
                if run in {run_id, "all"}:
                    connection.notify(subscription, kind, run_id, **fields)

    def log(self, path: Path, job_id: str, text: bytes) -> None:
        """Append to a live log and say so."""
        offset = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(text)
        self.tell("log", data={"job_id": job_id, "path": str(path), "offset": offset, "length": len(text)})

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Connection(sock)
            self._connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: Connection) -> None:
        lines = framing.LineReader()
        with connection.sock:
            while True:
                try:
                    data = connection.sock.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    break
                lines.feed(data)
                while (line := lines.line()) is not None:
                    self._request(framing.decode_object(line), connection)
            connection.watching.clear()
        self._connections.remove(connection)

    def _request(self, request: dict[str, Any], connection: Connection) -> None:
        method, params = str(request["method"]), request.get("params") or {}
        try:
            msgspec.convert(params, local_api.METHODS[method][0])
            handler = self.handlers.get(method) or getattr(self, "_" + method.replace(".", "_"))
            with self._news:
                self.calls.append((method, params))
                self._news.notify_all()
            result = handler(params, connection)
        except Failure as failure:
            connection.send({"id": request["id"], "error": local_api.error_body(failure)})
            return
        connection.send({"id": request["id"], "result": result})
        with self._news:
            self._news.notify_all()
        if method == "daemon.shutdown":
            self.stopped.set()

    def _hello(self, _params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        return {
            "server": "rchd",
            "version": self.version,
            "protocol": self.protocol,
            "features": self.features,
            "instance": "fake",
            "limits": {},
        }

    def _daemon_health(self, _params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        return {
            "status": "ok",
            "pid": os.getpid(),
            "version": self.version,
            "uptime_seconds": 5,
            "runs_queued": 0,
            "runs_running": 0,
            "connections": len(self._connections),
            "activity": "idle",
            "home": "/home/rch",
            "log_path": "/home/rch/rchd.log",
        }

    def _daemon_shutdown(self, _params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        return {"draining": True, "runs_running": 0}

    def _runs_submit(self, _params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        return self.runs[RUN_ID]

    def _runs_get(self, params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        found = [run for run_id, run in self.runs.items() if run_id.startswith(params["run"])]
        if params["run"] == "latest":
            found = list(self.runs.values())[-1:]
        if len(found) != 1:
            raise Failure(Kind.USAGE, f"no run {params['run']!r}", subkind="UNKNOWN_RUN")
        return found[0]

    def _runs_list(self, params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        wanted = params.get("state")
        runs = [run for run in self.runs.values() if wanted in {None, run["state"]}]
        return {"runs": runs[: params["limit"]]}

    def _runs_cancel(self, params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        run = self._runs_get(params, _connection)
        run["cancel_requested"] = True
        return run

    def _runs_watch(self, params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        self._subscriptions += 1
        connection.watching[self._subscriptions] = params["run"]
        if params["run"] == "all":
            live = [each for each in self.runs.values() if not is_terminal(each["state"])]
            seq = max(each["seq"] for each in self.runs.values())
            return {"subscription": self._subscriptions, "seq": seq, "runs": live}
        run = self._runs_get(params, connection)
        return {"subscription": self._subscriptions, "seq": run["seq"], "runs": [run]}

    def _runs_unwatch(self, params: dict[str, Any], connection: Connection) -> dict[str, Any]:
        connection.watching.pop(params["subscription"], None)
        return {}

    def _workers_list(self, _params: dict[str, Any], _connection: Connection) -> dict[str, Any]:
        return {"workers": [], "inventory": "/etc/workers.toml", "embedded": False}

    _workers_probe = _workers_list


def serve_as_rchd() -> int:
    """Stand in for `rchd run` until `daemon.shutdown`."""
    if starts := os.environ.get("FAKE_DAEMON_STARTS"):
        with Path(starts).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {Path.cwd()}\n")
    if text := os.environ.get("FAKE_DAEMON_FAIL"):
        sys.stderr.write(text + "\n")
        return 3
    paths = host_paths(os.environ)
    with FileLock(paths.lock, "fake daemon"), FakeDaemon(paths.socket) as daemon:
        daemon.stopped.wait(60)
    return 0


if __name__ == "__main__":
    sys.exit(serve_as_rchd())
