"""What went over the wire between processes: pipes of a worker and the daemon's socket, line by line.

The programs know nothing of it: the worker is started by `tapped_worker`, and clients dial a socket that
passes everything on.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.emitted import Ledger

TAPPED = Path(__file__).with_name("tapped_worker.py")


def hold_worker(folder: Path, ledger: Ledger) -> None:
    """Each line between host and worker, of all channels that were recorded in `folder`."""
    for asked in sorted(folder.glob("*.in")):
        ops: dict[str, str] = {}
        for line in _lines(asked.read_bytes()):
            told = json.loads(line)
            ops[told["request_id"]] = told["op"]
            ledger.hold(f"worker-rpc/{told['op']}.request.schema.json", line, f"{told['op']}: request")
        for line in _lines(asked.with_suffix(".out").read_bytes()):
            op = ops[json.loads(line)["request_id"]]
            ledger.hold(f"worker-rpc/{op}.response.schema.json", line, f"{op}: response")


def _lines(data: bytes) -> Iterator[bytes]:
    """The lines of a channel, without the raw bytes that follow some; one that was cut is left out."""
    while b"\n" in data:
        line, _, data = data.partition(b"\n")
        yield line
        told: dict[str, Any] = json.loads(line)
        stream = told.get("stream") or told.get("payload", {}).get("stream") or {"content_length": 0}
        data = data[stream["content_length"] :]


class SocketTap:
    """Listens at `place`, passes on to `target`, and keeps what both sides said, a pair a connection."""

    def __init__(self, place: Path, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._said: list[tuple[bytearray, bytearray]] = []

    def serve(self) -> None:
        """Until `close`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                daemon = socket.socket(socket.AF_UNIX)
                daemon.connect(self._target)
                asked, told = bytearray(), bytearray()
                self._said.append((asked, told))
                for pair in ((client, daemon, asked), (daemon, client, told)):
                    self._start(*pair)

    def _start(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        thread = threading.Thread(target=_pass, args=(source, sink, kept))
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """No more connections; those that are open end with their programs."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def ended(self) -> None:
        """Wait until every connection is over."""
        for thread in self._threads:
            thread.join(30)

    def hold(self, ledger: Ledger) -> None:
        """Each line of every connection."""
        for asked, told in self._said:
            methods = {}
            for line in bytes(asked).splitlines():
                call = json.loads(line)
                methods[call["id"]] = call["method"]
                name = f"{call['method']}.request"
                ledger.hold(f"local-api/{name}.schema.json", line, name)
            for line in bytes(told).splitlines():
                answer = json.loads(line)
                event = "method" in answer
                name = "runs.event.notification" if event else f"{methods[answer['id']]}.response"
                ledger.hold(f"local-api/{name}.schema.json", line, name)


def _pass(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            kept += data
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def socket_tap(place: Path, target: Path) -> Iterator[SocketTap]:
    """A tap that serves from now on."""
    tap = SocketTap(place, target)
    thread = threading.Thread(target=tap.serve)
    thread.start()
    try:
        yield tap
    finally:
        tap.close()
        thread.join(30)
        tap.ended()
