"""What a key may do at a worker, and which keys would be offered to it; nothing there is changed.

What is tried beside the worker's command is harmless where it is let: a `printf`, an empty shell, a
greeting of sftp, and forwardings that lead nowhere.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import asyncssh
from anyio import to_thread

from rchd.edges.ssh import Connection
from rchd.edges.ssh_options import hop_to, is_short, prepare, rsa_bits
from rchd.edges.ssh_transport import Agent, SshTarget

TRY_SECONDS = 20.0
_MOST_BYTES = 64 << 10
_NOWHERE = 1  # a port that nobody listens on: whether the way there is open shows all the same
# The line's end is for a worker, which answers lines; an sftp server has answered before it.
_SFTP_GREETING = b"\x00\x00\x00\x05\x01\x00\x00\x00\x03\n"
_SFTP_VERSION = 2
_CONNECT_FAILED = 2  # RFC 4254, section 5.1


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that would be offered. `line` is `TYPE BASE64`; `path` is None where an agent alone has it."""

    line: str
    fingerprint: str
    comment: str
    source: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Try:
    """What came of trying something that a worker's key should not be good for.

    `open` is None where nobody knows: there was no answer in time, or the line was cut.
    """

    what: str
    open: bool | None
    said: str


async def offered(target: SshTarget, agent: Agent) -> list[PublicKey]:
    """The keys that a dial of `target` would offer, in its order; a short RSA key is none.

    `Failure` SSH as for a dial.
    """
    hop = hop_to(target)
    options = await to_thread.run_sync(prepare, hop, agent)
    found: list[PublicKey] = []
    from_agent: Any = []
    if options.agent_path:
        with anyio.move_on_after(TRY_SECONDS):
            from_agent = await _from_agent(options)
    for pair in [*from_agent, *(options.client_keys or ())]:
        key = _public(pair, "agent" if pair in from_agent else "file", hop.key_path)
        if key.fingerprint not in {each.fingerprint for each in found} and not is_short(
            rsa_bits(pair.public_data)
        ):
            found.append(key)
    return found


async def _from_agent(options: asyncssh.SSHClientConnectionOptions) -> Any:
    try:
        client = await asyncssh.connect_agent(options.agent_path)
    except OSError:
        return []
    try:
        return await client.get_keys(options.agent_identities)
    except (ValueError, OSError):
        return []
    finally:
        client.close()


def _public(pair: Any, source: str, path: object) -> PublicKey:
    key = asyncssh.public_key.decode_ssh_public_key(pair.public_data)
    kind, blob = key.export_public_key("openssh").decode("ascii").split()[:2]
    filename = getattr(pair, "_filename", None)  # of a key out of a file; it has no other name
    shown = path or (filename.decode() if filename else None)
    comment = b"" if pair.get_comment_bytes() == filename else pair.get_comment_bytes() or b""
    return PublicKey(
        line=f"{kind} {blob}",
        fingerprint=key.get_fingerprint(),
        comment=comment.decode("utf-8", "replace"),
        source=source,
        path=None if shown is None else str(shown),
    )


# --- what else the key is good for ----------------------------------------------------


async def tries(connection: Connection) -> list[Try]:
    """Try what `restrict,command=…` forbids, one after the other, each within `TRY_SECONDS`."""
    raw = connection.raw
    left, right = secrets.token_hex(6), secrets.token_hex(6)
    # The two halves stand together only in the output of a shell that did as it was told.
    command = f"printf %s-%s rch-doctor-{left} {right}"
    token = f"rch-doctor-{left}-{right}".encode()
    known: list[tuple[str, Callable[[], Awaitable[Try]]]] = [
        ("exec", lambda: _told(raw, "exec", token, b"", command=command)),
        ("shell", lambda: _told(raw, "shell", token, f"{command}\nexit\n".encode(), command=None)),
        ("pty", lambda: _terminal(raw)),
        ("sftp", lambda: _sftp(raw)),
        ("local-forward", lambda: _local_forward(raw)),
        ("remote-forward", lambda: _remote_forward(raw)),
        ("agent-forward", lambda: _agent_forward(raw)),
    ]
    found = []
    for what, attempt in known:
        one = Try(what, open=None, said="no answer in time")
        with anyio.move_on_after(TRY_SECONDS):
            try:
                one = await attempt()
            except (asyncssh.Error, asyncssh.ChannelListenError, OSError) as error:
                one = Try(what, open=False, said=str(error) or type(error).__name__)
        if connection.lost:  # the library then says of a forwarding that nobody listens there
            one = Try(what, open=None, said="the line was cut")
        found.append(one)
    return found


