"""Refusals of a config point at the line that a person has to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.config.layers import load_config
from rch.config.lines import line_of
from rch.config.root import find_root
from rch.contract.errors import Failure

TEXT = '''# a comment with key = value
backend = "swiftpm"   # [not.a.table]
project.package = "."

[timeouts]
overall_seconds = 60
text = """
idle_log_seconds = 5
[bundle]
"""
"idle_log_seconds" = 30

[[actions.step]]
action = "build"
[[actions.step]]
action = "test"
only_testing = [
  "A/b",
]
[ run ]
retry_tests=2
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("backend", 2),
        ("project.package", 3),
        ("timeouts", 5),
        ("timeouts.overall_seconds", 6),
        ("timeouts.idle_log_seconds", 11),
        ("timeouts.never", 5),
        ("actions.step", 13),
        ("actions.step[0].action", 14),
        ("actions.step[1]", 15),
        ("actions.step[1].action", 16),
        ("actions.step[1].only_testing[0]", 17),
        ("actions.step[1].scheme", 15),
        ("run.retry_tests", 21),
        ("bundle.mode", None),
        ("", None),
    ],
)
def test_the_line_of_a_key_or_of_the_nearest_table_above_it(key: str, line: int | None) -> None:
    assert line_of(TEXT, key) == line


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "Package.swift").write_text("")
    (tmp_path / ".rch").mkdir()
    return tmp_path


def refusal(package: Path, repo: str, host: str | None = None) -> Failure:
    (package / ".rch/xcode.toml").write_text(repo)
    file = package / "host.toml"
    if host is not None:
        file.write_text(host)
    with pytest.raises(Failure) as told:
        load_config(find_root(package), host_config=file, overrides={})
    return told.value


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("\n[timeouts]\noveral_seconds = 5\n", ".rch/xcode.toml:3: unknown key timeouts.overal_seconds"),
        ("[timeouts]\n\nidle_log_seconds = 0\n", ".rch/xcode.toml:3: timeouts.idle_log_seconds = 0 is not"),
        (
            '[timeouts]\nidle_log_seconds = 9\noverall_seconds = 8\nbackend = ""\n',
            ".rch/xcode.toml:4: unknown key timeouts.backend",
        ),
        (
            "[timeouts]\nidle_log_seconds = 9\noverall_seconds = 8\n",
            ".rch/xcode.toml:2: timeouts.idle_log_seconds",
        ),
        ('[cache]\nworkspace = "cold"\n', ".rch/xcode.toml:2: cache.workspace"),
        ('backend = "mcp"\n', ".rch/xcode.toml:1: not offered yet: backend"),
        ('[[actions.step]]\naction = "tset"\n', ".rch/xcode.toml:2: actions.step[0].action"),
    ],
)
def test_a_refusal_names_file_line_and_key(package: Path, text: str, begin: str) -> None:
    failure = refusal(package, text)
    assert failure.message.startswith(begin), failure.message
    assert failure.data["line"] == int(begin.split(":")[1])


def test_the_hosts_file_has_lines_too(package: Path) -> None:
    failure = refusal(package, "", host="# mine\n[policy]\nlock = ['nonsense']\n")
    assert failure.message.startswith(f"{package / 'host.toml'}:3: "), failure.message


def test_what_is_no_toml_is_told_with_its_line(package: Path) -> None:
    assert ".rch/xcode.toml:2: is not" in refusal(package, "backend = 'swiftpm'\n[timeouts\n").message
