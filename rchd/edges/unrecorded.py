"""Why nothing is recorded of a run: what `rchctl debug transcript` says then.

A ring that has failed leaves a line beside its folder, for whoever asks when no daemon is there.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rch.config.daemon_config import load_daemon_config
from rch.contract.errors import Failure, Kind
from rch.files.paths import HostPaths

_MOST = 1000  # bytes of that line
_SUFFIX = ".failed"


def note_failure(folder: Path, trouble: str | None) -> None:
    """Leave `trouble` beside the ring's folder, or take away what was left there; as far as that goes."""
    path = folder.with_name(folder.name + _SUFFIX)
    with suppress(OSError):
        if trouble is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(trouble[:_MOST])


def _noted(folder: Path) -> str:
    try:
        with folder.with_name(folder.name + _SUFFIX).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST)
    except OSError:
        return ""


def unrecorded(paths: HostPaths, name: str) -> Failure:
    """What is to be said of run `name`."""
    if load_daemon_config(paths.config_toml).transcripts.keep_bytes == 0:
        return Failure(
            Kind.USAGE,
            f"run {name[:80]!r} was not recorded: [transcripts] keep_bytes is 0 in {paths.config_toml}",
            subkind="UNKNOWN_RUN",
            hint="set it to 50000000 and restart the daemon; later runs are recorded then",
        )
    if trouble := _noted(paths.transcripts):
        return Failure(
            Kind.USAGE,
            f"run {name[:80]!r} was not recorded: {trouble}",
            subkind="UNKNOWN_RUN",
            hint="mend that: later runs are recorded then, as soon as one begins or ends",
        )
    return Failure(
        Kind.USAGE,
        f"no run {name[:80]!r} is among those that the daemon has recorded in {paths.transcripts}",
        subkind="UNKNOWN_RUN",
        hint="a run of --no-daemon is never recorded; transcripts.keep_bytes says how long others are kept",
    )
