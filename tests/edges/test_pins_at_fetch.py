"""Which keys may sign a set when workers.toml was edited while its job ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.config.inventory import load_inventory
from rch.contract.attestation import check
from rch.contract.signing import Untrusted
from rchd.core.select import NOBODY, still_pinned
from rchd.edges.pool import WorkerPool
from rchd.edges.prober import Prober

A, B, C = (f"SHA256:{letter * 64}" for letter in "abc")

pytestmark = [pytest.mark.spec("10")]


@pytest.mark.fault("A6")
@pytest.mark.parametrize(
    ("edit", "selected", "now", "may_sign"),
    [
        ("none", (A,), (A,), (A,)),
        ("none, nothing is pinned", (), (), ()),
        ("a key is added", (A,), (A, B), (A,)),
        ("the first key is pinned", (), (A,), (A,)),
        ("a key is taken away", (A, B), (B,), (B,)),
        ("a key is changed", (A,), (B, C), (NOBODY,)),
        ("all keys are taken away", (A,), (), (A,)),
        ("the worker or the file is gone", (A,), None, (A,)),
        ("the worker or the file is gone, nothing was pinned", (), None, ()),
    ],
)
def test_no_edit_in_the_middle_of_a_run_gives_a_key_a_right(
    edit: str, selected: tuple[str, ...], now: tuple[str, ...] | None, may_sign: tuple[str, ...]
) -> None:
    del edit
    assert still_pinned(selected, now) == may_sign


def test_where_no_key_may_sign_that_is_said() -> None:
    with pytest.raises(Untrusted, match="pins no key any more"):
        check(b'{"worker":{}}', (NOBODY,))


def test_the_pins_are_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "workers.toml"

    def pin(*keys: str) -> None:
        listed = ", ".join(f'"{key}"' for key in keys)
        path.write_text(
            f'[[worker]]\nname = "mini"\ntransport = "local"\nattestation_pubkey_fingerprint = [{listed}]\n'
        )

    pin(A)
    prober = Prober(WorkerPool(()), lambda: load_inventory(path))
    assert prober.pins("mini") == (A,)
    pin(A, B)
    assert prober.pins("mini") == (A, B)
    assert prober.pins("gone") is None
    path.write_text("[[worker")
    assert prober.pins("mini") is None
