"""SSH itself: dialling, sessions, and what its errors mean. The only module that speaks it.

A connection is used only after `HostKeyCheck` has accepted its host key. The library's own
trust in known_hosts is given no key at all, so that it asks us about every one.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import asyncssh
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rchd.edges.hostkeys import HostKey, HostKeyCheck, host_key_failure
from rchd.edges.ssh_channel import FIRST_WINDOW, Flow, SshChannel
from rchd.edges.ssh_transport import SessionRefused, SshTarget
from rchd.edges.wire import unreachable

# A line that is silent for their product is given up.
KEEPALIVE_SECONDS, KEEPALIVE_MISSES = 15, 3
# What may wait in the kernel before it is on its way; more would wait before the next question, too.
_UNSENT = 16 << 10
# The first one is in hardware on both sides and 1.6 times as fast as the usual default.
CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
]
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256"]
# Key exchanges on the GSS API show no host key; the others are too old.
KEY_EXCHANGES = "-gss-*,*-sha1,rsa*"
_CONFIG = Path("~/.ssh/config")
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_MOST_JUMPS = 8
_BATCH = 256 << 10
_MSG_IGNORE = 2  # RFC 4253, section 12


class Connection:
    """An authenticated connection whose host key was accepted."""

    def __init__(
        self,
        raw: asyncssh.SSHClientConnection,
        client: _Client,
        host_key: HostKey,
        jumps: list[asyncssh.SSHClientConnection],
    ) -> None:
        self.host_key = host_key
        self._raw = raw
        self._client = client
        self._jumps = jumps

    @property
    def lost(self) -> bool:
        """Whether it is gone."""
        return self._client.lost

    async def open_session(self, command: str, released: Callable[[], None]) -> SshChannel:
        """Run `command`; `released` is called once, when the channel is closed."""
        channel = SshChannel(released, self._client.flow)
        try:
            await self._raw.create_session(
                lambda: cast("asyncssh.SSHClientSession[bytes]", channel),
                command,
                encoding=None,
                request_pty=False,
                x11_forwarding=False,
                env={},
                send_env=(),
                window=FIRST_WINDOW,
            )
        except (asyncssh.Error, OSError) as error:
            raise SessionRefused(str(error)) from error
        return channel

    def abandon(self) -> None:
        """End the connection and the jumps under it, without waiting."""
        for raw in (self._raw, *reversed(self._jumps)):
            raw.abort()

    async def close(self) -> None:
        """End it and wait a moment for that."""
        self._raw.close()
        with anyio.move_on_after(1):
            await self._raw.wait_closed()
        self.abandon()


# --- dialling -------------------------------------------------------------------------


class _Client(asyncssh.SSHClient):
    """Watches one handshake, and then whether the connection lives."""

    def __init__(self, check: HostKeyCheck) -> None:
        self.check = check
        self.lost = False
        self.flow = Flow()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Bound what waits on this side: the library would take any amount for the line."""
        conn.pause_writing = self.flow.pause  # type: ignore[method-assign]  # it has no other hook
        conn.resume_writing = self.flow.resume  # type: ignore[method-assign]  # as above
        conn.send_packet = _without_padding(conn.send_packet)  # type: ignore[method-assign]  # as above
        conn._send = _Batch(conn._send).write  # type: ignore[method-assign]  # noqa: SLF001  (as above)
        if conn._transport is not None:  # noqa: SLF001  (as above)
            self.flow.limit = _limiter(
                conn._transport.set_write_buffer_limits,  # noqa: SLF001  (as above)
                conn.get_extra_info("socket"),
            )
            self.flow.limit(0)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked for every plain host key, for none is trusted otherwise."""
        del host, addr, port
        return self.check.trusts(_host_key(key))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        del exc
        self.lost = True
        self.flow.resume()


class _Batch:
    """Puts the packets of one turn of the loop together: one send, where each had one of its own."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._packets: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Take a packet; it is sent before the loop turns twice."""
        if not self._packets:
            asyncio.get_running_loop().call_soon(self._flush)
        self._packets.append(data)
        self._size += len(data)
        if self._size >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        packets, self._packets, self._size = self._packets, [], 0
        if packets:
            self._send(b"".join(packets))


def _without_padding(send: Callable[..., None]) -> Callable[..., None]:
    """Leave out the empty packet that the library puts before each: a write and a wake-up of the server.

    It protects ciphers in CBC mode, of which none is offered (`CIPHERS`).
    """

    def send_packet(kind: int, *args: bytes, **options: Any) -> None:
        if kind != _MSG_IGNORE:
            send(kind, *args, **options)

    return send_packet


def _limiter(of_buffer: Callable[[int], None], own: socket.socket | None) -> Callable[[int], None]:
    """Sets what may wait for the line: as much in the kernel as on this side, but some in any case."""

    def limit(high: int) -> None:
        of_buffer(high)
        if own is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):  # it is closed, and nothing waits for it any more
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, max(high, _UNSENT))

    return limit


