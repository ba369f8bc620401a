"""What a command line that is not understood is told, and what help says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon

import rch
from rch.contract.errors import Failure, Kind
from rchctl.__main__ import main
from rchctl.verbs import VERBS

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that runs after all finds nothing of the user's, and starts nothing."""
    monkeypatch.setenv("RCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RCH_NO_AUTOSTART", "1")


def said(argv: list[str], capfd: Captured) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["verfi"], "unknown verb 'verfi': type 'rchctl verify'"),
        (["zzzzzz"], "unknown verb 'zzzzzz': type 'rchctl --help'"),
        ([], "a verb is missing: type 'rchctl verify', or 'rchctl --help'"),
        (["--jso"], "unknown flag '--jso': type 'rchctl --help'"),
        (["verify", "--detatch"], "verify: unknown flag '--detatch': type 'rchctl verify --detach'"),
        (["status", "--jsn=1"], "status: unknown flag '--jsn': type 'rchctl status --json'"),
        (["wait"], "wait: RUN is missing: see rchctl wait --help"),
        (["cancel", "a", "b"], "cancel: unrecognized arguments: b: see rchctl cancel --help"),
        (["run"], "run: an action is missing: type 'rchctl run --action build'"),
        (["run", "--action", "tset"], "run: unknown action 'tset': did you mean 'test'?"),
        (["daemon", "startt"], "daemon: unknown word 'startt': did you mean 'start'?"),
        (["list", "--state", "failedd"], "list: unknown state 'FAILEDD': did you mean 'FAILED'?"),
        (["config", "zzz"], "config: unknown word 'zzz': it is one of show, validate"),
        (["workers", "prob"], "workers: unknown word 'prob': did you mean 'probe'?"),
        (["workers", "gc", "--create"], "workers gc: --create goes with key: type 'rchctl workers key'"),
        (["workers", "probe", "--yes"], "workers probe: --yes goes with add: type 'rchctl workers add'"),
        (["workers", "gc", "--from", "::1"], "workers gc: --from goes with key: type 'rchctl workers key'"),
        (["list", "--limit", "0"], "list: --limit '0' is no number from 1 to 1000"),
        (["list", "--limit", "-1"], "list: --limit '-1' is no number from 1 to 1000"),
        (["list", "-1"], "list: unrecognized arguments: -1: see rchctl list --help"),
        (["wait", "a\udcff"], "wait: 'a\\xff' is not UTF-8: see rchctl wait --help"),
        (
            ["verify", "--set", "x"],
            "verify: --set 'x' is not KEY=VALUE: type --set timeouts.overall_seconds=600",
        ),
        (
            ["submit", "--priority", "high"],
            "submit: --priority 'high' is no number from 0 to 1000000: type --priority 0 to go first",
        ),
        (
            ["verify", "--priority", "-1"],
            "verify: --priority '-1' is no number from 0 to 1000000: type --priority 0 to go first",
        ),
        (
            ["submit", "--supersede"],
            "submit: --supersede is about a group: type 'rchctl submit --group save --supersede'",
        ),
        (
            ["submit", "--group", ""],
            "submit: --group '' is no name of 1 to 200 printable characters: type --group save",
        ),
        (
            ["run", "--action", "build", "--origin", "a\nb"],
            "run: --origin 'a\\nb' is no name of 1 to 200 printable characters: type --origin editor",
        ),
        (
            ["submit", "--client-token", "x" * 201],
            (f"submit: --client-token '{'x' * 40}'"
            " is no name of 1 to 200 printable characters: type --client-token $(uuidgen)"),
        ),
        (
            ["verify", "--on-disconnect", "keeep"],
            "verify: unknown word for --on-disconnect 'keeep': did you mean 'keep'?",
        ),
        *(
            (
                argv,
                (f"{argv[0]}: this client does not stay, so the run would be over at once:"
                " type 'rchctl verify --on-disconnect cancel'"),
            )
            for argv in (
                ["submit", "--on-disconnect", "cancel"],
                ["verify", "--detach", "--on-disconnect=cancel"],
            )
        ),
        (["workers", "list", "w"], "workers list: takes no name: type 'rchctl workers probe w'"),
        (
            ["workers", "probe", "--dry-run"],
            "workers probe: --dry-run goes with gc: type 'rchctl workers gc --dry-run'",
        ),
    ],
)  # fmt: skip
def test_a_wrong_command_line_gets_one_line_and_exit_2(argv: list[str], line: str, capfd: Captured) -> None:
    assert said(argv, capfd) == (2, "", f"rchctl: {line}\n")


