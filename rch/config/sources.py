"""Reads one TOML file, and keeps what a layer came from (spec section 6)."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from rch.config.keys import bad_value
from rch.contract.errors import Failure, Kind

MAX_BYTES = 1 << 20
_MOST_PARTS = 32
_BROKEN = "mend that line: text stands in quotes, lists in [ ], tables begin with [name]"
# A dotted key of more parts than any table has: it costs the reader its square. Possessive, so that
# looking for one costs the length of the file.
_DEEP_KEY = re.compile(
    rb"(?<![A-Za-z0-9_.-])(?:(?:[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}"
    % _MOST_PARTS
)


class Origin(StrEnum):
    """The layer that a value came from, lowest first; `implied` is read off the project root."""

    BUILT_IN = "built-in"
    IMPLIED = "implied"
    HOST = "host"
    REPO = "repo"
    CLI = "cli"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A layer as `effective_config.json` records it."""

    origin: Origin
    path: str | None = None
    sha256: str


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's table. `file` is what a refusal calls it."""

    origin: Origin
    file: str
    tree: Mapping[str, object]
    sha256: str
    path: str | None = None

    def source(self) -> Source:
        """What is recorded of it."""
        return Source(origin=self.origin, path=self.path, sha256=self.sha256)


def is_there(path: Path) -> bool:
    """Whether anything has this name; what cannot be looked at counts, so that reading it can say why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def read_bytes(path: Path, file: str, *, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a small file; CONFIG / BAD_VALUE if it cannot be read, or is a device or a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(fd, "rb") as stream:  # noqa: PTH123  (a descriptor)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise bad_value(file, "the file", "is no regular file")
            data = stream.read(limit + 1)
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror or error}"
        raise Failure(Kind.CONFIG, message, subkind="BAD_VALUE", data={"file": file}) from error
    if len(data) > limit:
        raise bad_value(file, "the file", f"is over {limit} bytes")
    return data


def parse_toml(data: bytes, file: str) -> dict[str, object]:
    """The table that the bytes hold; CONFIG / BAD_VALUE with the line if they are no TOML."""
    if _DEEP_KEY.search(data):
        raise bad_value(file, "a key", f"has over {_MOST_PARTS} parts")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # a number can be too long for the language itself
        message = f"{file}: is not TOML: {error}".replace("\n", " ")
        raise Failure(
            Kind.CONFIG, message, subkind="BAD_VALUE", hint=_BROKEN, data={"file": file}
        ) from error


def file_layer(path: Path, origin: Origin, *, recorded_as: str | None = None) -> Layer:
    """Read one file as a layer; `recorded_as` is its name in refusals and records."""
    name = recorded_as or str(path)
    data = read_bytes(path, name)
    digest = hashlib.sha256(data).hexdigest()
    return Layer(origin=origin, file=name, tree=parse_toml(data, name), sha256=digest, path=name)
