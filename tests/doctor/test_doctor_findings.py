"""Facts in, findings out: what each fact means, and what all of them mean for a script."""

from __future__ import annotations

from typing import Any

import pytest

from rch import __version__
from rch.doctor.findings import Finding, Fix, Level, exit_code_of
from rch.doctor.host import Config, Daemon, Host, Place, Tool, host_findings
from rch.doctor.workers import workers_findings

OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL
PIN = "SHA256:" + "a" * 64
UP = Daemon(
    listens=True,
    socket="/s",
    log="/log",
    version="2",
    ours="2",
    status="ok",
    activity="idle",
    lock_held=True,
)
DOWN = Daemon(listens=False, socket="/s", log="/log", ours="2")
FOLDER = Place("state folder", "/state", 0o700, private=True)

NO_CONFIG = Config()


def host(*places: Place, daemon: Daemon = UP, config: Config = NO_CONFIG, **more: Any) -> Host:
    return Host(places=places, daemon=daemon, config=config, tools=more.pop("tools", ()), **more)


def one(found: list[Finding], check: str) -> Finding:
    return next(each for each in found if each.check == check)


@pytest.mark.parametrize(
    ("place", "level", "code", "fix"),
    [
        (FOLDER, OK, 0, None),
        (FOLDER._replace(mode=None), OK, 0, None),
        (FOLDER._replace(mode=0o755), WARN, 0, Fix("mode", "/state", 0o700)),
        (FOLDER._replace(mode=0o770), FAIL, 4, Fix("mode", "/state", 0o700)),
        (FOLDER._replace(mode=0o755, private=False), OK, 0, None),
        (FOLDER._replace(mode=0o666, private=False, code=3), FAIL, 3, Fix("mode", "/state", 0o644)),
        (FOLDER._replace(own=False), FAIL, 4, None),
        (FOLDER._replace(writable=False), FAIL, 4, None),
    ],
)
def test_a_place(place: Place, level: Level, code: int, fix: Fix | None) -> None:
    found = one(host_findings(host(place)), "state folder")
    assert (found.level, found.exit_code, found.fix) == (level, code, fix)
    assert (found.remedy is None) is (level is OK)


def test_a_place_on_a_network_file_system() -> None:
    found = host_findings(host(FOLDER._replace(shared="nfs")))
    assert [each.level for each in found if each.check == "state folder"] == [OK, FAIL]
    assert exit_code_of(found) == 4


@pytest.mark.parametrize(("free", "level"), [(6 << 30, OK), (4 << 30, WARN), (1 << 20, FAIL)])
def test_free_disk(free: int, level: Level) -> None:
    found = one(host_findings(host(FOLDER._replace(free_bytes=free))), "state folder: free disk")
    assert found.level is level


@pytest.mark.parametrize(
    ("daemon", "level", "code", "remedy"),
    [
        (UP, OK, 0, None),
        (UP._replace(version="1"), WARN, 0, "rchctl daemon restart"),
        (UP._replace(status="draining"), WARN, 0, "rchctl daemon resume"),
        (DOWN, WARN, 0, "rchctl daemon start"),
        (DOWN._replace(lock_held=True, holder="pid 7"), FAIL, 4, "see RCH_SOCKET, and /log"),
        (
            DOWN._replace(refusal=("another protocol", "rchctl daemon stop", 4)),
            FAIL,
            4,
            "rchctl daemon stop",
        ),
    ],
)
def test_the_daemon(daemon: Daemon, level: Level, code: int, remedy: str | None) -> None:
    found = one(host_findings(host(daemon=daemon)), "daemon")
    assert (found.level, found.exit_code, found.remedy) == (level, code, remedy)


def test_a_dead_socket_may_be_removed() -> None:
    found = one(host_findings(host(daemon=DOWN._replace(socket_left=True))), "socket")
    assert (found.level, found.fix) == (WARN, Fix("unlink", "/s"))


