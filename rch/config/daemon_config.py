"""What only the daemon reads of `config.toml`: `[gc]`, `[log]`, `[metrics]`, `[notify]`, `[transcripts]`.

They say how the daemon is kept, nothing of any run: they enter no run's config, and neither a
repo nor a command line may hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rch.config.keys import bad_value, check_tree
from rch.config.notify import Notify
from rch.config.schema import Table
from rch.config.sources import Origin, file_layer, is_there

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "text"]


class Gc(Table, frozen=True, kw_only=True):
    """How much of what has ended is kept on this machine; 0 sets no bound.

    The newest `keep_runs` of each project stay, whatever the bounds say.
    """

    automatic: bool = True
    keep_runs: Annotated[int, Meta(ge=1, le=100_000)] = 20
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 30
    keep_bytes: Annotated[int, Meta(ge=0)] = 50_000_000_000
    max_runs: Annotated[int, Meta(ge=0, le=1_000_000)] = 10_000


class Log(Table, frozen=True, kw_only=True):
    """The daemon's own log: `keep` older files of at most about `max_bytes` each."""

    level: Level = "info"
    format: Format = "json"
    max_bytes: Annotated[int, Meta(ge=65_536)] = 20_000_000
    keep: Annotated[int, Meta(ge=0, le=100)] = 3


class Metrics(Table, frozen=True, kw_only=True):
    """Where the metrics are written for a collector that reads files, and how often."""

    textfile: str | None = None
    interval_seconds: Annotated[int, Meta(ge=1, le=3600)] = 15


class Transcripts(Table, frozen=True, kw_only=True):
    """How much of what the daemon decided is kept for `rchctl debug transcript`, in bytes; 0 keeps none."""

    keep_bytes: Annotated[int, Meta(ge=0)] = 50_000_000


class DaemonConfig(Table, frozen=True, kw_only=True):
    """The daemon's own tables."""

    gc: Gc = Gc()
    log: Log = Log()
    metrics: Metrics = Metrics()
    notify: Notify = Notify()
    transcripts: Transcripts = Transcripts()


TABLES = frozenset(msgspec.structs.asdict(DaemonConfig()))


def own_tables(tree: Mapping[str, object]) -> dict[str, object]:
    """The daemon's part of a `config.toml`."""
    return {key: value for key, value in tree.items() if key in TABLES}


def check_own(tree: Mapping[str, object], file: str) -> None:
    """`Failure` CONFIG for a key or a value of the daemon's part that is none."""
    check_tree(own_tables(tree), DaemonConfig, file)
    metrics = tree.get("metrics")
    place = metrics.get("textfile") if isinstance(metrics, Mapping) else None
    if isinstance(place, str) and not Path(place).is_absolute():
        raise bad_value(file, "metrics.textfile", f"= {place!r} is no absolute path")


def load_daemon_config(path: Path) -> DaemonConfig:
    """The daemon's part of the host's config; `Failure` CONFIG where that part is none."""
    if not is_there(path):
        return DaemonConfig()
    layer = file_layer(path, Origin.HOST)
    check_own(layer.tree, layer.file)
    return msgspec.convert(own_tables(layer.tree), DaemonConfig)
