"""Finds the project root (spec section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rch.config.sources import is_there
from rch.contract.errors import Failure, Kind

CONFIG_NAME = ".rch/xcode.toml"
MANIFEST_NAME = "Package.swift"


@dataclass(frozen=True, slots=True)
class ProjectRoot:
    """A project's folder, links resolved. `implied` means a package without a config file."""

    path: Path
    config_path: Path | None
    implied: bool


def find_root(start: Path) -> ProjectRoot:
    """The nearest folder upward with a config, else the nearest package below the git top.

    CONFIG / NO_PROJECT says how to make a config.
    """
    try:
        here = start.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # links that lead round, before Python 3.13
        raise Failure(Kind.CONFIG, f"{start}: no such folder", subkind="NO_PROJECT") from error
    folders = (here, *here.parents)
    for folder in folders:
        config = folder / CONFIG_NAME
        if is_there(config):
            return ProjectRoot(path=folder, config_path=config, implied=False)
    for folder in folders:
        if is_there(folder / MANIFEST_NAME):
            return ProjectRoot(path=folder, config_path=None, implied=True)
        if is_there(folder / ".git"):
            break
    raise _no_project(here)


def top_level_names(root: Path) -> tuple[str, ...]:
    """What lies directly in a root, sorted."""
    try:
        return tuple(sorted(entry.name for entry in root.iterdir()))
    except OSError as error:
        message = f"{root}: cannot be read: {error.strerror or error}"
        raise Failure(Kind.CONFIG, message, subkind="NO_PROJECT") from error


def _no_project(here: Path) -> Failure:
    project = next((n for n in top_level_names(here) if n.endswith((".xcworkspace", ".xcodeproj"))), None)
    kind = "workspace" if (project or "").endswith(".xcworkspace") else "project"
    named = f'[project] {kind} = "{project}"' if project else "[project] workspace or project"
    message = f"{here}: neither {CONFIG_NAME} nor {MANIFEST_NAME} here or in a folder above"
    hint = (
        f'make {CONFIG_NAME} with backend = "xcodebuild", {named}, schemes = ["..."] and'
        ' [destination] value = "platform=..."; or run inside a Swift package'
    )
    return Failure(Kind.CONFIG, message, subkind="NO_PROJECT", hint=hint)
