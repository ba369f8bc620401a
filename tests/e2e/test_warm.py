"""A warm workspace from the user's config to the fetched metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.lab import PASSING_TEST, lab

pytestmark = pytest.mark.spec("11")


def counts(run: dict[str, Any], action: str) -> tuple[int, int, int, int]:
    """Written, removed, kept, warm: of a step's metrics, as fetched."""
    (path,) = Path(run["run_dir"]).glob(f"steps/{action}/*/metrics.json")
    told = json.loads(path.read_text())["counts"]
    written, removed, kept = (told[f"workspace_files_{name}"] for name in ("written", "removed", "kept"))
    return written, removed, kept, told["workspace_warm"]


def test_the_next_run_finds_the_workspace_of_the_last(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        test = "cat $(dirname $0)/word\n" + PASSING_TEST
        project = user.project(test=test, word="first\n", other="x\n")
        warm = ("--set", "cache.workspace=warm", "--set", "cache.namespace=app")
        first = user.json("verify", *warm, cwd=project)["data"]
        (project / "word").write_text("second\n")
        (project / "other").unlink()
        second = user.json("verify", *warm, cwd=project)["data"]
        assert (first["state"], second["state"]) == ("SUCCEEDED", "SUCCEEDED")
        files = counts(first, "build")[0]
        assert counts(first, "build") == (files, 0, 0, 0)
        assert counts(first, "test") == (0, 0, files, 1)
        assert counts(second, "build") == (1, 1, files - 2, 1)
        (log,) = Path(second["run_dir"]).glob("steps/test/*/build.log")
        assert "second\n" in log.read_text()
        assert "first\n" not in log.read_text()
