"""The documentation names every key with its default (spec section 6)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rch.config.inventory import WorkerEntry
from rch.config.keys import is_table, known_keys
from rch.config.schema import Config
from rch.config.worker_config import WorkerConfig

DOC = Path(__file__).parents[2] / "docs" / "configuration.md"


def _rows(heading: str) -> dict[str, str]:
    """Key and default of the table below a heading."""
    section = DOC.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE))


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("Keys of `.rch/xcode.toml` and `config.toml`", Config),
        ("Keys of `workers.toml`", WorkerEntry),
        ("Keys of `worker.toml`", WorkerConfig),
    ],
)
def test_the_tables_hold_exactly_the_known_keys(heading: str, cls: type[msgspec.Struct]) -> None:
    assert set(_rows(heading)) == {key for key, kind in known_keys(cls).items() if not is_table(kind)}


@pytest.mark.spec("6")
def test_documented_numbers_are_the_defaults() -> None:
    told = _rows("Keys of `.rch/xcode.toml` and `config.toml`")
    for table in msgspec.structs.fields(Config):
        for key, value in _numbers(table.default):
            assert told[f"{table.encode_name}.{key}"].startswith(str(value)), key
    told = _rows("Keys of `worker.toml`")
    for key, value in _numbers(WorkerConfig()):
        assert told[key] == str(value)


def _numbers(table: object) -> list[tuple[str, int]]:
    if not isinstance(table, msgspec.Struct):
        return []
    return [(key, value) for key, value in msgspec.structs.asdict(table).items() if type(value) is int]
