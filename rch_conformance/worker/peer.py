"""Requests to a worker, written by hand, and its answers as they came (section 3.1)."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rch.contract.framing import FrameError, decode_object
from rch_conformance.checks import Broken
from rch_conformance.worker.channel import END_PATIENCE_SECONDS, Channel, Silence

PROTOCOL = 1
_MOST_SILENCES = 3
_SHOWN = 300
_SHOWN_REQUEST = 1200
_SHOWN_EXCHANGES = 3
_SHOWN_TEXT = 40
_SHOWN_DEPTH = 3


def new_id() -> str:
    """A fresh UUIDv7, which sorts by time, good for runs, jobs, requests and uploads.

    By the standard library alone: whoever checks a worker shall need no more than the bare package. The
    twelve bits behind the milliseconds are a fraction of one (RFC 9562, section 6.2, method 3).
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    high = milliseconds << 16 | 7 << 12 | rest * 4096 // 1_000_000
    return str(uuid.UUID(int=high << 64 | 2 << 62 | secrets.randbits(62)))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer line, decoded; nothing of it is believed yet."""

    line: bytes
    raw: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it is a result."""
        return self.raw.get("ok") is True

    @property
    def payload(self) -> dict[str, Any]:
        """The result; `Broken` for a refusal, and for a result without an object."""
        if not self.ok:
            raise Broken(f"a result was expected, this came: {self.shown()}")
        payload = self.raw.get("payload")
        if not isinstance(payload, dict):
            raise Broken(f"the result has no payload object: {self.shown()}")
        return payload

    @property
    def error(self) -> dict[str, Any]:
        """The refusal; `Broken` for a result."""
        error = self.raw.get("error")
        if self.raw.get("ok") is not False or not isinstance(error, dict):
            raise Broken(f"a refusal was expected, this came: {self.shown()}")
        return error

    @property
    def code(self) -> str:
        """The refusal's code."""
        return str(self.error.get("code"))

    @property
    def data(self) -> dict[str, Any]:
        """The refusal's data, empty where it has none."""
        data = self.error.get("data", {})
        return data if isinstance(data, dict) else {}

    def refused_with(self, *codes: str) -> Answer:
        """Itself; `Broken` unless it is a refusal with one of these codes."""
        if self.code not in codes:
            raise Broken(f"{' or '.join(codes)} was expected, this came: {self.shown()}")
        return self

    def shown(self) -> str:
        """The beginning of the line."""
        return _shown(self.line)


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def read_answer(line: bytes) -> Answer:
    """The answer on a line; `Broken` where it is none of the protocol."""
    try:
        return Answer(line, decode_object(line))
    except FrameError as error:
        shown = line[:_SHOWN].decode("utf-8", "replace")
        raise Broken(f"the answer is no line of the protocol ({error}): {shown!r}") from error


def request_line(op: str, payload: Any = None, **members: Any) -> bytes:
    """A request; `members` replace what the envelope has, and one that is `...` is left out."""
    envelope: dict[str, Any] = {
        "protocol_version": 0 if op == "probe" else PROTOCOL,
        "op": op,
        "request_id": new_id(),
        "payload": {} if payload is None else payload,
        **members,
    }
    whole = {name: value for name, value in envelope.items() if value is not ...}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def brief(line: bytes) -> str:
    """A request as a report shows it: what is deep in it or long is left out."""
    try:
        text = json.dumps(_cut(json.loads(line), 0), separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = repr(line[:_SHOWN])
    return text if len(text) <= _SHOWN_REQUEST else f"{text[:_SHOWN_REQUEST]}..."


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, str) and len(value) > _SHOWN_TEXT:
        return f"{value[:_SHOWN_TEXT]}..."
    if isinstance(value, dict | list) and value and depth > _SHOWN_DEPTH:
        return "..."
    if isinstance(value, dict):
        return {name: _cut(each, depth + 1) for name, each in value.items()}
    return [_cut(each, depth + 1) for each in value] if isinstance(value, list) else value