def test_a_socket_path_that_cannot_be_used() -> None:
    found = host_findings(host(daemon=DOWN, socket_refusal="it is too long"))
    assert exit_code_of(found) == 4


def test_each_config_file_that_is_wrong_is_named() -> None:
    wrong = (("a.toml:3: key", "mend it", 3), ("b.toml:9: key", None, 3))
    found = host_findings(host(config=Config(good=("/c",), wrong=wrong)))
    assert [each.message for each in found if each.level is FAIL] == ["a.toml:3: key", "b.toml:9: key"]
    assert exit_code_of(found) == 3


def test_a_tool_that_is_missing() -> None:
    found = host_findings(host(tools=(Tool("git", None, "why"), Tool("ssh-add", "/bin/ssh-add", ""))))
    assert (one(found, "git").level, one(found, "ssh-add").level) == (WARN, OK)


# --- workers ----------------------------------------------------------------------------


def worker(**change: Any) -> dict[str, Any]:
    """A worker with which all is well; `change` goes to its capabilities where they have it."""
    capabilities: dict[str, Any] = {
        "agent_version": __version__,
        "os_name": "macOS",
        "os_version": "15",
        "arch": "arm64",
        "toolchains": [{"kind": "xcode", "version": "16.2"}],
        "capacity": {"disk_free_bytes": 99 << 30},
        "gui_session": True,
        "attestation_pubkey_fingerprint": PIN,
        "simulated": False,
        "home_beyond_ascii": None,
    }
    probe = {
        "rch_xcode_lane_version": "2",
        "protocol_min": 1,
        "protocol_max": 1,
        "capabilities": capabilities,
    }
    view: dict[str, Any] = {
        "name": "mini",
        "transport": "ssh",
        "host": "mini.local",
        "priority": 10,
        "pins": [PIN],
        "probe": probe,
        "probe_ms": 3,
        "skew_seconds": None,
        "host_key": {"type": "ssh-ed25519", "fingerprint": "SHA256:x"},
        "trusted_by": "pin",
        "attempts": [{"what": "exec", "open": False, "said": ""}],
    }
    for key, value in change.items():
        holder = capabilities if key in capabilities else probe if key in probe else view
        holder[key] = value
    return view


def findings(view: dict[str, Any], **candidates: Any) -> list[Finding]:
    return workers_findings([view], candidates, (1, 1))


def test_a_worker_with_which_all_is_well() -> None:
    found = findings(worker(), mini={"serves": True, "destination_value": "platform=macOS"})
    assert {each.level for each in found} == {OK}
    assert {each.subject for each in found} == {"mini"}
    assert exit_code_of(found) == 0
    assert "platform=macOS" in one(found, "this project").message


def failure(subkind: str, code: int) -> dict[str, Any]:
    return {"kind": "SSH", "subkind": subkind, "exit_code": code, "message": "why", "hint": "mend"}


