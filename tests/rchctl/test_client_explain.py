"""`rchctl explain`: the gate's word about a command line, with no daemon and no worker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.cli import Cli

XCODE = """
schema_version = 1
backend = "xcodebuild"
[project]
workspace = "App.xcworkspace"
schemes = ["App"]
configurations = ["Debug"]
[destination]
value = "platform=iOS Simulator,name=iPhone 16,OS=latest"
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "Package.swift").write_text("// swift-tools-version:6.0\n")
    return Cli(tmp_path, {"COLUMNS": "60"})


def explain(cli: Cli, *words: str) -> subprocess.CompletedProcess[str]:
    return cli("explain", "--", *words)


@pytest.mark.spec("6")
def test_what_may_run_is_told_in_its_canonical_form_and_exits_0(cli: Cli) -> None:
    done = explain(cli, "swift", "build", "-j", "4", "-c", "release")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "accepted: build\n  runs as  swift build --configuration release --jobs 4\n"
    assert not cli.socket.exists()


@pytest.mark.spec("6")
def test_every_refused_word_is_underlined_and_has_what_to_type_instead(cli: Cli) -> None:
    done = explain(cli, "swift", "test", "--scratch-path", "/x", "--filter", "A", "-c", "Debug", "-j", "4")
    assert done.returncode == 10
    assert done.stdout == (
        "rejected: 3 reasons\n"
        "\n"
        "  swift test --scratch-path /x --filter A -c Debug -j 4\n"
        "             ^^^^^^^^^^^^^^    ^^^^^^^^   ^^\n"
        "\n"
        "DENIED_FLAG  --scratch-path: the worker owns this place\n"
        "  instead: leave it out: the worker sets its own, and the files come back with the run\n"
        "DENIED_FLAG  --filter A narrows the gate, which the config does not allow (run.allow_narrowing)\n"
        "  instead: leave it out, or set run.allow_narrowing = true in .rch/xcode.toml\n"
        "CONFIGURATION_NOT_ALLOWED  -c Debug is not in project.configurations (debug, release)\n"
        "  instead: use -c debug or release, or change project.configurations in .rch/xcode.toml\n"
    )


def test_a_long_command_is_folded_with_its_marks_below_each_line(cli: Cli) -> None:
    done = explain(cli, "swift", "build", *(f"--unknown-{n:02}" for n in range(8)))
    lines = done.stdout.splitlines()[2:]
    shown = lines[: lines.index("")]
    assert all(len(line) <= 60 for line in shown)
    words, marks = "".join(shown[::2]), "".join(shown[1::2])
    assert words.count("--unknown-") == 8
    assert marks.count("^" * len("--unknown-00")) == 8


def test_what_is_missing_is_marked_after_the_last_word(cli: Cli) -> None:
    assert "  swift ...\n        ^^^\n" in explain(cli, "swift").stdout


def test_the_projects_own_config_decides(cli: Cli) -> None:
    (cli.home / ".rch").mkdir()
    (cli.home / ".rch/xcode.toml").write_text(XCODE)
    (cli.home / "App.xcworkspace").mkdir()
    done = explain(cli, "xcodebuild", "test", "-scheme", "Ap")
    assert done.returncode == 10
    assert "use -scheme App, or change project.schemes in .rch/xcode.toml" in done.stdout
    assert "add -workspace App.xcworkspace" in done.stdout
    whole = ("-workspace", "App.xcworkspace", "-scheme", "App", "-destination")
    done = explain(cli, "xcodebuild", "test", *whole, "platform=iOS Simulator,name=iPhone 16,OS=latest")
    assert (done.returncode, done.stderr) == (0, "")
    assert "made concrete on the worker" in done.stdout


def test_the_envelope_has_every_reason_with_its_word_and_remedy(cli: Cli) -> None:
    done = cli("explain", "--json", "--", "swift", "build", "--json", "--help")
    envelope = json.loads(done.stdout)
    assert (done.returncode, done.stderr, envelope["ok"], envelope["exit_code"]) == (10, "", False, 10)
    data = envelope["data"]
    assert data["verdict"] == "rejected"
    assert [(each["word"], each["subject"], each["code"]) for each in data["reasons"]] == [
        (2, "--json", "UNKNOWN_FLAG"),
        (3, "--help", "DENIED_FLAG"),
    ]
    assert all(each["remedy"] for each in data["reasons"])
    assert envelope["error"]["kind"] == "CLASSIFIER_REJECTED"
    assert data["config"] is None
    accepted = json.loads(cli("explain", "--json", "--", "swift", "test").stdout)
    assert (accepted["ok"], accepted["data"]["action"]) == (True, "test")
    assert accepted["data"]["sanitized_argv"] == ["test"]


def test_what_cannot_be_printed_is_written_out(cli: Cli) -> None:
    done = explain(cli, "swift", "build", "a\x1b[31mb", "it's\n")
    assert "\x1b" not in done.stdout
    assert "$'a\\x1b[31mb'" in done.stdout
    assert "$'it\\'s\\n'" in done.stdout


def test_an_inventive_terminal_gets_no_colour_from_a_pipe_and_the_word_is_there(cli: Cli) -> None:
    assert "\x1b[" not in explain(cli, "swift", "frobnicate").stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "explain: a command is missing: type 'rchctl explain -- xcodebuild build'"),
        (
            ("swift", "build", "-c", "debug"),
            "explain: unknown flag '-c': write the command after --: rchctl explain -- xcodebuild ...",
        ),
    ],
)
def test_a_command_without_its_dashes_is_told_how_to_stand(
    cli: Cli, words: tuple[str, ...], line: str
) -> None:
    done = cli("explain", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"rchctl: {line}\n")


def test_outside_of_a_project_it_says_how_to_make_one(cli: Cli) -> None:
    (cli.home / "Package.swift").unlink()
    done = explain(cli, "swift", "build")
    assert done.returncode == 3
    assert "neither .rch/xcode.toml nor Package.swift" in done.stderr