class Peer:
    """The worker behind a command that is started once a channel.

    After three silences in a row it is not asked any more: whoever hangs shall not make a day of it.
    After three channels that went on beyond the end of their input, each further one is killed at once.
    `refusals` are all that were seen. `sessions` says whether requests may share a channel.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.command = list(command)
        self.timeout = timeout
        self.sessions = False
        self.refusals: list[Answer] = []
        self._silences = 0
        self._stubborn = 0
        self._said: deque[str] = deque(maxlen=2 * _SHOWN_EXCHANGES)
        self._session: Channel | None = None

    def open(self) -> Channel:
        """A channel of its own."""
        if self._silences >= _MOST_SILENCES:
            raise Broken(f"the worker was silent {_MOST_SILENCES} times in a row: it is not asked any more")
        patience = 0.0 if self._stubborn >= _MOST_SILENCES else END_PATIENCE_SECONDS
        return Channel(
            self.command,
            self.timeout,
            patience=patience,
            on_stubborn=self._count_stubborn,
            on_send=self._note,
        )

    def _note(self, piece: bytes) -> None:
        """Keep what looks like a request; a body does not."""
        if piece.startswith(b"{") or piece.endswith(b"\n"):
            self._said.append(f"asked: {brief(piece)}")

    def heard(self) -> list[str]:
        """The last requests and answers since this was called before, a line each."""
        said = [*self._said]
        self._said.clear()
        return said

    def _count_stubborn(self) -> None:
        self._stubborn += 1

    def exchange(self, *pieces: bytes, end: bool = True) -> Answer:
        """One-shot: these bytes on a channel of their own, and the first answer to them.

        With `end` the input is closed before the answer is read.
        """
        with self.open() as channel:
            for piece in pieces:
                if not channel.send(piece):
                    break
            if end:
                channel.end_input()
            return self.read(channel)

    def read(self, channel: Channel, timeout: float | None = None) -> Answer:
        """The next answer on a channel."""
        answer = self._next(channel, timeout)
        if answer is None:
            raise Broken(f"the worker ended the channel without an answer{channel.ending()}")
        return answer

    def _next(self, channel: Channel, timeout: float | None = None) -> Answer | None:
        """The next answer, None at the end of the channel."""
        try:
            line = channel.line(timeout)
        except Silence:
            self._silences += 1
            raise
        self._silences = 0
        self._said.append(f"came: {'the end of the channel' if line is None else _shown(line)}")
        answer = None if line is None else read_answer(line)
        if answer is not None and answer.raw.get("ok") is False:
            self.refusals.append(answer)
        return answer

    def ask(self, op: str, payload: Any = None, **members: Any) -> Answer:
        """One request without a body, on the standing channel where the worker serves sessions."""
        line = request_line(op, payload, **members)
        if not self.sessions:
            return self.exchange(line)
        channel, self._session = self._session, None
        if channel is not None and (answer := self._asked(channel, line)) is not None:
            return answer
        fresh = self.open()
        answer = self._asked(fresh, line)
        if answer is None:
            raise Broken(f"the worker ended the channel of {op} without an answer{fresh.ending()}")
        return answer

    def _asked(self, channel: Channel, line: bytes) -> Answer | None:
        """The answer on a standing channel, which is kept; None where the worker had ended it before."""
        try:
            channel.send(line)
            answer = self._next(channel)
        except BaseException:
            channel.kill()
            channel.close()
            raise
        if answer is None:
            channel.close()
        else:
            self._session = channel
        return answer

    def result(self, op: str, **payload: Any) -> dict[str, Any]:
        """The payload of a result."""
        return self.ask(op, payload).payload

    def close(self) -> None:
        """End the standing channel."""
        if self._session is not None:
            with suppress(OSError):
                self._session.close()
            self._session = None
