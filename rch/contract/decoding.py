"""Decodes JSON that somebody else may have written: whatever is wrong with it is one error.

msgspec raises `RecursionError` where a value nests as deep as the interpreter's stack, and
`UnicodeDecodeError` for what is no UTF-8. Both are findings about bytes here, as all others are.
"""

from __future__ import annotations

from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")


@overload
def decode_json(data: bytes | str) -> Any: ...


@overload
def decode_json(data: bytes | str, kind: type[T]) -> T: ...


@overload
def decode_json(data: bytes | str, kind: UnionType) -> Any: ...


def decode_json(data: bytes | str, kind: Any = Any) -> Any:
    """The value in `data`, as a `kind`; `msgspec.DecodeError`, a `ValueError`, for anything else.

    Of a member that comes twice the last one counts, here and in every reader of ours.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise msgspec.DecodeError("nests too deep") from error
