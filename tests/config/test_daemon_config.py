"""The daemon's own tables of `config.toml`: checked, documented, and out of every run's config."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rch.config.daemon_config import DaemonConfig, Gc, load_daemon_config
from rch.config.keys import is_table, known_keys
from rch.config.layers import load_config
from rch.config.root import find_root
from rch.contract.errors import Failure

DOC = Path(__file__).parents[2] / "docs" / "configuration.md"
pytestmark = pytest.mark.spec("6")


@pytest.fixture(name="package")
def fixture_package(tmp_path: Path) -> Path:
    (tmp_path / "app" / ".rch").mkdir(parents=True)
    (tmp_path / "app" / "Package.swift").touch()
    return tmp_path / "app"


def test_no_file_and_no_table_is_the_built_in(tmp_path: Path) -> None:
    assert load_daemon_config(tmp_path / "none.toml") == DaemonConfig()
    (tmp_path / "config.toml").write_text("[timeouts]\noverall_seconds = 60\n")
    assert load_daemon_config(tmp_path / "config.toml") == DaemonConfig()


def test_the_tables_are_read_and_enter_no_run(package: Path) -> None:
    file = package / "config.toml"
    file.write_text('[gc]\nkeep_runs = 3\n[log]\nlevel = "debug"\n[timeouts]\noverall_seconds = 60\n')
    assert load_daemon_config(file).gc == Gc(keep_runs=3)
    resolved = load_config(find_root(package), host_config=file, overrides={})
    assert resolved.config.timeouts.overall_seconds == 60
    assert not {"gc", "log", "metrics"} & set(resolved.effective)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[gc]\nkeep_rnus = 3\n", "unknown key gc.keep_rnus; the nearest known key is gc.keep_runs"),
        ("[gc]\nkeep_runs = 0\n", "gc.keep_runs = 0 is not a whole number from 1 to 100000"),
        ('[log]\nlevel = "loud"\n', "log.level = 'loud' is not one of debug, error, info, warning"),
        ('[metrics]\ntextfile = "rch.prom"\n', "metrics.textfile = 'rch.prom' is no absolute path"),
    ],
)
def test_what_is_none_is_refused_by_daemon_and_client(package: Path, text: str, why: str) -> None:
    file = package / "config.toml"
    file.write_text(text)
    with pytest.raises(Failure, match=re.escape(why)):
        load_daemon_config(file)
    with pytest.raises(Failure, match=re.escape(why)):
        load_config(find_root(package), host_config=file, overrides={})


@pytest.mark.parametrize("table", ["gc", "log", "metrics"])
def test_no_repo_has_a_say_in_how_a_daemon_is_kept(package: Path, table: str) -> None:
    (package / ".rch" / "xcode.toml").write_text(f'backend = "swiftpm"\n[{table}]\n')
    with pytest.raises(Failure, match=f"the table \\[{table}\\] is the host's alone"):
        load_config(find_root(package), host_config=None, overrides={})


def test_the_documentation_has_every_key_with_its_default() -> None:
    section = DOC.read_text().split("\n## Keys of the daemon in `config.toml`\n")[1].split("\n## ")[0]
    told = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, re.MULTILINE))
    keys = {key for key, kind in known_keys(DaemonConfig).items() if not is_table(kind)}
    assert set(told) == keys
    for table, values in msgspec.to_builtins(DaemonConfig()).items():
        for key, value in values.items():
            shown = "true" if value is True else "none" if value is None else str(value)
            shown = "false" if value is False else "[]" if value == () else shown
            assert told[f"{table}.{key}"].strip("`") == shown, key
