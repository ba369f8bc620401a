"""`rchctl daemon logs` and what `daemon status` says of who keeps it and whether it is stale."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from support.cli import Cli
from support.fake_daemon import FakeDaemon

import rch
from rch.files.paths import host_paths
from rchctl.commands.daemon_logs import last_lines


def log_of(cli: Cli, text: str) -> Path:
    path = host_paths(cli.environment).log
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def health(daemon: FakeDaemon, **changes: object) -> None:
    daemon.on("daemon.health", {"version": rch.__version__, "pid": 7, "status": "ok", **changes})


def test_the_last_lines_are_shown_without_a_daemon(cli: Cli) -> None:
    log_of(cli, "".join(f"line {number}\n" for number in range(60)) + "\x1b[31mred\n")
    assert cli("daemon", "logs", "-n", "2").stdout == "line 59\nred\n"
    assert len(cli("daemon", "logs").stdout.splitlines()) == 50
    answer = json.loads(cli("daemon", "logs", "-n", "1", "--json").stdout)
    assert answer["data"]["lines"] == ["\x1b[31mred"]


def test_without_a_log_it_says_so(cli: Cli) -> None:
    done = cli("daemon", "logs")
    assert done.returncode == 4
    assert "there is no log at" in done.stderr


def test_lines_are_found_from_the_end_whatever_the_size(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{number:07}\n" for number in range(30_000)))
    text, (inode, end) = last_lines(path, 20_000)
    assert text.splitlines()[0] == "0010000"
    assert (inode, end) == (path.stat().st_ino, 240_000)
    assert last_lines(path, 0)[0] == ""
    path.write_text("no end")
    assert last_lines(path, 5)[0] == "no end"


def test_it_is_followed_beyond_the_turn_of_the_file(cli: Cli) -> None:
    path = log_of(cli, "old\n")
    process = cli.start("daemon", "logs", "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == "old\n"
    with path.open("a") as file:
        file.write("before\n")
    path.rename(path.with_name("rchd.log.1"))
    path.write_text("after\n")
    assert [process.stdout.readline() for _ in range(2)] == ["before\n", "after\n"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()


def test_a_daemon_of_systemd_has_its_lines_in_the_journal(cli: Cli, daemon: FakeDaemon) -> None:
    tool = cli.home / "bin" / "journalctl"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$*"\n')
    tool.chmod(0o755)
    health(daemon, supervisor="systemd", unit="rchd.service")
    done = cli("daemon", "logs", "-n", "3", "-f", PATH=f"{tool.parent}:{os.environ['PATH']}")
    assert done.stdout == "--user --unit=rchd.service --lines=3 --output=cat --no-pager --follow\n"


def test_lines_of_the_journal_are_told_like_those_of_a_file(cli: Cli, daemon: FakeDaemon) -> None:
    tool = cli.home / "bin" / "journalctl"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\n[ -e fails ] && { echo no rights >&2; exit 1; }\nprintf "one\\n\\033[1mtwo\\n"\n'
    )
    tool.chmod(0o755)
    cli.env["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    health(daemon, supervisor="systemd", unit="rchd.service")
    assert cli("daemon", "logs").stdout == "one\ntwo\n"
    assert json.loads(cli("daemon", "logs", "--json").stdout)["data"]["lines"][0] == "one"
    daemon.on("daemon.metrics", {"text": "", "samples": [], "content_type": ""})
    daemon.on("workers.list", {"workers": []})
    assert cli("bugreport", "--output", "report").returncode == 0
    assert (cli.home / "report" / "rchd.log").read_text().startswith("one\n")
    (cli.home / "fails").touch()
    done = cli("daemon", "logs")
    assert (done.returncode, "the journal cannot be read: no rights" in done.stderr) == (4, True)


def test_status_says_who_keeps_the_daemon(cli: Cli, daemon: FakeDaemon) -> None:
    health(daemon)
    assert "  kept by nobody: the next call starts it again" in cli("daemon", "status").stdout
    health(daemon, supervisor="systemd", unit="rchd.service")
    said = cli("daemon", "status").stdout
    assert "  kept by systemd (rchd.service)\n" in said
    assert "  log     the journal of rchd.service: rchctl daemon logs\n" in said


def test_a_stale_daemon_is_told_with_the_command_that_fits_its_keeper(cli: Cli, daemon: FakeDaemon) -> None:
    health(daemon, version="0.0.9")
    said = cli("daemon", "status").stdout
    assert f"  stale   rchd 0.0.9 runs, {rch.__version__} is installed: rchctl daemon restart\n" in said
    health(daemon, version="0.0.9", supervisor="systemd", unit="rchd.service")
    assert "is installed: systemctl --user restart rchd\n" in cli("daemon", "status").stdout
    health(daemon, version="0.0.9", supervisor="launchd", unit="dev.rch.rchd")
    data = json.loads(cli("daemon", "status", "--json").stdout)["data"]
    assert data["renewal"] == "launchctl kickstart -k gui/$(id -u)/dev.rch.rchd"
    health(daemon)
    data = json.loads(cli("daemon", "status", "--json").stdout)["data"]
    assert (data["stale"], data["renewal"]) == (False, None)
