"""The line of `authorized_keys` for the host's key: found, added or renewed (see `landing`)."""

from __future__ import annotations

import os
import re

from rchd.edges.landing_call import Call, Refused, durable, locked

MYPY = False
if MYPY:
    from typing import Any

_OURS = re.compile(r'restrict,command="(?:[^"\\]|\\.)*"')
_RUNS = re.compile(r"rch-worker'? xcode rpc\"$")


def authorize(call: Call) -> dict[str, Any]:
    """One line for the key; all others stay byte for byte, and ours of an older place is replaced."""
    key, line, path = call.request["key"], call.request["line"], os.path.realpath(keys_file())
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with locked(folder):
        before = _whole(path)
        found, at = standing(before, key)
        if found == "foreign":
            raise Refused(
                f"authorized_keys has this key with other rights: line {at + 1}",
                "take that line out, or set up with a key of its own: --ssh-key FILE",
            )
        lines = before.splitlines(True)
        if found == "ours":
            lines[at] = _renewed(lines[at].decode("utf-8", "surrogateescape"), line).encode(
                "utf-8", "surrogateescape"
            )
        else:
            if lines and not lines[-1].endswith(b"\n"):
                lines[-1] += b"\n"
            lines.append(line.encode() + b"\n")
        after = b"".join(lines)
        if after != before:
            durable(path, after)
    return {"changed": after != before}


def _whole(path: str) -> bytes:
    """All of the file; what cannot be read is not written anew."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _renewed(old: str, new: str) -> str:
    """The old line with the new one's command; whence it may come stays as it was, unless that is new."""
    found, wanted = _OURS.match(old), _OURS.match(new)
    if found is None or wanted is None or new[wanted.end() :].startswith(",from="):
        return new + "\n"
    return wanted.group() + old[found.end() :]


def keys_file() -> str:
    """Where sshd looks, unless its config says otherwise."""
    return os.path.expanduser("~/.ssh/authorized_keys")


def standing(text: bytes, key: str) -> tuple[str, int]:
    """Whether the key is `absent`, has a line of `ours`, or a `foreign` one; and at which line."""
    ours = None
    for at, line in enumerate(text.splitlines()):
        words = line.decode("utf-8", "replace")
        if words.lstrip().startswith("#") or key.split()[1] not in words.split():
            continue
        if not is_ours(words):
            return "foreign", at  # sshd takes the first that fits, wherever ours stands
        ours = at if ours is None else ours
    return ("absent", -1) if ours is None else ("ours", ours)


def is_ours(line: str) -> bool:
    """Whether a line lets its key run an `rch-worker` and nothing else."""
    found = _OURS.match(line)
    return found is not None and _RUNS.search(found.group()) is not None
