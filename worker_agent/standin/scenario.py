"""The hard cases, as one table: what a name makes the stand-in tools do.

A scenario is named by the environment variable `RCH_STANDIN_SCENARIO`, by `scenario` in a
`standin.toml` at the root of the tree that is built, or by one in the folder of the stand-ins;
the first of these counts. `name:key=value,key=value` sets parameters, `;` joins several:

    RCH_STANDIN_SCENARIO="flaky:times=1; localised"

Every scenario takes `first=N`, so that it happens in the first N calls for a tree and no more,
and `on=build|test|any`: without it what refuses a call or breaks a build happens in every action,
and all else in `test` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

VARIABLE = "RCH_STANDIN_SCENARIO"
FILE = "standin.toml"
_ACTIONS = ("build", "test", "any")


class ScenarioError(ValueError):
    """A scenario that does not exist, or a parameter that it does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What differs from a plain good run. Names of texts are keys of `worker_agent.standin.texts`."""

    refusal: str | None = None
    broken_build: str | None = None
    infrastructure: str | None = None
    no_tests: bool = False
    crash: bool = False
    failing: int = 0
    flaky: int = 0
    parallel: bool = False
    late_lines: bool = False
    localised: bool = False
    hostile_names: bool = False
    invalid_utf8: bool = False
    stall_seconds: float = 0.0
    case_seconds: float = 0.0
    flood_bytes: int = 0
    ignore_interrupt: bool = False
    orphan_seconds: float = 0.0
    exit_code: int | None = None
    bundle_fault: str | None = None
    unknown_shape: bool = False
    no_boot: bool = False
    boot_seconds: float = 0.0
    no_delete: bool = False
    two_runtimes: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`takes` maps a parameter's name to the field that it sets."""

    about: str
    changes: Mapping[str, Any]
    takes: Mapping[str, str] = field(default_factory=dict)


_INFRASTRUCTURE = "exit 65 and ** TEST FAILED **, no test failed: "

