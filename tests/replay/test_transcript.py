"""A recorded history gives the same effects to the byte, wherever it was cut; a change is named."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay.golden import RENEW, SCENES, kept

from rchd.__main__ import main
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.daemon import Core
from rchd.core.difference import Difference
from rchd.core.phases import PHASES
from rchd.core.transcript import (
    SCHEMA,
    Replay,
    decode_batch,
    decode_effect,
    decode_header,
    encode_batch,
)

pytestmark = pytest.mark.spec("4")

names = pytest.mark.parametrize("name", SCENES)
any_name = st.sampled_from(sorted(SCENES))


@cache
def _played(name: str) -> tuple[bytes, ...]:
    return tuple(SCENES[name]().lines)


def played(name: str) -> list[bytes]:
    """A transcript of this very core."""
    return list(_played(name))


def first(lines: list[bytes]) -> Difference | None:
    return next(iter(Replay(lines)), None)


def leaves(kind: type) -> Iterator[type]:
    below: list[type] = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


# --- what is kept ------------------------------------------------------------------------


@names
def test_a_kept_transcript_replays_to_the_byte(name: str) -> None:
    replay = Replay(kept(name))
    differences = [str(each) for each in replay]
    assert not differences, f"{name}: {differences[0]}\n{RENEW}"
    assert replay.batches == len(kept(name)) - 1
    assert replay.cut is None


@names
def test_a_kept_transcript_is_what_its_scene_gives_today(name: str) -> None:
    made, then = SCENES[name]().lines, kept(name)
    odd = next((n for n, pair in enumerate(zip(made, then, strict=False), 1) if pair[0] != pair[1]), None)
    assert odd is None, f"{name}.jsonl differs from line {odd} on; {RENEW}"
    assert len(made) == len(then), f"{name}.jsonl is of another length; {RENEW}"


@names
def test_a_kept_transcript_says_what_it_pins_down_and_names_no_real_place(name: str) -> None:
    header = decode_header(kept(name)[0])
    assert (header.schema_id, header.artifacts) == (SCHEMA, "/artifacts")
    assert header.comment
    own = str(Path(__file__).parents[2]).encode()
    assert not any(b"/home/" in line or b"/tmp/" in line or own in line for line in kept(name))


def test_the_kept_transcripts_hold_nearly_every_word_of_both_vocabularies() -> None:
    batches = [decode_batch(line) for name in SCENES for line in kept(name)[1:]]
    events = {type(event) for batch in batches for event in batch.events}
    effects = {type(decode_effect(bytes(data))) for batch in batches for data in batch.effects}
    assert set(leaves(ev.Event)) - events == {ev.DrainAsked}
    assert set(leaves(fx.Effect)) - effects <= {fx.Forget}


def test_the_vocabularies_are_closed() -> None:
    assert set(typing.get_args(ev.AnyEvent)) == set(leaves(ev.Event))
    assert set(typing.get_args(fx.AnyEffect)) == set(leaves(fx.Effect))


# --- cut and changed ---------------------------------------------------------------------


@names
def test_a_transcript_cut_after_any_batch_replays(name: str) -> None:
    lines = played(name)
    for count in range(1, len(lines) + 1):
        replay = Replay(lines[:count])
        assert not list(replay)
        assert (replay.batches, replay.cut) == (count - 1, None)


@given(any_name, st.data())
def test_a_transcript_cut_at_any_byte_replays_its_whole_batches(name: str, data: st.DataObject) -> None:
    lines = played(name)
    whole = b"".join(lines)
    cut = data.draw(st.integers(len(lines[0]), len(whole) - 1), label="cut")
    replay = Replay(whole[:cut].splitlines(keepends=True))
    assert not list(replay)
    ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
    # A batch is whole without its newline, too.
    batches = sum(end - 1 <= cut for end in ends) - 1
    assert replay.batches == batches
    assert replay.cut == (None if any(cut in {end, end - 1} for end in ends) else batches + 2)


@given(any_name, st.data())
def test_a_cut_line_in_the_middle_is_told_and_what_is_before_it_replays(
    name: str, data: st.DataObject
) -> None:
    lines = played(name)
    at = data.draw(st.integers(1, len(lines) - 1), label="line")
    lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at]) - 2), label="cut")] + b"\n"
    replay = Replay(lines)
    (told,) = replay
    assert str(told).startswith(f"line {at + 1}: cut or damaged: ")
    assert replay.batches == at - 1


@given(any_name, st.data())
def test_a_changed_byte_of_an_effect_is_found_and_named(name: str, data: st.DataObject) -> None:
    lines = played(name)
    acting = [n for n, line in enumerate(lines) if n and decode_batch(line).effects]
    at = data.draw(st.sampled_from(acting), label="line")
    effects = [bytes(each) for each in decode_batch(lines[at]).effects]
    which = data.draw(st.integers(0, len(effects) - 1), label="effect")
    old = effects[which]
    place = data.draw(st.integers(0, len(old) - 1), label="byte")
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != old[place]), label="to")
    new = old[:place] + bytes([byte]) + old[place + 1 :]
    events, _, _ = lines[at].partition(b',"effects":[')
    joined = b",".join([*effects[:which], new, *effects[which + 1 :]])
    lines[at] = events + b',"effects":[' + joined + b"]}\n"
    told = first(lines)
    assert told is not None
    assert told.line == at + 1
    assert told.damage is not None or told.effect == which + 1


def test_a_changed_record_is_shown_as_its_text() -> None:
    lines = played("success")
    events, effects = msgspec.json.decode(lines[2])["events"], msgspec.json.decode(lines[2])["effects"]
    index = next(n for n, each in enumerate(effects) if each["effect"] == "WriteRecord")
    effects[index] = msgspec.to_builtins(fx.WriteRecord(path=effects[index]["path"], data=b"{}\n"))
    lines[2] = msgspec.json.encode({"events": events, "effects": effects}) + b"\n"
    told = str(first(lines))
    assert told.startswith(f"line 3: batch 2, effect {index + 1} differs\n  recorded: WriteRecord")
    assert "{}\\n" in told
    assert '"root": "/src/demo"' in told


def test_an_effect_too_few_or_too_many_is_named() -> None:
    lines = played("success")
    batch = decode_batch(lines[2])
    made = [decode_effect(bytes(each)) for each in batch.effects]
    more = first([*lines[:2], encode_batch(batch.events, [*made, fx.Forget(worker="mac")])])
    fewer = first([*lines[:2], encode_batch(batch.events, made[:-1])])
    assert more is not None
    assert (more.effect, more.replayed) == (len(made) + 1, None)
    assert fewer is not None
    assert (fewer.effect, fewer.recorded) == (len(made), None)
    assert "recorded: no such effect" in str(fewer)


def test_a_core_that_raises_is_told_at_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, handle = played("success"), Core.handle

    def breaks(core: Core, event: ev.Event) -> list[fx.Effect]:
        if isinstance(event, ev.Uploaded):
            raise KeyError(event.run_id)
        return handle(core, event)

    monkeypatch.setattr(Core, "handle", breaks)
    at = next(n for n, line in enumerate(lines, 1) if b'"event":"Uploaded"' in line)
    assert str(first(lines)) == f"line {at}: the core raises KeyError: 'run-00000001'"


@pytest.mark.parametrize("line", [b"", b"{}\n", b'{"schema_id":"rch-xcode/transcript@2"}\n', b"\xff\n"])
def test_what_has_no_header_of_this_schema_is_no_transcript(line: bytes) -> None:
    told = first([line, *played("success")[1:]])
    assert str(told).startswith(f"line 1: no header of {SCHEMA}: ")


# --- the command -------------------------------------------------------------------------


def replayed(path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["rchd", "replay", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_tells_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = played("cancel")
    path = tmp_path / "rec"
    path.write_bytes(b"".join(lines))
    assert replayed(path, monkeypatch) == 0
    comment, *phases, last = capsys.readouterr().out.splitlines()
    assert comment == decode_header(lines[0]).comment
    assert [phase.split()[0] for phase in phases] == list(PHASES)
    assert phases[2] == "upload   1 asked, 1 answered: identical"
    assert last == f"{len(lines) - 1} batches, identical"

    path.write_bytes(b"".join(lines)[:-9])
    assert replayed(path, monkeypatch) == 0
    rest = f"line {len(lines)}, the last, is cut and was left out"
    assert capsys.readouterr().out.endswith(f"\n{len(lines) - 2} batches, identical; {rest}\n")

    path.write_bytes(b"".join(lines).replace(b'"seconds":', b'"seconds":1'))
    assert replayed(path, monkeypatch) == 1
    out = capsys.readouterr().out
    assert f"\n{path}: line 2: batch 1, effect " in out
    assert "replayed: StartTimer" in out
    assert "probe    2 asked, 1 answered: 1 differ\n" in out
    assert '  -  "seconds": 1600.0,\n  +  "seconds": 600.0,' in out

    assert replayed(tmp_path / "none", monkeypatch) == 2
    assert "none: No such file" in capsys.readouterr().err
