"""The host's half of a set-up: sends the program of `landing` over a login, and reads its word.

Nothing of a step depends on the shell but that it starts the Python that is named: the command has no more
than one pair of plain quotes, and what the shell prints besides is passed over.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind
from rch.contract.neutral import one_line
from rchd.edges.channels import LineCut
from rchd.edges.ssh import Connection
from rchd.edges.ssh_channel import SshChannel
from rchd.edges.ssh_transport import SessionRefused
from rchd.edges.wheels import Wheel
from rchd.edges.wire import unreachable, within

MAX_ANSWER = 4 << 20
SHOWN = 600
_PARTS = ("landing_call", "landing_keys", "landing_look", "landing")
_OURS = re.compile(r"^from (?:rchd\.|__future__)\S* import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9_./~+-]+")


@cache
def program() -> bytes:
    """The four modules as one text."""
    texts = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in _PARTS]
    parts = [_OURS.sub("", text) for text in texts]
    return "\n".join(["from __future__ import annotations\n", *parts]).encode()


def command(python: str) -> str:
    """What the login is to run; `Failure` USAGE for a path that some shell might read otherwise."""
    if not _PLAIN.fullmatch(python):
        raise Failure(
            Kind.USAGE,
            f"--python {python[:80]!r} is no plain path: letters, digits and ._/+- alone",
            hint="make a link to it there, and name that",
        )
    start = f'import sys;exec(compile(sys.stdin.buffer.read({len(program())}),"rch-setup","exec"))'
    return f"{python} -I -c '{start}'"


class Site:
    """One worker's machine, over a login that opens a shell."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection

    async def call(
        self,
        op: str,
        request: dict[str, Any],
        *,
        python: str,
        seconds: float,
        wheels: Sequence[Wheel] = (),
    ) -> dict[str, Any]:
        """The operation's answer; `Failure` SSH / SETUP names the step, what was said and what mends it."""
        token = f"rch-setup-{secrets.token_hex(16)}"
        line = json.dumps({**request, "op": op, "token": token}).encode() + b"\n"
        try:
            channel = await self._connection.open_session(command(python), lambda: None)
        except SessionRefused as error:
            raise unreachable(f"worker {self._name}: {op}: the line was cut: {error}") from error
        try:
            with within(seconds, f"worker {self._name}: {op} did not end within {seconds:g} s"):
                said = await _spoken(channel, [program(), line, *(wheel.data for wheel in wheels)])
                status = await channel.exit_status()
        finally:
            await channel.close()
        return self._answer(op, token, said, status, channel.stderr_tail)

    def _answer(self, op: str, token: str, said: bytes, status: int | None, errors: str) -> dict[str, Any]:
        step = op
        for line in said.decode("utf-8", "replace").splitlines():
            _, found, text = line.partition(f"{token} ")
            if not found:
                continue
            try:
                word = decode_json(text, dict[str, Any])
            except (msgspec.MsgspecError, ValueError):
                continue
            if isinstance(done := word.get("done"), dict):
                return done
            if isinstance(failed := word.get("failed"), list) and len(failed) == 4:
                raise self._refused(*failed)
            step = str(word.get("step") or step)
        raise self._silent(step, said, status, errors)

    def _refused(self, step: Any, message: Any, hint: Any, said: Any) -> Failure:
        tail = f": {one_line(said)[-SHOWN:]}" if said else ""
        return _failure(
            f"worker {self._name}: {one_line(step)}: {one_line(message)[:SHOWN]}{tail}",
            one_line(hint)[:SHOWN] if hint else None,
        )

    def _silent(self, step: str, said: bytes, status: int | None, errors: str) -> Failure:
        """It ended without its word: another program ran, or none, or the line is cut."""
        heard = one_line(errors)[-SHOWN:] or one_line(said.decode("utf-8", "replace"))[:SHOWN]
        if said.lstrip().startswith(b"{") and b'"protocol_version"' in said[:SHOWN]:
            return _failure(
                f"worker {self._name}: the key of this login runs rch-worker and opens no shell",
                "log in with a key of your own: --login-key FILE",
            )
        if status in {126, 127} or "no developer tools" in heard:
            return _failure(
                f"worker {self._name}: {one_line(step)}: no Python was started there: {heard}",
                "install Python 3.11 or newer there, or say where it is: --python PATH",
            )
        ended = "the line was cut" if status is None else f"it ended with {status}"
        return _failure(f"worker {self._name}: {one_line(step)}: {ended}: {heard}".rstrip(": "), None)


def _failure(message: str, hint: str | None) -> Failure:
    return Failure(Kind.SSH, message, subkind="SETUP", hint=hint)


async def _spoken(channel: SshChannel, parts: Sequence[bytes]) -> bytes:
    """All that is said until the end; who reads no more may have said why."""
    said = bytearray()
    try:
        for part in parts:
            await channel.send(part)
        await channel.send_eof()
    except LineCut:
        pass
    try:
        while len(said) < MAX_ANSWER and (part := await channel.receive()):
            said += part
    except LineCut:
        pass
    return bytes(said)
