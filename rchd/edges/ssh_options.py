"""How a machine is dialled: what is asked for and offered, the SSH config, keys and known hosts.

Only what is not known to be broken is spoken: no SHA-1, no CBC, no DSA, no group below 2048 bits
and no RSA key below that. What the SSH config says of algorithms and of forwarding has no say.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from rch.contract.errors import Failure, Kind
from rchd.edges.hostkeys import MIN_RSA_BITS, HostKey, HostKeyCheck, host_key_failure
from rchd.edges.ssh_transport import Agent, SshTarget
from rchd.edges.wire import unreachable

# A line that is silent for their product is given up.
KEEPALIVE_SECONDS, KEEPALIVE_MISSES = 15, 3
# The first one is in hardware on both sides and 1.6 times as fast as the usual default.
CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
]
MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256"]
# Key exchanges on the GSS API show no host key, in the group exchange the library would take a
# group of 1024 bits, and the others are too old.
KEY_EXCHANGES = "-gss-*,*-sha1,rsa*,diffie-hellman-group-exchange-*"
# Of our own key: no SHA-1, no DSA.
SIGNATURES = "-ssh-rsa,ssh-rsa-*,ssh-dss"
_CONFIG = Path("~/.ssh/config")
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_NOT_NAMED = object()

SHARED: dict[str, Any] = {
    "encryption_algs": CIPHERS,
    "mac_algs": MACS,
    "kex_algs": KEY_EXCHANGES,
    "signature_algs": SIGNATURES,
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
"""The library's options of every dial."""


@dataclass(slots=True)
class Hop:
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
    agent: str = ""
    check: HostKeyCheck | None = None
    known: asyncssh.SSHKnownHosts = field(default_factory=asyncssh.SSHKnownHosts)

    def match(self, check: HostKeyCheck) -> Callable[[str, str, int | None], tuple[Any, ...]]:
        """The library's question which keys it may trust: none, but some are revoked."""

        def answer(host: str, addr: str, port: int | None) -> tuple[Any, ...]:
            found = self.known.match(host, addr, port)
            check.know(host_key(key) for key in found[0])
            return [], [], found[2]

        return answer


def hop_to(target: SshTarget, key_type: str | None = None) -> Hop:
    """The machine that `target` names; `key_type` is its host key's type where it is known."""
    hop = Hop(target.name, target.host, _options_of(target), target.fingerprint, key_type, target.key_path)
    if target.known_hosts is not None:
        hop.known_hosts = (target.known_hosts,)
    return hop


def hop_on_the_way(hop: Hop, step: str) -> Hop:
    """The jump host `[user@]host[:port]` on the way to `hop`."""
    user, _, rest = step.rpartition("@")
    host, _, port = rest.partition(":")
    given: dict[str, Any] = {"config": hop.given["config"]}
    if user:
        given["username"] = user
    if port:
        given["port"] = int(port) if port.isdecimal() else 0
    return Hop(hop.name, host, given)


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


def prepare(hop: Hop, agent: Agent) -> asyncssh.SSHClientConnectionOptions:
    """Read the SSH config, the keys and known_hosts, off the event loop; fills in `hop`."""
    hop.where = hop.host
    try:
        config = asyncssh.SSHClientConnectionOptions(
            host=hop.host, **SHARED, **{**hop.given, "client_keys": None}
        ).config
        hop.agent = _agent_of(config, agent)
        hop.given |= _keys_to_offer(hop) | _keepalive(config)
        options = asyncssh.SSHClientConnectionOptions(host=hop.host, **{**SHARED, **hop.given})
        hop.given |= _without_short_keys(options)
    except asyncssh.ConfigParseError as error:
        raise unreachable(f"worker {hop.name}: the SSH config: {error}") from error
    except (asyncssh.Error, ValueError, OSError) as error:
        raise auth_failure(f"worker {hop.name}: {hop.host}: {error}") from error
    hop.where = f"{options.host}:{options.port}"
    hop.via = options.tunnel if isinstance(options.tunnel, str) else None
    files = hop.known_hosts or _known_hosts_files(options)
    try:
        hop.known = asyncssh.read_known_hosts([str(path) for path in files])
    except (OSError, ValueError) as error:
        raise host_key_failure(f"worker {hop.name}: known_hosts: {error}") from error
    return options


def _agent_of(config: Any, agent: Agent) -> str:
    """The socket of the agent to ask, or nothing.

    As ssh has it, `IdentityAgent` may say `none`, the caller's (`SSH_AUTH_SOCK`), a variable or a path.
    """
    named = config.get("IdentityAgent", _NOT_NAMED)
    if named is None:
        return ""
    if named is _NOT_NAMED or named == "SSH_AUTH_SOCK":
        return agent() or ""
    return os.environ.get(str(named)[1:], "") if str(named).startswith("$") else str(named)


def _keys_to_offer(hop: Hop) -> dict[str, Any]:
    """A key that the inventory names is offered alone; one with a passphrase is left to the agent."""
    if hop.key_path is None:
        return {"agent_path": hop.agent}
    path = str(hop.key_path)
    try:
        key = asyncssh.read_private_key(path)
    except ValueError as error:
        if "passphrase" not in str(error).lower():
            raise
        if not hop.agent:
            raise auth_failure(
                f"worker {hop.name}: the key {path} has a passphrase, and no agent is there",
                hint=f"ssh-add {path}",
            ) from None
        return {"agent_path": hop.agent, "agent_identities": [f"{path}.pub"]}
    if _is_open_to_others(hop.key_path):
        raise auth_failure(
            f"worker {hop.name}: the key {path} can be read by others, and ssh would not take it",
            hint=f"chmod 600 {path}",
        )
    if is_short(bits := rsa_bits(key.public_data)):
        raise auth_failure(
            f"worker {hop.name}: the key {path} is an RSA key of {bits} bits, too short to be offered",
            hint=f"rchctl workers key {hop.name} --create",
        )
    return {"agent_path": "", "client_keys": [path]}


def _is_open_to_others(path: Path) -> bool:
    """As ssh has it: a key file of our own in whose mode others stand."""
    info = path.stat()
    return info.st_uid == os.geteuid() and bool(info.st_mode & 0o077)


def _without_short_keys(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """The keys of the SSH config that are long enough, where some are and some are not."""
    keys = options.client_keys or ()
    fit = [key for key in keys if not is_short(rsa_bits(key.public_data))]
    return {"client_keys": fit} if fit and len(fit) < len(keys) else {}


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


def host_key(key: asyncssh.SSHKey) -> HostKey:
    """A key of the library's, as the pins know it."""
    return HostKey(key.get_algorithm(), key.get_fingerprint(), rsa_bits(key.public_data))


def rsa_bits(blob: bytes) -> int:
    """The length of the modulus of an RSA public key (RFC 4253, section 6.6); 0 for any other key."""
    words: list[bytes] = []
    rest = blob
    while len(rest) > 4 and len(words) < 3:
        (length,) = struct.unpack(">I", rest[:4])
        words.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    if len(words) < 3 or words[0] != b"ssh-rsa":
        return 0
    return int.from_bytes(words[2], "big").bit_length()


def is_short(bits: int) -> bool:
    """Whether an RSA key of so many bits is too short; 0 is no RSA key."""
    return 0 < bits < MIN_RSA_BITS


def auth_failure(message: str, *, hint: str | None = None) -> Failure:
    """SSH / AUTH: no key that can be offered, or none that is taken."""
    return Failure(Kind.SSH, message, subkind="AUTH", hint=hint)
