"""What the stand-in compiler and test runner see in a Swift file.

Nothing is compiled. Comments and the insides of texts are blanked, declarations are found by
their words and braces, and what a test would do is read from the calls that stand in its body,
conditions unheeded: `XCTFail("…")` and `Issue.record("…")` fail, `throw XCTSkip("…")` and
`.disabled("…")` skip, `fatalError(` crashes, `XCTExpectFailure` and `withKnownIssue` turn
failures into expected ones. `#error("…")` is a compile error, `#warning("…")` a warning; the
comments `// standin: error …`, `// standin: flaky 2` and `// standin: seconds 0.5` are for
what no code says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|#+"(?:.*?)"#+|"""(?:\\.|.)*?"""|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_TYPE = re.compile(r"\b(class|struct|enum|actor|extension)\s+([A-Za-z_][\w.]*)\s*(:[^{}]*)?\{")
_FUNC = re.compile(r"\bfunc\s+([A-Za-z_]\w*)\s*\(")
_ATTRIBUTE = re.compile(r"@(Test|Suite)\b")
_TEXT = re.compile(r'"((?:\\.|[^"\\\n])*)"')
_LABEL = re.compile(r"\s*([A-Za-z_]\w*)(?:\s+[A-Za-z_]\w*)?\s*:")
_DIRECTIVE = re.compile(r"#(error|warning)\s*\(")
_MARKER = re.compile(r"//\s*standin:\s*(error|flaky|seconds)\b[ \t]*([^\n]*)")
_CALL = re.compile(
    r"\b(XCTFail|Issue\s*\.\s*record|XCTSkip|fatalError|preconditionFailure|XCTExpectFailure|withKnownIssue)\s*\("
    r"|\b(XCTExpectFailure|withKnownIssue)\s*\{"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A compiler's message. `column` counts from 1; `text` is the source line."""

    severity: str
    line: int
    column: int
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A test as its source tells it. `suites` are type and display name, the outermost first."""

    framework: str
    suites: tuple[tuple[str, str | None], ...]
    function: str
    display: str | None = None
    line: int
    failures: tuple[tuple[int, str], ...] = ()
    skip: str | None = None
    crash: tuple[int, str] | None = None
    expected: bool = False
    flaky: int = 0
    seconds: float | None = None
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class _Text:
    """A source and its blanked twin, of one length."""

    plain: str
    masked: str
    starts: list[int] = field(default_factory=list)

    def line_of(self, at: int) -> int:
        return self.plain.count("\n", 0, at) + 1

    def closing(self, at: int) -> int:
        """Where the bracket that opens at `at` closes; the end of the text if it never does."""
        opens, closes = self.masked[at], {"(": ")", "{": "}", "[": "]"}[self.masked[at]]
        depth = 0
        for place in range(at, len(self.masked)):
            depth += (self.masked[place] == opens) - (self.masked[place] == closes)
            if depth == 0:
                return place
        return len(self.masked)


def masked(text: str) -> str:
    """The text with comments and the insides of texts blanked; lines and places stay."""
    return _NOISE.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    inner = re.sub(r"[^\n]", " ", match[0])
    return f'"{inner[1:-1]}"' if match[0].startswith('"') and len(inner) > 1 else inner


def diagnoses(text: str) -> Iterator[Diagnosis]:
    """Errors and warnings that the file asks for, in order of their lines."""
    blanked = masked(text)
    lines = text.split("\n")
    found: list[Diagnosis] = []
    for match in _DIRECTIVE.finditer(blanked):
        line = text.count("\n", 0, match.start()) + 1
        said = _TEXT.search(text, match.end())
        column = match.end() - (text.rfind("\n", 0, match.end()) + 1) + 1
        message = said[1] if said else f"#{match[1]}"
        found.append(Diagnosis(match[1], line, column, message, lines[line - 1]))
    for match in _MARKER.finditer(text):
        if match[1] == "error":
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
            found.append(Diagnosis("error", line, column, match[2].strip() or "error", lines[line - 1]))
    return iter(sorted(found, key=lambda one: (one.line, one.column)))


def declared_tests(text: str) -> tuple[Found, ...]:
    """The tests that a file declares, in the order of the file."""
    source = _Text(text, masked(text))
    types = list(_types(source))
    marked = dict(_attributed(source, "Test"))
    found = []
    for match in _FUNC.finditer(source.masked):
        around = [one for one in types if one.opens < match.start() < one.closes]
        attribute = next((a for a, where in marked.items() if where == match.start()), None)
        classes = [one for one in around if one.xctest]
        if attribute is not None:
            found.append(_swift_testing(source, match, around, attribute))
        elif classes and match[1].startswith("test") and not _body(source, match)[2].strip():
            found.append(_xctest(source, match, classes[-1]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    display: str | None
    xctest: bool
    opens: int
    closes: int


def _types(source: _Text) -> Iterator[_Type]:
    displays = {where: attribute for attribute, where in _attributed(source, "Suite")}
    for match in _TYPE.finditer(source.masked):
        opens = match.end() - 1
        attribute = displays.get(match.start())
        yield _Type(
            name=match[2],
            display=_first_text(source, attribute) if attribute is not None else None,
            xctest=match[1] == "class" and re.search(r"\bXCTestCase\b", match[3] or "") is not None,
            opens=opens,
            closes=source.closing(opens),
        )


def _attributed(source: _Text, name: str) -> Iterator[tuple[tuple[int, int], int]]:
    """Spans of an attribute's arguments, and where the declaration that it marks begins."""
    pattern = _FUNC if name == "Test" else _TYPE
    for match in _ATTRIBUTE.finditer(source.masked):
        if match[1] != name:
            continue
        start = end = match.end()
        if source.masked[start : start + 1] == "(":
            end = source.closing(start)
        declared = pattern.search(source.masked, end)
        if declared is not None and "}" not in source.masked[end : declared.start()]:
            yield (start, end), declared.start()


