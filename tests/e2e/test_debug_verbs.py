"""`rchctl debug`: a run of yesterday is exported, and replayed where no daemon is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab, lab

pytestmark = pytest.mark.spec("13")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Somebody who has run something, and whose daemon is gone."""
    with lab(tmp_path_factory.mktemp("debug")) as made:
        project = made.project(build="echo building")
        assert made.rchctl("run", "--action", "build", cwd=project).returncode == 0
        made.stop()
        yield made


def test_a_run_is_exported_twice_alike_and_replays_without_a_daemon(user: Lab) -> None:
    one, other = user.root / "one.jsonl", user.root / "other.jsonl"
    told = user.json("debug", "transcript", "latest", "-o", str(one))["data"]
    again = user.rchctl("debug", "transcript", told["run_id"][:13], "-o", str(other))
    assert (again.returncode, again.stdout) == (0, f"{other}\n")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_mode & 0o077 == 0
    assert str(user.root) not in one.read_text()
    assert told["sha256"] in one.read_text().splitlines()[0]
    replayed = user.rchctl("debug", "replay", str(one))
    assert replayed.returncode == 0, replayed.stdout
    assert "submit   1 asked, 1 answered: identical\n" in replayed.stdout
    data = user.json("debug", "replay", str(one))["data"]
    assert (data["identical"], data["run_id"]) == (True, told["run_id"])
    assert user.rchctl("status", "--no-autostart").returncode == 4  # no daemon was needed


def test_a_file_is_named_for_the_run_and_its_content(user: Lab) -> None:
    folder = user.root / "here"
    folder.mkdir()
    done = user.rchctl("debug", "transcript", "latest", "--comment", "as seen", cwd=folder)
    (path,) = folder.iterdir()
    header = json.loads(path.read_text().splitlines()[0])
    assert done.stdout == f"{path.name}\n"
    assert path.name == f"{header['run_id']}-{header['sha256'][:16]}.jsonl"
    assert header["comment"] == "as seen"


def test_as_is_names_all_and_says_so(user: Lab) -> None:
    done = user.rchctl("debug", "transcript", "latest", "-o", "-", "--as-is")
    assert str(user.root / "project") in done.stdout
    assert done.stderr == "note: nothing was taken out: it names machines, people and places\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("transcript", "run-of-nobody"), 2, "no run 'run-of-nobody' is among those"),
        (("replay", "none.jsonl"), 2, "none.jsonl: No such file or directory"),
        (("repaly", "t.jsonl"), 2, "did you mean 'replay'"),
        (("replay", "t.jsonl", "-o", "x"), 2, "--output belongs to rchctl debug transcript"),
        (("transcript", "latest", "-o", "/none/x"), 2, "/none/x: No such file or directory"),
        (("transcript", "latest", "-o", "-", "--json"), 2, "both want stdout"),
    ],
)
def test_what_cannot_be_done_is_said(user: Lab, words: tuple[str, ...], code: int, told: str) -> None:
    done = user.rchctl("debug", *words)
    assert done.returncode == code
    assert told in done.stderr + done.stdout


def test_a_run_that_was_not_recorded_is_told_how_the_next_one_is(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        config = user.home / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("[transcripts]\nkeep_bytes = 0\n")
        assert user.rchctl("daemon", "start").returncode == 0
        done = user.rchctl("debug", "transcript", "latest")
        assert done.returncode == 2
        assert "[transcripts] keep_bytes is 0" in done.stderr
        assert "hint: set it to 50000000 and restart the daemon" in done.stderr
