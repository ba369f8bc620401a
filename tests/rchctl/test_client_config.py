"""`rchctl config`: what is in force, from where, and whether every file is right."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from support.cli import Cli

REPO = """
schema_version = 1
backend = "swiftpm"
[timeouts]
overall_seconds = 600
[[actions.step]]
action = "test"
"""
HOST = """
[selection]
tags = ["fast"]
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "Package.swift").write_text("// swift-tools-version:6.0\n")
    (tmp_path / ".rch").mkdir()
    (tmp_path / ".rch/xcode.toml").write_text(REPO)
    host = tmp_path / "config"
    host.mkdir()
    (host / "config.toml").write_text(HOST)
    return Cli(tmp_path, {"COLUMNS": "100"})


@pytest.mark.spec("6")
def test_what_is_shown_is_a_config_of_the_same_values(cli: Cli) -> None:
    done = cli("config", "show")
    assert (done.returncode, done.stderr) == (0, "")
    told = tomllib.loads(done.stdout)
    assert told["timeouts"]["overall_seconds"] == 600
    assert told["selection"]["tags"] == ["fast"]
    assert told["actions"]["step"] == [{"action": "test"}]
    of_the_project = [block for block in done.stdout.split("\n\n") if not block.startswith("[policy]")]
    (cli.home / ".rch/xcode.toml").write_text("\n\n".join(of_the_project))
    again = cli("config", "show")
    assert (again.stderr, tomllib.loads(again.stdout)) == ("", told)


@pytest.mark.spec("6")
def test_a_key_that_is_not_set_is_named_and_is_no_value(cli: Cli) -> None:
    done = cli("config", "show", "cache")
    assert "# namespace is not set" in done.stdout.splitlines()
    assert "namespace" not in tomllib.loads(done.stdout)["cache"]
    rows = [line.split() for line in cli("config", "show", "cache", "--origin").stdout.splitlines()]
    assert ["cache.namespace", "-", "not", "set"] in rows
    assert (
        json.loads(cli("config", "show", "cache", "--json").stdout)["data"]["values"]["cache.namespace"]
        is None
    )


@pytest.mark.spec("6")
def test_each_value_is_told_with_the_layer_that_set_it(cli: Cli) -> None:
    done = cli("config", "show", "--origin", "--set", "run.allow_narrowing=true")
    rows = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()[1:]}
    assert rows["timeouts.overall_seconds"] == "repo"
    assert rows["selection.tags"] == "host"
    assert rows["run.allow_narrowing"] == "cli"
    assert rows["bundle.mode"] == "built-in"
    assert rows["project.package"] == "implied"


def test_one_table_or_key_alone(cli: Cli) -> None:
    assert tomllib.loads(cli("config", "show", "timeouts.overall_seconds").stdout) == {
        "timeouts": {"overall_seconds": 600}
    }
    data = json.loads(cli("config", "show", "timeouts", "--json").stdout)["data"]
    assert data["values"]["timeouts.idle_log_seconds"] == 300
    assert data["origins"]["timeouts.overall_seconds"] == "repo"
    assert data["files"]["repo"] == ".rch/xcode.toml"
    done = cli("config", "show", "timeuots")
    assert (done.returncode, done.stderr) == (
        2,
        "rchctl: config: unknown key 'timeuots': type 'rchctl config show timeouts'\n",
    )


@pytest.mark.spec("6")
def test_a_secret_is_not_shown(cli: Cli) -> None:
    secret = "ghp_" + "a1" * 12
    (cli.home / ".rch/xcode.toml").write_text(f'{REPO}[selection]\ntags = ["{secret}"]\n')
    for flags in (("--json",), ("--origin",), ()):
        done = cli("config", "show", *flags)
        assert secret not in done.stdout
        assert "[REDACTED]" in done.stdout


@pytest.mark.spec("6")
def test_valid_files_are_named(cli: Cli) -> None:
    done = cli("config", "validate")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"valid: {cli.home}/config/config.toml, .rch/xcode.toml\n"


@pytest.mark.spec("6")
def test_every_file_that_is_wrong_is_told_with_its_line(cli: Cli) -> None:
    (cli.home / ".rch/xcode.toml").write_text("[timeouts]\noverall_second = 5\n")
    (cli.home / "config/workers.toml").write_text('[[worker]]\nname = "a"\nhots = "b"\n')
    done = cli("config", "validate")
    assert (done.returncode, done.stdout) == (3, "")
    assert ".rch/xcode.toml:2: unknown key timeouts.overall_second; the nearest known key is" in done.stderr
    assert "unknown key hots; the nearest known key is host" in done.stderr
    envelope = json.loads(cli("config", "validate", "--json").stdout)
    assert (envelope["exit_code"], len(envelope["data"]["errors"])) == (3, 2)
    assert envelope["data"]["errors"][0]["line"] == 2


@pytest.mark.spec("6")
def test_each_mistake_of_a_file_is_told(cli: Cli) -> None:
    (cli.home / ".rch/xcode.toml").write_text(
        'backend = "swiftmp"\n[timeouts]\noverall_second = 5\nidle_log_seconds = "x"\n'
    )
    (cli.home / "config/config.toml").write_text("[selection]\ntags = 5\n")
    errors = json.loads(cli("config", "validate", "--json").stdout)["data"]["errors"]
    assert [each["key"] for each in errors] == [
        "selection.tags",
        "backend",
        "timeouts.overall_second",
        "timeouts.idle_log_seconds",
    ]
    assert [each["line"] for each in errors] == [2, 1, 3, 4]
    assert "did you mean swiftpm?" in errors[1]["message"]


@pytest.mark.spec("6")
def test_what_is_no_toml_is_told_with_its_line(cli: Cli) -> None:
    (cli.home / ".rch/xcode.toml").write_text("schema_version = 1\nbackend = swiftpm\n")
    done = cli("config", "validate")
    assert done.stderr.startswith("rchctl: .rch/xcode.toml:2: is not TOML: Invalid value (column 11)\n")


def test_a_wrong_word_and_a_folder_without_a_project(cli: Cli, tmp_path: Path) -> None:
    done = cli("config", "shew")
    assert (done.returncode, done.stderr) == (
        2,
        "rchctl: config: unknown word 'shew': did you mean 'show'?\n",
    )
    (cli.home / ".rch/xcode.toml").unlink()
    (cli.home / "Package.swift").unlink()
    assert cli("config", "show").returncode == 3
    assert not (tmp_path / "s").exists()
