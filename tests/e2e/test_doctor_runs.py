"""`rchctl doctor` of a real set-up: a daemon, sshd, and what is wrong with either."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from support import sshd
from support.lab import Lab, lab

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")

needs_sshd = pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")


def rows(answer: dict[str, Any], check: str) -> list[dict[str, Any]]:
    return [each for each in answer["data"]["findings"] if each["check"] == check]


def entry(user: Lab, server: sshd.SshdServer) -> None:
    user.workers(
        f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
        f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
        f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
    )


@pytest.mark.sshd
@needs_sshd
@pytest.mark.spec("12")
def test_a_worker_whose_key_opens_only_the_worker_is_well_and_any_other_is_not(tmp_path: Path) -> None:
    with (
        lab(tmp_path) as user,
        sshd.SshdServer(
            tmp_path / "sshd", command=WORKER, env=user.env, options=["Subsystem sftp internal-sftp"]
        ) as server,
    ):
        entry(user, server)
        well = user.json("doctor", cwd=user.project())
        assert well["exit_code"] == 0, well
        (opens,) = rows(well, "what the key opens")
        assert (opens["level"], opens["subject"]) == ("ok", "mini")
        assert "exec, shell, pty, sftp, local-forward, remote-forward, agent-forward" in opens["message"]
        assert "pinned in workers.toml" in rows(well, "host key")[0]["message"]
        assert rows(well, "this project")[0]["level"] == "ok"
        assert rows(well, "attestation key")[0]["level"] == "warn"
        # With the command and without `restrict`: this sshd forbids forwarding, and gives terminals.
        keys = tmp_path / "sshd" / "authorized_keys"
        keys.write_text(keys.read_text().removeprefix("restrict,"))
        open_door = user.rchctl("doctor", "mini")
        assert open_door.returncode == 20, open_door.stdout
        assert "more than rch-worker: it opens a terminal" in open_door.stdout
        assert "rchctl workers key mini" in open_door.stdout


@pytest.mark.spec("12")
def test_modes_a_dead_socket_and_a_broken_config_are_told_and_what_is_safe_is_mended(
    tmp_path: Path,
) -> None:
    with lab(tmp_path) as user:
        state = user.home / "state"
        state.mkdir(mode=0o700, parents=True)
        state.chmod(0o777)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(user.socket))
        user.workers('[[worker]]\nname = "mini"\nhots = "mini.local"\n')
        told = user.json("doctor", "--no-autostart")
        assert (told["exit_code"], told["error"]["kind"]) == (4, "DAEMON")
        assert rows(told, "state folder")[0]["remedy"] == f"chmod 700 {state}"
        assert rows(told, "socket")[0]["level"] == "warn"
        (config,) = [each for each in rows(told, "config") if each["level"] == "fail"]
        assert "worker mini" in config["message"]
        assert "hots" in config["message"]
        assert (state.stat().st_mode & 0o777, user.socket.exists()) == (0o777, True)
        mended = user.json("doctor", "--no-autostart", "--fix")
        assert mended["data"]["fixed"] == [f"chmod 700 {state}", f"removed {user.socket}"]
        assert mended["exit_code"] == 3
        assert (state.stat().st_mode & 0o777, user.socket.exists()) == (0o700, False)