# Nothing of what the SSH config has for sessions goes along.
_PLAIN: dict[str, Any] = {
    "command": None,
    "subsystem": None,
    "encoding": None,
    "env": {},
    "send_env": [],
    "request_pty": False,
    "x11_forwarding": False,
}


async def _session(raw: asyncssh.SSHClientConnection, **asked: Any) -> Any:
    """A process there."""
    return await raw.create_process(**{**_PLAIN, **asked})


async def _answer(process: Any, data: bytes) -> bytes | None:
    """What it says to `data`, the first of it, until it ends; None: it neither speaks nor ends."""
    got = b""
    with anyio.move_on_after(TRY_SECONDS / 2) as scope:
        try:
            process.stdin.write(data)
            process.stdin.write_eof()
        except OSError:
            pass  # it has ended, and may have said something before
        while len(got) < _MOST_BYTES and (part := await process.stdout.read(_MOST_BYTES)):
            got += part
    process.close()
    return None if scope.cancelled_caught and not got else got


async def _told(
    raw: asyncssh.SSHClientConnection, what: str, token: bytes, data: bytes, *, command: str | None
) -> Try:
    got = await _answer(await _session(raw, command=command), data)
    if got is None:
        return Try(what, open=None, said="no answer in time")
    if token in got:
        return Try(what, open=True, said="a shell did what it was told")
    return Try(what, open=False, said=_heard(got))


def _heard(got: bytes) -> str:
    if got.lstrip().startswith(b"{"):
        return "the forced command answered, by the protocol"
    return "the forced command answered" if got else "nothing was said"


async def _terminal(raw: asyncssh.SSHClientConnection) -> Try:
    process = await _session(raw, request_pty="force", term_type="dumb")
    process.close()
    return Try("pty", open=True, said="a terminal was given")


async def _sftp(raw: asyncssh.SSHClientConnection) -> Try:
    process = await _session(raw, subsystem="sftp")
    process.stdin.write(_SFTP_GREETING)
    got = await process.stdout.read(_MOST_BYTES)
    process.close()
    greeted = len(got) > 4 and got[4] == _SFTP_VERSION and got[:2] == b"\0\0"
    return Try("sftp", open=greeted, said="sftp answered" if greeted else _heard(got))


async def _local_forward(raw: asyncssh.SSHClientConnection) -> Try:
    try:
        _, writer = await raw.open_connection("127.0.0.1", _NOWHERE)
    except asyncssh.ChannelOpenError as error:
        # That nobody listens there is known only to who was let through.
        through = error.code == _CONNECT_FAILED
        return Try("local-forward", open=through, said=error.reason)
    writer.close()
    return Try("local-forward", open=True, said="a connection was forwarded")


async def _remote_forward(raw: asyncssh.SSHClientConnection) -> Try:
    listener = await raw.forward_remote_port("127.0.0.1", 0, "127.0.0.1", _NOWHERE)
    listener.close()
    return Try("remote-forward", open=True, said="a port was opened there")


class _AsksForAgent(asyncssh.SSHClientSession[bytes]):
    """Asks, before its command runs, whether an agent would be let; the library wants no answer to that."""

    def __init__(self) -> None:
        self.let: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, chan: Any) -> None:
        """The one moment in which a server takes this."""
        chan._request_waiters.append(self.let)  # noqa: SLF001  (it has no other way)
        chan._send_request(b"auth-agent-req@openssh.com", want_reply=True)  # noqa: SLF001  (as above)


async def _agent_forward(raw: asyncssh.SSHClientConnection) -> Try:
    """Only whether it would be let: no agent is behind it, and requests of the other side are refused."""
    asks = _AsksForAgent()
    chan, _ = await raw.create_session(lambda: asks, **{**_PLAIN, "command": "true"})
    let = await asks.let
    chan.close()
    return Try("agent-forward", open=let, said="an agent's socket was made" if let else "refused")
