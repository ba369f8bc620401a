"""A worker's capabilities are digested as it said them, and the digest outlives the daemon (section 10)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.playbook import accepted, capabilities, report
from support.run_disk import Disk

from rch.contract.attested import capabilities_digest
from rch.contract.worker_rpc import HeardProbe
from rch.files.known import beside
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.restore import restore

pytestmark = [pytest.mark.spec("10")]

SAID = "5" * 64


def fetching(digest: str) -> tuple[Disk, m.Run]:
    """A run whose first set is fetched; its worker's answer had that digest."""
    play = Disk()
    run = play.accept(accepted())
    told = report()
    assert told.result is not None
    result = msgspec.structs.replace(told.result, capabilities_sha256=digest)
    play.answer(run, ev.Probed, reports=(msgspec.structs.replace(told, result=result),), embedded=False)
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    return play, run


@pytest.mark.parametrize(
    ("digest", "wanted"), [(SAID, SAID), ("", capabilities_digest(capabilities()))], ids=["heard", "older"]
)
def test_a_set_is_held_to_the_digest_of_what_was_said(digest: str, wanted: str, tmp_path: Any) -> None:
    play, run = fetching(digest)
    assert play.one(fx.Fetch).capabilities_sha256 == wanted
    record = json.loads(play.files["capabilities.json"])
    assert record.get("capabilities_sha256") == (digest or None)
    again = restore(run.run_id, play.files).run
    assert again.choice is not None
    assert again.choice.probe.capabilities_sha256 == digest
    for name, data in play.files.items():
        path = tmp_path / run.run_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    step = tmp_path / run.run_id / "steps" / "build" / run.accepted.steps[0].job_id
    assert beside(step).known.capabilities_sha256 == wanted


def test_a_row_keeps_the_digest_and_one_of_an_older_daemon_has_none() -> None:
    _, run = fetching(SAID)
    row = msgspec.json.encode(run)
    assert msgspec.json.decode(row, type=m.Run) == run
    older = msgspec.json.decode(row.replace(f',"capabilities_sha256":"{SAID}"'.encode(), b""), type=m.Run)
    assert older.choice is not None
    assert isinstance(older.choice.probe, HeardProbe)
    assert older.choice.probe.capabilities_sha256 == ""
