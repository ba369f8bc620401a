"""The small stand-ins: `xcrun`, `xcode-select`, `sw_vers`, `caffeinate`."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from typing import NoReturn

from worker_agent.standin import facts
from worker_agent.standin.context import Context

DEVELOPER_TOOLS = ("simctl", "xcodebuild", "xcresulttool")
"""The programs in `usr/bin` of a developer folder."""

_NOT_FOUND_EXIT = 72


def sw_vers(argv: Sequence[str], context: Context) -> int:
    """Name, version and build of the system, all of them or one."""
    rows = {
        "ProductName": "macOS",
        "ProductVersion": facts.MACOS_VERSION,
        "BuildVersion": facts.MACOS_BUILD,
    }
    if not argv:
        context.output.say("".join(f"{key + ':':<16}{value}\n" for key, value in rows.items()))
        return 0
    wanted = argv[0].lstrip("-").lower()
    value = next((value for key, value in rows.items() if key.lower() == wanted), None)
    if value is None:
        context.output.complain(f"sw_vers: unrecognized option `{argv[0]}'\n")
        return 1
    context.output.say(f"{value}\n")
    return 0


def xcodebuild_version(context: Context) -> int:
    """What `xcodebuild -version` says."""
    context.output.say(f"Xcode {context.release.version}\nBuild version {context.release.build}\n")
    return 0


def xcode_select(argv: Sequence[str], context: Context) -> int:
    """Where the selected Xcode is; nothing else is served."""
    if argv and argv[0] in {"-p", "--print-path"}:
        context.output.say(f"{context.developer_dir}\n")
        return 0
    if argv and argv[0] in {"-v", "--version"}:
        context.output.say("xcode-select version 2409.\n")
        return 0
    context.output.complain("xcode-select: error: the stand-in serves --print-path and --version\n")
    return 1


def xcrun(argv: Sequence[str], context: Context) -> int:
    """Find a developer tool, tell of an SDK, or run a tool in this very process."""
    from worker_agent.standin.run import TOOLS

    words = [*argv]
    platform = "macosx"
    while words and words[0] in {"--sdk", "-sdk", "--log", "--run", "-r", "--no-cache", "-n"}:
        flag = words.pop(0)
        if flag.lstrip("-") == "sdk":
            platform = words.pop(0) if words else platform
    if words and words[0] in {"--show-sdk-path", "--show-sdk-version", "--show-sdk-build-version"}:
        return _sdk(words[0], platform, context)
    finding = bool(words) and words[0] in {"--find", "-f", "-find"}
    tool, *rest = words[finding:] or [""]
    own = context.developer_dir / "usr/bin" / tool
    if tool in DEVELOPER_TOOLS and finding:
        context.output.say(f"{own}\n")
        return 0
    if tool in DEVELOPER_TOOLS:
        return TOOLS[tool](rest, context)
    path = shutil.which(tool, path=context.env.get("PATH", os.defpath)) if tool else None
    if path is None:
        said = f'xcrun: error: unable to find utility "{tool}", not a developer tool or in PATH\n'
        context.output.complain(said)
        return _NOT_FOUND_EXIT
    if finding:
        context.output.say(f"{path}\n")
        return 0
    return _become(path, [tool, *rest], context)


def _become(program: str, argv: Sequence[str], context: Context) -> NoReturn:
    context.output.flush()
    os.execvpe(program, [*argv], dict(context.env))  # noqa: S606  (what such tools are for)


def _sdk(flag: str, platform: str, context: Context) -> int:
    for sdk in context.release.sdks:
        if platform in {sdk.platform, f"{sdk.platform}{sdk.version}"}:
            where = context.developer_dir / "Platforms" / f"{sdk.folder}.platform/Developer/SDKs"
            told = {
                "--show-sdk-path": str(where / f"{sdk.folder}{sdk.version}.sdk"),
                "--show-sdk-version": sdk.version,
                "--show-sdk-build-version": sdk.build,
            }
            context.output.say(f"{told[flag]}\n")
            return 0
    context.output.complain(f'xcrun: error: SDK "{platform}" cannot be located\n')
    return 1


def caffeinate(argv: Sequence[str], context: Context) -> int:
    """Run a program, or wait as long as one lives; nothing is kept awake."""
    words = [*argv]
    watched = None
    while words and words[0].startswith("-"):
        flag = words.pop(0)
        if flag in {"-t", "-w"} and words:
            value = words.pop(0)
            watched = int(value) if flag == "-w" and value.isdigit() else watched
    if words:
        return _become(words[0], words, context)
    if watched is not None:
        _wait_for(watched)
    return 0


def _wait_for(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.1)
