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
        told = msgspec.json.decode(data.decode(errors="replace"), type=_Tests)
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
        """A node that holds tests: plan, bundle, suite, or a split by device."""
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nests deeper than {MAX_DEPTH}")
        if node.node_type == "Test Case":
            self._case(node, bundle, device)
            return
        if node.node_type in _SPLITS:
            device = self._label(node, device)
        elif node.node_type not in _ABOVE:
            if node.node_type == "Failure Message":
                self.said.append(node.name[:MAX_MESSAGE])
            return
        if node.node_type in _BUNDLES:
            bundle = node.name
        before, said = len(self.cases), len(self.said)
        for child in node.children:
            self._above(child, bundle, device, depth + 1)
        red = any(case.outcome in {"failed", "unknown"} for case in self.cases[before:])
        if node.result == "Failed" and not red:
            told = f": {self.said[said]}" if len(self.said) > said else ""
            self._doubt(f"{node.node_type.lower()} {node.name[:200]} failed and none of its tests{told}")

    def _label(self, node: _Node, device: str) -> str:
        if node.node_type == "Device":
            return self.labels.get(node.node_identifier or "", node.name[:200])
        return f"{device}, {node.name[:200]}" if device else node.name[:200]

    def _case(self, node: _Node, bundle: str, device: str) -> None:
        """One test; one case for each device or configuration that it ran on."""
        splits = [child for child in node.children if child.node_type in _SPLITS]
        if not splits:
            self._add(node, node, bundle, device)
        for split in splits:
            further = [child for child in split.children if child.node_type in _SPLITS]
            label = self._label(split, device)
            for one in further or [split]:
                self._add(node, one, bundle, self._label(one, label) if further else label)

    def _add(self, test: _Node, run: _Node, bundle: str, device: str) -> None:
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
            outcome=_outcome(run.result if run.result is not None else test.result),
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
        self._check(case)
        accused = next((one for one in run.children if one.node_type == "Failure Message"), None)
        if case.outcome == "passed" and accused is not None and accused.result == "Failed":
            self._doubt(f"{case.suite}.{case.name} passed and says: {accused.name[:200]}")
        self.cases.append(case)

    def _check(self, case: Case) -> None:
        """That a green test has no red part that its own rules would not forgive."""
        named = f"{case.suite}.{case.name}"
        if case.outcome != "passed":
            return
        if case.attempts and case.attempts[-1].outcome in {"failed", "unknown"}:
            self._doubt(f"{named} passed and its last repetition did not")
        if any(one.outcome in {"failed", "unknown"} for one in case.arguments):
            self._doubt(f"{named} passed and one of its arguments did not")

    def _doubt(self, text: str) -> None:
        if len(self.doubts) < MAX_TEXTS:
            self.doubts.append(text)


def _outcome(result: str | None) -> str:
    return _OUTCOMES.get(result or "", "unknown")


def _attempt(node: _Node) -> Attempt:
    inner = tuple(_attempt(child) for child in node.children if child.node_type in _REPEATS)
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
