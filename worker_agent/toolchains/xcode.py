"""Finds the Xcodes of this machine (spec section 7); on a machine without one there are none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rch.contract.records import ToolchainEntry
from worker_agent.toolchains.versions import Version, VersionCache, output_of

USUAL_PLACES = ("/Applications/Xcode*.app", "~/Applications/Xcode*.app")
"""Patterns of Xcode's bundle; `~` is HOME."""

_VERSION = re.compile(r"^Xcode ([0-9][0-9.]{0,31})\s+Build version ([0-9A-Za-z]{1,32})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class XcodeProbe:
    """Where to look: `DEVELOPER_DIR`, what `xcode-select -p` prints, the usual places.

    With `within` only what lies in that folder counts, wherever it was named.
    """

    versions: VersionCache
    env: Mapping[str, str]
    usual: tuple[str, ...] = USUAL_PLACES
    select: str = "/usr/bin/xcode-select"
    within: Path | None = None

    def developer_dirs(self) -> tuple[Path, ...]:
        """Developer folders that exist, the selected one first; the command line tools' own too."""
        found: dict[Path, None] = {}
        for folder in self._folders():
            try:
                real = folder.resolve(strict=True)
                if self.within is None or real.is_relative_to(self.within.resolve()):
                    found.setdefault(real)
            except (OSError, RuntimeError):  # RuntimeError: a loop of links
                continue
        return tuple(found)

    def toolchains(self) -> tuple[ToolchainEntry, ...]:
        """Every Xcode that says its version and build."""
        entries: list[ToolchainEntry] = []
        for folder in self.developer_dirs():
            program = folder / "usr/bin/xcodebuild"
            told = self.versions.of(program, partial(self._ask, folder)) if program.is_file() else None
            if told is not None:
                app = next((str(up) for up in folder.parents if up.suffix == ".app"), str(folder))
                entries.append(
                    ToolchainEntry(
                        kind="xcode",
                        version=told.version,
                        build=told.build,
                        path=app,
                        developer_dir=str(folder),
                        active=not entries,
                    )
                )
        return tuple(entries)

    def _folders(self) -> Iterator[Path]:
        if (chosen := self.env.get("DEVELOPER_DIR", "")).startswith("/"):
            yield Path(chosen)
        if Path(self.select).is_file():
            printed = (output_of([self.select, "-p"], self.env) or "").strip()
            if printed.startswith("/"):
                yield Path(printed)
        for pattern in self.usual:
            base, rest = Path("/"), pattern.lstrip("/")
            if pattern.startswith("~/"):
                base, rest = Path(self.env.get("HOME", "")), pattern[2:]
            if base.is_absolute():
                for app in sorted(base.glob(rest), reverse=True):
                    yield app / "Contents/Developer"

    def _ask(self, folder: Path) -> Version | None:
        env = {key: self.env[key] for key in ("HOME", "PATH") if key in self.env}
        env["DEVELOPER_DIR"] = str(folder)
        return read_version(output_of([str(folder / "usr/bin/xcodebuild"), "-version"], env))


def read_version(text: str | None) -> Version | None:
    """Version and build in what `xcodebuild -version` prints."""
    found = _VERSION.search(text or "")
    return Version(version=found[1], build=found[2]) if found else None
