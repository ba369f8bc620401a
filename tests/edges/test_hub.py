"""What every follower is told, whichever run it follows."""

from __future__ import annotations

from rch.contract.local_api import RunEvent
from rchd.edges.hub import Hub

AT = "2026-01-02T03:04:05.000Z"


def followed() -> tuple[Hub, list[RunEvent]]:
    hub, told = Hub("/artifacts"), list[RunEvent]()
    hub.follow("all", told.append)
    hub.follow("some-run", told.append)
    return hub, told


def test_a_heartbeat_says_why_nothing_goes_on() -> None:
    hub, told = followed()
    hub.heartbeat(7, AT)
    hub.heartbeat(7, AT, "no space left")
    assert [each.data for each in told] == [{}, {}, *[{"trouble": "no space left"}] * 2]
    assert {(each.type, each.seq, each.run_id) for each in told} == {("heartbeat", 7, None)}


def test_a_stop_is_told_as_the_end() -> None:
    hub, told = followed()
    hub.farewell(7, AT)
    assert [(each.subscription, each.type, each.data) for each in told] == [
        (1, "end", {"reason": "shutdown"}),
        (2, "end", {"reason": "shutdown"}),
    ]
