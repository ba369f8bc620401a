"""A worker whose key is pinned: what it signs is believed, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import Lab, lab, run_files

pytestmark = [pytest.mark.spec("10")]

WORKER = [sys.executable, "-m", "worker_agent"]


def fingerprint(user: Lab) -> str:
    """As its administrator reads it on the worker."""
    done = subprocess.run(
        [*WORKER, "key"], env=user.env, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def pin(user: Lab, *pins: str) -> None:
    command = json.dumps([*WORKER, "xcode", "rpc"])
    user.workers(
        f'[[worker]]\nname = "mini"\ntransport = "local"\ncommand = {command}\n'
        f"attestation_pubkey_fingerprint = {json.dumps(pins)}\n"
    )


@pytest.mark.fault("A6")
def test_a_run_at_a_pinned_worker_is_verified_also_with_an_old_key_beside(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        key = fingerprint(user)
        pin(user, "SHA256:" + "0" * 64, key)
        run = user.json("verify", cwd=user.project())["data"]
        assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
        files = run_files(Path(run["run_dir"]))
        told = json.loads(files["build/attestation_verification_path"].read_text())
        assert told["result"] == "verified"
        assert key in told["detail"]
        assert json.loads(files["build/attestation"].read_text())["public_key_fingerprint"] == key
        user.stop()
        answer = user.json("attest", "verify", run["run_dir"], "--no-autostart")
        sets = {each["action"]: each for each in answer["data"]["sets"]}
        assert {each["result"] for each in sets.values()} == {"verified"}
        assert {action: len(each["statements"]) for action, each in sets.items()} == {"build": 1, "test": 2}
        assert [note for each in sets.values() for note in each["notes"]] == []


@pytest.mark.fault("A3")
@pytest.mark.fault("A6")
def test_a_key_that_is_pinned_no_more_serves_nobody(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        pin(user, "SHA256:" + "0" * 64)
        answer = user.json("verify", cwd=user.project())
        assert answer["exit_code"] == 93
        assert f"signs with {fingerprint(user)}" in answer["error"]["message"]
        assert "rch-worker key" in answer["error"]["hint"]


@pytest.mark.fault("A3")
def test_a_worker_that_signs_with_another_key_than_it_told_is_not_believed(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        pin(user, fingerprint(user))
        place = user.worker_home / "state" / "attestation.key"
        project = user.project(build=f"rm -f {place}; echo building")
        answer = user.json("run", "--action", "build", cwd=project)
        assert (answer["exit_code"], answer["error"]["kind"]) == (93, "ATTESTATION")
        assert "is signed by SHA256:" in answer["error"]["message"]
        (step,) = answer["data"]["steps"]
        rejected = Path(answer["data"]["run_dir"], "steps/build").glob("*.rejected")
        (kept,) = [*rejected]
        assert kept.is_dir(), step
        again = user.json("attest", "verify", str(kept))
        assert (again["exit_code"], again["error"]["kind"]) == (93, "ATTESTATION")
        (only,) = again["data"]["sets"]
        assert any("is signed by SHA256:" in line for line in only["errors"])


def test_without_a_pin_the_signature_is_told_for_what_it_is(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        run = user.json("run", "--action", "build", cwd=user.project())["data"]
        files = run_files(Path(run["run_dir"]))
        told = json.loads(files["build/attestation_verification_path"].read_text())
        assert told["result"] == "unpinned"
        assert fingerprint(user) in told["detail"]


def test_a_key_that_others_can_read_is_told_by_the_worker(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        fingerprint(user)
        (user.worker_home / "state" / "attestation.key").chmod(0o644)
        done = subprocess.run(
            [*WORKER, "key"], env=user.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "chmod 600" in done.stderr
        answer = user.json("verify", cwd=user.project())
        assert answer["exit_code"] != 0
        assert "chmod 600" in answer["error"]["message"]
