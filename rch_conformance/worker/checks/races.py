"""Sections 3.3 and 3.4: what comes of requests that several channels make at the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from rch_conformance.checks import NotOffered
from rch_conformance.worker.jobs import TERMINAL, Log
from rch_conformance.worker.peer import Answer, new_id, request_line
from rch_conformance.worker.project import LINES
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same

_MOST_SLOTS = 8
_MORE = 3
_SUBMITS = 3


def _at_once(rig: Rig, lines: Sequence[bytes]) -> list[Answer]:
    """The answer to each line, on a channel of its own. They are sent when every channel is there."""
    rig.probe()
    with ExitStack() as stack:
        channels = [stack.enter_context(rig.peer.open()) for _ in lines]
        if rig.peer.sessions:
            for channel in channels:
                channel.send(request_line("probe"))
            for channel in channels:
                rig.peer.read(channel)
        for channel, line in zip(channels, lines, strict=True):
            channel.send(line)
        return [rig.peer.read(channel) for channel in channels]


@check("3.3", "submits of one job that come at once execute it once, and each is answered its state")
def submits_at_once(rig: Rig) -> None:
    rig.end_running()
    rig.source()
    job = rig.job(rig.project().argv("passing"))
    line = {**job.payload, **rig.under(job)}
    answers = _at_once(rig, [request_line("submit", line) for _ in range(_SUBMITS)])
    told = next((answer.payload for answer in answers if answer.ok), answers[0].raw)
    outcome = rig.end_of(job, told, Log()) if any(answer.ok for answer in answers) else None
    for answer in answers:
        state = answer.payload.get("state")
        expect(state in {"QUEUED", "RUNNING", *TERMINAL}, f"a submit is answered {answer.shown()}")
    if outcome is None:
        return
    expect_same("attempts", outcome.set.record("summary.json").get("attempts"), 1)
    expect_same("seq at the end", outcome.status.get("seq"), 3)
    printed = [line for line in outcome.log.text.splitlines() if line in LINES]
    expect(len(printed) == len(set(printed)), "lines of its log come twice: it was executed more than once")


@check("3.4", "of reserves that come at once as many are granted as there are slots", needs=("lease",))
def reserves_at_once(rig: Rig) -> None:
    rig.free_slots()
    lease = rig.lease(new_id())
    rig.release(lease)
    total = lease.granted.get("slots_total")
    if not isinstance(total, int) or not 0 < total <= _MOST_SLOTS:
        raise NotOffered("few_slots", f"slots_total {total} is too many to try")
    asked = [{"run_id": new_id(), "host_id": "rch-conformance"} for _ in range(total + _MORE)]
    answers = _at_once(rig, [request_line("reserve", each) for each in asked])
    granted = [answer.payload for answer in answers if answer.ok]
    for each in granted:
        rig.ask("release", {name: each.get(name) for name in ("lease_id", "fence")})
    expect(len(granted) <= total, f"{len(granted)} leases were given out at once, slots_total is {total}")
    expect(granted, f"of {len(asked)} reserves at once none was granted")
    for name in ("lease_id", "fence"):
        seen = [each.get(name) for each in granted]
        expect(len(seen) == len(set(seen)), f"two runs have one {name}: {seen}")
    for answer in answers:
        if not answer.ok:
            answer.refused_with("BUSY")
