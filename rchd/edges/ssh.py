"""SSH itself: dialling, sessions, and what its errors mean.

A connection is used only after `HostKeyCheck` has accepted its host key. The library's own
trust in known_hosts is given no key at all, so that it asks us about every one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import cast

import anyio
import asyncssh
from anyio import to_thread

from rch.contract.errors import Failure, Kind
from rchd.edges.hostkeys import SIGNATURES, HostKey, HostKeyCheck, host_key_failure
from rchd.edges.ssh_channel import FIRST_WINDOW, Flow, SshChannel
from rchd.edges.ssh_line import Batch, limiter, without_padding
from rchd.edges.ssh_options import SHARED, Hop, auth_failure, hop_on_the_way, hop_to, host_key, prepare
from rchd.edges.ssh_transport import Agent, SessionRefused, SshTarget
from rchd.edges.wire import unreachable

_MOST_JUMPS = 8
_NONE_IN_COMMON = re.compile(r"No matching (.+) algorithm found, sent .* and received (.*)")


class Connection:
    """An authenticated connection whose host key was accepted; `raw` is the library's."""

    def __init__(
        self,
        raw: asyncssh.SSHClientConnection,
        client: _Client,
        host_key: HostKey,
        jumps: list[asyncssh.SSHClientConnection],
    ) -> None:
        self.host_key = host_key
        self.raw = raw
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
            await self.raw.create_session(
                lambda: cast("asyncssh.SSHClientSession[bytes]", channel),
                command,
                encoding=None,
                request_pty=False,
                x11_forwarding=False,
                env={},
                send_env=[],  # an empty tuple would mean what the SSH config says
                window=FIRST_WINDOW,
            )
        except (asyncssh.Error, OSError) as error:
            raise SessionRefused(str(error)) from error
        return channel

    def abandon(self) -> None:
        """End the connection and the jumps under it, without waiting."""
        for raw in (self.raw, *reversed(self._jumps)):
            raw.abort()

    async def close(self) -> None:
        """End it and wait a moment for that."""
        self.raw.close()
        with anyio.move_on_after(1):
            await self.raw.wait_closed()
        self.abandon()


# --- dialling -------------------------------------------------------------------------


class _Client(asyncssh.SSHClient):
    """Watches one handshake, and then whether the connection lives."""

    def __init__(self, check: HostKeyCheck) -> None:
        self.check = check
        self.lost = False
        self._conn: asyncssh.SSHClientConnection | None = None
        self.flow = Flow()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Bound what waits on this side: the library would take any amount for the line."""
        self._conn = conn
        conn.pause_writing = self.flow.pause  # type: ignore[method-assign]  # it has no other hook
        conn.resume_writing = self.flow.resume  # type: ignore[method-assign]  # as above
        conn.send_packet = without_padding(conn.send_packet)  # type: ignore[method-assign]  # as above
        conn._send = Batch(conn._send).write  # type: ignore[method-assign]  # noqa: SLF001  (as above)
        if conn._transport is not None:  # noqa: SLF001  (as above)
            self.flow.limit = limiter(
                conn._transport.set_write_buffer_limits,  # noqa: SLF001  (as above)
                conn.get_extra_info("socket"),
            )
            self.flow.limit(0)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Asked for every plain host key, for none is trusted otherwise."""
        del host, addr, port
        return self.check.trusts(host_key(key))

    def nothing_in_common(self) -> tuple[str, str] | None:
        """Of which kind the server offered only what is not spoken here, and what that was.

        A server that finds nothing in common hangs up without a word, maybe before the library has
        looked. What it offered it has said before.
        """
        lists = _name_lists(getattr(self._conn, "_server_kexinit", b""))
        options = getattr(self._conn, "_options", None)
        if not lists or options is None:
            return None
        spoken = (
            ("key exchange", options.kex_algs, lists[0]),
            ("host key", [name.encode() for kind in SIGNATURES.values() for name in kind], lists[1]),
            ("encryption", options.encryption_algs, lists[2]),
            # A cipher that authenticates by itself needs none.
            ("MAC", options.mac_algs, [] if _needs_no_mac(options, lists[2]) else lists[4]),
        )
        for what, ours, theirs in spoken:
            if theirs and not set(ours) & set(theirs):
                return what, b",".join(theirs).decode("ascii", "replace")
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        del exc
        self.lost = True
        self.flow.resume()


async def dial(target: SshTarget, agent: Agent, key_type: str | None) -> Connection:
    """Connect and authenticate; `key_type` is the host key's type where it is known.

    `Failure` SSH / HOST_KEY (nothing but the handshake was sent), ALGORITHMS, AUTH or UNREACHABLE.
    """
    return await _dial(hop_to(target, key_type), agent, target.connect_timeout)


async def shown_keys(target: SshTarget, agent: Agent) -> tuple[str, list[HostKey], set[HostKey]]:
    """Where `target` leads, every host key that it shows, and those that known_hosts has of it.

    Nothing is sent to it but handshakes, for no key is trusted. `Failure` SSH where it shows none.
    """
    hop = hop_to(target)
    hop.pin = ""
    try:
        connection = await _dial(hop, agent, target.connect_timeout)
    except Failure:
        if hop.check is None or not hop.check.seen:
            raise
        return hop.where, hop.check.seen, hop.check.known
    connection.abandon()
    raise host_key_failure(f"the host key of {hop.where} was not checked")


