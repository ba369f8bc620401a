"""What must be true once a run was cancelled, whoever asked for it and whatever it was doing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.lab import Lab, run_files
from support.until import until


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def pids(path: Path, count: int) -> list[int]:
    """The pids that a build wrote down, once they are `count`."""
    until(lambda: path.exists() and len(path.read_text().split()) >= count)
    return [int(word) for word in path.read_text().split()]


def leases(user: Lab) -> list[Any]:
    """The worker's leases that were not given back."""
    table = user.worker_home / "state" / "leases" / "table.json"
    known = json.loads(table.read_text())["leases"] if table.exists() else []
    return [lease for lease in known if not lease.get("released")]


def files_of(run: dict[str, Any]) -> dict[str, Path]:
    """Every file of a run that is over, through its indices, which are there before its end is told."""
    files = run_files(Path(run["run_dir"]))
    assert "run_summary" in files
    return files


def assert_cancelled(user: Lab, run_id: str, reason: str = "USER") -> dict[str, Any]:
    """The run ended as cancelled, by its exit code, its view and its files; gives the view."""
    answer = user.json("wait", run_id)
    run: dict[str, Any] = answer["data"]
    assert answer["exit_code"] == 80
    assert (run["state"], run["failure_kind"], run["exit_code"]) == ("CANCELLED", "CANCELLED", 80)
    files = files_of(run)
    told = json.loads(files["run_summary"].read_text())
    assert (told["status"], told["failure_kind"], told["exit_code"]) == ("cancelled", "CANCELLED", 80)
    assert json.loads(files["run_state"].read_text())["cancel"]["reason"] == reason
    return run


def assert_slot_is_free(user: Lab) -> None:
    """Nothing is leased, and a run that may not wait is served at once."""
    assert leases(user) == []
    free = user.root / "free"
    project = free if free.exists() else user.project("free")
    done = user.rchctl("run", "--action", "build", "--no-queue", "--quiet", cwd=project)
    assert done.returncode == 0, (done.stdout, done.stderr)
