"""The local socket's methods about the way to a worker: host keys, keys, what a key opens (section 12)."""

from __future__ import annotations

from typing import Any

import msgspec

from rch.contract.local_plan import FailureView


class _Params(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A method's parameters; an unknown name is refused."""


class AddressParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A worker that is in no inventory yet; the members are those of a `[[worker]]`."""

    name: str
    host: str
    user: str | None = None
    port: int | None = None
    ssh_key_path: str | None = None
    known_host_fingerprint: str | None = None
    known_hosts: str | None = None


class HostKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A host key. `known`: known_hosts has it; `short`: it is too short to be trusted."""

    type: str
    fingerprint: str
    known: bool = False
    short: bool = False


class ScanView(msgspec.Struct, frozen=True, kw_only=True):
    """The host keys that the worker at `where` (`host:port`) shows, the best type first.

    `other_known` are keys that known_hosts has for it and that it does not show.
    """

    where: str
    keys: tuple[HostKeyView, ...]
    other_known: tuple[HostKeyView, ...] = ()


class TryView(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answers that is in no inventory yet."""

    probe: dict[str, Any]
    probe_ms: int


class KeysParams(_Params, frozen=True, kw_only=True):
    """The worker `name` of the inventory, or the one at `address`."""

    name: str | None = None
    address: AddressParams | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that is offered. `line` is `TYPE BASE64`; `source` is `file` or `agent`."""

    line: str
    fingerprint: str
    comment: str
    source: str
    path: str | None = None


class KeysView(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that are offered, in order; `named` is the entry's own `ssh_key_path`."""

    name: str
    keys: tuple[KeyView, ...]
    named: str | None = None


class ExamineParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One worker by name, or what a key opens at the one at `address`, which is not probed; none: all."""

    name: str | None = None
    address: AddressParams | None = None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a worker's key should not be good for: `open` where it is, null where nobody knows."""

    what: str
    open: bool | None
    said: str


class ExaminedView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker: what it says of itself, or why it does not, and what its key opens.

    `trusted_by` says why its host key is trusted: `pin` or `known_hosts`. `door_failure`: what the key
    opens could not be tried.
    """

    name: str
    transport: str
    host: str
    priority: int
    pins: tuple[str, ...] = ()
    probe: dict[str, Any] | None = None
    probe_ms: int | None = None
    skew_seconds: int | None = None
    failure: FailureView | None = None
    host_key: HostKeyView | None = None
    trusted_by: str | None = None
    attempts: tuple[AttemptView, ...] = ()
    door_failure: FailureView | None = None
    aside: str | None = None
    drained: str | None = None


class ExamineView(msgspec.Struct, frozen=True, kw_only=True):
    """The workers, in the order of selection. `embedded`: there is no inventory."""

    workers: tuple[ExaminedView, ...]
    inventory: str
    embedded: bool
