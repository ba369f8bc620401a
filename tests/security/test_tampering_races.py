"""Whoever writes while a set is being looked at: what was verified is what is believed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from support.sealed import (
    KEY,
    Host,
    loaded,
)
from support.tampering import (
    INTEGRITY,
    NoSync,
    Rooms,
    refused,
)

from rch.contract.sets import examine
from rch.files import durable
from rch.files.known import beside
from rch.files.sets import read_records, read_set
from rchd.edges import artifacts

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("10"), pytest.mark.fault("A1")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.mark.fault("A7")
def test_what_is_told_of_a_set_is_what_its_verified_bytes_say(rooms: Rooms, host: Host) -> None:
    """A writer swaps a record all the time: whatever is called good was read from the very bytes."""
    host.fetch(loaded(rooms.right), KEY)
    artifacts.publish(host.at)
    path = host.at.step / "summary.json"
    right = path.read_bytes()
    evil = right.replace(b'"simulated": false', b'"simulated":  true')
    assert (len(evil), evil != right) == (len(right), True)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for data in (evil, right):
                temp = path.parent.with_name("summary.next")
                temp.write_bytes(data)
                temp.replace(path)

    told = beside(host.at.step).known
    racer = threading.Thread(target=write)
    racer.start()
    try:
        for _ in range(25):
            looked = examine(read_set(host.at.step), told)
            assert looked.summary is None or looked.good is not looked.summary.simulated
    finally:
        stop.set()
        racer.join()


@pytest.mark.fault("A7")
def test_a_record_that_is_swapped_between_unpacking_and_reading_is_found(
    rooms: Rooms, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loaded(rooms.right)

    def late(folder: Path) -> dict[str, bytes]:
        path = folder / "summary.json"
        path.write_bytes(path.read_bytes().replace(b"success", b"SUCCESS"))
        return read_records(folder)

    monkeypatch.setattr(artifacts, "read_records", late)
    assert refused(host, made, KEY) == INTEGRITY
