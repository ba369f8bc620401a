"""The line to the worker is cut, anywhere: the run ends as if nothing had been.

No byte of a log is lost or told twice, no job runs twice, no lease is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_proxy import DOWN, UP, CutAfter, Direction, FlipBit
from support.lines import HALF, FarLab, far_lab
from support.sshd import available

pytestmark = [
    pytest.mark.spec("4"),
    pytest.mark.sshd,
    pytest.mark.skipif(not available, reason="OpenSSH's sshd is not installed"),
]


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarLab]:
    with far_lab(tmp_path_factory.mktemp("far")) as it:
        yield it


@pytest.mark.fault("S1")
@pytest.mark.fault("S5")
@pytest.mark.fault("S6")
def test_a_run_whose_line_is_cut_in_its_upload_its_tail_and_its_fetch_ends_well(far: FarLab) -> None:
    build = far.build("cut", gated=True)
    before = far.line.proxy.strikes
    far.line.set(CutAfter(100_000, UP, "rst"))
    client = far.start(build)
    far.line.struck(before + 1)
    far.line.set(CutAfter(HALF // 2 + 1, DOWN, "rst"))
    far.line.struck(before + 2)
    build.until_half()
    # What is left of the log comes first, as far as it was not told; then all of it with the artifacts.
    far.line.set(CutAfter(HALF * 5 // 3, DOWN, "fin"))
    build.go_on()
    far.line.struck(before + 3)
    far.check(build, far.ended(client))


@pytest.mark.fault("S5")
def test_bits_that_are_flipped_on_the_way_cut_the_line_and_no_more(far: FarLab) -> None:
    build = far.build("bits")
    before, made = far.line.proxy.strikes, far.line.proxy.made
    far.line.set(FlipBit(60_000, UP, bit=5), FlipBit(100_000, DOWN, bit=2))
    client = far.start(build)
    far.line.struck(before + 2)
    far.check(build, far.ended(client))
    assert far.line.proxy.made >= made + 2


# --- anywhere -------------------------------------------------------------------------

PARTS, EVERY = 8, 500
SMALL = 2_000


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.fault("S1")
@pytest.mark.fault("S5")
@pytest.mark.fault("S6")
@pytest.mark.parametrize("part", range(PARTS))
def test_the_line_may_be_cut_after_any_byte_of_the_conversation(tmp_path: Path, part: int) -> None:
    with far_lab(tmp_path) as far:
        whole = conversation(far)
        cases = [
            (at, direction, how)
            for direction, how in ((UP, "rst"), (DOWN, "fin"), (UP, "fin"), (DOWN, "rst"))
            for at in range(0, whole[direction], EVERY)
        ]
        mine = cases[part::PARTS]
        for number, (at, direction, how) in enumerate(mine):
            build = far.build(f"cut-{number}", half=SMALL)
            begin_anew(far)
            far.line.set(CutAfter(at, direction, how))  # type: ignore[arg-type]  # a tuple's words widen
            far.check(build, far.ended(far.start(build)))
        # No two runs are as long to the byte: the last cuts may come too late.
        assert far.line.proxy.strikes > len(mine) * 0.8


def conversation(far: FarLab) -> dict[Direction, int]:
    """How many bytes an undisturbed run takes, from the first of a connection on."""
    build = far.build("undisturbed", half=SMALL)
    far.check(build, far.ended(far.start(build)))
    return dict(far.line.proxy.handed_on)


def begin_anew(far: FarLab) -> None:
    """No connection, no daemon: the next run begins with the first byte."""
    far.user.stop()
    far.line.set()
    far.line.cut()
    far.line.idle()