async def _dial(hop: Hop, agent: Agent, seconds: float) -> Connection:
    jumps: list[asyncssh.SSHClientConnection] = []
    with anyio.move_on_after(seconds):
        try:
            return Connection(*await _through(hop, agent, jumps), jumps)
        except BaseException:
            for jump in reversed(jumps):
                jump.abort()
            raise
    raise unreachable(f"worker {hop.name}: {hop.where} did not answer within {seconds:g} s")


async def _through(
    hop: Hop, agent: Agent, jumps: list[asyncssh.SSHClientConnection], depth: int = 0
) -> tuple[asyncssh.SSHClientConnection, _Client, HostKey]:
    """Reach `hop`, over the jump hosts that the SSH config names; they are added to `jumps`.

    The library would dial the jump hosts by itself, by its own ideas of trust.
    """
    if depth > _MOST_JUMPS:
        raise unreachable(
            f"worker {hop.name}: the SSH config leads over more than {_MOST_JUMPS} jump hosts"
        )
    await to_thread.run_sync(prepare, hop, agent)
    # A jump host has jumps of its own only where it is the first; none leads to itself.
    ways = hop.via.split(",") if hop.via and not jumps else []
    steps = [hop_on_the_way(hop, step.strip()) for step in ways]
    for step in steps if hop.host not in {step.host for step in steps} else []:
        raw, *_ = await _through(step, agent, jumps, depth + 1)
        jumps.append(raw)
    return await _handshake(hop, jumps[-1] if jumps else None)


async def _handshake(
    hop: Hop, tunnel: asyncssh.SSHClientConnection | None
) -> tuple[asyncssh.SSHClientConnection, _Client, HostKey]:
    check = hop.check = HostKeyCheck(hop.where, hop.pin, hop.first_type)
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
                **{**SHARED, **hop.given},
            )
        except (asyncssh.Error, OSError, ValueError) as error:
            # A server with no key of the types left says so, or just hangs up. As that may also
            # be a bad line, one hang-up is forgiven; either way the keys so far were not trusted.
            hang_ups += _hung_up(error)
            if _hung_up(error) and (old := client.nothing_in_common()) is not None:
                raise _too_old(hop, *old) from error
            if check.seen and (hang_ups > 1 or _no_such_key(error)):
                break
            if not (check.seen and (_hung_up(error) or isinstance(error, asyncssh.HostKeyNotVerifiable))):
                raise _failure_of(error, hop) from error
        else:
            return raw, client, _accepted(raw, check)
    raise check.failure()


def _name_lists(offer: bytes) -> list[list[bytes]]:
    """The lists of an SSH_MSG_KEXINIT, in their order (RFC 4253, section 7.1); none if cut."""
    lists, rest = [], offer[17:]  # after its number and 16 random bytes
    for _ in range(6):  # two of each but the first two
        length = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + length or len(rest) < 4:
            return []
        lists.append(rest[4 : 4 + length].split(b","))
        rest = rest[4 + length :]
    return lists


def _needs_no_mac(options: asyncssh.SSHClientConnectionOptions, ciphers: list[bytes]) -> bool:
    """Whether the cipher that would be taken brings its own authentication."""
    first = next((each for each in options.encryption_algs if each in ciphers), b"")
    return b"gcm" in first or b"poly1305" in first


def _hung_up(error: Exception) -> bool:
    return isinstance(error, ConnectionResetError | BrokenPipeError | asyncssh.ConnectionLost)


def _no_such_key(error: Exception) -> bool:
    return isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in str(error)


def _same(client: _Client) -> _Client:
    return client


def _accepted(raw: asyncssh.SSHClientConnection, check: HostKeyCheck) -> HostKey:
    """The key that the connection stands on, which must be the one that we were asked about."""
    shown = raw.get_server_host_key()
    if check.accepted is None or shown is None or host_key(shown) != check.accepted:
        raw.abort()
        raise host_key_failure(f"the host key of {check.where} was not checked")
    return check.accepted


def _failure_of(error: Exception, hop: Hop) -> Failure:
    """What an error of a dial means to the user."""
    if isinstance(error, asyncssh.PermissionDenied):
        return auth_failure(f"worker {hop.name}: {hop.where} refused every key: {error.reason}")
    if (common := _NONE_IN_COMMON.match(str(error))) is not None:
        return _too_old(hop, *common.groups())
    if isinstance(error, asyncssh.HostKeyNotVerifiable) or _no_such_key(error):
        return host_key_failure(f"host key of {hop.where}: {error}")
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return unreachable(f"worker {hop.name}: {hop.where}: {said}")


def _too_old(hop: Hop, what: str, offered: str) -> Failure:
    """The server speaks nothing of a kind that is spoken here."""
    return Failure(
        Kind.SSH,
        f"worker {hop.name}: {hop.where} offers as {what} only {offered}, which is too old to be trusted",
        subkind="ALGORITHMS",
        data={"what": what, "offered": offered.split(",")},
    )
