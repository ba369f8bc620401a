"""The line of `authorized_keys` that lets a host's key run the worker and nothing else (section 3.1).

Standard library alone: the thin client imports this module.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from rch.contract.errors import Failure, Kind

COMMAND = "$HOME/rch/.venv/bin/rch-worker xcode rpc"
"""Where docs/workers.md puts the program; sshd has the account's shell expand it."""

_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/]+=*")


def authorized_line(key: str, *, command: str, sources: Sequence[str], comment: str) -> str:
    """`key` is `TYPE BASE64`, `sources` are the addresses it may come from; none: any.

    `Failure` USAGE for what would break the line, or have sshd pass it over.
    """
    if not _KEY.fullmatch(key):
        raise Failure(Kind.USAGE, f"this is no public key: {key[:60]!r}")
    for name, value in (("--command", command), ("comment", comment)):
        if not value.isprintable() or not value:
            raise Failure(Kind.USAGE, f"{name} {value[:60]!r} is not one line of text")
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    options = f'restrict,command="{quoted}"'
    if sources:
        options += f',from="{",".join(_network(each) for each in sources)}"'
    return f"{options} {key} {comment}"


def _network(text: str) -> str:
    """An address, or a network whose bits beyond the mask are 0: sshd refuses a key for any other."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise Failure(
            Kind.USAGE,
            f"--from {text[:60]!r} is no address and no network: {error}",
            hint="write an address, or a network such as 192.0.2.0/24",
        ) from error
    return text
