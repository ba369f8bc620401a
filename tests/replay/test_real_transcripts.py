"""Transcripts of real runs, as users export them: they replay to the byte, and a replay really compares."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from replay.scenes import COMMENTS, HERE, MOST_BYTES, NAMES

from rchd.__main__ import main
from rchd.core import ask
from rchd.core import events as ev
from rchd.core.phases import PHASES
from rchd.core.transcript import Batch, Replay, damage_of, decode_batch, decode_header, is_header

pytestmark = [pytest.mark.spec("13"), pytest.mark.spec("4")]
names = pytest.mark.parametrize("name", NAMES)
RENEW = "if the change is meant: scripts/record-transcripts, then read the diff"


def kept(name: str) -> list[bytes]:
    return (HERE / f"{name}.jsonl").read_bytes().splitlines(keepends=True)


def batches(name: str) -> list[Batch]:
    return [decode_batch(line) for line in kept(name) if not is_header(line)]


def events(name: str) -> list[ev.AnyEvent]:
    return [event for batch in batches(name) for event in batch.events]


class Program:
    """`rchd`, called within this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = monkeypatch, capsys

    def __call__(self, *args: str) -> tuple[object, str]:
        self._patch.setattr(sys, "argv", ["rchd", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        return ended.value.code, said.out + said.err


@pytest.fixture
def rchd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(monkeypatch, capsys)


# --- what is kept ------------------------------------------------------------------------


@names
def test_a_real_transcript_replays_to_the_byte(name: str) -> None:
    replay = Replay(kept(name))
    differences = [str(each) for each in replay]
    assert not differences, f"{name}: {differences[0]}\n{RENEW}"
    assert replay.batches == len(batches(name))
    assert replay.cut is None


@names
def test_a_real_transcript_says_what_it_pins_down_and_is_the_file_that_was_exported(name: str) -> None:
    lines = kept(name)
    assert decode_header(lines[0]).comment == COMMENTS[name]
    assert damage_of(lines) is None
    assert sum(map(len, lines)) < MOST_BYTES


@names
def test_a_real_transcript_names_no_real_place_or_machine(name: str) -> None:
    text = b"".join(kept(name)).decode()
    own = [str(Path(__file__).parents[2]), "/tmp/", "/root/", "rch-scene", socket.gethostname() + '"']
    assert [each for each in own if each in text] == []
    assert set(re.findall(r'"host_nonce":"([^"]*)"', text)) <= {f"nonce-{n}" for n in range(1, 9)}
    assert set(re.findall(r'"lease_id":"([^"]*)"', text)) <= {f"lease-{n}" for n in range(1, 9)}
    assert set(re.findall(r'"hostname":"([^"]*)"', text)) <= {"host-1", "host-2"}


@names
def test_every_phase_of_a_run_is_in_each(name: str, rchd: Program) -> None:
    code, said = rchd("replay", str(HERE / f"{name}.jsonl"), "--json")
    told: dict[str, Any] = json.loads(said)["data"]
    assert (code, told["identical"], told["difference"]) == (0, True, None)
    assert list(told["phases"]) == list(PHASES)
    assert all(phase["asked"] > 0 for phase in told["phases"].values())


def test_each_scene_holds_what_it_is_there_for() -> None:
    def refusals(name: str) -> set[str]:
        return {event.code for event in events(name) if isinstance(event, ev.WorkerRefused)}

    def state(name: str) -> object:
        run_id = decode_header(kept(name)[0]).run_id
        views = [json.loads(bytes(data)) for batch in batches(name) for data in batch.effects]
        own = [e["view"] for e in views if e["effect"] == "Announce" and e["run_id"] == run_id]
        return [view["state"] for view in own if view][-1]

    assert {name: state(name) for name in NAMES} == {
        "success": "SUCCEEDED",
        "failure": "FAILED",
        "cancel": "CANCELLED",
        "resume": "SUCCEEDED",
        "busy": "SUCCEEDED",
        "lease-loss": "SUCCEEDED",
        "hostile": "FAILED",
        "cut-line": "SUCCEEDED",
    }
    assert any(isinstance(event, ev.CancelAsked) for event in events("cancel"))
    assert {name for name in NAMES if sum(map(is_header, kept(name))) == 2} == {"resume", "lease-loss"}
    assert refusals("busy") == {"BUSY"}
    assert refusals("lease-loss") == {"LEASE_EXPIRED"}
    assert any(isinstance(event, ev.LineCut) for event in events("cut-line"))
    assert any(isinstance(event, ev.FetchRefused) for event in events("hostile"))
    assert {name for name in NAMES if decode_header(kept(name)[0]).others is True} == {"busy"}


# --- a replay compares ---------------------------------------------------------------------


def test_a_core_that_decides_otherwise_is_shown_by_a_diff(
    monkeypatch: pytest.MonkeyPatch, rchd: Program
) -> None:
    monkeypatch.setattr(ask, "VERDICT_SECONDS", 9.0)
    code, said = rchd("replay", str(HERE / "success.jsonl"))
    assert code == 1
    assert '"name": "verdict",\n  -  "seconds": 2.0,\n  +  "seconds": 9.0,' in said
    assert "fetch    4 asked, 4 answered: 1 differ\n" in said
    code, said = rchd("replay", str(HERE / "success.jsonl"), "--json")
    told = json.loads(said)["data"]
    assert (code, told["identical"], told["differences"]) == (1, False, 1)
    assert '+  "seconds": 9.0,' in told["difference"]["diff"]


def test_a_changed_byte_anywhere_is_told_by_the_digest(tmp_path: Path, rchd: Program) -> None:
    whole = b"".join(kept("success"))
    path = tmp_path / "t.jsonl"
    for at in (whole.index(b'"comment":"') + 12, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        code, said = rchd("replay", str(path))
        assert (code, "it was changed" in said) == (2, True), said
    path.write_bytes(whole[:-40])
    code, said = rchd("replay", str(path))
    assert (code, "it was changed" in said) == (2, True), said


def test_a_wrong_digest_is_told(tmp_path: Path, rchd: Program) -> None:
    whole = b"".join(kept("success"))
    said_digest = str(decode_header(kept("success")[0]).sha256)
    other = hashlib.sha256(b"").hexdigest()
    path = tmp_path / "t.jsonl"
    path.write_bytes(whole.replace(said_digest.encode(), other.encode(), 1))
    code, said = rchd("replay", str(path))
    assert code == 2
    assert f"its content has the SHA-256 {said_digest}, its first line says {other}" in said


def test_another_major_is_refused_with_both_ids(tmp_path: Path, rchd: Program) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(kept("success")).replace(b"transcript@1", b"transcript@2"))
    code, said = rchd("replay", str(path))
    assert code == 2
    assert "schema rch-xcode/transcript@2 found where rch-xcode/transcript@1 is read" in said


def test_what_is_no_transcript_is_a_usage_error(tmp_path: Path, rchd: Program) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"not one\n")
    code, said = rchd("replay", str(path), "--json")
    assert (code, json.loads(said)["error"]["kind"]) == (2, "USAGE")
    assert rchd("replay", str(tmp_path / "none"))[0] == 2


def test_members_that_this_version_does_not_know_are_ignored(tmp_path: Path, rchd: Program) -> None:
    text = b"".join(kept("success")).decode()
    text = re.sub(r',"sha256":"[0-9a-f]{64}"}', f',"sha256":"{"0" * 64}"}}', text, count=1)
    more = '"of_a_later_version":{"a":[1]},'
    text = re.sub(r'("schema_id":"rch-xcode/transcript@1",|"event":"\w+",)', rf"\1{more}", text)
    path = tmp_path / "t.jsonl"
    path.write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1))
    code, said = rchd("replay", str(path))
    assert (code, "identical" in said) == (0, True), said
