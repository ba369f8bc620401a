"""Which host key is trusted: the pinned one, or one that known_hosts names. Never on first use.

A pin is a fingerprint and does not say the key's type, while a server shows one key per
handshake, of the first type that both sides speak. So a dial asks for one type after the other
until the pinned key is shown; nothing is sent before that (spec section 10).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rch.contract.errors import Failure, Kind

# The types that are asked for, best first, and the signature algorithms of each: no SHA-1, no DSA.
SIGNATURES: Mapping[str, tuple[str, ...]] = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """A public key by its type and fingerprint (`SHA256:` and unpadded base64).

    `bits` is the length of an RSA key; 0 where that is not known, and of any other type.
    """

    type: str
    fingerprint: str
    bits: int = field(default=0, compare=False)

    @property
    def short(self) -> bool:
        """Whether it is an RSA key that is no longer safe."""
        return 0 < self.bits < MIN_RSA_BITS

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


@dataclass(slots=True)
class HostKeyCheck:
    """The host key's part of one dial.

    `pin` alone decides where there is one; else the keys that `know` was given. `first` is the
    type that served last time. `accepted` is set once a trusted key was shown.
    """

    where: str
    pin: str | None = None
    first: str | None = None
    accepted: HostKey | None = None
    seen: list[HostKey] = field(default_factory=list)
    known: set[HostKey] = field(default_factory=set)

    def know(self, keys: Iterable[HostKey]) -> None:
        """Take the keys that known_hosts names for this server."""
        self.known.update(keys)

    def trusts(self, key: HostKey) -> bool:
        """Judge the key that the server shows, and note it."""
        good = key.fingerprint == self.pin if self.pin is not None else key in self.known
        good = good and not key.short
        if good:
            self.accepted = key
        else:
            self.seen.append(key)
        return good

    def signatures(self) -> list[str]:
        """The algorithms to ask for now; none when no further type can be the trusted one."""
        if self.seen and self.pin is None and not self.known:
            return []
        tried = {key.type for key in self.seen}
        wanted = {key.type for key in self.known} if self.known and self.pin is None else set(SIGNATURES)
        types = [kind for kind in SIGNATURES if kind in wanted and kind not in tried]
        types.sort(key=lambda kind: kind != self.first)
        return [name for kind in types for name in SIGNATURES[kind]]

    def failure(self) -> Failure:
        """Why no key was trusted: SSH / HOST_KEY with the seen keys and the expected ones."""
        shown = ", ".join(map(str, self.seen)) or "no key of a type that is taken"
        if short := next((key for key in self.seen if key.short), None):
            return host_key_failure(
                f"host key of {self.where} is {shown}; an RSA key of {short.bits} bits is too short"
                f" to be trusted, the least are {MIN_RSA_BITS}",
                hint="give the worker another host key: ssh-keygen -A there, then pin the ed25519 one",
                seen=self.seen,
            )
        expected = [self.pin] if self.pin is not None else [str(key) for key in sorted(self.known)]
        if expected:
            message = f"host key of {self.where} is {shown}; {'pinned' if self.pin else 'known'}"
            return host_key_failure(
                f"{message} is {', '.join(expected)}", seen=self.seen, expected=expected
            )
        kind = self.seen[0].type.removeprefix("ssh-").partition("-")[0] if self.seen else "ed25519"
        return host_key_failure(
            f"there is no pin for the host key of {self.where}; it shows {shown}",
            hint=f"compare with `ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub` on the worker,"
            " then set known_host_fingerprint in workers.toml",
            seen=self.seen,
        )


def host_key_failure(
    message: str, *, hint: str | None = None, seen: Iterable[HostKey] = (), expected: Iterable[str] = ()
) -> Failure:
    """SSH / HOST_KEY; `data` names the keys for programs."""
    data: dict[str, object] = {"seen": [str(key) for key in seen], "expected": list(expected)}
    return Failure(Kind.SSH, message, subkind="HOST_KEY", hint=hint, data=data)
