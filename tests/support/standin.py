"""The stand-in tools in this very process: a machine, a copy of the demo project, and their output."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from worker_agent.results.buildlog import LogFacts, LogReader
from worker_agent.standin.output import Output
from worker_agent.standin.run import run

REPO = Path(__file__).parents[2]
DEMO = REPO / "rchctl" / "demos" / "xcode"
PHONE = "platform=iOS Simulator,name=iPhone 16,OS=18.2"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended; `out` are bytes, `err` is text."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output, whatever it holds."""
        return self.out.decode(errors="replace")

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return msgspec.json.decode(self.out)


@dataclass(slots=True)
class Machine:
    """A stand-in machine in a folder of the test's own, and a project on it."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.home / "standin"

    @property
    def tree(self) -> Path:
        return self.home / "project"

    @property
    def derived(self) -> Path:
        return self.home / "derived"

    def start(self, tool: str, *argv: str, scenario: str = "", **env: str) -> Ran:
        """Run one program in the project's folder."""
        out, err = io.BytesIO(), io.BytesIO()
        more = {"RCH_STANDIN_SCENARIO": scenario} if scenario else {}
        code = run(
            tool,
            argv,
            root=self.root,
            env={"HOME": str(self.home), **self.env, **more, **env},
            output=Output(out, err),
            cwd=self.tree,
        )
        return Ran(code, out.getvalue(), err.getvalue().decode(errors="surrogateescape"))

    def xcodebuild(self, action: str, *argv: str, bundle: str = "", scenario: str = "", **env: str) -> Ran:
        """`xcodebuild` for the demo project, on a simulator, with derived data of the test's own."""
        words = [
            "-project",
            "Lantern.xcodeproj",
            "-scheme",
            "Lantern",
            "-derivedDataPath",
            str(self.derived),
        ]
        if "-destination" not in argv:
            words += ["-destination", PHONE]
        if bundle:
            words += ["-resultBundlePath", str(self.home / bundle)]
        return self.start("xcodebuild", action, *words, *argv, scenario=scenario, **env)

    def results(self, what: str, bundle: str = "r.xcresult", scenario: str = "", **env: str) -> Any:
        """A document of `xcresulttool`."""
        words = what.split()
        path = str(self.home / bundle)
        return self.start("xcrun", "xcresulttool", *words, "--path", path, scenario=scenario, **env).json

    def write(self, name: str, text: str) -> Path:
        """Put a source into the project."""
        file = self.tree / name
        file.write_text(text)
        return file

    def facts(self, ran: Ran, phase: str = "test") -> LogFacts:
        """What the worker's own reader makes of the output."""
        reader = LogReader(self.tree)
        reader.begin(phase)
        reader.feed(ran.out)
        reader.end()
        return reader.facts()


def a_machine(folder: Path, env: Mapping[str, str] | None = None) -> Machine:
    """A machine with a copy of the demo project."""
    machine = Machine(folder, dict(env or {}))
    shutil.copytree(DEMO, machine.tree)
    return machine
