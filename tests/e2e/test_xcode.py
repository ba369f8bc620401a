"""The demo project for Xcode, through daemon and worker, with the stand-in tools."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support import sshd
from support.lab import REPO, Lab, lab, run_files

from rchctl.report.make import report_html

DEMO = REPO / "rchctl" / "demos" / "xcode"
WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
pytestmark = pytest.mark.timeout(180)


def project(user: Lab, scenario: str = "", config: str = "") -> Path:
    """The demo project as the user's own, with tables added to its config."""
    root = Path(shutil.copytree(DEMO, user.root / "project"))
    if scenario:
        (root / "standin.toml").write_text(f'scenario = "{scenario}"\n')
    with (root / ".rch" / "xcode.toml").open("a") as file:
        file.write(config)
    return root


def records(run: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A record of every step of a run."""
    return [json.loads(path.read_text()) for path in sorted(Path(run["run_dir"]).glob(f"steps/*/*/{name}"))]


@pytest.mark.spec("9")
def test_the_demo_is_verified_by_this_machines_simulated_worker_and_never_without_being_asked(
    tmp_path: Path,
) -> None:
    with lab(tmp_path, stand_in=False) as user:
        root = project(user)
        done = user.rchctl("verify", "--simulate", cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        assert [line for line in lines if not line.startswith("simulated: ")] == []
        assert "simulated: SIMULATED: passed (stand-in tools, no verdict)" in lines
        run = user.json("status", "latest")["data"]
        assert [each["status"] for each in records(run, "summary.json")] == ["success", "success"]
        assert {each["simulated"] for each in records(run, "summary.json")} == {True}
        assert {each["simulated"] for each in records(run, "attestation.json")} == {True}
        files = run_files(Path(run["run_dir"]))
        assert not [name for name, path in files.items() if not path.exists()]
        assert (files["test/result_xcresult"] / "Info.plist").is_file()
        report, page = report_html(Path(run["run_dir"]))
        assert (report.notes, b"SIMULATED" in page, b"boot" in page) == ((), True, True)
        real = user.rchctl("verify", cwd=root)
        assert real.returncode == 91


@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
@pytest.mark.spec("7")
def test_over_ssh_a_job_has_a_simulator_of_its_own_and_another_try(tmp_path: Path) -> None:
    config = 'provisioning = "ephemeral"\n[run]\nretry_infrastructure = 1\n'
    with lab(tmp_path, stand_in=False) as user:
        user.configure_worker("simulate = true\n")
        kept = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE")
        env = {name: user.env[name] for name in kept}
        with sshd.SshdServer(tmp_path / "sshd", command=WORKER, env=env) as server:
            user.workers(
                f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            root = project(user, "early-exit:first=1")
            toml = root / ".rch" / "xcode.toml"
            toml.write_text(toml.read_text().replace('provisioning = "existing"\n', config))
            run = user.json("verify", "--simulate", cwd=root)["data"]
        assert (run["state"], run["worker"], run["simulated"]) == ("SUCCEEDED", "mini", True), run
        build, test = records(run, "summary.json")
        assert (build["attempts"], test["attempts"]) == (1, 2)
        for where in records(run, "destination.json"):
            assert where["ephemeral"]["cleanup_ok"]
            assert where["ephemeral"]["udid"] == where["udid"]


@pytest.mark.faults_long
@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("scenario", "code", "subkind"),
    [
        ("crash", 50, "TESTS_CRASHED"),
        ("lost-connection", 40, "INFRASTRUCTURE"),
        ("no-destination", 50, "NO_DESTINATION"),
        ("no-tests", 50, "NO_TESTS_RAN"),
    ],
)
def test_a_run_ends_with_the_code_and_the_words_of_what_happened(
    tmp_path: Path, scenario: str, code: int, subkind: str
) -> None:
    with lab(tmp_path, stand_in=False) as user:
        answer = user.json("run", "--action", "test", "--simulate", cwd=project(user, scenario))
        assert answer["exit_code"] == code
        assert answer["data"]["failure_subkind"] == subkind
        assert answer["data"]["simulated"]
