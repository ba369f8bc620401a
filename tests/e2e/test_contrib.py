"""The service files are what the installer would write, and systemd and launchd would take them."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import REPO

from rchctl import service_files as files

SYSTEMD = REPO / "contrib" / "systemd"
AGENT = REPO / "contrib" / "launchd" / "dev.rch.rchd.plist"
PROGRAM = "%h/.local/bin/rchd"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (SYSTEMD / "rchd.service", files.systemd_service([PROGRAM, "run"], {}, marker=files.BY_HAND)),
        (SYSTEMD / "rchd.socket", files.systemd_socket(files.DEFAULT_SOCKET, marker=files.BY_HAND)),
        (
            SYSTEMD / "rchd.service.d" / "rch-hardened.conf",
            files.systemd_hardened(
                ["%h/.local/share/rch", "%h/.local/state/rch", "%t/rch"], marker=files.BY_HAND
            ),
        ),
        (AGENT, files.launch_agent(["/usr/local/bin/rchd", "run"], {}, marker=files.BY_HAND)),
    ],
)
def test_the_copies_for_hand_work_are_what_the_installer_writes(path: Path, text: str) -> None:
    assert path.read_text() == text
    assert not files.is_ours(text)


def test_the_launch_agent_keeps_the_daemon_and_leaves_its_jobs_alone() -> None:
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["Label"] == AGENT.stem == files.LABEL
    assert agent["ProgramArguments"][1:] == ["run"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["AbandonProcessGroup"] is True


def test_the_unit_forbids_nothing_that_a_build_of_a_worker_here_could_notice() -> None:
    unit = (SYSTEMD / "rchd.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit.split("[Service]")[1], re.MULTILINE))
    harmless = {
        "Type",
        "ExecStart",
        "Restart",
        "RestartSec",
        "WatchdogSec",
        "TimeoutStopSec",
        "KillMode",
        "OOMPolicy",
        "NoNewPrivileges",
        "WantedBy",
        "Also",
    }
    assert set(settings) == harmless
    assert (settings["KillMode"], settings["OOMPolicy"]) == ("process", "continue")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_user_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    shutil.copytree(SYSTEMD, tmp_path, dirs_exist_ok=True)
    unit = tmp_path / "rchd.service"
    unit.write_text(unit.read_text().replace(PROGRAM, str(Path(sys.executable).with_name("rchd"))))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit), str(tmp_path / "rchd.socket")],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "rch" in line]
    assert (done.returncode, complaints) == (0, [])
