"""`rchctl diagnostics`: each form of what a run found, from its folder alone (spec sections 8 and 9)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jsonschema  # type: ignore[import-untyped]
import pytest
from support.run_folder import HOSTILE, RunFolder, hostile_run, run_id

from rch.contract.records import Diagnostic, TestFailure
from rchctl.__main__ import main
from rchctl.diagnose import finding, lines

# What the published schema of SARIF 2.1.0 asks of the members that are written here.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"enum": ["2.1.0"]},
        "runs": {"type": "array", "items": {"$ref": "#/$defs/run"}},
    },
    "additionalProperties": False,
    "$defs": {
        "text": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
        "artifact": {
            "type": "object",
            "properties": {
                "uri": {"type": "string", "pattern": "^[^ ]+$"},
                "uriBaseId": {"type": "string"},
            },
            "additionalProperties": False,
        },
        "region": {
            "type": "object",
            "properties": {
                name: {"type": "integer", "minimum": 1}
                for name in ("startLine", "startColumn", "endLine", "endColumn")
            },
            "additionalProperties": False,
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": -1},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/$defs/text"},
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                "properties": {"type": "object"},
                "locations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "required": ["artifactLocation"],
                                "properties": {
                                    "artifactLocation": {"$ref": "#/$defs/artifact"},
                                    "region": {"$ref": "#/$defs/region"},
                                },
                                "additionalProperties": False,
                            }
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
        "run": {
            "type": "object",
            "required": ["tool"],
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "version": {"type": "string"},
                                "rules": {
                                    "type": "array",
                                    "uniqueItems": True,
                                    "items": {
                                        "type": "object",
                                        "required": ["id"],
                                        "properties": {
                                            "id": {"type": "string"},
                                            "shortDescription": {"$ref": "#/$defs/text"},
                                        },
                                        "additionalProperties": False,
                                    },
                                },
                            },
                            "additionalProperties": False,
                        }
                    },
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "automationDetails": {"type": "object", "required": ["id"]},
                "invocations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["executionSuccessful"],
                        "properties": {
                            "executionSuccessful": {"type": "boolean"},
                            "exitCode": {"type": "integer"},
                        },
                        "additionalProperties": False,
                    },
                },
                "originalUriBaseIds": {
                    "type": "object",
                    "additionalProperties": {"$ref": "#/$defs/artifact"},
                },
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
                "properties": {"type": "object"},
            },
            "additionalProperties": False,
        },
    },
}

SOURCE = 'func grüß() {\n    let 👋🏽 = "hello", n: Int = "zero"\n}\n'
TESTS = "final class T {\n    func testOne() {\n        XCTFail()\n    }\n}\n"
COLUMN = len(SOURCE.splitlines()[1].partition('"zero"')[0].encode()) + 1
ERROR = Diagnostic(
    path="Sources/A.swift", line=2, column=COLUMN, severity="error", message="cannot convert value"
)
WARNING = Diagnostic(path="Sources/A.swift", line=1, column=6, severity="warning", message="an odd name")
PLACELESS = Diagnostic(path=None, line=None, column=None, severity="error", message="link failed: 50%, so")
FAILURE = TestFailure(name="testOne", suite="Pkg.T", message="failed", path="Tests/T.swift", line=3)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two files, and a home for its runs."""
    monkeypatch.setenv("RCH_HOME", str(tmp_path))
    monkeypatch.delenv("RCH_SOCKET", raising=False)
    root = tmp_path / "my project"
    for name, text in (("Sources/A.swift", SOURCE), ("Tests/T.swift", TESTS)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.chdir(root)
    return root


def a_run(project: Path, number: int = 1, **members: Any) -> RunFolder:
    facts: dict[str, Any] = {
        "status": "failed",
        "subkind": "TESTS_FAILED",
        "summary": "1 of 2 tests failed",
        "sources": {"Sources/A.swift": SOURCE.encode(), "Tests/T.swift": TESTS.encode()},
        **members,
    }
    place = project.parent / "data" / "artifacts" / "xcode"
    return RunFolder(place, number, root=str(project), **facts).write()


def printed(capfd: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert main(["diagnostics", "latest", *argv]) == code
    return capfd.readouterr().out


@pytest.mark.spec("9")
def test_a_line_a_finding_with_places_of_this_machine(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, diagnostics=(WARNING, ERROR, PLACELESS), failures=(FAILURE,))
    assert main(["diagnostics", "latest"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        f"{project}/Sources/A.swift:2:{COLUMN}: error: cannot convert value",
        "error: link failed: 50%, so",
        f"{project}/Tests/T.swift:3: error: failed [Pkg.T.testOne]",
        f"{project}/Sources/A.swift:1:6: warning: an odd name",
    ]
    assert err == f"rchctl: 3 errors, 1 warning in run {run_id(1)} (FAILED)\n"


def test_a_file_that_has_changed_is_said_to_and_one_that_is_gone_keeps_the_run_s_path(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, diagnostics=(ERROR,), failures=(FAILURE,))
    (project / "Sources/A.swift").write_text("// new\n")
    (project / "Tests/T.swift").unlink()
    assert printed(capfd).splitlines() == [
        f"{project}/Sources/A.swift:2:{COLUMN}: error: cannot convert value (the file has changed since)",
        "Tests/T.swift:3: error: failed [Pkg.T.testOne]",
    ]
    told = json.loads(printed(capfd, "--format", "json"))["data"]["findings"]
    assert [(each["file"], each["changed"]) for each in told] == [
        (f"{project}/Sources/A.swift", True),
        (None, None),
    ]


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "Sources", "Sources/none.swift", "a\0b"])
def test_what_lies_outside_or_is_no_file_has_no_place_here(project: Path, path: str) -> None:
    from rchctl.diagnose.places import Project

    (project.parent / "outside").touch()
    os.mkfifo(project / "pipe")
    assert Project(str(project)).file(path) is None
    assert Project(str(project)).file("pipe") is None
    assert Project(str(project)).file("Sources/A.swift") == f"{project}/Sources/A.swift"


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github", "lsp", "errorfmt"])
def test_the_exit_code_is_0_unless_it_is_asked_for(
    project: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    a_run(project, failures=(FAILURE,))
    printed(capfd, "--format", form)
    printed(capfd, "--format", form, "--exit-code", code=50)
    a_run(project, 2, status="success", diagnostics=(WARNING,))
    printed(capfd, "--format", form, "--exit-code")


def test_a_run_that_is_not_over_has_no_code_to_exit_with(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(project)
    (folder.path / "run_summary.json").unlink()
    assert json.loads(printed(capfd, "--json"))["data"]["run_exit_code"] is None
    assert (
        "has no exit code yet"
        in json.loads(printed(capfd, "--json", "--exit-code", code=2))["error"]["message"]
    )


def test_a_run_that_failed_for_neither_is_a_finding_of_its_own(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, summary="the worker is out of reach", diagnostics=(WARNING,))
    assert printed(capfd, "--format", "errorfmt").splitlines()[0] == "error: the worker is out of reach"
    a_run(project, 2, status="success")
    assert printed(capfd, "--format", "errorfmt") == ""


def test_a_simulated_run_is_never_an_empty_list(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_run(project, status="success", simulated=True, diagnostics=(WARNING,))
    assert printed(capfd, "--format", "errorfmt").splitlines() == [
        f"{project}/Sources/A.swift:1:6: warning: simulated: an odd name",
        "note: simulated: stand-in tools, no verdict",
    ]


def test_what_two_steps_say_alike_is_told_once() -> None:
    twice = [
        finding.diagnostic({"severity": "warning", "message": "w"}, action) for action in ("build", "test")
    ]
    assert [each.action for each in finding.distinct(each for each in twice if each)] == ["build"]


@pytest.mark.spec("8")
def test_the_json_form_is_the_envelope_also_of_a_refusal(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, diagnostics=(ERROR,), failures=(FAILURE,))
    told = json.loads(printed(capfd, "--format=json"))
    assert (told["ok"], told["command"], told["exit_code"]) == (True, "diagnostics", 0)
    assert told["data"]["errors"] == 2
    assert told["data"]["findings"][1] == {
        "kind": "test",
        "action": "test",
        "severity": "error",
        "message": "failed",
        "test": "Pkg.T.testOne",
        "path": "Tests/T.swift",
        "line": 3,
        "column": None,
        "file": f"{project}/Tests/T.swift",
        "changed": False,
    }
    assert main(["diagnostics", "nothing", "--format", "json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"]["kind"] == "USAGE"


def test_github_annotations_are_escaped(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a_run(project, diagnostics=(ERROR, PLACELESS), failures=(FAILURE,))
    assert printed(capfd, "--format", "github").splitlines() == [
        f"::error file={project}/Sources/A.swift,line=2,col={COLUMN},title=rchctl test::{ERROR.message}",
        "::error title=rchctl test::link failed: 50%25, so",
        f"::error file={project}/Tests/T.swift,line=3,title=Pkg.T.testOne::failed",
    ]
    odd = finding.Finding("test", "test", "note", "a\r\nb%", path="a:b,c", line=1, test="x,y:z")
    assert lines.github_line(odd) == "::notice file=a%3Ab%2Cc,line=1,title=x%2Cy%3Az::a%0D%0Ab%25"


def test_lsp_columns_are_utf_16_units_of_the_line_that_is_there(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, diagnostics=(ERROR, WARNING, PLACELESS), failures=(FAILURE,))
    told = json.loads(printed(capfd, "--format", "lsp"))
    paths = {unquote(urlsplit(each).path): rows for each, rows in told.items()}
    error, warning = paths[f"{project}/Sources/A.swift"]
    before = SOURCE.splitlines()[1].partition('"zero"')[0]
    column = len(before.encode("utf-16-le")) // 2
    assert (column, COLUMN) == (33, 38)
    assert error["range"]["start"] == {"line": 1, "character": column}
    assert (error["severity"], error["message"]) == (1, "cannot convert value")
    assert warning["range"] == {"start": {"line": 0, "character": 5}, "end": {"line": 0, "character": 9}}
    (test,) = paths[f"{project}/Tests/T.swift"]
    assert test["range"] == {"start": {"line": 2, "character": 8}, "end": {"line": 2, "character": 17}}
    (placeless,) = paths[str(project)]
    assert placeless["message"] == "link failed: 50%, so"


def test_lsp_stays_within_a_file_that_has_become_shorter(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a_run(project, failures=(FAILURE,))
    (project / "Tests/T.swift").write_text("one line\n")
    ((test,),) = json.loads(printed(capfd, "--format", "lsp")).values()
    assert test["range"]["start"] == {"line": 0, "character": 0}
    assert test["data"]["changed"] is True


@pytest.mark.parametrize("hostile", [False, True])
def test_sarif_is_of_the_schema_s_shape(
    project: Path,
    capfd: pytest.CaptureFixture[str],
    hostile: bool,  # noqa: FBT001
) -> None:
    if hostile:
        hostile_run(project.parent / "data" / "artifacts" / "xcode").write()
    else:
        a_run(project, diagnostics=(ERROR, PLACELESS), failures=(FAILURE,))
    log = json.loads(printed(capfd, "--format", "sarif"))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    assert run["invocations"] == [{"executionSuccessful": False, "exitCode": 50}]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[each["ruleIndex"]] == each["ruleId"] for each in run["results"])
    if not hostile:
        place = run["results"][0]["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {"uri": "Sources/A.swift", "uriBaseId": "ROOT"}
        assert place["region"] == {"startLine": 2, "startColumn": 34, "endColumn": 35}
        base = run["originalUriBaseIds"]["ROOT"]["uri"]
        assert unquote(urlsplit(base).path) == f"{project}/"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"diagnostics": 3}',
        '{"diagnostics": [1, {}, {"message": 3}]}',
        '{"diagnostics": [{"message": "m", "line": true, "column": -1, "path": "a\\nb"}]}',
    ],
)
def test_records_of_odd_shapes_break_nothing(
    project: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    folder = a_run(project, status="success")
    next(folder.path.rglob("build_summary.json")).write_text(text)
    next(folder.path.rglob("test_summary.json")).write_text('{"failures": [[], {"name": 3, "line": 1e9}]}')
    for form in ("text", "json", "sarif", "github", "lsp", "errorfmt"):
        printed(capfd, "--format", form)


@pytest.mark.parametrize("form", ["text", "github", "errorfmt"])
def test_texts_from_outside_move_no_cursor_and_make_no_line(
    project: Path, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    hostile_run(project.parent / "data" / "artifacts" / "xcode").write()
    out = printed(capfd, "--format", form)
    assert "\x1b" in HOSTILE
    assert not {"\x1b", "\u202e", "\r"} & set(out)
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"x": ' + "9" * 5000 + "}", "\udcff"])
def test_a_record_that_cannot_be_read_is_named(
    project: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    folder = a_run(project, failures=(FAILURE,))
    next(folder.path.rglob("build_summary.json")).write_text(text, errors="surrogateescape")
    assert main(["diagnostics", str(folder.path)]) == 0
    assert "not read: build_summary.json: " in capfd.readouterr().err
