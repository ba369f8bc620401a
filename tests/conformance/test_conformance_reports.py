"""The table, JUnit and JSON, the choice of checks and the exit codes of `rch-conformance`."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from junitparser import JUnitXml

from rch_conformance.checks import Broken, NotOffered, Suite, Verdict, run_checks
from rch_conformance.cli import main
from rch_conformance.reporters import as_json, junit, table
from rch_conformance.running import Running, UsageError, add_options
from rch_conformance.worker.checks.sources import GOLDEN
from rch_conformance.worker.forms import canonical_tar, jcs_sha256, sha256

SUITE: Suite[None] = Suite()
REPO = Path(__file__).parents[2]


@SUITE.check("3.10", "a late section comes last")
def late(_: None) -> None:
    """Passes."""


@SUITE.check("3.2", "this is broken")
def broken(_: None) -> None:
    raise Broken("seen \x1b[31m<red>\x07, wanted blue")


@SUITE.check("3.2", "this is not there", needs=("wings",))
def wings(_: None) -> None:
    raise AssertionError("never reached")


@SUITE.check("3.2", "this breaks the check")
def crash(_: None) -> None:
    raise ZeroDivisionError("oh")


def need(feature: str) -> None:
    raise NotOffered(feature, "it cannot fly")


def running(*words: str) -> Running[None]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return Running(parser.parse_args(words), SUITE.checks)


def test_a_check_ends_in_one_of_three_ways() -> None:
    found = {each.id: each.verdict for each in run_checks(SUITE.checks, None, need)}
    wanted = {
        "late": Verdict.PASS,
        "broken": Verdict.FAIL,
        "wings": Verdict.NOT_OFFERED,
        "crash": Verdict.FAIL,
    }
    assert found == wanted


def test_the_table_is_ordered_by_section_and_harmless_for_a_terminal() -> None:
    text = table("worker: \x1b[31mx", list(run_checks(SUITE.checks, None, need)), {"3.2": "Framing"})
    assert "\x1b" not in text
    assert text.index("3.2  Framing") < text.index("3.10")
    assert "FAIL  this is broken\n        seen <red>, wanted blue\n        (--only broken)" in text
    assert "wings: it cannot fly" in text
    assert "3.2  Framing     0     2            1" in text


def test_junit_is_read_by_other_readers() -> None:
    data = junit("worker", list(run_checks(SUITE.checks, None, need)))
    read = JUnitXml.fromstring(data)
    assert (read.tests, read.failures, read.skipped) == (4, 2, 1)
    names = {
        case.get("name"): [child.tag for child in case]
        for case in ET.fromstring(data).iter("testcase")  # noqa: S314  (our own)
    }
    assert names["this is broken"] == ["failure"]
    assert names["this is not there"] == ["skipped"]


def test_json_has_every_result() -> None:
    told = json.loads(json.dumps(as_json("worker", list(run_checks(SUITE.checks, None, need)), 1)))
    assert told["counts"] == {"pass": 1, "fail": 2, "not_offered": 1}
    assert told["results"][2]["feature"] == "wings"


def test_what_is_not_offered_fails_only_where_it_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert running("--only", "wings").run("worker", None, need) == 0
    assert running("--only", "wings", "--require", "wings").run("worker", None, need) == 1
    assert running("--only", "wings", "--require", "all").run("worker", None, need) == 1
    assert "--require wings: it is not offered" in capsys.readouterr().out


def test_sections_hold_those_below_them_and_no_others() -> None:
    assert [each.id for each in running("--section", "3").checks] == ["broken", "wings", "crash", "late"]
    assert [each.id for each in running("--section", "3.10").checks] == ["late"]


@pytest.mark.parametrize("words", [("--section", "3.1"), ("--only", "nothing"), ("--require", "tail")])
def test_what_there_is_not_is_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        running(*words)


def test_the_command_line_says_2_for_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker"]) == 2
    assert "no worker is named" in capsys.readouterr().err
    assert main(["worker", "--ssh-option", "Port=1", "--", "true"]) == 2
    assert main(["worker", "--ssh=-oProxyCommand=x"]) == 2
    assert main(["worker", "--ssh", ""]) == 2


COMMAND = (sys.executable, "-m", "rch_conformance", "worker")
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


@needs_full
@pytest.mark.parametrize(
    "words", [("--list",), ("--only", "one-shot", "--", "true")], ids=["list", "table"]
)
def test_output_that_is_not_taken_is_told_in_a_line_and_is_no_failed_check(words: tuple[str, ...]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    told = "rch-conformance: standard output was not written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, told)


@needs_full
def test_a_junit_report_that_is_not_taken_costs_no_table() -> None:
    words = ("--only", "one-shot", "--junit", str(FULL), "--", "true")
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert "3.1  Envelope     0     1            0" in done.stdout
    told = "rch-conformance: --junit /dev/full was not written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_descriptors_the_checks_are_run_all_the_same(closed: str, tmp_path: Path) -> None:
    report = tmp_path / "j.xml"
    line = shlex.join([*COMMAND, "--only", "one-shot", "--junit", str(report), "--", "echo", "hello"])
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "hello" in report.read_text()


def test_the_list_names_every_check_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len({each["id"] for each in listed}) == len(listed) > 150
    assert len({each["name"] for each in listed}) == len(listed)
    assert {each["section"] for each in listed} == {"2", "3.1", "3.2", "3.3", "3.4", "4", "5", "8", "10"}


def test_the_suites_own_forms_are_those_of_the_vectors() -> None:
    assert {digest: sha256(canonical_tar(items)) for digest, items in GOLDEN.items()} == {
        d: d for d in GOLDEN
    }
    vectors = json.loads((REPO / "docs" / "job-key-vectors.json").read_text())["vectors"]
    assert [jcs_sha256(each["job_key_inputs"]) for each in vectors] == [each["job_key"] for each in vectors]
