"""What a set-up says that it would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rchctl.console import Console
from rchctl.setup_plan import plan_of, plan_text

LINE = 'restrict,command="/h/agent/current/bin/rch-worker xcode rpc" ssh-ed25519 AAAA rch@host'


def facts(**changes: Any) -> dict[str, Any]:
    python = {"path": "/usr/bin/python3", "version": [3, 12, 1], "venv": True}
    base: dict[str, Any] = {
        "hostname": "mini",
        "release": "macOS 15",
        "machine": "arm64",
        "pythons": [python],
    }
    base |= {
        "disk_free_bytes": 5 << 30,
        "installed": [],
        "current": None,
        "build": "0.1.0-abc",
        "key": "absent",
    }
    base |= {"base": "/h/agent", "line": None, "python": "/usr/bin/python3", "xcode": None, "swift": None}
    return {**base, **changes}


def states(found: dict[str, Any], *, made: bool = True, entry: bool = True) -> dict[str, str]:
    plan = plan_of(found, name="mini", key=Path("/k"), line=LINE, made=made, entry=entry)
    return {each["step"]: each["state"] for each in plan}


def test_what_is_there_is_not_done_again() -> None:
    assert set(states(facts(), made=False).values()) == {"todo"}
    there = facts(installed=["0.1.0-abc"], current="0.1.0-abc", key="ours", line=LINE + " more")
    done = states(there, entry=False)
    assert {step for step, state in done.items() if state != "done"} == {"try"}


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"python": None}, "program"),
        ({"key": "foreign", "line": "ssh-ed25519 AAAA me"}, "authorized_keys"),
    ],
)
def test_what_stands_in_the_way_is_said(changes: dict[str, Any], step: str) -> None:
    assert states(facts(**changes))[step] == "blocked"


def test_a_line_of_an_older_place_is_replaced_and_shown() -> None:
    old = 'restrict,command="/old/rch-worker xcode rpc" ssh-ed25519 AAAA'
    found = facts(key="ours", line=old)
    plan = plan_of(found, name="mini", key=Path("/k"), line=LINE, made=True, entry=True)
    console = Console({})
    text = plan_text(found, plan, console)
    assert f"in place of {old}: {LINE}" in text
    assert "macOS 15, arm64" in text


def test_names_from_there_steer_no_terminal() -> None:
    found = facts(hostname="a\x1b[2J\nb", installed=["\u202ex"])
    plan = plan_of(found, name="mini", key=Path("/k"), line=LINE, made=True, entry=True)
    text = plan_text(found, plan, Console({}))
    assert "\x1b" not in text
    assert "\u202e" not in text