@dataclass(slots=True)
class _Hop:
    """One machine on the way. `given` are the library's options beside those that all hops share."""

    name: str
    host: str
    given: dict[str, Any]
    pin: str | None = None
    first_type: str | None = None
    key_path: Path | None = None
    known_hosts: tuple[Path, ...] = ()
    where: str = ""
    via: str | None = None
    known: asyncssh.SSHKnownHosts = field(default_factory=asyncssh.SSHKnownHosts)

    def match(self, check: HostKeyCheck) -> Callable[[str, str, int | None], tuple[Any, ...]]:
        """The library's question which keys it may trust: none, but some are revoked."""

        def answer(host: str, addr: str, port: int | None) -> tuple[Any, ...]:
            found = self.known.match(host, addr, port)
            check.know(_host_key(key) for key in found[0])
            return [], [], found[2]

        return answer


async def dial(target: SshTarget, agent_path: str | None, key_type: str | None) -> Connection:
    """Connect and authenticate; `key_type` is the host key's type where it is known.

    `Failure` SSH / HOST_KEY (nothing but the handshake was sent), AUTH or UNREACHABLE.
    """
    hop = _Hop(target.name, target.host, _options_of(target), target.fingerprint, key_type, target.key_path)
    if target.known_hosts is not None:
        hop.known_hosts = (target.known_hosts,)
    jumps: list[asyncssh.SSHClientConnection] = []
    seconds = target.connect_timeout
    with anyio.move_on_after(seconds):
        try:
            return Connection(*await _through(hop, agent_path, jumps), jumps)
        except BaseException:
            for jump in reversed(jumps):
                jump.abort()
            raise
    raise unreachable(f"worker {target.name}: {hop.where} did not answer within {seconds:g} s")


async def _through(
    hop: _Hop, agent_path: str | None, jumps: list[asyncssh.SSHClientConnection], depth: int = 0
) -> tuple[asyncssh.SSHClientConnection, _Client, HostKey]:
    """Reach `hop`, over the jump hosts that the SSH config names; they are added to `jumps`.

    The library would dial the jump hosts by itself, by its own ideas of trust.
    """
    if depth > _MOST_JUMPS:
        raise unreachable(
            f"worker {hop.name}: the SSH config leads over more than {_MOST_JUMPS} jump hosts"
        )
    await to_thread.run_sync(_prepare, hop, agent_path)
    # A jump host has jumps of its own only where it is the first; none leads to itself.
    steps = [_jump(hop, step.strip()) for step in hop.via.split(",")] if hop.via and not jumps else []
    for step in steps if hop.host not in {step.host for step in steps} else []:
        raw, *_ = await _through(step, agent_path, jumps, depth + 1)
        jumps.append(raw)
    return await _handshake(hop, jumps[-1] if jumps else None)


def _jump(hop: _Hop, step: str) -> _Hop:
    """The jump host `[user@]host[:port]` on the way to `hop`."""
    user, _, rest = step.rpartition("@")
    host, _, port = rest.partition(":")
    given: dict[str, Any] = {"config": hop.given["config"]}
    if user:
        given["username"] = user
    if port:
        given["port"] = int(port) if port.isdecimal() else 0
    return _Hop(hop.name, host, given)


async def _handshake(
    hop: _Hop, tunnel: asyncssh.SSHClientConnection | None
) -> tuple[asyncssh.SSHClientConnection, _Client, HostKey]:
    check = HostKeyCheck(hop.where, hop.pin, hop.first_type)
    hang_ups = 0
    while signatures := check.signatures():
        client = _Client(check)
        try:
            raw = await asyncssh.connect(
                hop.host,
                client_factory=partial(_same, client),
                known_hosts=hop.match(check),
                server_host_key_algs=signatures,
                tunnel=tunnel,
                **{**_SHARED, **hop.given},
            )
        except (asyncssh.Error, OSError, ValueError) as error:
            # A server with no key of the types left says so, or just hangs up. As that may also
            # be a bad line, one hang-up is forgiven; either way the keys so far were not trusted.
            hang_ups += _hung_up(error)
            if check.seen and (hang_ups > 1 or _no_such_key(error)):
                break
            if not (check.seen and (_hung_up(error) or isinstance(error, asyncssh.HostKeyNotVerifiable))):
                raise _failure_of(error, hop) from error
        else:
            return raw, client, _accepted(raw, check)
    raise check.failure()


def _hung_up(error: Exception) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError | asyncssh.ConnectionLost)


def _no_such_key(error: Exception) -> bool:
    return isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in str(error)


def _same(client: _Client) -> _Client:
    return client


def _accepted(raw: asyncssh.SSHClientConnection, check: HostKeyCheck) -> HostKey:
    """The key that the connection stands on, which must be the one that we were asked about."""
    shown = raw.get_server_host_key()
    if check.accepted is None or shown is None or _host_key(shown) != check.accepted:
        raw.abort()
        raise host_key_failure(f"the host key of {check.where} was not checked")
    return check.accepted


