"""Result bundles: `.xcresult` folders that the stand-in `xcresulttool` reads again.

The layout is the recorded one: `Info.plist`, `database.sqlite3` and `Data/` with files named
by a digest. The documents in `Data/` are the stand-in's own JSON, not Apple's packed objects:
no Xcode can open such a bundle.
"""

from __future__ import annotations

import base64
import hashlib
import json
import plistlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker_agent.standin import database, documents
from worker_agent.standin.facts import Release
from worker_agent.standin.model import Outcome


class BundleError(ValueError):
    """A bundle that is no bundle, or was cut; says what is wrong."""


def write(folder: Path, outcome: Outcome, release: Release, *, localised: bool, fault: str | None) -> None:
    """Make the bundle, or what a `fault` leaves of it: `truncated` or `absent`."""
    if fault == "absent":
        return
    told: dict[str, Any] = {"build-results": documents.build_results(outcome, release)}
    if outcome.cases is not None:
        told["summary"] = documents.summary(outcome, release)
        told["tests"] = documents.tests(outcome, release, localised=localised)
    body = json.dumps(told, ensure_ascii=False).encode(errors="replace")
    root = _digest(body)
    (folder / "Data").mkdir(parents=True, exist_ok=True)
    if fault == "truncated":
        (folder / "Data" / f"data.{root}").write_bytes(body[: len(body) // 2])
        (folder / "database.sqlite3").write_bytes(b"SQLite format 3\0cut")
    else:
        (folder / "Data" / f"data.{root}").write_bytes(body)
        (folder / "Data" / f"refs.{root}").write_bytes(b"")
        database.write(folder / "database.sqlite3", outcome)
    info = {
        "dateCreated": datetime.fromtimestamp(int(outcome.finished), UTC).replace(tzinfo=None),
        "externalLocations": [],
        "rootId": {"hash": root},
        "storage": {"backend": "fileBacked2", "compression": "standard"},
        "version": {"major": 3, "minor": 53},
    }
    (folder / "Info.plist").write_bytes(plistlib.dumps(info))


def _digest(body: bytes) -> str:
    return f"0~{base64.urlsafe_b64encode(hashlib.sha512(body).digest()).decode()}"


def read(folder: Path) -> dict[str, Any]:
    """The documents of a bundle by name; `BundleError` where it is none of the stand-in's."""
    try:
        info = plistlib.loads((folder / "Info.plist").read_bytes())
        root = str(info["rootId"]["hash"])
    except (OSError, ValueError, KeyError, TypeError, plistlib.InvalidFileException) as error:
        raise BundleError(f"{folder} is no result bundle: {error}") from error
    file = folder / "Data" / f"data.{root}"
    if file.parent != folder / "Data":
        raise BundleError(f"{folder} names a root outside of itself")
    try:
        body = file.read_bytes()
        told = json.loads(body)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{folder} cannot be read: {error}") from error
    if _digest(body) != root or not isinstance(told, dict):
        raise BundleError(f"{folder} is not whole")
    return told
