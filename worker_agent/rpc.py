"""`rch-worker xcode rpc`: request lines in, answers out, until the end of the input (section 3.1).

One process serves one channel, one request after the other. What it does not understand, and a
body that it refuses, ends the channel after the answer: nobody can tell where the next request
begins. The protocol has the standard output to itself: descriptor 1 is made to mean standard
error, so that no stray print can break a line.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from rch.contract.framing import FrameError, LineReader, decode_object, encode_line
from rch.contract.worker_envelope import (
    BAD_WORKER_CONFIG,
    Request,
    decode_request,
    encode_error,
    encode_result,
    is_framed,
    request_id_to_echo,
    version_to_echo,
)
from rch.contract.worker_rpc import PROTOCOL_MAX, Code, RpcError
from worker_agent.nursery import nursery
from worker_agent.ops import Call, perform
from worker_agent.requestlog import RequestLog
from worker_agent.worker import Worker

_PIECE = 256 << 10
# These say no to a request that was understood; the line after it is the next request.
_UNDERSTOOD = frozenset({Code.UNKNOWN_OPERATION, Code.UNSUPPORTED_PROTOCOL})


def serve_stdio(env: Mapping[str, str]) -> int:
    """Serve standard input and output, which nothing else in this process sees from then on."""
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    worker = Worker(env)
    nursery.open()
    channel = Channel(worker, reading, writing, RequestLog(worker.paths.log, env))
    try:
        channel.serve()
    except BrokenPipeError:
        return 0  # nobody is there to hear more; what was begun is on disk
    return 0


class Channel:
    """One channel from its first byte to its end."""

    def __init__(self, worker: Worker, reading: int, writing: int, log: RequestLog) -> None:
        self._worker = worker
        self._reading = reading
        self._writing = writing
        self._log = log
        self._lines = LineReader()
        self._hangup = select.poll()
        self._hangup.register(writing, 0)
        self._asked = select.poll()
        self._asked.register(reading, select.POLLIN)
        self._expects_a_job = False

    def serve(self) -> None:
        """Answer every request; return at the end of the input or after a refused frame."""
        while True:
            try:
                line = self._next_line()
            except FrameError as error:
                self._refuse(RpcError(Code.INVALID_REQUEST, str(error)), None, PROTOCOL_MAX)
                return
            if line is None or not self._answer(line):
                return

    def _next_line(self) -> bytes | None:
        """The next line; a last one without its newline counts, if it is all there is."""
        while (line := self._lines.line()) is None:
            self._use_the_silence()
            data = os.read(self._reading, _PIECE)
            if not data:
                return self._lines.body(self._lines.pending) if self._lines.pending else None
            self._lines.feed(data)
        return line

    def _use_the_silence(self) -> None:
        """Load what a job needs while nobody asks, once a lease was given: a submit follows."""
        while self._expects_a_job and not self._asked.poll(0):
            self._expects_a_job = nursery.warm()

    def _answer(self, line: bytes) -> bool:
        """Answer one request; False if the channel is of no further use."""
        began = time.monotonic()
        try:
            request = decode_request(line)
            _require_plain(request, line)
        except RpcError as error:
            self._log.write("?", request_id_to_echo(line), str(error.code), began)
            self._refuse(error, request_id_to_echo(line), version_to_echo(line))
            return error.code in _UNDERSTOOD and not _has_stream(line)
        stream = is_framed(request.payload)
        body = Body(self, stream.content_length if stream else 0)
        outcome = "ok"
        try:
            self._reply(request, perform(Call(self._worker, request, body, self._pause)))
        except RpcError as error:
            outcome = str(error.code)
            self._refuse(error, request.request_id, request.protocol_version)
        except BrokenPipeError:
            outcome = "gone"
            raise
        except Exception as error:  # noqa: BLE001  (a defect in one operation ends no channel)
            outcome = "INTERNAL"
            self._refuse(self._explain(error), request.request_id, request.protocol_version)
        finally:
            self._log.write(request.op, request.request_id, outcome, began)
        self._expects_a_job |= request.op == "reserve"
        return outcome == "ok" or stream is None

    def _explain(self, error: Exception) -> RpcError:
        """What an unexpected error is to the caller: no trace, no path."""
        from rch.contract.errors import Failure
        from rch.files.durable import is_no_space

        if isinstance(error, Failure):
            # A config refusal names its file, whose place is nobody's business.
            told = error.message.replace(str(self._worker.paths.config_file), "worker.toml")
            data = {"reason": BAD_WORKER_CONFIG} if told != error.message else None
            return RpcError(Code.INTERNAL, told, data)
        self._log.trace(error)
        if isinstance(error, OSError) and is_no_space(error):
            return RpcError(Code.NO_SPACE, "no space is left on the worker")
        return RpcError(Code.INTERNAL, f"the worker failed: {type(error).__name__}")

    def _reply(self, request: Request, result: Any) -> None:
        if isinstance(result, msgspec.Struct) and hasattr(result, "header"):
            self._send_framed(result)
        else:
            self._send(encode_result(request, result))

    def _send_framed(self, packed: Any) -> None:
        with packed.path.open("rb") as file:
            file.seek(packed.header.offset)
            left = packed.header.stream.content_length
            self._send(encode_line(packed.line()))
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise BrokenPipeError  # a body that is cut short ends the channel
                left -= len(piece)
                self._send(piece)

    def _refuse(self, error: RpcError, request_id: str | None, version: int) -> None:
        self._send(encode_error(error, request_id, version))

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._writing, rest) :]

    def _pause(self, seconds: float, wake: int = -1, /) -> bool:
        """Sleep, until `wake` can be read if it is given; True at once when nobody reads the answers."""
        if wake < 0:
            return bool(self._hangup.poll(seconds * 1000))
        self._hangup.register(wake, select.POLLIN)
        try:
            heard = self._hangup.poll(seconds * 1000)
        finally:
            self._hangup.unregister(wake)
        return any(fd != wake for fd, _ in heard)

    def take(self, size: int) -> bytes:
        """Up to `size` bytes that follow the last line; b"" at the end of the input."""
        return self._lines.body(size) or os.read(self._reading, min(size, _PIECE))


class Body:
    """The bytes that follow a framed request."""

    def __init__(self, channel: Channel, length: int) -> None:
        self._channel = channel
        self._length = self._left = length

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" after the last one. `RpcError` if the input ends before."""
        if self._left <= 0:
            return b""
        data = self._channel.take(min(size, self._left))
        if not data:
            message = f"{self._length - self._left} of {self._length} bytes came"
            raise RpcError(Code.INVALID_REQUEST, message, {"reason": "short_body"})
        self._left -= len(data)
        return data


def _has_stream(line: bytes) -> bool:
    """Whether bytes follow a line, whatever else is wrong with it."""
    if b'"stream"' not in line:
        return False
    try:
        payload = decode_object(line).get("payload")
    except FrameError:
        return True
    return isinstance(payload, dict) and "stream" in payload


def _require_plain(request: Request, line: bytes) -> None:
    if is_framed(request.payload) is None and _has_stream(line):
        raise RpcError(Code.INVALID_REQUEST, f"payload.stream has no place in {request.op}")
