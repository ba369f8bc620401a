"""Old runs go whole, rows and all, at whatever moment the daemon dies; what is in use stays."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rch.contract.errors import Failure, Kind
from rch.files import durable
from rchd.edges import housekeeping
from rchd.edges.housekeeping import Housekeeper
from rchd.edges.store import Batch, JobRow, RunRow, SqliteStore

ENDED = "2026-01-01T00:00:00.000Z"
pytestmark = pytest.mark.spec("11")


class Home:
    """A store and artifacts with runs in them."""

    def __init__(self, root: Path) -> None:
        self.artifacts = root / "artifacts" / "xcode"
        self.artifacts.mkdir(parents=True)
        self.store = SqliteStore.open(root / "state.db")
        self.keeper = Housekeeper(self.artifacts, self.store)

    def put(self, run_id: str, state: str = "SUCCEEDED", *, size: int = 10_000) -> Path:
        doc = json.dumps({"accepted": {"root": "/src/app", "project": "app", "more": 1}}).encode()
        self.store.commit(
            Batch(
                runs=[RunRow(run_id, 1, state, ENDED, ENDED, None, doc)],
                jobs=[JobRow(f"job-of-{run_id}", run_id, 0, 1, state, b"{}")],
            )
        )
        folder = self.artifacts / run_id
        (folder / "steps" / "test" / "j").mkdir(parents=True)
        (folder / "steps" / "test" / "j" / "log").write_bytes(os.urandom(size))
        (folder / "run_index.json").write_text("{}")
        return folder

    def look(self) -> list[str]:
        return [run.run_id for run in self.keeper.look(lambda _: False)]

    @property
    def rows(self) -> int:
        loaded = self.store.load(active_only=False)
        assert len(loaded.runs) == len(loaded.jobs)
        return len(loaded.runs)


@pytest.fixture(name="home")
def fixture_home(tmp_path: Path) -> Iterator[Home]:
    tmp_path.chmod(0o700)
    home = Home(tmp_path)
    yield home
    home.store.close()


def test_runs_that_are_over_are_measured_newest_first(home: Home) -> None:
    home.put("run-a", size=100_000)
    home.put("run-b", "RUNNING")
    home.put("run-c", "FAILED")
    home.put("run-d")
    found = home.keeper.look(lambda run_id: run_id == "run-d")
    assert [run.run_id for run in found] == ["run-c", "run-a"]
    assert found[1].bytes >= 100_000 > found[0].bytes > 0
    assert (found[0].root, home.keeper.projects["run-a"]) == ("/src/app", "app")
    assert (found[0].pinned, found[0].used, found[0].rejected) == (False, False, 0)


def test_a_run_goes_with_its_rows_and_no_other_does(home: Home) -> None:
    gone, stays = home.put("run-a"), home.put("run-b")
    home.keeper.remove("run-a")
    assert (gone.exists(), stays.exists()) == (False, True)
    assert home.store.run("run-a") is None
    assert (home.rows, home.look()) == (1, ["run-b"])
    assert list(home.keeper.gone.iterdir()) == []


def test_a_run_whose_folder_is_gone_already_loses_its_rows(home: Home) -> None:
    durable.remove_tree(home.put("run-a"))
    home.keeper.remove("run-a")
    assert home.rows == 0


def test_no_run_that_lives_loses_its_rows(home: Home) -> None:
    home.put("run-a", "RUNNING")
    assert home.store.forget(["run-a", "run-unknown"]) == 0
    assert home.rows == 1


def test_who_holds_the_folders_lock_keeps_it(home: Home) -> None:
    folder = home.put("run-a")
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        (run,) = home.keeper.look(lambda _: False)
        assert run.used
        with pytest.raises(BlockingIOError):
            home.keeper.remove("run-a")
    finally:
        os.close(fd)
    assert folder.exists()
    assert home.rows == 1


def test_a_pin_is_a_file_that_comes_and_goes(home: Home) -> None:
    folder = home.put("run-a")
    home.keeper.pin("run-a", kept=True)
    assert home.keeper.look(lambda _: False)[0].pinned
    assert (folder / "keep").exists()
    home.keeper.pin("run-a", kept=False)
    home.keeper.pin("run-a", kept=False)
    assert not home.keeper.look(lambda _: False)[0].pinned


def test_rejected_sets_go_alone(home: Home) -> None:
    folder = home.put("run-a")
    rejected = folder / "steps" / "test" / "k.rejected"
    rejected.mkdir()
    (rejected / "file").write_bytes(bytes(8192))
    (run,) = home.keeper.look(lambda _: False)
    assert run.rejected >= 8192
    home.keeper.remove_rejected("run-a")
    assert not rejected.exists()
    assert (folder / "steps" / "test" / "j" / "log").exists()
    assert home.keeper.look(lambda _: False)[0].rejected == 0


@pytest.mark.parametrize("step", range(1, 6))
def test_whenever_it_is_cut_off_a_start_ends_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each change of the disk or the database in turn is the one that is not done any more."""
    folder, other = home.put("run-a"), home.put("run-b")
    done = 0

    class Cut(Exception):  # noqa: N818  (the power, say)
        pass

    def cut(real: object) -> object:
        def act(*args: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                raise Cut
            return real(*args)  # type: ignore[operator]

        return act

    with monkeypatch.context() as patch:
        for name in ("replace", "remove_tree"):
            patch.setattr(housekeeping, name, cut(getattr(housekeeping, name)))
        patch.setattr(home.store, "forget", cut(home.store.forget))
        with pytest.raises(Cut):
            home.keeper.remove("run-a")
    began = not folder.exists()
    # Nothing is ever there by half: a row without its folder, or the other way round.
    assert folder.exists() or (home.keeper.gone / "run-a").exists()
    Housekeeper(home.artifacts, home.store).finish()
    assert (home.store.run("run-a") is None) is began
    assert folder.exists() is not began
    assert other.exists()
    assert home.store.run("run-b") is not None


def test_what_cannot_be_ended_is_left_to_the_next_start(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.put("run-a")
    full = Failure(Kind.DAEMON, "no space", subkind="NO_SPACE")

    def refuse(_ids: object) -> int:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(home.store, "forget", refuse)
        with pytest.raises(Failure, match="no space"):
            home.keeper.remove("run-a")
        home.keeper.finish()
    # The space is free all the same.
    assert list((home.keeper.gone / "run-a").iterdir()) == []
    home.keeper.finish()
    assert (home.rows, list(home.keeper.gone.iterdir())) == (0, [])
