"""The host's own name is made once, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.contract.errors import Failure
from rch.contract.ids import is_id
from rchd.edges.host_id import host_id


def test_it_is_made_once(tmp_path: Path) -> None:
    made = host_id(tmp_path / "host_id")
    assert is_id(made)
    assert host_id(tmp_path / "host_id") == made


@pytest.mark.parametrize("bad", [b"", b"\xff\xfe\x00", b"../../x", b"short", b"two words of it"])
def test_what_is_no_id_is_refused_with_the_file_and_the_remedy(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "host_id"
    path.write_bytes(bad)
    with pytest.raises(Failure, match="which is no id") as caught:
        host_id(path)
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.hint
    assert path.read_bytes() == bad
