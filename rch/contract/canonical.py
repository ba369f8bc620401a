"""RFC 8785 bytes and the digests over them (spec section 7)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import rfc8785

_MAX_SAFE = 2**53


def _refuse_unsafe(value: object) -> None:
    if isinstance(value, float):
        raise ValueError(f"{value!r}: floats have no place in a digest")  # noqa: TRY004  (one error for callers)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_SAFE:
        raise ValueError(f"{value!r}: integers of 2^53 and more have no place in a digest")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{key!r}: member names are strings")  # noqa: TRY004  (one error for callers)
            _refuse_unsafe(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_unsafe(item)


def jcs(value: object) -> bytes:
    """RFC 8785 bytes of a JSON value or Struct.

    `ValueError` for floats, integers beyond 2^53, and what nests too deeply.
    """
    try:
        plain = msgspec.to_builtins(value)
        _refuse_unsafe(plain)
        return rfc8785.dumps(plain)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("nests too deeply") from error


def jcs_sha256(value: object) -> str:
    """Hex SHA-256 of `jcs(value)`."""
    return hashlib.sha256(jcs(value)).hexdigest()
