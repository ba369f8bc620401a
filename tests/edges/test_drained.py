"""Who is drained is on disk before anybody is told, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.contract.errors import Failure
from rchd.edges.drained import Drain, Drained

SINCE = "2026-01-01T10:00:00.000Z"


def test_it_is_remembered_and_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "drained.json"
    drained = Drained(path)
    assert drained.reasons() == {}
    drained.set("mini", Drain(reason="a new Xcode", since=SINCE))
    drained.set("studio", Drain(reason="", since=SINCE))
    again = Drained(path)
    assert again.reasons() == {"mini": "a new Xcode", "studio": ""}
    assert again.get("mini") == Drain(reason="a new Xcode", since=SINCE)
    again.set("mini", None)
    again.set("nobody", None)
    assert Drained(path).reasons() == {"studio": ""}


@pytest.mark.parametrize("bad", [b"", b"\xff", b"[]", b'{"mini": 1}', b'{"mini": {"reason": "x"}}'])
def test_what_says_nothing_of_drains_is_refused_with_the_file_and_the_remedy(
    tmp_path: Path, bad: bytes
) -> None:
    path = tmp_path / "drained.json"
    path.write_bytes(bad)
    with pytest.raises(Failure, match="does not say which workers are drained") as caught:
        Drained(path)
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.hint
    assert path.read_bytes() == bad
