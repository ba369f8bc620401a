"""Checks a table against the Structs that describe its keys, and words the refusals (section 6).

Every refusal is `CONFIG` and names the file, the key and, for an unknown one, the nearest
known key; `Failure.data` holds them as `file` and `key`.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
import types
import typing
import unicodedata
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import inspect, structs

from rch.contract.errors import Failure, Kind
from rch.contract.redact import scrub

_LONGEST_KEY = 100  # what is looked for among the known ones, and shown

Annotation = typing.Any
"""The type of a field as written, `Annotated` bounds included."""


def bad_value(file: str, key: str, what: str) -> Failure:
    """The refusal of a value: `what` follows the key in the sentence."""
    data = {"file": file, "key": key}
    return Failure(Kind.CONFIG, f"{file}: {key} {scrub(what)}", subkind="BAD_VALUE", data=data)


@functools.lru_cache(maxsize=64)  # resolving the annotations anew took a submit 20 ms
def known_keys(cls: type[msgspec.Struct], prefix: str = "") -> Mapping[str, Annotation]:
    """Every key in dotted form with its type, tables included."""
    found: dict[str, Annotation] = {}
    for field in structs.fields(cls):
        key = f"{prefix}{field.encode_name}"
        found[key] = field.type
        if (table := _table(field.type)) is not None:
            found |= known_keys(table, f"{key}.")
    return found


def leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value of a nested table under its dotted key; an array is one value."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_tree(tree: Mapping[str, object], cls: type[msgspec.Struct], file: str, prefix: str = "") -> None:
    """Refuse unknown keys and values of a wrong type or out of bounds; missing ones are fine."""
    _check_table(tree, file, prefix, known_keys(cls, prefix))


def _check_table(
    tree: Mapping[str, object], file: str, prefix: str, known: Mapping[str, Annotation]
) -> None:
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if dotted not in known:
            raise unknown_key(file, dotted, known)
        if not is_table(known[dotted]):
            check_value(value, known[dotted], file, dotted)
        elif isinstance(value, Mapping):
            _check_table(value, file, f"{dotted}.", known)
        else:
            raise bad_value(file, dotted, f"is a table: write [{dotted}]")


def check_value(value: object, annotation: Annotation, file: str, key: str) -> None:
    """Refuse one value that its type does not take, and say what it does."""
    row = _row_type(annotation)
    if row is not None and isinstance(value, list):
        for index, item in enumerate(value):
            if not isinstance(item, Mapping):
                raise bad_value(file, f"{key}[{index}]", f"is a table: write [[{key}]]")
            check_tree(item, row, file, f"{key}[{index}].")
    if _has_control(value):
        raise bad_value(file, key, "holds a control character")
    most = getattr(_without_none(inspect.type_info(annotation)), "max_length", None)
    if isinstance(value, list) and most is not None and len(value) > most:
        raise bad_value(file, key, f"has {len(value)} entries, and may have {most}")
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        if missing := re.search(r"missing required field `(\w+)`(?: - at `\$(.*)`)?", str(error)):
            raise bad_value(file, f"{key}{missing[2] or ''}", f"needs {missing[1]}") from error
        text = f"= {shown(value)} is not {describe(annotation)}"
        raise bad_value(file, key, text) from error


def unknown_key(file: str, key: str, known: Mapping[str, Annotation]) -> Failure:
    """The refusal of an unknown key with the nearest: of its table, the same word elsewhere, one alike."""
    key = key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}…"
    table, _, leaf = key.rpartition(".")
    nearby = table
    while nearby and nearby not in known:  # no such table: what the next one above it holds
        nearby = nearby.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == nearby]
    near = (
        [f"{nearby}.{name}".lstrip(".") for name in _near(leaf, siblings)] if table == nearby != "" else []
    )
    near += [name for name in known if name.rpartition(".")[2] == leaf]
    near += [f"{nearby}.{name}".lstrip(".") for name in _near(leaf, siblings)]
    others = [name for name in known if name not in siblings and not key.startswith(f"{name}.")]
    near += difflib.get_close_matches(key, others, 1, 0.7)
    hint = f"the nearest known key is {near[0]}" if near else f"known: {', '.join(siblings)}"
    data = {"file": file, "key": key} | ({"nearest": near[0]} if near else {})
    return Failure(Kind.CONFIG, f"{file}: unknown key {key}; {hint}", subkind="UNKNOWN_KEY", data=data)


def _near(leaf: str, siblings: list[str]) -> list[str]:
    return difflib.get_close_matches(leaf, [name.rpartition(".")[2] for name in siblings], 1, 0.6)


def from_text(text: str, annotation: Annotation, file: str, key: str) -> object:
    """A command line's text as a value: text for text, commas for lists, else as TOML writes it."""
    kind = _without_none(inspect.type_info(annotation))
    if _is_text(kind):
        return text
    if isinstance(kind, inspect.VarTupleType) and _is_text(kind.item_type) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        read = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        read = {}
    if set(read) != {"value"}:
        raise bad_value(file, key, f"= {shown(text)} is not {describe(annotation)}")
    return read["value"]


def describe(annotation: Annotation) -> str:
    """What a type takes, in words for people."""
    kind = _without_none(inspect.type_info(annotation))
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in kind.values)
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _bounds(kind)
    if isinstance(kind, inspect.StrType):
        return f"text of the form {kind.pattern}" if kind.pattern else "text that is not empty"
    if isinstance(kind, inspect.VarTupleType):
        return "a list" if _row_type(annotation) else f"a list, each {_each(kind.item_type)}"
    return "of the type it needs"


def _each(item: inspect.Type) -> str:
    if isinstance(item, inspect.LiteralType):
        return "one of " + ", ".join(str(value) for value in item.values)
    if isinstance(item, inspect.StrType) and item.pattern:
        return f"text of the form {item.pattern}"
    return "text that is not empty"


def _bounds(kind: inspect.IntType) -> str:
    low = kind.ge if kind.ge is not None else None if kind.gt is None else kind.gt + 1
    if low is not None and kind.le is not None:
        return f" from {low} to {kind.le}"
    return "" if low is None else f" from {low}"


def is_table(annotation: Annotation) -> bool:
    """Whether a key holds a table of keys."""
    return _table(annotation) is not None


def _table(annotation: Annotation) -> type[msgspec.Struct] | None:
    is_struct = isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
    return annotation if is_struct else None


def _has_control(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_control(item) for item in value)
    return isinstance(value, str) and any(unicodedata.category(c) in {"Cc", "Cs"} for c in value)


def _row_type(annotation: Annotation) -> type[msgspec.Struct] | None:
    """The Struct of an array of tables."""
    origin: object = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _row_type(typing.get_args(annotation)[0])
    if origin is tuple:
        return _table(typing.get_args(annotation)[0])
    return None


def _without_none(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        return next(part for part in kind.types if not isinstance(part, inspect.NoneType))
    return kind


def _is_text(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return all(isinstance(value, str) for value in kind.values)
    return isinstance(kind, inspect.StrType)


def shown(value: object) -> str:
    """A value as a refusal names it: short, in TOML's words, and no secret."""
    if isinstance(value, bool):
        return str(value).lower()
    plain = isinstance(value, str | int | float | list | types.NoneType)
    try:
        text = repr(value) if plain else type(value).__name__
    except (ValueError, RecursionError):  # a number too long to be written, a list too deep
        text = f"a {type(value).__name__}"
    text = scrub(text)
    return text if len(text) <= 80 else text[:79] + "…"