SCENARIOS: Mapping[str, Row] = {
    "no-destination": Row("no such destination: exit 70", {"refusal": "no-destination"}),
    "packages": Row("packages cannot be resolved: exit 74", {"refusal": "packages"}),
    "license": Row("the licence is not agreed to: exit 69", {"refusal": "license"}),
    "no-scheme": Row("the scheme is missing: exit 65", {"refusal": "no-scheme"}),
    "no-project": Row("the project is missing: exit 66", {"refusal": "no-project"}),
    "existing-bundle": Row("the result bundle's path is taken: exit 64", {"refusal": "existing-bundle"}),
    "script-phase": Row("a script phase fails: exit 65", {"broken_build": "script-phase"}),
    "dependency-graph": Row("the dependency graph fails: exit 65", {"broken_build": "dependency-graph"}),
    "locked-database": Row(
        "another build holds the database: exit 65", {"broken_build": "locked-database"}
    ),
    "runner-never-started": Row(
        _INFRASTRUCTURE + "the runner never began", {"infrastructure": "runner-never-started"}
    ),
    "early-exit": Row(_INFRASTRUCTURE + "early unexpected exit", {"infrastructure": "early-exit"}),
    "timed-out-registering": Row(
        _INFRASTRUCTURE + "timed out registering", {"infrastructure": "timed-out-registering"}
    ),
    "failed-to-open": Row(
        _INFRASTRUCTURE + "the runner did not open", {"infrastructure": "failed-to-open"}
    ),
    "lost-connection": Row(
        _INFRASTRUCTURE + "the connection was lost", {"infrastructure": "lost-connection"}
    ),
    "no-tests": Row("no test matches, exit 0 and ** TEST SUCCEEDED **", {"no_tests": True}),
    "crash": Row("the test process dies in the middle and is started again", {"crash": True}),
    "failing": Row("the first COUNT tests fail", {"failing": 1}, {"count": "failing"}),
    "flaky": Row("the first test fails TIMES times, then passes", {"flaky": 1}, {"times": "flaky"}),
    "parallel": Row("the lines of parallel testing on clones", {"parallel": True}),
    "late-lines": Row("the same, after the banner", {"parallel": True, "late_lines": True}),
    "localised": Row("durations with a comma: 0,005s", {"localised": True}),
    "hostile-names": Row("names with markup, escapes, 4000 letters", {"hostile_names": True}),
    "invalid-utf8": Row("bytes that are no UTF-8 among the lines", {"invalid_utf8": True}),
    "stall": Row(
        "says nothing for SECONDS in the midst", {"stall_seconds": 3600.0}, {"seconds": "stall_seconds"}
    ),
    "slow": Row("each test takes SECONDS", {"case_seconds": 1.0}, {"seconds": "case_seconds"}),
    "flood": Row("BYTES of log, quickly", {"flood_bytes": 1 << 30}, {"bytes": "flood_bytes"}),
    "ignore-int": Row("takes no notice of INT", {"ignore_interrupt": True}),
    "orphan": Row(
        "leaves a process that ignores INT and TERM and holds the output for SECONDS",
        {"orphan_seconds": 3600.0},
        {"seconds": "orphan_seconds"},
    ),
    "exit-0-with-failures": Row("a test fails, exit 0", {"failing": 1, "exit_code": 0}),
    "exit-65-without-failures": Row("all tests pass, exit 65", {"exit_code": 65}),
    "exit": Row("ends with CODE whatever was", {"exit_code": 1}, {"code": "exit_code"}),
    "truncated-bundle": Row("the result bundle is cut", {"bundle_fault": "truncated"}),
    "no-bundle": Row("no result bundle is written", {"bundle_fault": "absent"}),
    "unknown-shape": Row("xcresulttool writes JSON of an unknown form", {"unknown_shape": True}),
    "no-boot": Row("simulators do not boot", {"no_boot": True, "infrastructure": "no-boot"}),
    "slow-boot": Row("simulators take SECONDS to boot", {"boot_seconds": 5.0}, {"seconds": "boot_seconds"}),
    "no-delete": Row("simulators cannot be deleted", {"no_delete": True}),
    "two-runtimes": Row("two runtimes have one name and identifier", {"two_runtimes": True}),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One scenario as named. `on` is the action that it is for, `first` the number of calls; 0: all."""

    row: Row
    values: Mapping[str, float]
    on: str | None = None
    first: int = 0

    def applies(self, action: str, calls: int) -> bool:
        """Whether it happens in this call; `calls` is how many there were before."""
        if self.first and calls >= self.first:
            return False
        if self.on is not None:
            return self.on in {action, "any"}
        return action != "build" or bool({"refusal", "broken_build"} & set(self.row.changes))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The scenarios that are named, in order. `text` is as it was given."""

    text: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether it matters how many calls there were."""
        return any(part.first for part in self.parts)

    def scenario(self, action: str, calls: int = 0) -> Scenario:
        """What happens in one call; `action` is build, test, simctl or xcresulttool."""
        scenario = Scenario()
        for part in self.parts:
            if part.applies(action, calls):
                scenario = replace(scenario, **{**part.row.changes, **part.values})
        return scenario


def read(text: str) -> Wanted:
    """What a text such as `flaky:times=2; localised` names; `ScenarioError` names what is wrong."""
    named = (each.strip() for each in text.split(";"))
    return Wanted(text, tuple(_part(each) for each in named if each))


def _part(text: str) -> Part:
    name, _, rest = (each.strip() for each in text.partition(":"))
    row = SCENARIOS.get(name)
    if row is None:
        raise ScenarioError(f"there is no scenario {name!r}: {', '.join(SCENARIOS)}")
    values: dict[str, float] = {}
    on, first = None, 0
    for pair in filter(None, (each.strip() for each in rest.split(","))):
        key, _, value = (each.strip() for each in pair.partition("="))
        if key == "on" and value in _ACTIONS:
            on = value
        elif key == "first":
            first = int(_number(value, name, key, whole=True))
        elif key in row.takes:
            values[row.takes[key]] = _number(value, name, key, whole="seconds" not in row.takes[key])
        else:
            known = ", ".join([*row.takes, "first", f"on={'|'.join(_ACTIONS)}"])
            raise ScenarioError(f"scenario {name} takes no {pair!r}: only {known}")
    return Part(row, values, on, first)


def _number(value: str, row: str, key: str, *, whole: bool) -> float:
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 50:
        raise ScenarioError(f"scenario {row}: {key}={value!r} is no number from 0 on")
    return number


def find(env: Mapping[str, str], folders: Iterable[Path]) -> Wanted:
    """The scenarios that count: the environment's, else those of the first `standin.toml` in `folders`."""
    if VARIABLE in env:
        return read(env[VARIABLE])
    for folder in folders:
        file = folder / FILE
        if file.is_file():
            return read(_named_in(file))
    return Wanted()


def _named_in(file: Path) -> str:
    import tomllib

    try:
        named = tomllib.loads(file.read_text()).get("scenario", "")
    except (OSError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{file}: {error}") from error
    if not isinstance(named, str):
        raise ScenarioError(f"{file}: scenario is no text")
    return named
