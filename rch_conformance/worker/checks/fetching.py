"""Section 3.2: the framed answer of `fetch`."""

from __future__ import annotations

from rch.contract.worker_rpc import FetchHeader
from rch_conformance.worker.forms import sha256
from rch_conformance.worker.jobs import fetch, read_set
from rch_conformance.worker.peer import PROTOCOL, new_id, request_line
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same, shaped


@check("3.2", "the header of a set is the response: its members stand at top level")
def set_header_is_the_response(rig: Rig) -> None:
    header = rig.built().fetched.header
    shaped(header, FetchHeader, "the header of the set")
    expect_same("ok", header.get("ok"), True)
    expect_same("job_id", header.get("job_id"), rig.built().job.job_id)
    expect_same("protocol_version", header.get("protocol_version"), PROTOCOL)
    expect("payload" not in header, "the header has a payload: its members belong at top level")
    for name in ("content_length", "content_sha256", "compression", "format"):
        expect(name in rig.built().fetched.stream, f"stream has no {name}")


@check("3.2", "the header of a set echoes the request_id")
def set_header_echoes(rig: Rig) -> None:
    request_id, job_id = new_id(), rig.built().job.job_id
    with rig.peer.open() as channel:
        channel.send(request_line("fetch", {"job_id": job_id}, request_id=request_id))
        channel.end_input()
        header = read_set(rig.peer.read(channel), channel).header
    expect_same("request_id", header.get("request_id"), request_id)


@check("3.2", "exactly content_length bytes follow the header, and they are those of content_sha256")
def set_is_what_its_header_says(rig: Rig) -> None:
    with rig.peer.open() as channel:
        channel.send(request_line("fetch", {"job_id": rig.built().job.job_id}))
        channel.end_input()
        fetched = read_set(rig.peer.read(channel), channel)
        more = channel.rest()
    expect(not more, f"{len(more)} bytes follow the set")
    expect_same("the SHA-256 of the body", sha256(fetched.body), fetched.stream.get("content_sha256"))


@check("3.2", "a set is the same at each fetch")
def set_is_the_same_again(rig: Rig) -> None:
    first, again = rig.built().fetched, fetch(rig.peer, rig.built().job.job_id)
    expect_same("the SHA-256 of the second fetch", sha256(again.body), sha256(first.body))


@check(
    "3.2",
    "a fetch from an offset sends the rest, and names the digest of the whole",
    needs=("fetch_resume",),
)
def fetch_goes_on(rig: Rig) -> None:
    whole, job_id = rig.built().fetched, rig.built().job.job_id
    digest, length = sha256(whole.body), len(whole.body)
    for offset in (1, length // 2, length - 1):
        rest = fetch(rig.peer, job_id, offset)
        expect_same("offset of the header", rest.header.get("offset"), offset)
        expect_same("set_sha256", rest.header.get("set_sha256"), digest)
        expect(rest.header.get("set_length", length) == length, "set_length is not that of the whole set")
        expect(
            rest.body == whole.body[offset:], f"the bytes from {offset} on are not those of the whole set"
        )
        expect_same("content_sha256 of the rest", rest.stream.get("content_sha256"), sha256(rest.body))


@check("3.2", "an offset beyond the set is refused", needs=("fetch_resume",))
def offset_beyond_the_set(rig: Rig) -> None:
    whole, job_id = rig.built().fetched, rig.built().job.job_id
    for offset in (len(whole.body) + 1, -1):
        rig.ask("fetch", {"job_id": job_id, "offset": offset}).refused_with("INVALID_REQUEST")
