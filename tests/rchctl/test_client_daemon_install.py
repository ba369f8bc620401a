"""`rchctl daemon install` and `uninstall`: what is written, what is run, and what is left alone."""

from __future__ import annotations

import json
import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon

_TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case " $* " in {cases} esac
exit 0
"""


def tools(cli: Cli, *names: str, cases: str = "") -> Path:
    """Stand-ins of the managers' programs, which note their calls; no real one is on `PATH`."""
    folder, log = cli.home / "tools", cli.home / "calls"
    folder.mkdir()
    for name in ("sh", "basename"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name in names:
        (folder / name).write_text(_TOOL.format(log=log, cases=cases))
        (folder / name).chmod(0o755)
    cli.env |= {"PATH": str(folder), "XDG_RUNTIME_DIR": str(cli.home / "xdg")}
    return log


def calls(log: Path) -> list[str]:
    """The changing ones, in order."""
    looks = ("show-environment", "show-user", "launchctl print")
    return [line for line in log.read_text().splitlines() if not any(look in line for look in looks)]


def units(cli: Cli) -> Path:
    return cli.home / ".config" / "systemd" / "user"


def test_systemd_gets_both_units_and_starts_them(cli: Cli) -> None:
    log = tools(cli, "systemctl", "loginctl")
    done = cli("daemon", "install", "--systemd")
    assert done.returncode == 0, done.stderr
    service = (units(cli) / "rchd.service").read_text()
    assert f"\nExecStart={Path(sys.executable).with_name('rchd')} run\n" in service
    assert f'\nEnvironment="RCH_HOME={cli.home}"\n' in service
    assert f'\nEnvironment="RCH_SOCKET={cli.socket}"\n' in service
    assert f'\nEnvironment="PATH={cli.env["PATH"]}"\n' in service
    assert "XDG_RUNTIME_DIR" not in service
    assert f"\nListenStream={cli.socket}\n" in (units(cli) / "rchd.socket").read_text()
    assert calls(log) == [
        "systemctl --user stop rchd.service rchd.socket",
        "systemctl --user daemon-reload",
        "systemctl --user enable rchd.socket rchd.service",
        "systemctl --user start rchd.socket",
        "systemctl --user start rchd.service",
    ]
    assert f"wrote {units(cli) / 'rchd.service'}\n" in done.stdout
    assert "loginctl enable-linger" in done.stderr
    assert "undo it with: rchctl daemon uninstall" in done.stderr


def test_who_lingers_is_not_told_to(cli: Cli) -> None:
    tools(cli, "systemctl", "loginctl", cases='*" --property=Linger "*) echo yes;;')
    assert "enable-linger" not in cli("daemon", "install", "--systemd").stderr


def test_the_usual_socket_is_systemds_own_name_for_it(cli: Cli) -> None:
    tools(cli, "systemctl")
    usual = {"RCH_HOME": "", "RCH_SOCKET": ""}
    assert cli("daemon", "install", "--systemd", **usual).returncode == 0
    assert "\nListenStream=%t/rch/rchd.sock\n" in (units(cli) / "rchd.socket").read_text()
    assert "RCH_SOCKET" not in (units(cli) / "rchd.service").read_text()


def test_a_dry_run_writes_and_runs_nothing_and_shows_it_all(cli: Cli) -> None:
    log = tools(cli, "systemctl")
    done = cli("daemon", "install", "--systemd", "--dry-run", "--json")
    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["dry_run"], data["manager"]) == (0, True, "systemd")
    assert [Path(each["path"]).name for each in data["files"]] == ["rchd.socket", "rchd.service"]
    assert data["undo"] == "rchctl daemon uninstall"
    assert not units(cli).exists()
    assert calls(log) == []
    told = cli("daemon", "install", "--systemd", "--dry-run").stdout
    assert "Type=notify" in told
    assert "\n$ systemctl --user start rchd.service\n" in told


def test_where_no_manager_can_be_reached_the_commands_are_told(cli: Cli) -> None:
    tools(cli)
    done = cli("daemon", "install", "--systemd")
    assert done.returncode == 0
    assert (units(cli) / "rchd.service").exists()
    assert "systemctl --user cannot be reached from here" in done.stderr
    assert "rchctl: systemctl --user enable rchd.socket rchd.service\n" in done.stderr


def test_a_command_that_fails_is_named_with_its_words(cli: Cli) -> None:
    tools(cli, "systemctl", cases='*" enable "*) echo no such thing >&2; exit 1;;')
    done = cli("daemon", "install", "--systemd")
    assert done.returncode == 4
    assert "systemctl --user enable rchd.socket rchd.service failed: no such thing" in done.stderr


