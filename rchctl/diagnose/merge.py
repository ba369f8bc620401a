"""One `junit.xml` of all steps of a run. What workers wrote is read as hostile: no DTD, no entities."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from rch.contract.errors import Failure
from rch.files.regular import open_regular
from rchctl.indices import run_index, step_items, steps_of
from rchctl.render import is_over, label, state_word
from rchctl.report.junit import parse_junit
from rchctl.terminal import one_line

MAX_BYTES = 64 << 20
_SESSION = "session"
_COUNTS = ("tests", "failures", "errors", "skipped")


def merged_junit(run: dict[str, Any]) -> tuple[bytes, list[str]]:
    """The document, and why it is not all there is.

    Each suite of a step is one here, with the step's action as a property. A run that did not succeed
    and of which no case failed has one case more, in the suite `session`: it never looks green.
    """
    mark = "simulated: " if run.get("simulated") else ""
    document = ET.Element("testsuites", {"name": one_line(f"{mark}rchctl {run.get('project', '')}")})
    notes: list[str] = []
    for action, path in _files(run, notes):
        root = _read(path, notes)
        if root is None:
            continue
        for suite in [root] if root.tag == "testsuite" else root.findall("testsuite"):
            _say(suite, "rch.step", action)
            document.append(suite)
    # An element without children is false, so they are counted.
    failed = sum(1 for name in ("failure", "error") for _ in document.iter(name))
    if run.get("state") != "SUCCEEDED" and not failed:
        document.append(_session(run))
    for name in _COUNTS:
        document.set(name, str(sum(_number(suite.get(name)) for suite in document)))
    if not len(document):
        notes.append("no step of the run left a junit.xml: artifact_profile is minimal")
    ET.indent(document)
    return ET.tostring(document, encoding="utf-8", xml_declaration=True) + b"\n", notes


def _files(run: dict[str, Any], notes: list[str]) -> list[tuple[str, Path]]:
    run_dir = Path(str(run.get("run_dir", "")))
    found: list[tuple[str, Path]] = []
    try:
        for step in steps_of(run_index(run_dir)):
            items = step_items(run_dir, step)
            found += [
                (item.scope, item.path) for item in items if item.name == "junit" and item.kind == "file"
            ]
    except Failure as failure:
        notes.append(failure.message)
    return found


def _read(path: Path, notes: list[str]) -> ET.Element | None:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        notes.append(f"{path}: {error.strerror or error}")
        return None
    problem = f"is over {MAX_BYTES} bytes" if len(data) > MAX_BYTES else parse_junit(data).problem
    if problem is not None:
        notes.append(f"{path}: {problem}")
        return None
    return ET.fromstring(data)  # noqa: S314  (it was read whole just now, and has no document type)


def _say(suite: ET.Element, name: str, value: str) -> None:
    """A property, first in the suite as the schema has it."""
    found = suite.find("properties")
    if found is None:
        found = ET.Element("properties")
        suite.insert(0, found)
    ET.SubElement(found, "property", {"name": name, "value": value})


def _session(run: dict[str, Any]) -> ET.Element:
    kind = label(run) or state_word(run)
    why = one_line(run.get("human_summary") or "") or (f"the run ended {kind}" if is_over(run) else kind)
    counts = {**dict.fromkeys(_COUNTS, "0"), "tests": "1", "errors": "1"}
    suite = ET.Element("testsuite", {"name": _SESSION, **counts})
    case = ET.SubElement(suite, "testcase", {"classname": _SESSION, "name": kind, "time": "0"})
    ET.SubElement(case, "error", {"type": kind, "message": why}).text = why
    if run.get("simulated"):
        suite.set("name", f"simulated: {_SESSION}")
        _say(suite, "simulated", "true")
    return suite


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 0
