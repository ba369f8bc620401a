"""Merges the layers of a config and keeps where each value came from (spec section 6).

Built-in < host < repo < command line. Tables merge by key, arrays replace, scalars override.
What nobody says and the project root tells fills the gaps as `implied`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rch.config.agree import Agreement, implied_backend, implied_project
from rch.config.daemon_config import TABLES as DAEMON_TABLES
from rch.config.daemon_config import check_own
from rch.config.keys import (
    bad_value,
    check_tree,
    from_text,
    is_table,
    known_keys,
    leaves,
    mistakes_of,
    shown,
    unknown_key,
)
from rch.config.lines import line_of
from rch.config.offered import refuse_not_offered
from rch.config.redact import redact
from rch.config.root import CONFIG_NAME, ProjectRoot, top_level_names
from rch.config.schema import Config
from rch.config.sources import Layer, Origin, Source, file_layer, is_there, read_bytes
from rch.contract.canonical import jcs_sha256
from rch.contract.errors import Failure, Kind

COMMAND_LINE = "command line"
# What wins over another key: who may not change the one may not set the other.
_INSTEAD_OF = {
    "actions.step": "actions.verify",
    "toolchain.xcode_build": "toolchain.xcode_version",
    "project.workspace": "project.project",
    "project.project": "project.workspace",
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A config in force. `origins` has one entry per value, by dotted key.

    `effective` is the redacted config as JSON values, `redactions` the keys taken out of it;
    with `sources` they make `effective_config.json`.
    """

    config: Config
    origins: Mapping[str, Origin]
    sources: tuple[Source, ...]
    redactions: tuple[str, ...]
    effective: dict[str, Any]


def load_config(
    root: ProjectRoot, *, host_config: Path | None, overrides: Mapping[str, object]
) -> Resolved:
    """Read, check and merge all layers of a root; CONFIG names file, key and value.

    `host_config` may be absent. `overrides` are dotted keys or nested tables; a text for a key
    that takes none (`"timeouts.overall_seconds": "60"`) is read as the key's type.
    """
    try:
        layers = [_built_in(), *_host(host_config), *_repo(root), *_command_line(overrides)]
        for layer in layers:
            _check(layer)
        _check_locks(layers)
        return _resolve(layers, root.path)
    except Failure as failure:
        raise _placed(failure, {CONFIG_NAME: root.config_path, str(host_config): host_config}) from failure


def all_mistakes(
    root: ProjectRoot, *, host_config: Path | None, overrides: Mapping[str, object]
) -> list[Failure]:
    """What is wrong with each layer by itself, the first of each key; nothing of how they go together."""
    found: dict[tuple[object, object], Failure] = {}
    readers: tuple[Callable[[], list[Layer]], ...] = (
        lambda: _host(host_config),
        lambda: _repo(root),
        lambda: _command_line(overrides),
    )
    for read in readers:
        try:
            told = [each for layer in read() for each in _mistakes(layer)]
        except Failure as failure:
            told = [failure]
        for each in told:
            found.setdefault((each.data.get("file"), each.data.get("key")), each)
    files = {CONFIG_NAME: root.config_path, str(host_config): host_config}
    return [_placed(each, files) for each in found.values()]


def _placed(failure: Failure, files: Mapping[str, Path | None]) -> Failure:
    """The same refusal with the line of its key, where a file is to blame."""
    file, key = failure.data.get("file"), failure.data.get("key")
    path = files.get(file) if isinstance(file, str) else None
    if path is None or not isinstance(key, str):
        return failure
    try:
        line = line_of(read_bytes(path, str(file)).decode(), key)
    except (Failure, ValueError):
        return failure
    if line is None or not failure.message.startswith(f"{file}: "):
        return failure
    return failure.reworded(f"{file}:{line}: {failure.message.removeprefix(f'{file}: ')}", line=line)


def parse_overrides(pairs: Iterable[str]) -> dict[str, object]:
    """`key.path=value` words as overrides; USAGE if one has no `=`."""
    found: dict[str, object] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise Failure(Kind.USAGE, f"{pair}: an override is key.path=value")
        found[key.strip()] = value
    return found


def _built_in() -> Layer:
    tree: dict[str, Any] = _plain(msgspec.to_builtins(Config(backend="swiftpm")))
    del tree["backend"]
    return Layer(origin=Origin.BUILT_IN, file="built-in", tree=tree, sha256=jcs_sha256(tree))


def _host(path: Path | None) -> list[Layer]:
    if path is None or not is_there(path):
        return []
    layer = file_layer(path, Origin.HOST)
    check_own(layer.tree, layer.file)
    # How the daemon itself is kept enters no run's config.
    tree = {key: value for key, value in layer.tree.items() if key not in DAEMON_TABLES}
    return [msgspec.structs.replace(layer, tree=tree)]


def _repo(root: ProjectRoot) -> list[Layer]:
    if root.config_path is None:
        tree = {"backend": "swiftpm"}
        return [Layer(origin=Origin.IMPLIED, file="Package.swift", tree=tree, sha256=jcs_sha256(tree))]
    if not _is_below(root.config_path, root.path):
        raise bad_value(CONFIG_NAME, "the file", "is a link that leaves the project")
    return [file_layer(root.config_path, Origin.REPO, recorded_as=CONFIG_NAME)]


def _is_below(path: Path, root: Path) -> bool:
    """Whether a file lies in a folder once its links are followed; one that is not there does."""
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return True  # reading it says why


