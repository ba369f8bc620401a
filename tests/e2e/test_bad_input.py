"""Bad input: a clear error, a stable exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lab import Lab, lab, run_files


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def refused(user: Lab, cwd: Path, exit_code: int, *words: str) -> dict[str, object]:
    """`verify` fails before anything runs; its error names `words`."""
    answer = user.json("verify", cwd=cwd)
    assert answer["ok"] is False
    assert answer["exit_code"] == exit_code, answer
    error = answer.get("error") or {"message": answer["data"]["human_summary"]}
    for word in words:
        assert word in error["message"], error
    return error


@pytest.mark.spec("1")
def test_no_config_and_no_package_says_how_to_make_one(user: Lab) -> None:
    empty = user.root / "empty"
    empty.mkdir()
    error = refused(user, empty, 3)
    assert ".rch/xcode.toml" in f"{error['message']} {error['hint']}"


@pytest.mark.spec("6")
def test_an_unknown_config_key_names_the_nearest(user: Lab) -> None:
    project = user.project()
    (project / ".rch").mkdir()
    (project / ".rch" / "xcode.toml").write_text(
        'schema_version = 1\nbackend = "swiftpm"\n[timeouts]\noverall_second = 5\n'
    )
    refused(user, project, 3, "overall_second", "overall_seconds")


@pytest.mark.spec("6")
def test_a_config_that_contradicts_itself_is_refused(user: Lab) -> None:
    project = user.project()
    (project / ".rch").mkdir()
    (project / ".rch" / "xcode.toml").write_text(
        'schema_version = 1\nbackend = "swiftpm"\n[project]\nworkspace = "A.xcworkspace"\n'
    )
    refused(user, project, 3, "workspace")


@pytest.mark.spec("4")
def test_a_timeout_out_of_bounds_is_refused_before_anything_runs(user: Lab) -> None:
    project = user.project()
    answer = user.rchctl("verify", "--set", "timeouts.overall_seconds=0", "--json", cwd=project)
    assert answer.returncode == 3
    assert "overall_seconds" in answer.stdout


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
def test_a_symlink_that_leaves_the_root_is_refused(user: Lab) -> None:
    project = user.project()
    (project / "escape").symlink_to("/etc/passwd")
    refused(user, project, 92, "escape")


@pytest.mark.spec("5")
def test_a_fifo_is_refused(user: Lab) -> None:
    project = user.project()
    os.mkfifo(project / "pipe")
    refused(user, project, 92, "pipe")


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
def test_two_names_that_are_one_on_a_mac_are_refused(user: Lab) -> None:
    project = user.project()
    (project / "Readme.md").write_text("a")
    (project / "README.md").write_text("b")
    refused(user, project, 92, "README.md", "Readme.md")


def test_an_unreadable_file_is_refused(user: Lab) -> None:
    project = user.project()
    (project / "Secret.swift").write_text("let a = 1\n")
    (project / "Secret.swift").chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root reads everything; tests/edges tries it under another uid")
    refused(user, project, 92, "Secret.swift")


@pytest.mark.spec("7")
def test_an_unreachable_worker_ends_20_and_is_named(user: Lab) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        pin = "SHA256:" + "A" * 43
        user.workers(
            f'[[worker]]\nname = "mini"\nhost = "127.0.0.1"\nport = {port}\n'
            f'user = "nobody"\nknown_host_fingerprint = "{pin}"\n'
        )
        answer = user.json("verify", cwd=user.project())
    assert answer["exit_code"] == 20
    run = answer["data"]
    assert run["failure_kind"] == "SSH"
    assert "mini" in run["human_summary"]
    assert f"127.0.0.1:{port}" in run["human_summary"]


@pytest.mark.spec("8")
def test_no_toolchain_ends_91_and_says_how_to_add_a_worker(user: Lab) -> None:
    answer = user.json("verify", "--set", "toolchain.swift_version=5.1", cwd=user.project())
    assert answer["exit_code"] == 91
    run = answer["data"]
    assert (run["failure_kind"], run["failure_subkind"]) == ("WORKER_INCOMPATIBLE", "NO_TOOLCHAIN")
    assert "5.1" in run["human_summary"]
    text = user.rchctl("verify", "--set", "toolchain.swift_version=5.1", cwd=user.root / "project")
    assert "workers.toml" in text.stdout + text.stderr


@pytest.mark.fault("H6")
def test_a_second_daemon_says_who_runs_already(user: Lab) -> None:
    import subprocess
    import sys

    assert user.rchctl("daemon", "start").returncode == 0
    pid = user.daemon_pid
    second = subprocess.run(
        [sys.executable, "-m", "rchd", "run"],
        env=user.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 4
    assert str(pid) in second.stderr
    assert user.daemon_pid == pid


@pytest.mark.fault("H7")
def test_a_socket_path_that_is_too_long_names_the_limit(user: Lab) -> None:
    long = str(user.root / ("d" * 120) / "rchd.sock")
    done = user.rchctl("verify", "--json", cwd=user.project(), env={"RCH_SOCKET": long})
    assert done.returncode == 4
    assert "RCH_SOCKET" in done.stdout + done.stderr
    assert long in done.stdout + done.stderr


@pytest.mark.fault("H7")
def test_a_socket_folder_that_others_may_enter_is_refused(user: Lab) -> None:
    shared = user.root / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    done = user.rchctl("daemon", "start", env={"RCH_SOCKET": str(shared / "s")})
    assert done.returncode == 4
    assert "0777" in done.stdout + done.stderr


def test_an_unknown_run_is_named(user: Lab) -> None:
    answer = user.json("status", "no-such-run")
    assert answer["exit_code"] == 2
    assert "no-such-run" in answer["error"]["message"]


def test_what_is_not_offered_yet_refuses_by_name(user: Lab) -> None:
    project = user.project()
    answer = user.rchctl("verify", "--set", "backend=mcp", "--json", cwd=project)
    assert answer.returncode == 3
    assert "not offered yet: backend" in answer.stdout


def test_what_is_shared_needs_a_name_to_be_shared_under(user: Lab) -> None:
    project = user.project()
    answer = user.rchctl("verify", "--set", "cache.workspace=warm", "--json", cwd=project)
    assert answer.returncode == 3
    assert "needs cache.namespace" in answer.stdout


XCODE = """schema_version = 1
backend = "xcodebuild"
[project]
project = "App.xcodeproj"
schemes = ["App"]
"""


def xcode_project(user: Lab) -> Path:
    """A project in name alone: what matters here is that nothing of it is run."""
    project = user.project()
    (project / ".rch").mkdir()
    (project / "App.xcodeproj").mkdir()
    (project / "App.xcodeproj" / "project.pbxproj").write_text("// !$*UTF8*$!\n")
    return project


@pytest.mark.spec("6")
def test_a_step_that_the_gate_refuses_ends_10_with_its_reasons_and_runs_nothing(user: Lab) -> None:
    project = xcode_project(user)
    generic = XCODE + '[destination]\nvalue = "generic/platform=iOS"\n'
    (project / ".rch" / "xcode.toml").write_text(generic)
    answer = user.json("verify", cwd=project)
    assert answer["exit_code"] == 10
    run = answer["data"]
    assert (run["failure_kind"], run["state"]) == ("CLASSIFIER_REJECTED", "FAILED")
    assert "generic" in run["human_summary"]
    assert [step["state"] for step in run["steps"]] == ["SKIPPED", "REJECTED"]
    files = run_files(Path(run["run_dir"]))
    assert not [name for name, path in files.items() if not path.exists()]
    told = json.loads(files["test/summary"].read_text())
    assert [reason["code"] for reason in told["rejection_reasons"]] == ["DESTINATION_MISMATCH"]
    assert (told["status"], told["job_key"]) == ("rejected", None)


@pytest.mark.spec("7")
def test_a_project_that_needs_xcode_ends_91_and_says_so(user: Lab) -> None:
    project = xcode_project(user)
    wanted = XCODE + '[destination]\nvalue = "platform=iOS Simulator,name=iPhone 16,OS=latest"\n'
    (project / ".rch" / "xcode.toml").write_text(wanted)
    answer = user.json("verify", cwd=project)
    assert answer["exit_code"] == 91
    assert "xcodebuild" in answer["data"]["human_summary"]
