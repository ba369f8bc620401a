"""Section 3.1: several requests on one channel."""

from __future__ import annotations

from rch_conformance.worker.peer import new_id, request_line
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same

_SESSION = ("session",)


@check("3.1", "a session answers request lines in order, also those that come in one piece", needs=_SESSION)
def session_keeps_the_order(rig: Rig) -> None:
    ids = [new_id() for _ in range(6)]
    lines = [
        request_line("probe", request_id=request_id)
        if at % 2
        else request_line("has_source", {"source_sha256": "0" * 64}, request_id=request_id)
        for at, request_id in enumerate(ids)
    ]
    with rig.peer.open() as channel:
        channel.send(b"".join(lines))
        for request_id in ids:
            expect_same("request_id", rig.peer.read(channel).raw.get("request_id"), request_id)


@check("3.1", "a session goes on until the end of the input, and then ends with 0", needs=_SESSION)
def session_ends_with_its_input(rig: Rig) -> None:
    with rig.peer.open() as channel:
        for _ in range(2):
            channel.send(request_line("probe"))
            expect(rig.peer.read(channel).ok, "a probe in a session was refused")
        channel.end_input()
        more = channel.rest()
        expect(not more, f"after the last answer this came: {more[:200]!r}")
        expect_same("the exit code", channel.exit_code(), 0)


@check("3.1", "a request whose line comes in pieces is answered once it is whole", needs=_SESSION)
def lines_in_pieces(rig: Rig) -> None:
    line = request_line("probe")
    with rig.peer.open() as channel:
        channel.send(line[:20])
        expect(channel.is_silent(0.2), "half a line was answered")
        channel.send(line[20:])
        expect(rig.peer.read(channel).ok, "a probe in two pieces was refused")


@check("3.1", "a refused frame closes its channel", needs=_SESSION)
def refused_frame_closes(rig: Rig) -> None:
    stream = {"content_length": 4, "content_sha256": "0" * 64, "compression": "none", "format": "tar"}
    upload = request_line("upload_source", {"source_sha256": "1" * 64, "stream": stream}) + b"abcd"
    for frame in (b"no frame at all\n", upload):
        with rig.peer.open() as channel:
            channel.send(frame + request_line("probe"))
            answer = rig.peer.read(channel)
            expect(not answer.ok, f"the frame was taken: {answer.shown()}")
            more = channel.rest()
            expect(not more, f"after the refusal of {frame[:20]!r} the channel goes on: {more[:200]!r}")
