"""That the tests' own documents are held against the schemas, and that a wrong one is found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import emitted
from support.emitted import LEDGER, SCHEMAS, Ledger
from support.unlike import UNLIKE

import rchd.edges.fetching
import rchd.edges.parts
import rchd.edges.socket
import rchd.edges.worker_client
import worker_agent.rpc
from rch.contract.worker_envelope import Request, encode_error, encode_request, encode_result
from rch.contract.worker_rpc import (
    Code,
    HasSourceRequest,
    HasSourceResult,
    JobRequest,
    RpcError,
    SubmitResult,
)

pytestmark = pytest.mark.spec("8")

TESTS = Path(__file__).parents[1]
RUN = SCHEMAS.parent / "examples" / "rch-xcode" / "green"
ID = "request-0001"

INNER = """
import json, pytest
from pathlib import Path
from support.emitted import SCHEMAS

(SAMPLE,) = (SCHEMAS.parent / "examples" / "rch-xcode" / "green").glob("steps/test/*/summary.json")
RIGHT = SAMPLE.read_text()
WRONG = json.dumps({**json.loads(RIGHT), "status": "splendid"})

def test_right(tmp_path):
    (tmp_path / "summary.json").write_text(RIGHT)

def test_wrong(tmp_path):
    (tmp_path / "summary.json").write_text(WRONG)

@pytest.mark.unlike_schema("to see that it may")
def test_wrong_on_purpose(tmp_path):
    (tmp_path / "summary.json").write_text(WRONG)
"""


@pytest.fixture(name="run")
def a_run(tmp_path: Path) -> Path:
    """The folder of a run that is right in all."""
    return Path(shutil.copytree(RUN, tmp_path / "0198c2f0-7a11-7c3e-9b52-000000000001"))


def told(folder: Path) -> list[str]:
    """What is wrong below a folder, without the folder's own path."""
    ledger = Ledger()
    ledger.artifacts(folder)
    return [line.replace(str(folder), "") for line in ledger.wrong]


def spoil(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **members}))


def test_a_right_run_is_right_and_all_of_it_is_looked_at(run: Path) -> None:
    ledger = Ledger()
    ledger.artifacts(run)
    assert ledger.wrong == []
    assert len(ledger.counts) == len(emitted.INDEX["artifacts"])
    before = ledger.counts.total()
    ledger.artifacts(run)
    assert ledger.counts.total() == before  # the same bytes are looked at once


@pytest.mark.unlike_schema("it is to be found")
def test_whatever_is_wrong_with_an_artifact_is_found_and_its_place_is_named(run: Path) -> None:
    (step,) = run.glob("steps/test/*")
    spoil(run / "run_state.json", seq="3")
    spoil(run / "run_index.json", schema_id="rch-xcode/run_summary@1")
    (run / "run_plan.json").write_text('{"schema_id":"rch-xcode/run_plan@1"')
    (step / "metrics.json").write_text("{}")
    (step / "job_key_inputs.json").write_text("{}")
    with (step / "events.jsonl").open("a") as events:
        events.write('{"n":0}\n{"n":9,"at":"cut')
    found = "\n".join(told(run))
    for name in ("run_state", "run_plan", "metrics", "job_key_inputs", "events"):
        assert f"/{name}.json" in found, name
    assert "/seq: " in found
    assert "/n: " in found
    assert "cut" not in found  # a line that its writer could not end is no document


@pytest.mark.unlike_schema("what is passed over is wrong")
def test_refused_sets_and_files_of_others_are_passed_over(run: Path, tmp_path: Path) -> None:
    (step,) = run.glob("steps/test/*")
    bad = Path(shutil.copytree(step, step.with_name(f"{step.name}.rejected")))
    spoil(bad / "summary.json", status="splendid")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "summary.json").write_text('{"a": 1}')
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (rchd.edges.worker_client, "encode_request"),
        (rchd.edges.worker_client, "decode_response"),
        (rchd.edges.parts, "encode_request"),
        (rchd.edges.parts, "decode_response"),
        (rchd.edges.fetching, "encode_request"),
        (rchd.edges.fetching, "decode_fetch_header"),
        (rchd.edges.socket, "event_line"),
        (rchd.edges.socket, "refusal_line"),
        (rchd.edges.socket, "result_line"),
        (worker_agent.rpc, "encode_error"),
        (worker_agent.rpc, "encode_result"),
    ],
)
def test_what_the_programs_call_is_tapped(module: ModuleType, name: str) -> None:
    assert hasattr(getattr(module, name), "__wrapped__")


def test_a_wrong_line_is_found_where_it_is_encoded() -> None:
    asked = Request(
        protocol_version=1, op="submit", request_id=ID, payload=HasSourceRequest(source_sha256="a" * 64)
    )
    before = LEDGER.counts.total()
    encode_request("status", ID, JobRequest(job_id="job-0000000001"), 1)
    encode_result(asked, SubmitResult(state="RUNNING", seq=before + 2))
    assert LEDGER.wrong == []
    encode_request("status", ID, JobRequest(job_id="../job"), 1)
    encode_result(asked, SubmitResult(state="BEGUN", seq=2))
    encode_result(asked, HasSourceResult(exists=True))
    encode_error(RpcError(Code.BUSY, "no slot"), ID, 1)
    wrong = [line.partition(":")[0] for line in LEDGER.taken()]
    assert wrong == ["status", "submit", "submit", "submit", "error"]  # the last result lacks two members
    assert LEDGER.counts.total() >= before + 4


@pytest.mark.unlike_schema("its own test writes what is to be found")
def test_a_test_fails_that_emits_a_wrong_artifact_and_the_end_tells_how_many_were_looked_at(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_inner.py").write_text(INNER)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"]
    config = ["-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*argv, *config, "--basetemp", str(tmp_path / "base"), str(tmp_path / "test_inner.py")],
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    # Where CI is set the reason follows on the same line.
    assert re.search(r"^ERROR \S*::test_wrong(?: - |$)", done.stdout, re.MULTILINE)
    assert "summary.json: /status: " in done.stdout
    assert "held against docs/schemas: 2 rch-xcode, 0 worker-rpc, 0 local-api" in done.stdout


def test_whoever_may_be_unlike_is_there_and_has_a_reason() -> None:
    for begun, why in UNLIKE.items():
        path, _, name = begun.partition("::")
        found = list(TESTS.parent.glob(f"{path}*"))
        assert found, begun
        assert not name or any(f"def {name}" in each.read_text() for each in found), begun
        assert why
