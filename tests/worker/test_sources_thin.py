"""Uploads of what is new: spliced into a stored base, held to the digest of the whole, kept thin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tars
from support.thin import (
    BASE,
    CONFIG,
    files,
    is_whole,
    leavings,
    payload,
    send,
    sha256,
    with_changes,
)
from support.worker_pipe import MANIFEST, Bench, Refused, a_bench, submit_and_end, tar

from rch.contract.tar import Member, TarError, write_tar
from worker_agent import source_thin
from worker_agent.source_index import SourceMember
from worker_agent.worker import Worker

pytestmark = pytest.mark.spec("5")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


# --- what is stored ---------------------------------------------------------------------


def test_an_edit_writes_what_is_new_and_the_job_runs_on_the_whole(bench: Bench) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"build.sh": "echo thin\n", "Sources/a/new.swift": "// new\n"})
        assert pipe.ask("has_source", source_sha256=whole) == {"exists": True}
        assert (files(bench, "tar"), files(bench, "thin")) == ({base}, {whole})
        assert (bench.data / "sources" / f"{whole}.thin").stat().st_size < 8192
        is_whole(bench, whole)
        assert submit_and_end(pipe, bench.job(pipe, whole)) == "SUCCEEDED"
    assert leavings(bench) == []


def test_a_change_upon_a_change_rests_on_the_one_whole_base(bench: Bench) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        first = {"Sources/a/main.swift": "print(2)\n", "Sources/a/z.swift": "let z = 0\n"}
        one = send(pipe, BASE, first)
        second = with_changes(BASE, first)
        two = send(pipe, second, {"A": "a", "build.sh": "exit 1\n"}, ("Sources/a/z.swift",))
        third = with_changes(second, {"A": "a", "build.sh": "exit 1\n"}, ("Sources/a/z.swift",))
        three = send(pipe, third, {"build.sh": "exit 0\n"})
        shelf = Worker(bench.env).sources.shelf
        assert {shelf.base_of(each) for each in (one, two, three)} == {base}
        for each in (one, two, three):
            is_whole(bench, each)
        assert shelf.remove(one)  # nothing rests on it
        is_whole(bench, three)


def test_a_source_that_is_mostly_new_is_stored_whole(bench: Bench) -> None:
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"Sources/b/other.swift": os.urandom(150_000)})
    assert whole in files(bench, "tar")
    assert files(bench, "thin") == set()
    is_whole(bench, whole)


def test_a_large_delta_is_written_out_however_large_its_base(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_thin, "MOST_DELTA_BYTES", 4096)
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"build.sh": "#" * 4096})
    assert files(bench, "thin") == set()
    is_whole(bench, whole)


def test_a_member_that_the_base_has_unchanged_does_no_harm(bench: Bench) -> None:
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"Package.swift": MANIFEST, "build.sh": "true\n"})
    is_whole(bench, whole)


def test_a_thin_upload_goes_in_parts(bench: Bench) -> None:
    whole = sha256(tar(with_changes(BASE, {"build.sh": "true\n"})))
    body = zstandard.compress(tar({"build.sh": "true\n"}))
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        half = len(body) // 2
        for offset, part in ((0, body[:half]), (half, body[half:])):
            last = offset > 0
            totals = {"total_length": len(body), "total_sha256": sha256(body)} if last else {}
            resume = {"upload_id": "upload-0000000001", "offset": offset, "last": last, **totals}
            answer = pipe.ask("upload_source", part, **payload(part, whole, base, resume=resume))
            assert answer["stored"] is last
    is_whole(bench, whole)
    assert leavings(bench) == []


def test_the_config_follows_what_was_sent_removed_or_kept(bench: Bench) -> None:
    sources = Worker(bench.env).sources
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        kept = send(pipe, BASE, {"build.sh": "true\n"})
        changed = send(pipe, BASE, {CONFIG: "schema_version = 1\n# more\n"})
        removed = send(pipe, BASE, {"x": ""}, (CONFIG,))
        back = send(pipe, with_changes(BASE, {"x": ""}, (CONFIG,)), {CONFIG: "# back\n"}, over=removed)
    configs = [sources.facts(each).config for each in (kept, changed, removed, back)]
    assert configs == [b"schema_version = 1\n", b"schema_version = 1\n# more\n", None, b"# back\n"]
    assert ".rch" not in sources.facts(removed).top_level


NAMES = [f"{folder}{name}" for folder in ("", "d/", "d/e/", "f/") for name in "abcxyz"]
TREES = st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=1200), max_size=12)


def index_of(data: Mapping[str, bytes]) -> tuple[bytes, tuple[SourceMember, ...]]:
    from worker_agent.source_check import check_source

    whole = tar(data)
    return whole, check_source(sha256(whole), [whole])[1]


@settings(max_examples=60, deadline=None)
@given(trees=st.lists(TREES, min_size=2, max_size=4))
def test_any_tree_follows_from_any_other(trees: list[dict[str, bytes]]) -> None:
    """A chain of splices, each over the one before, gives the bytes that the writer would make."""
    full, index = index_of(trees[0])
    runs, delta, before = source_thin.runs_of(index, None), b"", trees[0]
    for after in trees[1:]:
        changed = {name: data for name, data in after.items() if before.get(name) != data}
        sent, fresh = index_of(changed)
        removed = sorted(before.keys() - after.keys())
        made = source_thin.splice(runs, len(full), removed, fresh, len(sent))
        delta = sent + b"".join(delta[each.offset :][: each.length] for each in made.carried)
        assert len(delta) == made.delta_size
        stands = (full, delta)
        data = b"".join(stands[each.file][each.offset :][: each.length] for each in made.segments)
        whole, its_index = index_of(after)
        assert data == whole
        assert source_thin.virtual(made.runs) == its_index
        plan = source_thin.Plan(
            base_sha256="0" * 64,
            base_size=len(full),
            segments=made.segments,
            delta=source_thin.members_of(made.runs, 1),
            facts=source_thin.check_whole(made.runs, None),
        )
        runs, before = source_thin.runs_of(index, plan), after
        assert source_thin.virtual(runs) == its_index


# --- what is refused ----------------------------------------------------------------------


def member(path: str, data: bytes = b"", target: str | None = None) -> bytes:
    kind: Any = "file" if target is None else "symlink"
    one = Member(path=path, size=len(data), kind=kind, target=target)
    return b"".join(write_tar([(one, (data,))], canonical=True))


def by_hand(*parts: bytes) -> bytes:
    return b"".join(parts) + tars.END


BAD = "INVALID_REQUEST"
# The stream's tar, what is removed, and the reason of the refusal.
HOSTILE: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "a link out through a link of the base": (member("a/b/out", target="up/../x"), (), "not_canonical"),
    "a file where the base has a folder": (member("Sources"), (), "not_canonical"),
    "a folder where the base has a file": (member("build.sh/x"), (), "not_canonical"),
    "a name that folds onto one of the base": (member("BUILD.sh"), (), "not_canonical"),
    "a folder that folds onto one of the base": (member("sources/c"), (), "not_canonical"),
    "a name that leaves the root": (by_hand(tars.file(b"../x")), (), "not_canonical"),
    "an order that is none": (by_hand(tars.file(b"b"), tars.file(b"a")), (), "not_canonical"),
    "a tar that is cut": (member("new")[:-512], (), "not_canonical"),
    "a name that is removed and sent": (member("build.sh"), ("build.sh",), "removed"),
    "a removed name that is not there": (member("new"), ("build.s",), "removed"),
    "a removed name after all others": (member("new"), ("zzz",), "removed"),
    "a removed name before all others": (member("new"), ("!",), "removed"),
    "a removed folder": (member("new"), ("Sources",), "removed"),
}


def linked_base() -> dict[str, bytes]:
    """The base's members as they stand in its tar; one is a link to the root."""
    plain = {name: data if isinstance(data, bytes) else data.encode() for name, data in BASE.items()}
    members = {name: tars.file(name.encode(), data) for name, data in plain.items()}
    return members | {"a/b/up": tars.link(b"a/b/up", b"../..")}