@pytest.mark.parametrize("value", ['["a", 9007199254740993]', "[1e99]", "[NaN]", f"[{'9' * 5000}]"])
def test_a_number_that_cannot_be_sent_is_refused_by_its_key(value: str, capfd: Captured) -> None:
    code, _, err = said(["verify", "--set", f"queue.x={value}"], capfd)
    assert code == 3
    assert err.startswith(f"rchctl: command line: queue.x = {value[:40]} holds a number beyond 2^53\n")


@pytest.mark.spec("5")
def test_a_folder_whose_name_is_no_text_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    folder = tmp_path / "x\udcff"
    folder.mkdir()
    monkeypatch.chdir(folder)
    code, _, err = said(["verify"], capfd)
    assert code == 92
    assert err.startswith(f"rchctl: the current folder's name is not UTF-8: '{tmp_path}/x\\xff'\n")


def test_an_unknown_worker_is_told_where_the_known_ones_stand(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on("workers.probe", Failure(Kind.USAGE, "no worker 'nope' in the inventory"))
    done = cli("workers", "probe", "nope")
    assert (done.returncode, done.stderr) == (
        2,
        "rchctl: no worker 'nope' in the inventory\n  hint: rchctl workers list\n",
    )


def test_a_wrong_command_line_is_an_envelope_where_json_is_asked_for(capfd: Captured) -> None:
    code, out, err = said(["zzzzzz", "--json"], capfd)
    envelope = json.loads(out)
    assert (code, err) == (2, "")
    assert envelope["error"]["subkind"] == "UNKNOWN_VERB"
    assert (envelope["ok"], envelope["command"], envelope["exit_code"]) == (False, "zzzzzz", 2)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_s_help_has_examples(verb: str, capfd: Captured) -> None:
    code, out, err = said([verb, "--help"], capfd)
    assert (code, err) == (0, "")
    assert f"rchctl {verb}" in out.partition("examples:")[2]


def test_a_log_s_help_offers_no_json(capfd: Captured) -> None:
    assert "--json" not in said(["tail", "--help"], capfd)[1].partition("examples:")[0]
    assert "a log is no JSON" in said(["tail", "x", "--json"], capfd)[1]


def test_help_of_help(capfd: Captured) -> None:
    for argv in (["--help"], ["-h"], ["help"]):
        code, out, err = said(argv, capfd)
        assert (code, err) == (0, "")
        assert all(f"  {verb} " in out for verb in VERBS)
    assert said(["help", "wait"], capfd) == said(["wait", "--help"], capfd)


def test_version_needs_no_daemon(capfd: Captured) -> None:
    assert said(["--version"], capfd) == (0, "rchctl 0.1.0 (protocol 1)\n", "")


def test_help_fits_a_narrow_terminal(capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = said(["verify", "--help"], capfd)
    assert max(len(line) for line in out.partition("examples:")[0].splitlines()) <= 60


def test_a_defect_is_one_line_and_exit_1(cli: Cli) -> None:
    result = cli("daemon", "status", RCH_SOCKET="a\udcff\udcfe/s")
    assert result.returncode in {1, 4}
    assert "Traceback" not in result.stderr


def test_the_version_is_told_to_programs_too(capfd: Captured) -> None:
    for argv in (["--version", "--json"], ["--json", "--version"]):
        code, out, err = said(argv, capfd)
        answer = json.loads(out)
        assert (code, err, answer["ok"], answer["exit_code"]) == (0, "", True, 0)
        assert answer["data"] == {"version": rch.__version__, "protocol": 1}


def test_a_wrong_command_line_names_the_help_of_its_own_verb(capfd: Captured) -> None:
    for argv, wanted in (
        (["wait", "--json"], "see rchctl wait --help"),
        (["verify", "--priority", "-1", "--json"], "see rchctl verify --help"),
        (["nope", "--json"], "see rchctl --help"),
    ):
        assert json.loads(said(argv, capfd)[1])["error"]["hint"] == wanted
