"""What a tool says of its version, asked once per file and kept on disk.

`swift --version` takes about a second on a cold machine, and every probe needs it: the
answer is kept under the tool's real path, its time of change and its size.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from rch.files.durable import make_dirs, write_atomic

ASK_SECONDS = 60.0
"""How long a tool may take to say its version: the first start of an Xcode is slow."""

_KEPT = 64


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version, and the build that the tool names beside it."""

    version: str
    build: str | None = None


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    versions: dict[str, Version] = {}


def tools_of(toolchain: Mapping[str, str]) -> str:
    """What differs once the tools of a toolchain were replaced in place, whatever they call themselves."""
    swift, xcode = toolchain.get("toolchain_dir"), toolchain.get("developer_dir")
    named = [Path(swift) / "bin" / name for name in ("swift", "swiftc", "swift-frontend")] if swift else []
    named += (
        [Path(xcode) / "usr" / "bin" / "xcodebuild", Path(xcode).parent / "version.plist"] if xcode else []
    )
    return " ".join(_key(tool) or "-" for tool in named)


class VersionCache:
    """Answers in one JSON file. A file that cannot be read or written costs time, nothing else."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def of(self, program: Path, ask: Callable[[], Version | None]) -> Version | None:
        """The version of a program: as kept, else as `ask` finds out; None if it does not say."""
        key = _key(program)
        if key is None:
            return None
        kept = self._read()
        if key in kept:
            return kept[key]
        found = ask()
        if found is not None:
            self._write({**kept, key: found})
        return found

    def _read(self) -> dict[str, Version]:
        try:
            return decode_json(self._file.read_bytes(), _Kept).versions
        except (OSError, msgspec.MsgspecError):
            return {}

    def _write(self, versions: dict[str, Version]) -> None:
        newest = dict(list(versions.items())[-_KEPT:])
        with contextlib.suppress(OSError):
            make_dirs(self._file.parent)
            write_atomic(self._file, msgspec.json.encode(_Kept(versions=newest)), mode=0o600)


def _key(program: Path) -> str | None:
    try:
        real = program.resolve(strict=True)
        info = real.stat()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return None
    return f"{program.parent.resolve() / program.name}|{real}|{info.st_mtime_ns}|{info.st_size}"


def output_of(argv: list[str], env: Mapping[str, str]) -> str | None:
    """What a program prints on both streams; None if it fails, hangs or is not there."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
