"""`make changelog`: the release's section of CHANGELOG.md, out of changes/ or of what was written by hand.

A section that says `(not released)` gets the date; else towncrier gathers the fragments under a new one.
Exits 1, and changes nothing, where there is nothing to gather or the version has its section already.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import rch
from building.content import ROOT
from building.fragments import fragments


class NothingToDoError(Exception):
    """Why there is no section to write, and what would mend it."""


def gather(root: Path, version: str, date: str) -> str:
    """Write the section of `version`, as of `date` (YYYY-MM-DD); tells what was done."""
    path, found = root / "CHANGELOG.md", [each.name for each in fragments(root / "changes")]
    text = path.read_text(encoding="utf-8")
    waiting = f"\n## {version} (not released)\n"
    if waiting in text:
        if found:
            raise NothingToDoError(
                f"{version} is written by hand: put {', '.join(found)} under its heading in CHANGELOG.md"
            )
        path.write_text(text.replace(waiting, f"\n## {version} ({date})\n", 1), encoding="utf-8")
        return f"{version} is dated {date}"
    if f"\n## {version} (" in text:
        raise NothingToDoError(f"CHANGELOG.md has {version}: set the next version in rch/__init__.py first")
    if not found:
        raise NothingToDoError("changes/ is empty: a release has at least one change (changes/README.md)")
    argv = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", version, "--date", date]
    subprocess.run(argv, cwd=root, check=True)
    return f"{len(found)} changes under {version}"


def main() -> int:
    """Of this project, under the version of rch/__init__.py, as of today."""
    try:
        told = gather(ROOT, rch.__version__, datetime.now(UTC).date().isoformat())
    except NothingToDoError as error:
        sys.stderr.write(f"changelog: {error}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
