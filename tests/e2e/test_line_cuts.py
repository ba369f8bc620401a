"""The line to the worker is cut, anywhere: the run ends as if nothing had been.

No byte of a log is lost or told twice, no job runs twice, no lease is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_proxy import DOWN, UP, CutAfter, Direction, Ending, FlipBit
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


# In the bundle; and in the artifacts, for the log was told before.
@pytest.mark.fault("S1")
@pytest.mark.fault("S6")
@pytest.mark.parametrize(("at", "direction", "how"), [(100_000, UP, "rst"), (420_000, DOWN, "fin")])
def test_a_cut_in_a_transfer_changes_nothing(
    far: FarLab, at: int, direction: Direction, how: Ending
) -> None:
    build = far.build(f"cut-{at}")
    before = far.line.proxy.strikes
    far.line.set(CutAfter(at, direction, how))
    client = far.start(build)
    far.line.struck(before + 1)
    far.check(build, far.ended(client))


@pytest.mark.fault("S5")
def test_a_tail_that_is_cut_in_the_middle_of_its_bytes_goes_on_at_its_cursor(far: FarLab) -> None:
    build = far.build("tail", gated=True)
    before = far.line.proxy.strikes
    far.line.set(CutAfter(HALF // 2 + 1, DOWN))
    client = far.start(build)
    build.until_half()
    far.line.struck(before + 1)
    build.go_on()
    far.check(build, far.ended(client))


@pytest.mark.fault("S5")
@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_bit_that_is_flipped_on_the_way_cuts_the_line_and_no_more(
    far: FarLab, direction: Direction
) -> None:
    build = far.build(f"bit-{direction.value}")
    before = far.line.proxy.made, far.line.proxy.strikes
    far.line.set(FlipBit(60_000, direction, bit=5))
    client = far.start(build)
    far.line.struck(before[1] + 1)
    far.check(build, far.ended(client))
    assert far.line.proxy.made > before[0]


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
        for number, (at, direction, how) in enumerate(cases[part::PARTS]):
            build = far.build(f"cut-{number}", half=SMALL)
            begin_anew(far)
            far.line.set(CutAfter(at, direction, how))  # type: ignore[arg-type]  # a tuple's words widen
            far.check(build, far.ended(far.start(build)))


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
