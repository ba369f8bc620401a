"""Reads what `xcresulttool get test-results tests` prints, in the forms of Xcode 16 and 26.

The form of Xcode 16 is known from recordings and from the schema that the tool prints itself.
That of Xcode 26 is taken from public descriptions: `durationInSeconds`, `sourceLocation`,
`Skip Message` and `Expected Failure` nodes. Members that are not known are ignored; what
a count rests on (types of nodes, results, names) is held to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from worker_agent.results.cases import MAX_MESSAGE, Attempt, Case, Text
from worker_agent.results.durations import milliseconds
from worker_agent.results.strictjson import decode

MAX_CASES = 200_000
MAX_DEPTH = 48
MAX_TEXTS = 20
SCHEMA_MAJORS = frozenset({"0"})
"""Majors of the tool's schema that are read; an output that names none is of major 0."""

_OUTCOMES = {
    "Passed": "passed",
    "Failed": "failed",
    "Skipped": "skipped",
    "Expected Failure": "expected_failure",
}
_GREEN = frozenset({None, "Passed", "Skipped", "Expected Failure"})
_BUNDLES = frozenset({"Unit test bundle", "UI test bundle"})
_ABOVE = frozenset({"Test Plan", "Test Suite", *_BUNDLES})
_SPLITS = frozenset({"Device", "Test Plan Configuration"})
_REPEATS = frozenset({"Repetition", "Test Case Run"})
_SAYS = frozenset({"Failure Message", "Skip Message", "Expected Failure"})
_PLACE = re.compile(r"([^:\n]{1,1024}):(\d{1,7}): (.*)", re.DOTALL)
_STEP = re.compile(r"(?:`[^`]*`|[^/`])+")  # a raw identifier may hold a slash


class _Location(msgspec.Struct, frozen=True, rename="camel", gc=False):
    file_path: str
    line_number: int


class _Node(msgspec.Struct, frozen=True, rename="camel"):
    node_type: str
    name: str
    result: str | None = None
    node_identifier: str | None = None
    duration: str | None = None
    duration_in_seconds: float | None = None
    source_location: _Location | None = None
    children: tuple[_Node, ...] = ()


