"""A new entry in `workers.toml`: whatever is there stays."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from rch.config.inventory import load_inventory
from rch.contract.errors import Failure
from rch.files.paths import HostPaths, host_paths
from rchctl.inventory_file import add_entry

OTHER = '[[worker]]\nname = "other"\ntransport = "local"\n'


def places(tmp_path: Path, text: str | bytes | None = None) -> HostPaths:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    if text is not None:
        paths.config_dir.mkdir()
        paths.workers_toml.write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def entry(name: str = "mini", **more: Any) -> dict[str, Any]:
    return {"name": name, "host": "mini.local", **more}


def names(paths: HostPaths) -> list[str]:
    return [each.name for each in load_inventory(paths.workers_toml).workers]


@pytest.mark.parametrize(
    "before",
    [
        OTHER,
        OTHER.rstrip("\n"),
        "# a comment alone",
        OTHER + "# the end\n\n\n",
        OTHER.replace("\n", "\r\n"),
        "# \u00e9\n" + OTHER,
    ],
)
def test_the_old_text_stays_byte_for_byte(tmp_path: Path, before: str) -> None:
    paths = places(tmp_path, before)
    added = add_entry(paths, entry(tags=["ios"], priority=3))
    after = paths.workers_toml.read_bytes()
    assert after == before.encode() + added.encode()
    assert names(paths)[-1] == "mini"


def test_the_first_entry_says_what_the_file_means(tmp_path: Path) -> None:
    paths = places(tmp_path)
    add_entry(paths, entry())
    assert paths.workers_toml.read_text().startswith("# ")
    assert paths.workers_toml.stat().st_mode & 0o777 == 0o600
    assert names(paths) == ["mini"]


def test_a_link_stays_a_link_and_the_mode_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    paths = places(tmp_path / "home", OTHER)
    real = tmp_path / "dotfiles.toml"
    paths.workers_toml.rename(real)
    real.chmod(0o640)
    paths.workers_toml.symlink_to(real)
    add_entry(paths, entry())
    assert paths.workers_toml.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert names(paths) == ["other", "mini"]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ('[[worker]]\nname = "mini"\ntransport = "local"\n', "has a worker 'mini' already"),
        ('worker = [{name = "other", transport = "local"}]\n', "with the new entry"),
        ("[[worker]\n", "is not TOML"),
    ],
)
def test_what_cannot_take_the_entry_is_left_alone(tmp_path: Path, before: str, said: str) -> None:
    paths = places(tmp_path, before)
    with pytest.raises(Failure, match=said) as caught:
        add_entry(paths, entry())
    assert caught.value.exit_code == 3
    assert str(paths.workers_toml) in caught.value.message
    assert paths.workers_toml.read_text() == before


def test_a_value_that_no_inventory_takes_is_not_written(tmp_path: Path) -> None:
    paths = places(tmp_path, OTHER)
    with pytest.raises(Failure, match="host"):
        add_entry(paths, {"name": "mini", "host": "-oProxyCommand=x"})
    assert paths.workers_toml.read_text() == OTHER


def test_entries_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    paths = places(tmp_path, OTHER)
    threads = [threading.Thread(target=add_entry, args=(paths, entry(f"mini{n}"))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(paths)) == [*(f"mini{n}" for n in range(5)), "other"]
