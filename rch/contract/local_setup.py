"""The local socket's methods that bring the worker's program to a machine (section 3.1, 12)."""

from __future__ import annotations

import msgspec

from rch.contract.local_door import AddressParams


class _Params(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A method's parameters; an unknown name is refused."""


class LookParams(_Params, frozen=True, kw_only=True):
    """Where to log in, with a key that opens a shell. `python` is a path there, `key` a `TYPE BASE64`."""

    login: AddressParams
    python: str | None = None
    key: str | None = None


class PythonView(msgspec.Struct, frozen=True, kw_only=True):
    """A Python there; `venv`: it can make the agent's own folder of libraries."""

    path: str
    version: tuple[int, ...]
    venv: bool
    machine: str
    libc: str


class LookView(msgspec.Struct, frozen=True, kw_only=True):
    """What is there. `python` is the one that would carry the agent, null where none could.

    `build` names what would be sent, `installed` what is there of these, `current` the one in force.
    `key` says of the key's line in authorized_keys that it is `absent`, `ours` or `foreign`; `line` is it.
    """

    home: str
    system: str
    release: str
    machine: str
    hostname: str
    pythons: tuple[PythonView, ...]
    disk_free_bytes: int
    base: str
    key: str
    installed: tuple[str, ...]
    current: str | None = None
    line: str | None = None
    swift: str | None = None
    xcode: str | None = None
    python: str | None = None
    build: str = ""


class InstallParams(_Params, frozen=True, kw_only=True):
    """Bring the agent to `login`, let `key` run it by `line`, and see that it answers `probe`.

    `python` as in `LookView`; `home` is the worker's own (`RCH_WORKER_HOME`); `wheels` a folder on this
    machine from which all libraries come, without any package index.
    """

    login: AddressParams
    probe: AddressParams
    key: str
    line: str
    python: str | None = None
    home: str | None = None
    wheels: str | None = None


class InstallView(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `before`: the version till then; `removed`: older ones; `used`: such as run still.

    `own` is the fingerprint of the worker's own key, said over the login and by the probe alike.
    """

    build: str
    version: str
    made: bool
    authorized: bool
    own: str
    probe_ms: int
    before: str | None = None
    removed: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
