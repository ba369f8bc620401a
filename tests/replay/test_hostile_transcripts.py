"""`rchd replay` of whatever somebody sent: 1 is for another decision alone, and all is bounded."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import pytest
from replay.golden import SCENES

from rchd import replaying
from rchd.core import transcript as transcript_module
from rchd.core.exporting import exported
from rchd.core.slices import Life, cut
from rchd.core.transcript import decode_batch, decode_header
from rchd.edges import transcript_file

pytestmark = pytest.mark.spec("13")
RUN = "run-00000001"
Tell = Callable[[bytes | Path], tuple[int, str]]


@cache
def sealed_lines() -> tuple[bytes, ...]:
    """An export."""
    lines = SCENES["success"]().lines
    batches = [decode_batch(line) for line in lines[1:]]
    found = cut([Life(decode_header(lines[0]), batches, ["" for _ in batches])], RUN)
    assert found is not None
    return tuple(exported(found, RUN, {"comment": "one\ntwo\x1b[31m"}, [], ""))


@pytest.fixture
def told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Tell:
    def tell(content: bytes | Path) -> tuple[int, str]:
        path = content if isinstance(content, Path) else tmp_path / "t.jsonl"
        if isinstance(content, bytes):
            path.write_bytes(content)
        code = replaying.replay(Namespace(file=path, json=False))
        said = capfd.readouterr()
        return code, said.out + said.err

    return tell


def test_the_file_that_was_sent_replays_and_its_comment_is_one_line(told: Tell) -> None:
    code, text = told(b"".join(sealed_lines()))
    assert code == 0
    assert "\x1b" not in text
    assert "two" in text.splitlines()[0]


def plain() -> list[bytes]:
    return list(SCENES["success"]().lines)


DAMAGED: dict[str, Callable[[], bytes]] = {
    "cut": lambda: b"".join(sealed_lines())[:-500],
    "digest": lambda: b"".join(sealed_lines()).replace(b'"last_seq":0', b'"last_seq":1', 1),
    "unsealed": lambda: b"".join(
        [sealed_lines()[0].replace(b'"sha256"', b'"sha257"', 1), *sealed_lines()[1:]]
    ),
    "middle": lambda: b"".join([*plain()[:3], b"{]\n", *plain()[4:]]),
    "empty": lambda: b"",
    "zeros": lambda: b"\0" * 5000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_no_other_decision(name: str, told: Tell) -> None:
    code, text = told(DAMAGED[name]())
    assert code == 2
    assert text.count("\n") <= 2


def test_what_is_decided_otherwise_is(told: Tell) -> None:
    lines = plain()
    batch = msgspec.json.decode(lines[3])
    lines[3] = msgspec.json.encode({**batch, "effects": []}) + b"\n"
    assert told(b"".join(lines))[0] == 1


def test_nothing_but_a_file_is_opened(tmp_path: Path, told: Tell) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), Path("/dev/null"), tmp_path):
        code, text = told(path)
        assert code == 2
        assert "no regular file" in text or "Is a directory" in text


def test_lines_files_and_runs_are_bounded(told: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"".join(plain())
    longest = max(map(len, plain()))
    monkeypatch.setattr(transcript_file, "MAX_LINE", longest)
    monkeypatch.setattr(transcript_file, "MAX_FILE", len(whole))
    assert told(whole)[0] == 0
    monkeypatch.setattr(transcript_file, "MAX_LINE", longest - 1)
    assert f"is over {longest - 1} bytes" in told(whole)[1]
    monkeypatch.setattr(transcript_file, "MAX_LINE", longest)
    monkeypatch.setattr(transcript_file, "MAX_FILE", len(whole) - 1)
    code, text = told(whole)
    assert (code, f"over {len(whole) - 1}" in text) == (2, True)


def test_live_runs_and_differences_are_bounded(told: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript_file, "MAX_FILE", 1 << 30)
    resumed = list(SCENES["resume"]().lines)
    monkeypatch.setattr(transcript_module, "MOST_RUNS", 2)
    assert told(b"".join(resumed))[0] == 0
    monkeypatch.setattr(transcript_module, "MOST_RUNS", 1)
    code, text = told(b"".join(resumed))
    assert code == 2
    assert "begins with 2 live runs, over 1" in text
    monkeypatch.setattr(replaying, "MOST_DIFFERENCES", 2)
    other = b'{"events":[],"effects":[{"effect":"Nope"}]}\n'
    assert "and 1 more" in told(plain()[0] + other * 2)[1]
    assert "and 1 more" in told(plain()[0] + other * 3)[1]
