"""Many submits at once: each accepted run has its source, whoever prunes when."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from support.trees import make

from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted
from rch.files.durable import make_dirs
from rch.files.paths import HostPaths, host_paths
from rchd.edges import bases
from rchd.edges import intake as edge
from rchd.edges.intake import Intake

CROWD = 8


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.mark.spec("4", "5")
@pytest.mark.fault("H1")
async def test_a_bundle_is_kept_until_its_run_lives(
    tmp_path: Path, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "KEPT_BUNDLES", 1)
    monkeypatch.setattr(bases, "MAX_ROOTS", 1)  # a tree that is known keeps its bundle, too
    make_dirs(paths.state_dir)
    live: set[str] = set()
    intake = Intake(paths, lambda: live)
    taken: list[Accepted] = []

    async def submit(number: int) -> None:
        files = {"Package.swift": "// swift-tools-version: 5.9\n", "n": str(number)}
        project = make(tmp_path / f"project-{number}", files)
        taken.append(await intake.take(SubmitParams(start=str(project))))

    async with anyio.create_task_group() as group:
        for number in range(CROWD):
            group.start_soon(submit, number)
    names = {each.source.spool_name for each in taken}
    assert len(names) == CROWD
    assert {each.name for each in paths.spool.glob("*.zst")} == names

    for each in taken[1:]:
        intake.release(each.run_id)
    live.add(taken[1].source.spool_name)
    await submit(CROWD)
    kept = {taken[0].source.spool_name, taken[1].source.spool_name, taken[-1].source.spool_name}
    assert kept <= {each.name for each in paths.spool.glob("*.zst")}
    assert len(list(paths.spool.glob("*.zst"))) <= len(kept) + 1
