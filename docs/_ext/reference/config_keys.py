"""Every config key: type and default from the Structs, what it does from docs/configuration.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, structs

from rch.config.daemon_config import DaemonConfig
from rch.config.inventory import WorkerEntry
from rch.config.keys import describe, is_table
from rch.config.schema import Config
from rch.config.worker_config import WorkerConfig
from reference.markdown import block, cell, code, page, prose, table

LAYERED = """
In a project's `.rch/xcode.toml`, in the host's `config.toml`, and on the command line as `--set KEY=VALUE`;
`[policy]` in `config.toml` alone. A later layer wins: built in, host, repo, command line.
"""
REPO_AND_HOST = "Keys of `.rch/xcode.toml` and `config.toml`"
SECTIONS: tuple[tuple[str, str, type[msgspec.Struct], str], ...] = (
    (
        "What a run is",
        REPO_AND_HOST,
        Config,
        LAYERED,
    ),
    (
        "The daemon",
        "Keys of the daemon in `config.toml`",
        DaemonConfig,
        "In the host's `config.toml` alone. Neither a repo nor a command line may set them.",
    ),
    ("The inventory", "Keys of `workers.toml`", WorkerEntry, "One `[[worker]]` each in `workers.toml`."),
    ("A worker", "Keys of `worker.toml`", WorkerConfig, "In `worker.toml` on the worker."),
)
INTRO = """
Types, bounds and defaults as the programs themselves check them. How the layers merge, and longer words on
caches, results and notifications, are in [configuration](../configuration.md); where the files lie in
[places](../places.md). An unknown key is refused with the nearest known one (`CONFIG` / `UNKNOWN_KEY`,
[exit 3](exit-codes.md#exit-3)).

`rchctl config show --origin` tells the values in force and which layer set each; `rchctl config validate`
checks every file.
"""


def keys_of(cls: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, structs.FieldInfo]]:
    """Every key in dotted form that holds a value, and its field."""
    for field in structs.fields(cls):
        key = f"{prefix}{field.encode_name}"
        if is_table(field.type):
            yield from keys_of(field.type, f"{key}.")
        else:
            yield key, field


def meanings(text: str, heading: str) -> dict[str, str]:
    """What the hand-written table below `heading` says of each key, its links seen from reference/."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    rows: list[tuple[str, str]] = re.findall(r"^\| `([^`]+)` \| [^|]+ \|(.*)\|$", section, re.MULTILINE)
    return {key: _from_here(meaning.strip()) for key, meaning in rows}


def _from_here(text: str) -> str:
    text = re.sub(r"\]\(#", "](configuration.md#", text)
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](../\1)", text)


def config_keys_page(docs: Path) -> str:
    """The page."""
    text = (docs / "configuration.md").read_text(encoding="utf-8")
    parts = [INTRO]
    for title, heading, cls, where in SECTIONS:
        told = meanings(text, heading)
        rows = [
            (code(key), cell(_type(field.type)), _default(field), told.get(key, ""))
            for key, field in keys_of(cls)
        ]
        parts += [f"## {title}\n", where + "\n", *_tables_told(cls)]
        parts.append(table(("key", "type", "default", "what it does"), rows))
    parts.append("## An example\n")
    parts.append(
        block('schema_version = 1\nbackend = "swiftpm"\n\n[timeouts]\noverall_seconds = 600\n', "toml")
    )
    return page("Config keys", *parts)


def _tables_told(cls: type[msgspec.Struct]) -> list[str]:
    rows = [
        (code(f"[{field.encode_name}]"), prose(field.type.__doc__))
        for field in structs.fields(cls)
        if is_table(field.type)
    ]
    return [table(("table", "what it is for"), rows)] if rows else []


def _type(annotation: Any) -> str:
    words = describe(annotation)
    return re.sub(r"of the form (\S+)", lambda found: f"of the form {code(found[1])}", words)


def _default(field: structs.FieldInfo) -> str:
    value = field.default
    if value is NODEFAULT and field.default_factory is not NODEFAULT:
        value = field.default_factory()
    if value is NODEFAULT:
        return "required"
    if value is None:
        return "none"
    return code(msgspec.json.encode(value).decode())