def _command_line(overrides: Mapping[str, object]) -> list[Layer]:
    known, tree = known_keys(Config), dict[str, Any]()
    for key, value in leaves(overrides):
        if (table := key.partition(".")[0]) in DAEMON_TABLES:
            raise _locked(COMMAND_LINE, key, f"the table [{table}] is the host's alone")
        if key not in known:
            raise unknown_key(COMMAND_LINE, key, known)
        if is_table(known[key]):
            raise bad_value(COMMAND_LINE, key, f"is a table: set {key}.KEY")
        refuse_not_offered(key, value, COMMAND_LINE)
        typed = from_text(value, known[key], COMMAND_LINE, key) if isinstance(value, str) else value
        *tables, leaf = key.split(".")
        place = tree
        for table in tables:
            place = place.setdefault(table, {})
        place[leaf] = _plain(typed)
    if not tree:
        return []
    return [Layer(origin=Origin.CLI, file=COMMAND_LINE, tree=tree, sha256=_digest(tree))]


def _digest(tree: Mapping[str, object]) -> str:
    try:
        return jcs_sha256(tree)
    except (ValueError, TypeError) as error:
        check_tree(tree, Config, COMMAND_LINE)  # it knows what the value should have been
        raise bad_value(
            COMMAND_LINE, ", ".join(key for key, _ in leaves(tree)), f"has no value: {error}"
        ) from error


def _check(layer: Layer) -> None:
    for failure in _mistakes(layer):
        raise failure


def _mistakes(layer: Layer) -> Iterator[Failure]:
    """What is wrong with one layer by itself."""
    if layer.origin in {Origin.REPO, Origin.CLI}:
        for table in sorted({"policy", *DAEMON_TABLES} & layer.tree.keys()):
            yield _locked(layer.file, table, f"the table [{table}] is the host's alone")
    for key, value in leaves(layer.tree):
        try:
            refuse_not_offered(key, value, layer.file)
        except Failure as failure:
            yield failure
    yield from mistakes_of(layer.tree, Config, layer.file)


def _check_locks(layers: list[Layer]) -> None:
    """Refuse a repo or command line that gives a locked key another value than the host's.

    A lock holds what would take the place of its key as well.
    """
    lower = [layer for layer in layers if layer.origin in {Origin.BUILT_IN, Origin.HOST}]
    base, _ = _merge(lower)
    values, known = dict(leaves(base)), known_keys(Config)
    locks: list[str] = base["policy"]["lock"]
    for lock in locks:
        if lock not in known:
            failure = unknown_key(lower[-1].file, lock, known)
            message = failure.message.replace("unknown key", "policy.lock names an unknown key:", 1)
            raise failure.reworded(message, key="policy.lock")
    for layer in layers:
        if layer in lower:
            continue
        for key, value in leaves(layer.tree):
            lock = next((each for each in locks if _holds(each, key)), "")
            if lock and values.get(key) != value:
                kept = "unset" if values.get(key) is None else shown(values[key])
                what = f'cannot be {shown(value)}: the host\'s [policy] lock "{lock}" keeps it at {kept}'
                raise _locked(layer.file, key, what)


def _holds(lock: str, key: str) -> bool:
    """Whether a lock is of a key, of its table, or of the key whose place it would take."""
    names = (key, _INSTEAD_OF.get(key, key))
    return any(f"{name}.".startswith(f"{lock}.") for name in names)


def _locked(file: str, key: str, what: str) -> Failure:
    data = {"file": file, "key": key}
    return Failure(Kind.CONFIG, f"{file}: {key}: {what}", subkind="LOCKED", data=data)


def _merge(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """The merged table, and for each value the layer that had the last word."""
    tree: dict[str, Any] = {}
    owners: dict[str, Layer] = {}
    for layer in layers:
        _overlay(tree, layer.tree)
        owners |= {key: layer for key, _ in leaves(layer.tree)}
    return tree, owners


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping):
            _overlay(below.setdefault(key, {}), value)
        else:
            below[key] = value


def _resolve(layers: list[Layer], root: Path) -> Resolved:
    tree, owners = _merge(layers)
    origins = {key: layer.origin for key, layer in owners.items()}
    names = top_level_names(root)
    if "backend" not in tree:
        tree["backend"] = implied_backend(tree["project"], names)
        origins["backend"] = Origin.IMPLIED
    files = {key: layer.file for key, layer in owners.items() if layer.origin is not Origin.BUILT_IN}
    blamed = files.get("backend", CONFIG_NAME)
    for key, value in implied_project(tree["backend"], tree["project"], names, blamed).items():
        tree["project"][key] = value
        origins[f"project.{key}"] = Origin.IMPLIED
    timeouts = tree["timeouts"]
    if origins["timeouts.idle_log_seconds"] is Origin.BUILT_IN:
        timeouts["idle_log_seconds"] = min(timeouts["idle_log_seconds"], timeouts["overall_seconds"])
    config = msgspec.convert(tree, Config)
    Agreement(config, origins, files).check(root)
    effective, redactions = redact(_plain(msgspec.to_builtins(config)))
    sources = tuple(layer.source() for layer in layers)
    return Resolved(
        config=config, origins=origins, sources=sources, redactions=redactions, effective=effective
    )


def _plain(value: Any) -> Any:
    """JSON's own shapes: tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
