"""Finds a run's folder on this machine's disk, without the daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rchctl.indices import RUN_INDEX

_HINT = "see the runs: rchctl list"


def find_run(word: str, artifacts: Path, here: Path) -> Path:
    """The folder that `word` means: a path (relative to `here`), an id, a beginning of one, or `latest`.

    `Failure` USAGE when it means none or several; ARTIFACTS when that folder has no index.
    """
    if word == "latest":
        newest = next(run_folders(artifacts), None)
        if newest is None:
            raise Failure(Kind.USAGE, f"no runs in {artifacts}", hint="rchctl verify makes one")
        return newest
    place = Path(os.path.abspath(here / word))  # noqa: PTH100  (links stay as they were typed)
    if os.sep in word or (place / RUN_INDEX).is_file():
        if not (place / RUN_INDEX).is_file():
            raise Failure(Kind.USAGE, f"{word}: no folder of a run: it has no {RUN_INDEX}", hint=_HINT)
        return place
    found = [each for each in run_folders(artifacts) if word and each.name.startswith(word)]
    exact = [each for each in found if each.name == word]
    if len(found) == 1 or exact:
        return (exact or found)[0]
    if not found:
        raise Failure(Kind.USAGE, f"no run {word!r} in {artifacts}", hint=_HINT)
    names = ", ".join(each.name for each in found[:3])
    raise Failure(Kind.USAGE, f"{word!r} is the beginning of {len(found)} runs: {names}", hint=_HINT)


def run_folders(artifacts: Path) -> Iterator[Path]:
    """The runs that have an index, newest first: their ids sort by time."""
    try:
        names = sorted((each.name for each in os.scandir(artifacts) if each.is_dir()), reverse=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failure(Kind.ARTIFACTS, f"{artifacts} cannot be read: {error.strerror}") from error
    for name in names:
        if (artifacts / name / RUN_INDEX).is_file():
            yield artifacts / name
