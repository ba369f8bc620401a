"""Lays the stand-in tools out on disk, as a Mac has them.

Entry points of the package would put programs named `xcodebuild` and `xcrun` on everybody's
PATH, and scripts inside of a wheel cannot name the interpreter that they will run under. So the
folder is made where it is needed: launchers of three lines that start this very interpreter with
this very package. Making it again changes nothing that is as it should be, and every file is
replaced in one step, so that two processes may do it at once.

    <root>/bin/                       xcodebuild xcrun xcode-select sw_vers caffeinate
    <root>/Xcode_16.2.app/Contents/   version.plist, Developer/usr/bin/…, Developer/Platforms/…
    <root>/SystemVersion.plist        what macOS says of itself
    <root>/CoreSimulator/             the state of the simulators, made when it is needed
"""

from __future__ import annotations

import glob
import os
import plistlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import worker_agent
from rch.files.durable import make_dirs, write_atomic
from worker_agent.standin import facts
from worker_agent.standin.facts import RELEASES, Release, release_named
from worker_agent.standin.shims import DEVELOPER_TOOLS
from worker_agent.toolchains.apple import AppleTools

FOLDER = "standin"
"""The folder of the stand-ins in a worker's state folder."""

_SHIMS = ("xcodebuild", "xcrun", "xcode-select", "sw_vers", "caffeinate")
_PACKAGES = Path(worker_agent.__file__).resolve().parents[1]


def install(folder: Path) -> Path:
    """Make the stand-in machine in `folder`; its `bin`. Idempotent and safe to call at once."""
    root = Path.cwd() / folder
    for name in _SHIMS:
        _launcher(root / "bin" / name, name, root, None)
    for release in RELEASES:
        _xcode(root, release)
    system = {
        "ProductName": "macOS",
        "ProductVersion": facts.MACOS_VERSION,
        "ProductBuildVersion": facts.MACOS_BUILD,
    }
    _file(root / "SystemVersion.plist", plistlib.dumps(system))
    return root / "bin"


def environment(
    state_dir: Path, *, base: Mapping[str, str] = os.environ, xcode: str = RELEASES[0].version
) -> dict[str, str]:
    """The variables that a simulated worker's environment gets, which install the tools in `state_dir`.

    `PATH` is that of `base` with the stand-ins first, `DEVELOPER_DIR` a stand-in Xcode;
    `ValueError` for a version of which there is none.
    """
    release = release_named(xcode)
    programs = install(state_dir / FOLDER)
    path = base.get("PATH") or os.defpath
    developer = programs.parent / release.app / "Contents" / "Developer"
    return {"PATH": f"{programs}{os.pathsep}{path}", "DEVELOPER_DIR": str(developer)}


def apple_tools(state_dir: Path) -> AppleTools:
    """Where a simulated worker's probes look, in place of a Mac's own places."""
    root = Path.cwd() / state_dir / FOLDER
    return AppleTools(
        root=str(root),
        xcrun=str(root / "bin" / "xcrun"),
        xcode_select=str(root / "bin" / "xcode-select"),
        xcodes=(f"{glob.escape(str(root))}/Xcode_*.app",),
        system_version=str(root / "SystemVersion.plist"),
        arch=facts.ARCH,
    )


def _xcode(root: Path, release: Release) -> None:
    contents = root / release.app / "Contents"
    developer = contents / "Developer"
    told = {
        "CFBundleShortVersionString": release.version,
        "CFBundleVersion": release.bundle_version,
        "ProductBuildVersion": release.build,
        "ProjectName": "IDEApplication",
    }
    _file(contents / "version.plist", plistlib.dumps(told))
    for sdk in release.sdks:
        sdks = developer / "Platforms" / f"{sdk.folder}.platform" / "Developer" / "SDKs"
        make_dirs(sdks / f"{sdk.folder}{sdk.version}.sdk")
    for name in DEVELOPER_TOOLS:
        _launcher(developer / "usr" / "bin" / name, name, root, developer)


def _launcher(file: Path, tool: str, root: Path, developer: Path | None) -> None:
    """A program that starts this interpreter: a `#!` line may be too long or hold a space."""
    code = (
        f"import sys; sys.path.insert(0, {str(_PACKAGES)!r}); from worker_agent.standin.run import main; "
        f"sys.exit(main({tool!r}, {str(root)!r}, {str(developer or '')!r}))"
    )
    words = f"exec {shlex.quote(sys.executable)} -I -X utf8 -c {shlex.quote(code)}"
    text = f'#!/bin/sh\n# A stand-in of {tool}: nothing that it says is real.\n{words} "$@"\n'
    _file(file, text.encode(), mode=0o755)


def _file(file: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file unless it is there as it should be: its time of change is a key of caches."""
    try:
        if file.read_bytes() == data and file.stat().st_mode & 0o777 == mode:
            return
    except OSError:
        pass
    make_dirs(file.parent)
    write_atomic(file, data, mode=mode)
