"""A Struct's fields as rows of a table: name, type, whether it is always there, what it is by default."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import NODEFAULT, UNSET, UnsetType, structs

from reference.markdown import code, prose, table

JSON_NAMES = {str: "string", int: "integer", float: "number", bool: "true or false", bytes: "base64 string"}


class Told(typing.NamedTuple):
    """A type in words, and the Structs that stand in it."""

    words: str
    inner: tuple[type[msgspec.Struct], ...]


def told(annotation: Any) -> Told:
    """What JSON a type is, in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        base = told(args[0])
        bounds = "".join(_bounds(meta) for meta in args[1:] if isinstance(meta, msgspec.Meta))
        return Told(base.words + bounds, base.inner)
    if origin in {typing.Union, types.UnionType}:
        parts = [told(each) for each in args if each is not UnsetType]
        return Told(" or ".join(part.words for part in parts), sum((part.inner for part in parts), ()))
    if origin is typing.Literal:
        return Told(" or ".join(code(each) for each in args), ())
    if origin is tuple:
        return _list(args)
    if origin in {dict, Mapping}:
        value = told(args[1])
        words = "object" if args[1] is Any else f"object, each value {value.words}"
        return Told(words, value.inner)
    return _plain(annotation)


def _list(args: tuple[Any, ...]) -> Told:
    if len(args) == 2 and args[1] is Ellipsis:
        item = told(args[0])
        return Told(f"list of {item.words}", item.inner)
    return Told(f"list of {len(args)}: " + ", ".join(told(each).words for each in args), ())


def _plain(annotation: Any) -> Told:
    if annotation is type(None):
        return Told("null", ())
    if annotation in JSON_NAMES:
        return Told(JSON_NAMES[annotation], ())
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return Told(code(annotation.__name__), (annotation,))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Told(" or ".join(code(each.value) for each in annotation), ())
    return Told("any value", ())


def _bounds(meta: msgspec.Meta) -> str:
    words = []
    if meta.ge is not None or meta.gt is not None:
        words.append(f"at least {meta.ge if meta.ge is not None else f'{meta.gt} and not it'}")
    if meta.le is not None:
        words.append("at most 2^53" if meta.le == 1 << 53 else f"at most {meta.le}")
    if meta.max_length is not None:
        words.append(f"no longer than {meta.max_length}")
    if meta.pattern is not None:
        words.append(f"of the form {code(meta.pattern)}")
    return f" ({', '.join(words)})" if words else ""


def default_of(field: structs.FieldInfo) -> str:
    """What stands for a member that is left out; empty: it must be there."""
    if field.default is UNSET:
        return "left out"
    value = field.default
    if value is NODEFAULT and field.default_factory is not NODEFAULT:
        value = field.default_factory()
    if value is NODEFAULT:
        return "required"
    if isinstance(value, msgspec.Struct):
        return "its own defaults"
    if value is None:
        return code("null")
    return code(msgspec.json.encode(value).decode())


def fields_table(kind: type[msgspec.Struct], *, link: Mapping[type, str] | None = None) -> str:
    """All fields of `kind`; what `link` knows is linked to."""
    rows = []
    for field in structs.fields(kind):
        words = told(field.type).words
        for each, target in (link or {}).items():
            words = words.replace(code(each.__name__), f"[{code(each.__name__)}](#{target})")
        rows.append((code(field.encode_name), words, default_of(field)))
    return table(("member", "type", "if left out"), rows) if rows else "No members: `{}`.\n"


def inner_of(kinds: typing.Iterable[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """Every Struct that stands in these, in these or deeper, by name; these themselves are left out."""
    given = list(kinds)
    found: dict[type[msgspec.Struct], None] = {}
    waiting = list(given)
    while waiting:
        for each in _within(waiting.pop()):
            if each not in found and each not in given:
                found[each] = None
                waiting.append(each)
    return sorted(found, key=lambda each: each.__name__)


def _within(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for field in structs.fields(kind):
        yield from told(field.type).inner


def struct_section(
    kind: type[msgspec.Struct], prefix: str, links: Mapping[type, str], level: int = 3
) -> str:
    """Heading, docstring and fields of one Struct, with an anchor."""
    name = kind.__name__
    head = f"({prefix}-{name.lower()})=\n{'#' * level} {name}\n"
    return f"{head}\n{prose(kind.__doc__)}\n\n{fields_table(kind, link=links)}"
