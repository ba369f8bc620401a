"""Scenarios of the mock worker: those that are built in, and files of one's own (docs/mock-worker.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.mock import JOB, MockPipe, run, submitted, unpacked
from support.worker_pipe import Refused

from rch.contract.errors import Failure
from rch_conformance.mock import mac, scenario


@pytest.mark.parametrize("name", scenario.names())
def test_each_built_in_scenario_is_a_file_that_would_be_taken(name: str) -> None:
    made = scenario.parse((scenario.BUILT_IN / f"{name}.toml").read_bytes(), f"{name}.toml")
    assert made == scenario.load(name)
    assert made.about


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[job]\nsecond = 1\n", "unknown key job.second; the nearest known key is job.seconds"),
        ('[[answer]]\nop = "submit"\ndo = "refus"\n', "did you mean refuse?"),
        ('[[answer]]\ndo = "cut"\n', "needs op"),
        ('[job]\noutcome = "test-failed"\n', "did you mean tests-failed?"),
        ("[job\n", "is not TOML"),
        (
            '[worker]\nwithout = ["tial"]\n',
            "worker.without[0] = 'tial' is no feature of the contract; did you mean tail?",
        ),
        ('[[answer]]\nop = "submit"\ndo = "drop"\ncode = "BUSY"\n', 'answer[0].code is of do = "refuse"'),
        (
            '[[answer]]\nop = "submit"\ndo = "refuse"\npayload = { a = 1 }\n',
            'answer[0].payload is of do = "change"',
        ),
        ('[[answer]]\nop = "submit"\ndo = "refuse"\ncode = "BUSYY"\n', "did you mean BUSY?"),
        (
            '[[answer]]\nop = "submit"\ndo = "refuse"\ncode = "BUSY"\nunknown_code = true\n',
            "BUSY is a code of the contract",
        ),
        (
            '[[answer]]\nop = "tail"\ndo = "change"\npayload = { seq = [inf] }\n',
            "payload.seq[0] = inf is no number",
        ),
        (
            '[[answer]]\nop = "tail"\ndo = "refuse"\ndata = { a = nan }\n',
            "answer[0].data.a = nan is no number",
        ),
        (
            "[worker.capabilities]\nsimulated = false\n",
            "worker.capabilities.simulated is not a scenario's to say",
        ),
        (
            '[[answer]]\nop = "probe"\ndo = "change"\npayload = { capabilities = { simulated = false } }\n',
            "payload.capabilities.simulated is not a scenario's to say",
        ),
        ("[worker]\ncapabilities = { arch = 7 }\n", "worker.capabilities: Expected `str`, got `int`"),
    ],
)
def test_a_mistake_in_a_scenario_is_named(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    done = run("--scenario", str(file), "--state", str(tmp_path / "state"))
    assert done.returncode == 3
    assert told in done.stderr.decode()
    assert "mine.toml" in done.stderr.decode()


def test_the_scenario_of_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mock-worker.md").read_text(encoding="utf-8")
    (example,) = (block for block in text.split("```toml\n")[1:] if block.startswith("about"))
    made = scenario.parse(example.partition("```")[0].encode(), "docs.toml")
    assert (made.job.outcome, made.set.fault, made.answer[0].code) == (
        "tests-failed",
        "wrong-digest",
        "LEASE_EXPIRED",
    )
    assert mac.FINGERPRINT in text
    assert mac.SEED.decode() in text


def test_an_unknown_scenario_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(Failure, match="'tests-fail'; the nearest is tests-failed"):
        scenario.load("tests-fail")


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_scenario_of_ones_own_changes_single_answers(kind: str, tmp_path: Path) -> None:
    rule = {"op": "status", "do": "refuse", "skip": 1, "times": 1, "code": "JOB_NOT_FOUND"}
    file = tmp_path / f"mine.{kind}"
    file.write_text(
        json.dumps({"answer": [rule]})
        if kind == "json"
        else "[[answer]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rule.items())
    )
    with MockPipe(tmp_path / "state", "--scenario", str(file)) as worker:
        submitted(worker)
        assert worker.ask("status", job_id=JOB)["state"] == "SUCCEEDED"
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            worker.ask("status", job_id=JOB)
        assert worker.ask("status", job_id=JOB)["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("name", "outcome", "code"),
    [
        ("tests-failed", "TESTS_FAILED", 50),
        ("infrastructure", "INFRASTRUCTURE", 40),
        ("no-tests", "NO_TESTS_RAN", 50),
    ],
)
def test_a_failure_is_told_in_summary_tests_and_junit_alike(
    name: str, outcome: str, code: int, tmp_path: Path
) -> None:
    with MockPipe(tmp_path / "state", "--scenario", name) as worker:
        submitted(worker)
        assert worker.ask("status", job_id=JOB)["state"] == "FAILED"
        files = unpacked(worker.fetch(JOB)[1])
    summary = json.loads(files["summary.json"])
    assert (summary["verdict"]["outcome"], summary["exit_code"]) == (outcome, code)
    assert b"<failure " in files["junit.xml"]


@pytest.mark.spec("3.1")
def test_without_the_feature_an_operation_is_unknown(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "a", "--scenario", "no-tail") as worker:
        submitted(worker)
        with pytest.raises(Refused, match="UNKNOWN_OPERATION"):
            worker.ask("tail", job_id=JOB)
    with MockPipe(tmp_path / "b", "--scenario", "no-lease") as worker, pytest.raises(Refused) as caught:
        worker.ask("reserve", run_id="run-0000000001", host_id="host-00000001")
    assert caught.value.code == "UNKNOWN_OPERATION"


def test_the_transcript_has_each_request_and_what_was_answered(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        submitted(worker)
    lines = [
        json.loads(line) for line in (tmp_path / "state" / "transcript.jsonl").read_text().splitlines()
    ]
    assert [(line["kind"], line.get("op")) for line in lines] == [
        ("request", "upload_source"),
        ("answer", None),
        ("request", "submit"),
        ("answer", None),
    ]
    assert lines[1]["body"]["sha256"] == lines[0]["payload"]["stream"]["content_sha256"]
    assert lines[3]["payload"] == {"state": "RUNNING", "seq": 2}


def test_a_code_that_nobody_knows_is_sent_where_the_scenario_means_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[answer]]\nop = "probe"\ndo = "refuse"\ncode = "BANANA"\nunknown_code = true\n')
    with MockPipe(tmp_path / "state", "--scenario", str(file)) as worker, pytest.raises(Refused) as caught:
        worker.ask("probe")
    assert caught.value.code == "BANANA"


def test_a_scenario_is_printed_by_its_path_once_it_was_found_right(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    right.write_text('about = "mine: \u00e9"\n', encoding="utf-8")
    wrong.write_text("abouts = 1\n")
    assert run("--show", str(right)).stdout == right.read_bytes()
    done = run("--show", str(wrong))
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"the nearest known key is about" in done.stderr


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    "answer",
    [
        # Without `simulated` a worker is a real one: what was left out is put back.
        {"do": "change", "payload": {"capabilities": {"hostname": "mini"}}},
        {"do": "change", "envelope": {"payload": {"capabilities": {}}}},
        {"do": "raw", "text": json.dumps({"ok": True, "payload": {"capabilities": {"hostname": "mini"}}})},
        {"do": "raw", "text": '{"payload": {"capabilities": {"\\u0073imulated": false}}}'},
    ],
)
def test_no_scenario_makes_it_hide_that_it_is_simulated(answer: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"answer": [{"op": "probe", **answer}]}))
    line = b'{"protocol_version":0,"op":"probe","request_id":"request-0001"}\n'
    words = ("--scenario", str(file), "--state", str(tmp_path / "state"))
    assert json.loads(run(*words, stdin=line).stdout)["payload"]["capabilities"]["simulated"] is True
    told = json.loads(run(*words, "--pretend-real", stdin=line).stdout)["payload"]["capabilities"]
    assert told.get("simulated") is not True