@pytest.mark.parametrize(
    ("change", "check", "level", "code"),
    [
        ({"probe": None, "failure": failure("UNREACHABLE", 20)}, "answers", FAIL, 20),
        ({"probe": None, "failure": failure("HOST_KEY", 20)}, "host key", FAIL, 20),
        ({"probe": None, "failure": failure("PROTOCOL_ERROR", 40)}, "answers", FAIL, 40),
        ({"aside": "three breaks"}, "set aside", WARN, 0),
        ({"drained": ""}, "drained", WARN, 0),
        ({"agent_version": "0.0.9"}, "version", WARN, 0),
        ({"trusted_by": "known_hosts"}, "host key", OK, 0),
        ({"protocol_min": 2, "protocol_max": 3}, "protocol", FAIL, 91),
        ({"protocol_min": 1, "protocol_max": 3}, "protocol", OK, 0),
        ({"toolchains": []}, "toolchain", FAIL, 91),
        ({"capacity": {"disk_free_bytes": 1 << 30}}, "free disk", WARN, 0),
        ({"gui_session": False}, "login session", WARN, 0),
        ({"skew_seconds": -90}, "clock", WARN, 0),
        ({"pins": []}, "attestation key", WARN, 0),
        ({"pins": [], "transport": "local"}, "attestation key", OK, 0),
        ({"pins": [], "attestation_pubkey_fingerprint": None}, "attestation key", WARN, 0),
        ({"attestation_pubkey_fingerprint": "SHA256:" + "b" * 64}, "attestation key", FAIL, 93),
        ({"attestation_pubkey_fingerprint": None}, "attestation key", FAIL, 93),
        ({"simulated": True}, "simulated", WARN, 0),
        ({"home_beyond_ascii": True}, "worker home", WARN, 0),
        ({"door_failure": failure("UNREACHABLE", 20)}, "what the key opens", WARN, 0),
        ({"door_failure": failure("HOST_KEY", 20)}, "host key", FAIL, 20),
    ],
)
def test_what_is_wrong_with_a_worker(change: dict[str, Any], check: str, level: Level, code: int) -> None:
    found = one(findings(worker(**change)), check)
    assert (found.level, found.exit_code) == (level, code)
    assert (found.remedy is None) is (level is OK)


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    "what", ["exec", "shell", "pty", "sftp", "local-forward", "remote-forward", "agent-forward"]
)
def test_a_key_that_opens_more_than_the_worker_fails_with_the_line_that_mends_it(what: str) -> None:
    attempts = [{"what": "other", "open": False, "said": ""}, {"what": what, "open": True, "said": ""}]
    found = one(findings(worker(attempts=attempts)), "what the key opens")
    assert (found.level, found.exit_code) == (FAIL, 20)
    assert "restrict,command=" in str(found.remedy)
    assert "rchctl workers key mini" in str(found.remedy)


@pytest.mark.parametrize("attempts", [[], [{"what": "exec", "open": None, "said": ""}]])
def test_what_could_not_be_tried_is_not_called_well(attempts: list[dict[str, Any]]) -> None:
    found = one(findings(worker(attempts=attempts)), "what the key opens")
    assert (found.level, found.exit_code) == (WARN, 0)


def test_a_key_that_opens_a_shell_is_told_also_where_no_worker_answers() -> None:
    attempts = [{"what": "shell", "open": True, "said": ""}]
    found = findings(worker(probe=None, failure=failure("PROTOCOL_ERROR", 40), attempts=attempts))
    assert one(found, "answers").level is FAIL
    assert one(found, "what the key opens").level is FAIL
    assert exit_code_of(found) == 20
    silent = failure("UNREACHABLE", 20)
    found = findings(worker(probe=None, failure=silent, door_failure=silent, attempts=[]))
    assert [each.check for each in found] == ["answers"]


def test_a_worker_without_xcode_needs_no_login_session() -> None:
    found = findings(worker(gui_session=False, toolchains=[{"kind": "swift", "version": "6"}]))
    assert not [each for each in found if each.check == "login session"]


def test_a_project_that_nobody_would_serve() -> None:
    candidate = {"serves": False, "reason": "no Xcode 15"}
    nobody = {"exit_code": 91, "message": "no worker", "hint": "add one"}
    found = workers_findings([worker()], {"mini": candidate}, (1, 1), nobody=nobody)
    assert one(found, "this project").level is WARN
    assert (one(found, "project").level, exit_code_of(found)) == (FAIL, 91)


def test_the_worst_decides_the_exit_code() -> None:
    def fail(code: int) -> Finding:
        return Finding("check", FAIL, "", None, code)

    assert exit_code_of([Finding("check", WARN, "")]) == 0
    assert exit_code_of([fail(91), fail(20), fail(3)]) == 3
    assert exit_code_of([fail(3), fail(4)]) == 4
    assert exit_code_of([fail(91), fail(93)]) == 93
    assert exit_code_of([fail(40)]) == 40