def _first_text(source: _Text, span: tuple[int, int]) -> str | None:
    inner = source.plain[span[0] + 1 : span[1]]
    said = _TEXT.match(inner.lstrip())
    return said[1] if said else None


def _body(source: _Text, match: re.Match[str]) -> tuple[int, int, str]:
    """Begin and end of a function's body, and its parameters."""
    closing = source.closing(match.end() - 1)
    opens = source.masked.find("{", closing)
    parameters = source.masked[match.end() : closing]
    return (closing, closing, parameters) if opens < 0 else (opens, source.closing(opens), parameters)


def _xctest(source: _Text, match: re.Match[str], around: _Type) -> Found:
    begin, end, _ = _body(source, match)
    return Found(
        framework="xctest",
        suites=((around.name, None),),
        function=f"{match[1]}()",
        line=source.line_of(match.start()),
        **_deeds(source, begin, end),
    )


def _swift_testing(
    source: _Text, match: re.Match[str], around: list[_Type], span: tuple[int, int]
) -> Found:
    begin, end, parameters = _body(source, match)
    labels = [one[1] for part in parameters.split(",") if (one := _LABEL.match(part))]
    deeds = _deeds(source, begin, end)
    if ".disabled" in source.masked[span[0] : span[1]]:
        reason = re.search(r'\.disabled\s*\(\s*"((?:\\.|[^"\\])*)"', source.plain[span[0] : span[1]])
        deeds["skip"] = reason[1] if reason else ""
    return Found(
        framework="swift-testing",
        suites=tuple((one.name, one.display) for one in around),
        function=f"{match[1]}({''.join(f'{label}:' for label in labels)})",
        display=_first_text(source, span),
        line=source.line_of(match.start()),
        arguments=_arguments(source, span),
        **deeds,
    )


def _arguments(source: _Text, span: tuple[int, int]) -> tuple[str, ...]:
    """The values of `arguments: […]`, as they are written; none where it is no list."""
    match = re.search(r"\barguments\s*:\s*\[", source.masked[span[0] : span[1]])
    if match is None:
        return ()
    opens = span[0] + match.end() - 1
    closes = source.closing(opens)
    values, depth, begin = [], 0, opens + 1
    for place in range(opens + 1, closes + 1):
        sign = source.masked[place : place + 1]
        depth += (sign in "([{") - (sign in ")]}" and place != closes)
        if (sign == "," and depth == 0) or place == closes:
            values.append(source.plain[begin:place].strip())
            begin = place + 1
    return tuple(value for value in values if value)


def _deeds(source: _Text, begin: int, end: int) -> dict[str, Any]:
    """What the body of a test does, as members of `Found`."""
    deeds: dict[str, Any] = {}
    failures: list[tuple[int, str]] = []
    for match in _CALL.finditer(source.masked, begin, end):
        name = "".join((match[1] or match[2]).split())
        said = _TEXT.match(source.plain[match.end() :].lstrip()[:1024])
        words, line = said[1] if said else "", source.line_of(match.start())
        if name == "XCTFail":
            failures.append((line, f"failed - {words}" if words else "failed"))
        elif name == "Issue.record":
            failures.append((line, f"Issue recorded: {words}" if words else "Issue recorded"))
        elif name == "XCTSkip":
            deeds["skip"] = words
        elif name in {"fatalError", "preconditionFailure"}:
            deeds["crash"] = (line, words)
        else:
            deeds["expected"] = True
    for marker in _MARKER.finditer(source.plain, begin, end):
        if marker[1] == "flaky":
            deeds["flaky"] = int(marker[2]) if marker[2].strip().isdigit() else 1
        elif marker[1] == "seconds" and re.fullmatch(r"\d{1,6}(\.\d{1,6})?", marker[2].strip()):
            deeds["seconds"] = float(marker[2])
    deeds["failures"] = tuple(failures)
    return deeds


def read(file: Path) -> str:
    """The text of a source; bytes that are no UTF-8 are replaced."""
    return file.read_bytes().decode(errors="replace")
