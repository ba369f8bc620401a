"""What each released version left on a disk is still read: state, records, configs, transcripts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from compat.keeping import HOUSE, LARGEST, effective
from support.lab import Lab, lab
from support.until import until

from rch.config.daemon_config import DaemonConfig
from rch.config.keys import is_table, known_keys
from rch.config.schema import Config
from rch.config.worker_config import WorkerConfig
from rchd.core.transcript import Replay, decode_header

pytestmark = pytest.mark.spec("8")
HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", path.name))
versions = pytest.mark.parametrize("version", VERSIONS)
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}


def runs_of(version: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((HERE / version / "runs.json").read_text())
    return found


def ended(version: str) -> dict[str, dict[str, Any]]:
    return {run_id: run for run_id, run in runs_of(version).items() if run["state"] in ENDED}


def only(version: str, state: str) -> str:
    (run_id,) = [run_id for run_id, run in runs_of(version).items() if run["state"] == state]
    return run_id


@pytest.fixture
def user(version: str, tmp_path: Path) -> Iterator[Lab]:
    """Somebody who has updated: a copy of that version's folders, as private as they were."""
    with lab(tmp_path) as made:
        shutil.copytree(HERE / version / "home", made.home, symlinks=True)
        shutil.copytree(HERE / version / "worker", made.worker_home, symlinks=True, dirs_exist_ok=True)
        for folder in (made.home, made.worker_home):
            for path in (folder, *folder.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o700 if path.is_dir() else 0o600)
        made.configure_worker(f'swift = "{made.root / "toolchain"}"\n')
        yield made


# --- state -------------------------------------------------------------------------------


@versions
def test_a_daemon_goes_on_with_its_state(user: Lab, version: str) -> None:
    assert user.rchctl("check", "--read-data").returncode == 0
    listed = {each["run_id"]: each for each in user.json("list")["data"]["runs"]}
    assert set(listed) == set(runs_of(version))
    for run_id, run in ended(version).items():
        assert {name: listed[run_id][name] for name in run} == run
        assert user.json("status", run_id)["data"]["exit_code"] == run["exit_code"]
        assert user.rchctl("report", run_id, "--output", str(user.root / f"{run_id}.html")).returncode == 0
    # The one whose machine went down ends, whatever its worker can still say of it.
    running = only(version, "RUNNING")
    until(lambda: user.json("status", running)["data"]["state"] in ENDED)
    # The queued one waits for a worker that was drained, and is served once it is not.
    queued = only(version, "QUEUED")
    assert "a new Xcode" in user.json("status", queued)["data"]["waiting"]
    assert user.rchctl("workers", "undrain", "local").returncode == 0
    assert user.rchctl("wait", queued).returncode == 0
    assert user.rchctl("check", "--read-data").returncode == 0


@versions
def test_a_database_is_made_anew_from_its_records(user: Lab, version: str) -> None:
    (user.home / "state" / "rchd.db").unlink()
    done = user.rchctl("daemon", "start")
    assert done.returncode == 4
    assert "rebuild" in done.stderr
    made = subprocess.run(
        [sys.executable, "-m", "rchd", "--rebuild", "--json"],
        env=user.env,
        capture_output=True,
        check=False,
    )
    told = json.loads(made.stdout)
    assert (made.returncode, told["data"]["left_out"]) == (0, [])
    assert {each["run_id"] for each in told["data"]["runs"]} == set(runs_of(version))
    listed = {each["run_id"]: each for each in user.json("list")["data"]["runs"]}
    assert {run_id: listed[run_id]["exit_code"] for run_id in ended(version)} == {
        run_id: run["exit_code"] for run_id, run in ended(version).items()
    }


@versions
def test_its_sets_are_verified_offline(version: str, tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        sets = 0
        for run_id in ended(version):
            place = HERE / version / "home" / "data" / "artifacts" / "xcode" / run_id
            told = user.json("attest", "verify", str(place))
            assert told["exit_code"] == 0, told
            sets += len(told["data"]["sets"])
        assert sets == 5


# --- transcripts ----------------------------------------------------------------------------


@versions
def test_its_transcripts_are_read(version: str) -> None:
    kept = [HERE / version / "exported.jsonl", *(HERE / version / "home/state/transcripts").iterdir()]
    for path in kept:
        lines = path.read_bytes().splitlines(keepends=True)
        assert decode_header(lines[0]).version == version
        replay = Replay(lines)
        found = [str(each) for each in replay]
        # A later version may decide otherwise: then the line goes, and the change is told.
        assert found == []
        assert replay.batches > 20


# --- configs ----------------------------------------------------------------------------


@versions
def test_its_configs_come_to_the_same(version: str) -> None:
    then = json.loads((HERE / version / "configs" / "effective.json").read_text())
    assert _missing(then, json.loads(json.dumps(effective(HERE / version / "configs")))) == []


def _missing(then: Any, now: Any, at: str = "") -> list[str]:
    """What is not as it was; what is new is no matter."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [each for key in then for each in _missing(then[key], now.get(key), f"{at}.{key}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [
            each
            for n, pair in enumerate(zip(then, now, strict=True))
            for each in _missing(*pair, f"{at}[{n}]")
        ]
    return [] if then == now else [f"{at}: {then!r} is {now!r} now"]


def test_the_newest_configs_set_every_key_there_is() -> None:
    text = {
        name: (HERE / VERSIONS[-1] / "configs" / name).read_text()
        for name in ("config.toml", "worker.toml", "app/.rch/xcode.toml", "package/.rch/xcode.toml")
    }
    host = text["config.toml"]
    assert _unset(DaemonConfig, host) == []
    assert _unset(WorkerConfig, text["worker.toml"]) == []
    whole = host + text["app/.rch/xcode.toml"] + text["package/.rch/xcode.toml"]
    assert _unset(Config, whole) == ["project.project"]  # it excludes project.workspace


def _unset(kind: type[msgspec.Struct], text: str) -> list[str]:
    keys = (key for key, value in known_keys(kind).items() if not is_table(value))
    written = set(re.findall(r"^(\w+) =", text, re.MULTILINE))
    tables = {name.partition(".")[2] or name for name in re.findall(r"^\[\[(.+)\]\]$", text, re.MULTILINE)}
    return [key for key in keys if key.rpartition(".")[2] not in written | tables]


# --- what is kept ---------------------------------------------------------------------------


@versions
def test_what_is_kept_is_small_and_of_no_real_machine(version: str) -> None:
    files = [path for path in (HERE / version).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    own = [str(HERE.parents[1]).encode(), b"/tmp/", b"/root/"]
    assert [path.name for path in files if any(each in path.read_bytes() for each in own)] == []
    text = (HERE / version / "home/state/rchd.db").read_bytes()
    assert f"{HOUSE}/green".encode() in text
