"""Finds the Swift toolchains of this machine (spec section 7).

A toolchain is known by the real path of the folder that holds `bin/swift`, such as
`/opt/swift/usr`: links are followed, so that a link that is moved to another version shows
as a changed toolchain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rch.contract.records import ToolchainEntry
from worker_agent.toolchains.versions import Version, VersionCache, output_of

USUAL_PLACES = (
    "/opt/swift*/usr",
    "/opt/swift/*/usr",
    "/usr/libexec/swift",
    "/usr/libexec/swift/*",
    "/usr/share/swift/usr",
    "~/.swiftly/toolchains/*/usr",
    "~/.local/share/swiftly/toolchains/*/usr",
    "~/Library/Developer/Toolchains/*.xctoolchain/usr",
    "/Library/Developer/Toolchains/*.xctoolchain/usr",
)
"""Patterns of folders that hold `bin/swift`; `~` is HOME."""

_VERSION = re.compile(r"Swift version ([0-9][0-9A-Za-z.+-]{0,63})(?: \((swift[^\s()]{1,64}))?")
# They stand for a toolchain that they choose anew at each start.
_LAUNCHERS = frozenset({"swiftly", "xcrun"})
# Apple's /usr/bin/swift is a shim for the developer folder that xcode-select names.
_SHIM = Path("/usr")


@dataclass(frozen=True, slots=True)
class SwiftProbe:
    """Where to look. `configured` is a toolchain's folder or its `swift`, instead of all else.

    `developer_dirs` are Xcode's, the selected one first; `env` gives PATH and HOME.
    """

    versions: VersionCache
    env: Mapping[str, str]
    configured: str | None = None
    developer_dirs: tuple[Path, ...] = ()
    usual: tuple[str, ...] = USUAL_PLACES
    darwin: bool = False

    def toolchains(self) -> tuple[ToolchainEntry, ...]:
        """Every toolchain that says its version; the first one found is the active one."""
        found: dict[Path, Version] = {}
        for program in self._programs():
            folder = _toolchain_of(program)
            if folder is None or folder in found or (self.darwin and folder == _SHIM):
                continue
            version = self.versions.of(folder / "bin" / "swift", partial(self._ask, folder))
            if version is not None:
                found[folder] = version
        return tuple(
            ToolchainEntry(
                kind="swift", version=told.version, build=told.build, path=str(folder), active=index == 0
            )
            for index, (folder, told) in enumerate(found.items())
        )

    def _programs(self) -> Iterator[Path]:
        if self.configured is not None:
            named = Path(self.configured)
            yield from (named, named / "swift", named / "bin/swift", named / "usr/bin/swift")
            return
        for folder in self.env.get("PATH", "").split(os.pathsep):
            if folder.startswith("/"):
                yield Path(folder) / "swift"
        for developer in self.developer_dirs:
            yield developer / "Toolchains/XcodeDefault.xctoolchain/usr/bin/swift"
            yield developer / "usr/bin/swift"
        for pattern in self.usual:
            for place in self._matching(pattern):
                yield place / "bin/swift"

    def _matching(self, pattern: str) -> list[Path]:
        base, rest = Path("/"), pattern.lstrip("/")
        if pattern.startswith("~/"):
            base, rest = Path(self.env.get("HOME", "")), pattern[2:]
        return sorted(base.glob(rest), reverse=True) if base.is_absolute() else []

    def _ask(self, folder: Path) -> Version | None:
        # The tool's own launcher may consult HOME and PATH, and nothing of ours.
        env = {key: self.env[key] for key in ("HOME", "PATH") if key in self.env}
        return read_version(output_of([str(folder / "bin" / "swift"), "--version"], env))


def read_version(text: str | None) -> Version | None:
    """The version in what `swift --version` prints, Apple's form and the others'."""
    found = _VERSION.search(text or "")
    return Version(version=found[1], build=found[2]) if found else None


def _toolchain_of(program: Path) -> Path | None:
    """The folder whose `bin` truly holds a `swift`; None for a launcher such as swiftly's."""
    try:
        real = program.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return None
    if not real.is_file() or not os.access(real, os.X_OK) or real.name in _LAUNCHERS:
        return None
    folder = real.parent.parent
    return folder if real.parent.name == "bin" and (folder / "bin" / "swift").exists() else None
