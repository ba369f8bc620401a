"""One run's part of a history replays by itself; where others had a say, they are in it."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay.golden import SCENES

from rchd.core import events as ev
from rchd.core.exporting import RenamedOtherwiseError, exported, written
from rchd.core.share import Names
from rchd.core.slices import DecidedOtherwiseError, Life, Slice, cut
from rchd.core.transcript import Replay, damage_of, decode_batch, decode_header, encode_batch

pytestmark = pytest.mark.spec("13")
HEADER = {"comment": "c", "version": "9"}


@cache
def life(name: str) -> Life:
    """A scene as a daemon has recorded it."""
    lines = SCENES[name]().lines
    batches = [decode_batch(line) for line in lines[1:]]
    return Life(decode_header(lines[0]), batches, [f"line {n}" for n in range(2, len(lines) + 1)])


def runs_of(name: str) -> list[str]:
    loaded = [run.run_id for run in life(name).header.runs]
    events = [event for batch in life(name).batches for event in batch.events]
    return loaded + [event.accepted.run_id for event in events if isinstance(event, ev.RunAccepted)]


def slice_of(name: str, run_id: str) -> Slice:
    found = cut([life(name)], run_id)
    assert found is not None
    return found


def text_of(lines: list[bytes]) -> str:
    return b"".join(lines).decode()


every_run = pytest.mark.parametrize(
    ("name", "run_id"), [(name, run_id) for name in SCENES for run_id in runs_of(name)]
)


@every_run
def test_a_run_of_any_history_is_exported_and_replays(name: str, run_id: str) -> None:
    lines = exported(slice_of(name, run_id), run_id, HEADER, [], "/home/somebody")
    assert damage_of(lines) is None
    replay = Replay(lines)
    assert [str(each) for each in replay] == []
    assert replay.batches == len(lines) - 1
    assert exported(slice_of(name, run_id), run_id, HEADER, [], "/home/somebody") == lines
    assert decode_header(lines[0]).run_id == run_id


@every_run
def test_nobody_is_named_in_it(name: str, run_id: str) -> None:
    text = text_of(exported(slice_of(name, run_id), run_id, HEADER, [], "/home/somebody"))
    named = ["mac.example", "far.example", '"mac"', '"far"', "n" * 32, "lease-run", "/src/demo"]
    as_is = text_of(written(slice_of(name, run_id), run_id, HEADER))
    assert [each for each in named if each in text] == []
    assert '"mac"' in as_is or '"far"' in as_is or '"event":"Probed"' not in as_is


def test_the_events_of_a_run_that_had_no_say_are_left_out() -> None:
    (first, second) = runs_of("cancel")
    found = slice_of("cancel", first)
    assert not found.others
    assert second not in text_of(written(found, first, HEADER))


def test_a_run_that_others_held_up_has_them_in_its_slice() -> None:
    # Of the fourth run it is told that no worker can serve it when they are asked for the third.
    *_, third, fourth = runs_of("aside")
    found = slice_of("aside", fourth)
    assert found.others
    text = text_of(written(found, fourth, HEADER))
    assert third in text
    assert '"others":true' in text


def test_a_run_that_began_later_begins_with_what_was_known_of_the_workers() -> None:
    (first, second, *_) = runs_of("aside")
    found = slice_of("aside", second)
    assert not found.others
    lines = written(found, second, HEADER)
    assert first not in text_of(lines)
    assert '"health":{"mac":' in lines[0].decode()


def test_a_run_that_is_nowhere_has_no_slice() -> None:
    assert cut([life("success")], "run-of-nobody") is None


def test_a_history_that_this_version_would_not_have_is_not_cut() -> None:
    whole = life("success")
    batches = list(whole.batches)
    batches[3] = decode_batch(encode_batch(batches[3].events, []))
    with pytest.raises(DecidedOtherwiseError, match="line 5"):
        cut([whole._replace(batches=batches)], "run-00000001")


def test_a_history_that_is_another_one_without_its_names_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if a name had a meaning: the worker that serves is not the one that was asked.
    kept = Names._word
    monkeypatch.setattr(
        Names, "_word", lambda self, kind, name: "x" if kind == "mark" else kept(self, kind, name)
    )
    monkeypatch.setattr("rchd.core.share._KINDS", {"state": "mark"})
    with pytest.raises(RenamedOtherwiseError, match="batch"):
        exported(slice_of("success", "run-00000001"), "run-00000001", HEADER, [], "")


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(sorted(SCENES)), st.data())
def test_a_run_that_is_not_over_is_cut_as_far_as_it_is(name: str, data: st.DataObject) -> None:
    whole = life(name)
    count = data.draw(st.integers(1, len(whole.batches)))
    short = whole._replace(batches=whole.batches[:count], places=whole.places[:count])
    for run_id in runs_of(name):
        found = cut([short], run_id)
        if found is not None:
            lines = exported(found, run_id, HEADER, [], "")
            assert [str(each) for each in Replay(lines)] == []
