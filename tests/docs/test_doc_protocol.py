"""The examples of the protocol pages are decoded with the types that the programs use."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run as call
from typing import Any

import msgspec
import pytest
from reference.protocols import FEATURES, RESULTS
from support.lab import Lab, lab
from support.pages import DOCS, blocks

from rch.contract.attestation import check
from rch.contract.attested import capabilities_digest
from rch.contract.canonical import jcs_sha256
from rch.contract.framing import encode_line
from rch.contract.local_api import METHODS, RunEvent
from rch.contract.manifest import root_sha256
from rch.contract.records import Capabilities, encode_record
from rch.contract.tar import Member, write_tar
from rch.contract.worker_envelope import decode_fetch_header, decode_request, decode_response
from rch.contract.worker_rpc import OPERATIONS, RpcError

WORKER, LOCAL = DOCS / "protocol-worker.md", DOCS / "protocol-local.md"


def examples(page: Path) -> list[dict[str, Any]]:
    return [json.loads(block.text) for block in blocks(page, "json")]


def told(page: Path) -> dict[str, dict[str, Any]]:
    """The requests of a page by their operation, the last of each."""
    return {each["op"]: each for each in examples(page) if "op" in each}


@pytest.mark.spec("3.3")
def test_each_request_of_the_worker_protocol_is_one() -> None:
    shown = {decode_request(encode_line(each)).op for each in examples(WORKER) if "op" in each}
    assert shown == set(OPERATIONS) - {"release", "gc"}  # whose payloads say all of themselves


@pytest.mark.spec("3.3")
def test_each_answer_of_the_worker_protocol_is_one() -> None:
    asked = {each["request_id"]: each["op"] for each in examples(WORKER) if "op" in each}
    answered = set()
    for each in examples(WORKER):
        if "ok" not in each:
            continue
        line, op = encode_line(each)[:-1], asked[each["request_id"]]
        answered.add(op)
        if op == "fetch":
            decode_fetch_header(line, each["request_id"], each["job_id"])
        elif each["ok"]:
            decode_response(line, each["request_id"], RESULTS[op], each["protocol_version"])
        else:
            with pytest.raises(RpcError):
                decode_response(line, each["request_id"], RESULTS[op])
    assert answered == set(asked.values())


@pytest.mark.spec("5")
def test_the_digests_are_those_of_the_bytes_that_they_speak_of() -> None:
    source = b"".join(write_tar([(Member(path="a", size=6), (b"hello\n",))], canonical=True))
    digest = hashlib.sha256(source).hexdigest()
    part = told(WORKER)["upload_source"]["payload"]
    assert part["source_sha256"] == part["resume"]["total_sha256"] == digest
    assert part["stream"]["content_sha256"] == hashlib.sha256(source[1024:]).hexdigest()
    job = told(WORKER)["submit"]["payload"]["job"]
    assert job["job_key"] == jcs_sha256(job["job_key_inputs"])


@pytest.mark.spec("10")
def test_the_attestation_is_signed_over_the_manifest_that_the_page_shows() -> None:
    attestation = next(each for each in examples(WORKER) if "signature" in each)
    trust = check(json.dumps(attestation).encode(), [attestation["public_key_fingerprint"]])
    assert trust.result == "verified"
    header = next(each for each in examples(WORKER) if "manifest" in each)
    decoded = decode_fetch_header(encode_line(header)[:-1], header["request_id"], header["job_id"])
    assert decoded.manifest.artifact_root_sha256 == root_sha256(decoded.manifest.entries)
    assert attestation["manifest_sha256"] == hashlib.sha256(encode_record(decoded.manifest)).hexdigest()


@pytest.mark.spec("3.1")
def test_each_feature_is_told_as_in_the_reference() -> None:
    text = WORKER.read_text(encoding="utf-8")
    table = text.partition("| feature | promises |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [f"| `{name}` | {meaning} |" for name, meaning in FEATURES.items()]


@pytest.mark.spec("10")
def test_the_capabilities_have_the_digest_that_the_page_says() -> None:
    shown = next(each for each in examples(WORKER) if "virtual" in each)
    assert f"`{capabilities_digest(shown)}`" in WORKER.read_text(encoding="utf-8")
    msgspec.convert(shown, Capabilities)


@pytest.mark.spec("12")
def test_each_message_of_the_local_protocol_is_one() -> None:
    methods: dict[int, str] = {}
    for each in examples(LOCAL):
        if "method" in each and "id" in each:
            methods[each["id"]] = each["method"]
            msgspec.convert(each["params"], METHODS[each["method"]][0])
        elif "method" in each:
            msgspec.convert(each["params"], RunEvent)
        elif "result" in each:
            msgspec.convert(each["result"], METHODS[methods[each["id"]]][1])
    assert set(methods.values()) == {"hello", "runs.submit", "runs.watch", "runs.cancel"}


def test_the_framed_example_has_its_length() -> None:
    block = next(block.text for block in blocks(LOCAL, "text") if "Content-Length" in block.text)
    head, _, body = block.partition("\\r\\n\n\\r\\n\n")
    assert int(head.removeprefix("Content-Length: ")) == len(body.rstrip("\n").encode())


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.mark.spec("12")
def test_the_client_of_a_few_lines_sees_a_run_to_its_end(user: Lab, tmp_path: Path) -> None:
    client = tmp_path / "client.py"
    client.write_text(blocks(LOCAL, "python")[0].text)
    user.json("daemon", "start")
    argv = [sys.executable, str(client), user.env["RCH_SOCKET"], str(user.project())]
    done = call(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["SUCCEEDED 0"]), done.stderr