def joined(members: Mapping[str, bytes]) -> bytes:
    return b"".join(members[name] for name in sorted(members)) + tars.END


@pytest.mark.fault("T1")
@pytest.mark.fault("T2")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_delta_stores_nothing(bench: Bench, case: str) -> None:
    stream, removed, reason = HOSTILE[case]
    body = zstandard.compress(stream)
    # What a careless worker would make of it: then not even the digest is wrong.
    careless = {name: data for name, data in linked_base().items() if name not in removed}
    careless[stream[:100].rstrip(b"\0").decode()] = stream.removesuffix(tars.END)
    with bench.pipe() as pipe:
        base = bench.upload(pipe, joined(linked_base()))
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", body, **payload(body, sha256(joined(careless)), base, removed))
    assert (refusal.value.code, refusal.value.data["reason"]) == (BAD, reason)
    assert (files(bench, "tar"), files(bench, "thin"), leavings(bench)) == ({base}, set(), [])


@pytest.mark.parametrize("removed", [("b", "a"), ("a", "a")])
def test_removed_names_out_of_order_are_refused_before_the_body(
    bench: Bench, removed: tuple[str, ...]
) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        with pytest.raises(Refused, match=r"INVALID_REQUEST: base\.removed"):
            pipe.ask("upload_source", **payload(b"x" * 100, "0" * 64, base, removed))  # no body is sent


def test_a_total_of_another_digest_stores_nothing_and_the_base_stays(bench: Bench) -> None:
    body = zstandard.compress(tar({"build.sh": "true\n"}))
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", body, **payload(body, "0" * 64, base))
    assert (refusal.value.code, refusal.value.data["reason"]) == (BAD, "bundle_digest")
    assert (files(bench, "tar"), files(bench, "thin"), leavings(bench)) == ({base}, set(), [])


@pytest.mark.spec("3.2")
def test_the_bound_is_that_of_the_whole(bench: Bench) -> None:
    base, body = tar(BASE), zstandard.compress(tar({"new": bytes(1024)}))
    whole = tar(with_changes(BASE, {"new": bytes(1024)}))
    bench.configure(f"max_upload_bytes = {len(base)}\n")
    with bench.pipe() as pipe:
        digest = bench.upload(pipe, base)
        with pytest.raises(Refused) as refusal:
            pipe.ask("upload_source", body, **payload(body, sha256(whole), digest))
    assert (refusal.value.code, refusal.value.data) == ("PAYLOAD_TOO_LARGE", {"max_bytes": len(base)})


def test_names_are_looked_at_as_a_whole() -> None:
    """The last line of defence, without a digest before it."""
    up, out = (
        SourceMember(
            f"a/b/{name}", "symlink", 0, executable=False, target=target, sha256=None, offset=0, content=512
        )
        for name, target in (("up", "../.."), ("out", "up/../x"))
    )
    made = source_thin.splice([(0, (up,))], 1536, (), (out,), 1536)
    with pytest.raises(TarError, match="leads out"):
        source_thin.check_whole(made.runs, None)
