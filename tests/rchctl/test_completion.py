"""Completion is made of the verbs' own parsers, and works in a real bash."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Cli
from support.run_folder import RunFolder, run_id

from rchctl.commands.completion import whole_parser
from rchctl.verbs import VERBS

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
_shtab_rchctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(cli: Cli) -> Path:
    """The script as a file, and `rchctl` on PATH for it to call."""
    path = cli.home / "rchctl.bash"
    path.write_text(cli("completion", "bash").stdout)
    program = cli.home / "bin" / "rchctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rchctl "$@"\n')
    program.chmod(0o755)
    return path


def completed(cli: Cli, script: Path, *words: str) -> set[str]:
    done = subprocess.run(
        ["bash", "-c", ASK, "ask", str(script), "rchctl", *words],
        env={**cli.environment, "PATH": f"{cli.home / 'bin'}:{os.environ['PATH']}"},
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_a_real_bash_completes_verbs_flags_words_and_runs(cli: Cli, script: Path) -> None:
    artifacts = cli.home / "data" / "artifacts" / "xcode"
    for number in (1, 2):
        RunFolder(artifacts, number=number).write()
    assert completed(cli, script, "ver") == {"verify"}
    assert completed(cli, script, "verify", "--no-d") == {"--no-daemon"}
    assert completed(cli, script, "list", "--state", "f") == {"failed"}
    assert completed(cli, script, "daemon", "re") == {"restart", "resume"}
    assert completed(cli, script, "watch", "--format", "") == {"text", "errorfmt", "json"}
    RunFolder(artifacts, number=3).write()
    (artifacts / run_id(3) / "no_daemon.json").touch()
    assert run_id(3) in completed(cli, script, "report", "")
    assert completed(cli, script, "tail", "") == {"latest", run_id(1), run_id(2)}
    assert completed(cli, script, "wait", "latest", run_id(1)) == {run_id(1)}


def test_after_a_word_come_the_flags_that_go_with_it_and_no_others(cli: Cli, script: Path) -> None:
    offered = completed(cli, script, "daemon", "install", "--")
    assert offered >= {"--systemd", "--dry-run", "--hardened", "--json"}
    assert not offered & {"--drain", "--lines", "--timeout"}
    assert "--timeout" in completed(cli, script, "daemon", "stop", "--")
    assert completed(cli, script, "workers", "gc", "--d") == {"--dry-run"}
    assert completed(cli, script, "workers", "list", "--d") == set()
    assert completed(cli, script, "config", "") == {"show", "validate"}


def test_each_word_of_a_verb_is_told_by_what_it_does(cli: Cli) -> None:
    told = cli("completion", "fish").stdout.splitlines()
    (drain,) = (line for line in told if " -a drain " in line)
    (key,) = (line for line in told if " -a key " in line)
    assert ("no new runs" in drain, "authorized_keys" in key) == (True, True)


def test_the_flags_that_go_with_a_word_are_flags_of_the_verb() -> None:
    (verbs,) = (each for each in whole_parser()._actions if isinstance(each, argparse._SubParsersAction))
    divided = {name: parser for name, parser in verbs.choices.items() if parser.parts}
    assert set(divided) == {
        name
        for name, parser in verbs.choices.items()
        if any(each.dest == "what" and "|" in str(each.metavar) for each in parser._actions)
    }
    for parser in divided.values():
        assert set(parser.goes_with) <= set(parser.flags)
        assert {word for words in parser.goes_with.values() for word in words} <= set(parser.parts)


def test_a_folder_whose_name_is_no_id_is_no_word_for_a_shell(cli: Cli) -> None:
    artifacts = cli.home / "data" / "artifacts" / "xcode"
    made = RunFolder(artifacts).write().path
    made.rename(artifacts / "$(touch owned)")
    assert cli("completion", "runs").stdout == "latest\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_every_verb_and_flag(cli: Cli, shell: str) -> None:
    text = cli("completion", shell).stdout
    for name in VERBS:
        assert name in text
    for flag in ("no-daemon", "only-testing", "supersede", "columns"):
        assert flag in text


def test_every_verb_has_its_own_flags_and_no_other_list_is_kept() -> None:
    (verbs,) = (each for each in whole_parser()._actions if isinstance(each, argparse._SubParsersAction))
    assert list(verbs.choices) == list(VERBS)
    assert "--no-daemon" in verbs.choices["verify"].flags


def test_an_unknown_shell_is_told_the_known_ones(cli: Cli) -> None:
    result = cli("completion", "zhs")
    assert (result.returncode, "did you mean 'zsh'?" in result.stderr) == (2, True)
