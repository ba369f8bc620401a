"""Where a set lies, however its place is spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.files.known import ALONE, beside, place_in_run

pytestmark = [pytest.mark.spec("10")]


def test_links_and_dots_are_followed_but_for_a_link_in_a_run(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    set_ = root / "run" / "steps" / "build" / "job.rejected"
    set_.mkdir(parents=True)
    (root / "set").symlink_to(set_)
    (root / "other").symlink_to(root / "run")
    for spelled in (
        set_,
        root / "set",
        root / "other" / "steps" / "build" / "job.rejected",
        set_.parent / ".." / "build" / "job.rejected",
    ):
        assert place_in_run(spelled) == set_
        assert (beside(spelled).problems, beside(spelled).alone) == ((ALONE,), True)
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    assert place_in_run(elsewhere) is None
    linked = set_.with_name("linked")
    linked.symlink_to(elsewhere)
    assert place_in_run(linked) == linked
    (root / "run" / "host").mkdir()
    assert any("is a link" in each for each in beside(linked).problems)