def test_what_another_hand_wrote_is_left_alone_without_force(cli: Cli) -> None:
    log = tools(cli, "systemctl")
    units(cli).mkdir(parents=True)
    unit = units(cli) / "rchd.service"
    unit.write_text("[Service]\nExecStart=/opt/mine\n")
    for word in ("install", "uninstall"):
        done = cli("daemon", word, "--systemd")
        assert done.returncode == 2
        assert f"{unit} was not written by rchctl daemon install" in done.stderr
        assert "--force" in done.stderr
    assert unit.read_text() == "[Service]\nExecStart=/opt/mine\n"
    assert calls(log) == []
    assert cli("daemon", "install", "--systemd", "--force").returncode == 0
    assert "Type=notify" in unit.read_text()


def test_an_install_over_ones_own_renews_it(cli: Cli) -> None:
    tools(cli, "systemctl")
    assert cli("daemon", "install", "--systemd", "--hardened").returncode == 0
    drop_in = units(cli) / "rchd.service.d" / "rch-hardened.conf"
    assert f'"-{cli.home}/state"' in drop_in.read_text()
    assert cli("daemon", "install", "--systemd").returncode == 0
    assert not drop_in.exists()


def test_a_daemon_that_nobody_keeps_is_stopped_first(cli: Cli) -> None:
    log = tools(cli, "systemctl")
    with FakeDaemon(cli.socket) as daemon:
        terminal = cli.start("daemon", "install", "--systemd", "--json")
        assert daemon.stopped.wait(20)
        assert not log.exists() or calls(log) == []
        daemon.close()
        out, err = terminal.communicate(timeout=20)
    assert terminal.returncode == 0, err
    assert json.loads(out)["data"]["took_over"] is True


def test_uninstall_stops_it_and_removes_what_was_written(cli: Cli) -> None:
    log = tools(cli, "systemctl")
    cli("daemon", "install", "--systemd", "--hardened")
    log.unlink()
    would = cli("daemon", "uninstall", "--systemd", "--dry-run")
    assert f"would remove {units(cli) / 'rchd.socket'}\n" in would.stdout
    done = cli("daemon", "uninstall", "--systemd")
    assert done.returncode == 0, done.stderr
    assert list(units(cli).iterdir()) == []
    assert calls(log) == [
        "systemctl --user disable --now rchd.socket rchd.service",
        "systemctl --user daemon-reload",
    ]
    again = cli("daemon", "uninstall", "--systemd")
    assert (again.returncode, again.stdout) == (0, "nothing is installed for systemd\n")


def test_launchd_gets_an_agent_and_is_told_of_it(cli: Cli) -> None:
    log = tools(cli, "launchctl")
    done = cli("daemon", "install", "--launchd")
    assert done.returncode == 0, done.stderr
    place = cli.home / "Library" / "LaunchAgents" / "dev.rch.rchd.plist"
    agent = plistlib.loads(place.read_bytes())
    assert agent["ProgramArguments"] == [str(Path(sys.executable).with_name("rchd")), "run"]
    assert agent["EnvironmentVariables"]["RCH_HOME"] == str(cli.home)
    assert [line.split("/")[0] for line in calls(log)] == [
        "launchctl bootout gui",
        "launchctl bootstrap gui",
    ]
    assert cli("daemon", "uninstall", "--launchd").returncode == 0
    assert not place.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("install", "--systemd", "--launchd"), "--systemd or --launchd, not both"),
        (("install", "--launchd", "--hardened"), "--hardened is for systemd alone"),
        (("start", "--force"), "--force goes with install or uninstall, not with start"),
        (("install", "-f"), "--follow goes with logs, not with install"),
        (("status", "-n", "3"), "--lines goes with logs, not with status"),
        (("logs", "-n", "-1"), "-n -1 is not 0 to"),
        (("logs", "-f", "--json"), "leave one of them out"),
    ],
)
def test_words_that_do_not_go_together_are_refused(cli: Cli, words: tuple[str, ...], why: str) -> None:
    done = cli("daemon", *words, PATH="/nonexistent")
    assert done.returncode == 2
    assert why in done.stderr + done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_what_is_written_whatever_the_paths_hold(cli: Cli, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    tools(cli)
    odd = tmp_path / "o%d $d path"
    odd.mkdir()
    program = odd / "rchd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    env = {"RCH_RCHD": shlex.quote(str(program)), "RCH_HOME": str(odd), "RCH_SOCKET": str(tmp_path / "s%t")}
    assert cli("daemon", "install", "--systemd", "--hardened", **env).returncode == 0
    done = subprocess.run(
        [str(verify), "verify", "--user", "--man=no", str(units(cli) / "rchd.service")],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "rchd" in line]
    refused = cli("daemon", "install", "--systemd", RCH_RCHD='/opt/a\\"b')
    assert (refused.returncode, "can start no program" in refused.stderr) == (2, True)
    assert (done.returncode, complaints) == (0, [])