class Device(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A device that tests ran on, as the tool names it."""

    device_name: str
    os_version: str
    device_id: str = ""
    os_build_number: str = ""
    platform: str = ""
    architecture: str = ""
    model_name: str = ""


class _Tests(msgspec.Struct, frozen=True, rename="camel"):
    test_nodes: tuple[_Node, ...]
    devices: tuple[Device, ...]
    schema_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestsRead:
    """The cases of a bundle. `problem` tells why it could not be read (None if it could).

    `doubts` are nodes that contradict one another; `said` is what failed above every test.
    """

    __test__ = False

    cases: tuple[Case, ...] = ()
    devices: tuple[Device, ...] = ()
    problem: str | None = None
    doubts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


class _RefusedError(Exception):
    """A shape or size that is not read."""


def parse_tests(data: bytes) -> TestsRead:
    """The tests in `data`; never an exception."""
    try:
        told = decode(data, _Tests)
        foreign = foreign_major(told.schema_version)
        if foreign is not None:
            return TestsRead(problem=foreign)
        return _Walk(told.devices).read(told.test_nodes)
    except (msgspec.MsgspecError, UnicodeError) as error:
        return TestsRead(problem=unread(data, error))
    except RecursionError:
        return TestsRead(problem=f"nests deeper than {MAX_DEPTH}")
    except _RefusedError as error:
        return TestsRead(problem=str(error))


def foreign_major(version: str | None) -> str | None:
    """Why a schema version is not read; None for one that is, and for none."""
    if version is None or version.partition(".")[0] in SCHEMA_MAJORS:
        return None
    return f"has schema version {version[:40]!r}, of which only major 0 is read"


def unread(data: bytes, error: Exception) -> str:
    """Why JSON was not read, for people."""
    if not data.strip():
        return "is empty"
    if b'"_type"' in data[:4096]:
        return "has the form of before Xcode 16, which is not read"
    return f"is cut short or has another shape: {str(error)[:200]}"


@dataclass(slots=True)
class _Walk:
    """One pass over the nodes."""

    devices: tuple[Device, ...]
    cases: list[Case] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)

    def read(self, nodes: tuple[_Node, ...]) -> TestsRead:
        self.labels = labels_of(self.devices)
        for node in nodes:
            self._above(node, "", "", 1)
        return TestsRead(
            cases=tuple(self.cases),
            devices=self.devices,
            doubts=tuple(self.doubts),
            said=tuple(self.said),
        )

    def _above(self, node: _Node, bundle: str, device: str, depth: int) -> None:
        """A node that may hold tests: plan, bundle, suite, split by device, any kind that is not known."""
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nests deeper than {MAX_DEPTH}")
        if node.node_type == "Test Case":
            self._case(node, bundle, device)
            return
        if node.node_type in _SPLITS:
            device = self._label(node, device)
        elif node.node_type == "Failure Message":
            self.said.append(node.name[:MAX_MESSAGE])
        if node.node_type in _BUNDLES:
            bundle = node.name
        before, said = len(self.cases), len(self.said)
        for child in node.children:
            self._above(child, bundle, device, depth + 1)
        red = any(case.outcome in {"failed", "unknown"} for case in self.cases[before:])
        named = f"{node.node_type.lower()[:100]} {node.name[:200]}"
        if node.result == "Failed" and not red:
            told = f": {self.said[said]}" if len(self.said) > said else ""
            self._doubt(f"{named} failed and none of its tests{told}")
        elif node.result not in {*_OUTCOMES, None, "unknown"} or (
            node.result == "unknown" and len(self.cases) > before
        ):
            self._doubt(f"{named} has the result {str(node.result)[:100]!r}")

    def _label(self, node: _Node, device: str) -> str:
        if node.node_type == "Device":
            return self.labels.get(node.node_identifier or "", node.name[:200])
        return f"{device}, {node.name[:200]}" if device else node.name[:200]

    def _case(self, node: _Node, bundle: str, device: str) -> None:
        """One test; one case for each device or configuration that it ran on."""
        runs = list(self._runs(node, device))
        red = node.result not in _GREEN
        spared = red and all(run.result in _GREEN for run, _ in runs)
        for run, label in runs:
            told = run.result if run.result is not None and not spared else node.result
            self._add(node, run, bundle, label, _outcome(told))
        if not red and runs[0][0] is not node:
            self._check(node, self.cases[-1])

    def _runs(self, node: _Node, device: str) -> Iterator[tuple[_Node, str]]:
        """The innermost splits of a test, or the test itself, with their labels."""
        splits = [child for child in node.children if child.node_type in _SPLITS]
        if not splits:
            yield node, device
        for split in splits:
            yield from self._runs(split, self._label(split, device))

    def _add(self, test: _Node, run: _Node, bundle: str, device: str, outcome: str) -> None:
        if len(self.cases) >= MAX_CASES:
            raise _RefusedError(f"holds more than {MAX_CASES} test cases")
        identifier = test.node_identifier or ""
        steps = _STEP.findall(identifier) or [test.name]
        attempts = tuple(_attempt(child) for child in run.children if child.node_type in _REPEATS)
        arguments = tuple(_attempt(child) for child in run.children if child.node_type == "Arguments")
        texts = tuple(_distinct(_texts(run, 1)))
        case = Case(
            suite=".".join(one for one in (bundle, *steps[:-1]) if one)[:1000],
            name=steps[-1][:1000],
            outcome=outcome,
            message=texts[0].message if texts else "",
            milliseconds=milliseconds(
                run.duration if run.duration is not None else test.duration,
                run.duration_in_seconds if run.duration is not None else test.duration_in_seconds,
            ),
            identifier=identifier[:1000],
            device=device,
            texts=texts,
            attempts=attempts,
            arguments=arguments,
        )
        self.cases.append(case)
        self._check(run, case)

    def _check(self, run: _Node, case: Case) -> None:
        """That a test which is not red has no red part that a retry would not forgive."""
        if case.outcome in {"failed", "unknown"}:
            return
        for part in _red_parts(run, spoken=case.outcome != "passed"):
            self._doubt(f"{case.suite}.{case.name} {case.outcome} and {_accuses(part)}")

    def _doubt(self, text: str) -> None:
        if len(self.doubts) < MAX_TEXTS:
            self.doubts.append(text)


def _outcome(result: str | None) -> str:
    return _OUTCOMES.get(result or "", "unknown")


def _red_parts(node: _Node, *, spoken: bool) -> Iterator[_Node]:
    """The parts of a node that did not pass: not a failed repetition with a green one last beside it.

    `spoken`: what a skip or an expected failure says may be told as a failure.
    """
    repeats = [child for child in node.children if child.node_type in _REPEATS]
    forgiven = bool(repeats) and repeats[-1].result in _GREEN
    for child in node.children:
        if child.result == "Failed" and (
            (forgiven and child.node_type in _REPEATS) or (spoken and child.node_type in _SAYS)
        ):
            continue
        if child.result not in _GREEN:
            yield child
        else:
            yield from _red_parts(child, spoken=spoken)


def _accuses(part: _Node) -> str:
    if part.node_type in _SAYS:
        return f"says: {part.name[:200]}"
    if part.node_type in _REPEATS:
        return "its last repetition did not"
    if part.node_type == "Arguments":
        return "one of its arguments did not"
    return f"its {part.node_type.lower()[:100]} {part.name[:200]} did not"


def _attempt(node: _Node) -> Attempt:
    inner = tuple(_attempt(child) for child in node.children if child.node_type in {*_REPEATS, "Arguments"})
    return Attempt(
        name=node.name[:500],
        outcome=_outcome(node.result),
        milliseconds=milliseconds(node.duration, node.duration_in_seconds),
        texts=tuple(_distinct(_texts(node, 1))),
        attempts=inner,
    )


def _texts(node: _Node, depth: int) -> Iterator[Text]:
    """What is said below a node: under repetitions and arguments too."""
    if depth > MAX_DEPTH:
        raise _RefusedError(f"nests deeper than {MAX_DEPTH}")
    for child in node.children:
        if child.node_type in _SAYS:
            yield _text(child)
        else:
            yield from _texts(child, depth + 1)


def _text(node: _Node) -> Text:
    where = node.source_location
    found = _PLACE.match(node.name)
    path, line, message = (found[1], int(found[2]), found[3]) if found else (None, None, node.name)
    if where is not None:
        path, line = where.file_path, where.line_number
    return Text(message.strip()[:MAX_MESSAGE], path, line)


def _distinct(texts: Iterator[Text]) -> Iterator[Text]:
    seen: set[Text] = set()
    for text in texts:
        if text not in seen and len(seen) < MAX_TEXTS:
            seen.add(text)
            yield text


def labels_of(devices: tuple[Device, ...]) -> dict[str, str]:
    """A name for each device's id, as long as it takes to tell them apart."""
    forms: tuple[Callable[[Device], str], ...] = (
        lambda one: f"{one.device_name} ({one.os_version})",
        lambda one: f"{one.device_name} ({one.os_version} {one.os_build_number})",
        lambda one: f"{one.device_name} ({one.os_version}, {one.device_id})",
    )
    for form in forms:
        labels = {one.device_id: form(one) for one in devices}
        if len(set(labels.values())) == len(devices):
            return labels
    return labels
