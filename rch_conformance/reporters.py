"""Results for people (a table by section), for CI (JUnit) and for programs (JSON). Pure.

What a peer said stands in the details: it is made harmless for a terminal and for XML here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from rch import __version__
from rch.contract.neutral import for_markup, neutral
from rch_conformance.checks import Result, Verdict

SCHEMA_ID = "rch-conformance/report@1"
_MARKS = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.NOT_OFFERED: "n/a "}
_COLOURS = {Verdict.PASS: "32", Verdict.FAIL: "31;1", Verdict.NOT_OFFERED: "33"}
_MOST_DETAIL_LINES = 20


def table(subject: str, results: Sequence[Result], titles: dict[str, str], *, colour: bool = False) -> str:
    """Every check under its section, and the counts of each section, as text with a newline at its end.

    `titles` names sections; one without a title is shown by its number.
    """
    lines = [f"rch-conformance {neutral(subject)}", ""]
    for section, own in _by_section(results):
        lines.append(f"{section}  {titles.get(section, '')}".rstrip())
        lines += [line for result in own for line in _lines_of(result, colour=colour)]
        lines.append("")
    lines += _counts_table(results, titles)
    return "\n".join(lines) + "\n"


def _lines_of(result: Result, *, colour: bool) -> Iterator[str]:
    mark = _MARKS[result.verdict]
    shown = f"\x1b[{_COLOURS[result.verdict]}m{mark}\x1b[0m" if colour else mark
    yield f"  {shown}  {result.name}"
    if result.verdict is Verdict.PASS:
        return
    detail = neutral(result.detail).splitlines()
    yield from (f"        {line}" for line in detail[:_MOST_DETAIL_LINES])
    if result.verdict is Verdict.FAIL:
        yield f"        ({'; '.join(filter(None, (f'--only {result.id}', result.page)))})"


def _counts_table(results: Sequence[Result], titles: dict[str, str]) -> Iterator[str]:
    names = {
        section: f"{section}  {titles.get(section, '')}".rstrip() for section, _ in _by_section(results)
    }
    width = max([len(name) for name in names.values()] + [len("section")])
    yield f"{'section':<{width}}  pass  fail  not offered"
    for section, own in _by_section(results):
        yield _counts_line(names[section], own, width)
    yield _counts_line("all", results, width)


def _counts_line(name: str, results: Iterable[Result], width: int) -> str:
    found = Counter(result.verdict for result in results)
    passed, failed, missing = found[Verdict.PASS], found[Verdict.FAIL], found[Verdict.NOT_OFFERED]
    return f"{name:<{width}}  {passed:>4}  {failed:>4}  {missing:>11}"


def as_json(subject: str, results: Sequence[Result], exit_code: int) -> dict[str, Any]:
    """The report as one object: `subject`, `counts`, `exit_code`, and `results[]` in order."""
    found = Counter(result.verdict for result in results)
    return {
        "schema_id": SCHEMA_ID,
        "schema_version": 1,
        "rch_version": __version__,
        "subject": subject,
        "exit_code": exit_code,
        "counts": {
            "pass": found[Verdict.PASS],
            "fail": found[Verdict.FAIL],
            "not_offered": found[Verdict.NOT_OFFERED],
        },
        "results": [_result_as_json(result) for result in results],
    }


def _result_as_json(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "section": result.section,
        "name": result.name,
        "verdict": result.verdict.replace(" ", "_"),
        "feature": result.feature,
        "detail": result.detail,
        "page": result.page,
        "seconds": round(result.seconds, 3),
    }


def junit(subject: str, results: Sequence[Result]) -> bytes:
    """A JUnit document: a suite a section, a case a check; what is not offered was skipped."""
    root = ET.Element("testsuites", _attributes("rch-conformance", results))
    for section, own in _by_section(results):
        suite = ET.SubElement(root, "testsuite", _attributes(f"section {section}", own))
        properties = ET.SubElement(suite, "properties")
        ET.SubElement(properties, "property", {"name": "subject", "value": for_markup(subject)})
        for result in own:
            case = ET.SubElement(
                suite,
                "testcase",
                {
                    "classname": f"section-{section}",
                    "name": result.name,
                    "time": f"{result.seconds:.3f}",
                },
            )
            if result.verdict is Verdict.FAIL:
                failure = ET.SubElement(case, "failure", {"message": _first_line(result.detail)})
                failure.text = for_markup("\n".join(filter(None, (result.detail, result.page))))
            elif result.verdict is Verdict.NOT_OFFERED:
                ET.SubElement(case, "skipped", {"message": f"not offered: {for_markup(result.detail)}"})
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _attributes(name: str, results: Sequence[Result]) -> dict[str, str]:
    found = Counter(result.verdict for result in results)
    return {
        "name": name,
        "tests": str(len(results)),
        "failures": str(found[Verdict.FAIL]),
        "errors": "0",
        "skipped": str(found[Verdict.NOT_OFFERED]),
        "time": f"{sum(result.seconds for result in results):.3f}",
    }


def _first_line(text: str) -> str:
    return for_markup(text).partition("\n")[0]


def _by_section(results: Iterable[Result]) -> Iterator[tuple[str, list[Result]]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.section, []).append(result)
    yield from sorted(found.items(), key=lambda item: section_order(item[0]))


def section_order(section: str) -> tuple[int, ...]:
    """What sections are sorted by: 3.2 before 3.10, and 5 before 10."""
    return tuple(int(part) for part in section.split(".") if part.isdecimal())