_SHARED: dict[str, Any] = {
    "encryption_algs": CIPHERS,
    "mac_algs": MACS,
    "kex_algs": KEY_EXCHANGES,
    "compression_algs": None,
    "keepalive_interval": KEEPALIVE_SECONDS,
    "keepalive_count_max": KEEPALIVE_MISSES - 1,  # the library gives up at one more
    "connect_timeout": None,
    "login_timeout": 0,
    "public_key_auth": True,
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "preferred_auth": "publickey",
    "agent_forwarding": False,
    "gss_host": None,
    "gss_kex": False,
    "gss_auth": False,
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": (),
}


def _options_of(target: SshTarget) -> dict[str, Any]:
    config = target.config
    if config is None:
        own = _CONFIG.expanduser()
        config = (own,) if os.access(own, os.R_OK) else ()
    given: dict[str, Any] = {"config": [str(path) for path in config] or None}
    if target.user is not None:
        given["username"] = target.user
    if target.port is not None:
        given["port"] = target.port
    return given


def _prepare(hop: _Hop, agent_path: str | None) -> None:
    """Read the SSH config, the keys and known_hosts, off the event loop; fills in `hop`."""
    hop.where = hop.host
    try:
        config = asyncssh.SSHClientConnectionOptions(
            host=hop.host, **_SHARED, **{**hop.given, "client_keys": None}
        ).config
        agent = str(config.get("IdentityAgent") or agent_path or os.environ.get("SSH_AUTH_SOCK", ""))
        hop.given |= _keys_to_offer(hop, agent) | _keepalive(config)
        options = asyncssh.SSHClientConnectionOptions(host=hop.host, **{**_SHARED, **hop.given})
    except asyncssh.ConfigParseError as error:
        raise unreachable(f"worker {hop.name}: the SSH config: {error}") from error
    except (asyncssh.Error, ValueError, OSError) as error:
        raise _auth_failure(f"worker {hop.name}: {hop.host}: {error}") from error
    hop.where = f"{options.host}:{options.port}"
    hop.via = options.tunnel if isinstance(options.tunnel, str) else None
    files = hop.known_hosts or _known_hosts_files(options)
    try:
        hop.known = asyncssh.read_known_hosts([str(path) for path in files])
    except (OSError, ValueError) as error:
        raise host_key_failure(f"worker {hop.name}: known_hosts: {error}") from error


def _keys_to_offer(hop: _Hop, agent: str) -> dict[str, Any]:
    """A key that the inventory names is offered alone; one with a passphrase is left to the agent."""
    if hop.key_path is None:
        return {"agent_path": agent}
    path = str(hop.key_path)
    try:
        asyncssh.read_private_key(path)
    except ValueError as error:
        if "passphrase" not in str(error).lower():
            raise
        if not agent:
            raise _auth_failure(
                f"worker {hop.name}: the key {path} has a passphrase, and no agent is there",
                hint=f"ssh-add {path}",
            ) from None
        return {"agent_path": agent, "agent_identities": [f"{path}.pub"]}
    return {"agent_path": "", "client_keys": [path]}


def _keepalive(config: Any) -> dict[str, Any]:
    """What the SSH config says of it, where that finds a dead line sooner."""
    seconds = int(config.get("ServerAliveInterval", 0))
    misses = int(config.get("ServerAliveCountMax", KEEPALIVE_MISSES))
    if seconds <= 0 or seconds * misses >= KEEPALIVE_SECONDS * KEEPALIVE_MISSES:
        return {}
    return {"keepalive_interval": seconds, "keepalive_count_max": max(1, misses - 1)}


def _known_hosts_files(options: asyncssh.SSHClientConnectionOptions) -> list[Path]:
    named = [*_words(options, "UserKnownHostsFile"), *_words(options, "GlobalKnownHostsFile")]
    paths = [Path(name).expanduser() for name in named or _KNOWN_HOSTS]
    return [path for path in paths if path.is_file()]


def _words(options: asyncssh.SSHClientConnectionOptions, key: str) -> list[str]:
    value = options.config.get(key)
    return [str(word) for word in value] if isinstance(value, list) else []


def _host_key(key: asyncssh.SSHKey) -> HostKey:
    return HostKey(key.get_algorithm(), key.get_fingerprint())


def _failure_of(error: Exception, hop: _Hop) -> Failure:
    """What an error of a dial means to the user."""
    if isinstance(error, asyncssh.PermissionDenied):
        return _auth_failure(f"worker {hop.name}: {hop.where} refused every key: {error.reason}")
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or _no_such_key(error):
        return host_key_failure(f"host key of {hop.where}: {error}")
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return unreachable(f"worker {hop.name}: {hop.where}: {said}")


def _auth_failure(message: str, *, hint: str | None = None) -> Failure:
    return Failure(Kind.SSH, message, subkind="AUTH", hint=hint)
