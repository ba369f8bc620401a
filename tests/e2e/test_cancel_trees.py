"""A cancel ends every process of the job, keeps its log, and frees its slot at once (spec 4; fault W2)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.ends import assert_cancelled, assert_slot_is_free, files_of, is_gone, pids
from support.lab import Lab, lab
from support.until import until

_STUBBORN = "trap '' INT TERM; while :; do sleep 0.05; done"
_UP = "echo $$ >> {pids}; echo started; touch {marker}"
# What a build leaves running, and how many processes of it are written down.
TREES = {
    "ignores-term": (f"{_UP}; {_STUBBORN}", 1),
    "grandchild-holds-stdout": (f"({_STUBBORN}) & echo $! >> {{pids}}; {_UP}; wait", 2),
    "daemonised": (
        (
            "setsid sh -c 'sh -c \"echo \\$\\$ >> {pids}; exec env -i sleep 300\" >/dev/null 2>&1 &';"
            f" {_UP}; exec sleep 300"
        ),
        2,
    ),
}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def through_rchctl(user: Lab, project: Path, is_up: Callable[[], object]) -> str:
    """Submit, and `rchctl cancel` once the tree is up; gives the run."""
    run_id: str = user.json("submit", "--no-queue", cwd=project)["data"]["run_id"]
    is_up()
    assert user.rchctl("cancel", run_id).returncode == 0
    return run_id


def through_a_signal(user: Lab, project: Path, is_up: Callable[[], object]) -> str:
    """`rchctl verify`, and SIGINT to it once the tree is up; gives the run."""
    client = user.start("verify", "--no-queue", "--json", cwd=project)
    is_up()
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=60)
    assert client.returncode == 80, (out, err)
    return str(json.loads(out)["data"]["run_id"])


@pytest.mark.spec("4")
@pytest.mark.fault("W2")
@pytest.mark.parametrize(
    "cancel", [pytest.param(through_rchctl, marks=pytest.mark.faults_long), through_a_signal]
)
def test_a_cancel_leaves_no_process_of_the_job_and_no_slot_taken(
    user: Lab, cancel: Callable[[Lab, Path, Callable[[], object]], str]
) -> None:
    for name, (script, count) in TREES.items():
        marker, written = user.root / f"{name}.marker", user.root / f"{name}.pids"
        build = script.format(marker=marker, pids=written)
        project = user.project(name, build=build, test=f"touch {user.root}/tested")

        def is_up(marker: Path = marker, written: Path = written, count: int = count) -> None:
            until(marker.exists)
            pids(written, count)

        run = assert_cancelled(user, cancel(user, project, is_up))
        assert [pid for pid in pids(written, count) if not is_gone(pid)] == []
        assert [step["state"] for step in run["steps"]] == ["CANCELLED", "SKIPPED"]
        files = files_of(run)
        told = json.loads(files["build/summary"].read_text())
        assert (told["status"], told["failure_kind"], told["exit_code"]) == ("cancelled", "CANCELLED", 80)
        assert files["build/build_log"].read_text().startswith("started\n")
    assert_slot_is_free(user)
    assert not (user.root / "tested").exists()
