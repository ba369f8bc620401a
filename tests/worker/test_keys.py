"""The worker's own key: made once, its owner's alone."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rch.contract.signing import fingerprint_of, public_key_of
from rch.contract.worker_rpc import RpcError
from worker_agent.keys import worker_key

pytestmark = [pytest.mark.spec("10")]


def test_a_key_is_made_on_first_use_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "state" / "attestation.key"
    key = worker_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert worker_key(path) == key
    assert key.fingerprint == fingerprint_of(public_key_of(bytes.fromhex(key.seed)))
    assert [each.name for each in path.parent.iterdir()] == ["attestation.key"]


def test_of_many_first_uses_one_makes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "attestation.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: worker_key(path).seed, range(16)))
    assert len(keys) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["attestation.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_can_read_or_write_is_none(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "attestation.key"
    worker_key(path)
    path.chmod(mode)
    with pytest.raises(RpcError, match="chmod 600"):
        worker_key(path)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"seed": "00", "public": "00"}', '{"seed": "x", "public": "y"}']
)
def test_a_file_that_holds_no_key_is_not_written_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "attestation.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(RpcError, match="holds no key"):
        worker_key(path)
    assert path.read_text() == text


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    worker_key(real)
    (tmp_path / "attestation.key").symlink_to(real)
    with pytest.raises(RpcError, match="cannot be read"):
        worker_key(tmp_path / "attestation.key")
