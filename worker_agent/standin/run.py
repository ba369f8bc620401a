"""Starts a stand-in program: which one it is, and which Xcode it belongs to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from worker_agent.standin import shims
from worker_agent.standin.context import Context, release_at
from worker_agent.standin.facts import RELEASES
from worker_agent.standin.output import Output, of_process

INTERRUPTED_EXIT = 130

Tool = Callable[[Sequence[str], Context], int]


def _xcodebuild(argv: Sequence[str], context: Context) -> int:
    if "-version" in argv:  # probes ask it, and all the rest takes three times as long to import
        return shims.xcodebuild_version(context)
    from worker_agent.standin.xcodebuild import main

    return main(argv, context)


def _simctl(argv: Sequence[str], context: Context) -> int:
    from worker_agent.standin.simctl import main

    return main(argv, context)


def _xcresulttool(argv: Sequence[str], context: Context) -> int:
    from worker_agent.standin.xcresulttool import main

    return main(argv, context)


TOOLS: Mapping[str, Tool] = {
    "xcodebuild": _xcodebuild,
    "simctl": _simctl,
    "xcresulttool": _xcresulttool,
    "xcrun": shims.xcrun,
    "xcode-select": shims.xcode_select,
    "sw_vers": shims.sw_vers,
    "caffeinate": shims.caffeinate,
}


def run(
    tool: str,
    argv: Sequence[str],
    *,
    root: Path,
    developer_dir: str = "",
    env: Mapping[str, str],
    output: Output,
    cwd: Path,
) -> int:
    """Run one program; its exit code. `developer_dir` is the Xcode that it lies in, if it lies in one.

    A program beside the Xcodes, as in /usr/bin, follows `DEVELOPER_DIR`, and the selected Xcode
    without it; one that names no stand-in is refused.
    """
    named = developer_dir or env.get("DEVELOPER_DIR", "")
    release = release_at(root, named) if named else RELEASES[0]
    if release is None:
        output.complain(f"{tool}: error: missing DEVELOPER_DIR path: {named}\n")
        return 1
    context = Context(root=root, release=release, env=env, cwd=cwd, output=output)
    try:
        return TOOLS[tool](argv, context)
    finally:
        output.flush()


def main(tool: str, root: str, developer_dir: str) -> int:
    """What the launchers of `layout` call, with the process's own arguments."""
    env = dict(os.environ)
    output = of_process(env)
    try:
        return run(
            tool,
            sys.argv[1:],
            root=Path(root),
            developer_dir=developer_dir,
            env=env,
            output=output,
            cwd=Path.cwd(),
        )
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
