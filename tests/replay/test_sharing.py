"""What is taken out of a transcript: names, places, secrets; each reads the same throughout."""

from __future__ import annotations

from typing import Any

import pytest

from rchd.core.share import Names

pytestmark = pytest.mark.spec("11")


def cleaned(
    *trees: Any, places: dict[str, str] | None = None, known: tuple[tuple[str, str], ...] = ()
) -> Any:
    names = Names(places or {}, known)
    for tree in trees:
        names.learn(tree)
    names.settle()
    found = [names.clean(tree) for tree in trees]
    return found[0] if len(found) == 1 else found


def test_names_keep_their_order_and_read_the_same_everywhere() -> None:
    trees: list[dict[str, Any]] = [
        {"worker": name, "host": f"{name}.corp.example"} for name in ("zoe", "anna", "mini")
    ]
    trees.append({"message": "zoe.corp.example is down", "refused": {"mini": "mini: no Xcode"}})
    zoe, anna, mini, told = cleaned(*trees)
    assert [each["worker"] for each in (anna, mini, zoe)] == ["worker-1", "worker-2", "worker-3"]
    assert anna["host"] == "host-1"
    assert told == {
        "message": "text-2 (24 characters)",
        "refused": {"worker-2": "text-1 (14 characters)"},
    }


def test_ten_names_and_more_keep_their_order_too() -> None:
    found = cleaned([{"worker": f"w{number:02d}"} for number in range(12)])
    assert [each["worker"] for each in found] == [f"worker-{number:02d}" for number in range(1, 13)]


def test_a_worker_that_is_called_like_a_word_of_ours_leaves_that_word_alone() -> None:
    tree = {"worker": "build", "action": "build", "original_argv": ["swift", "build"], "hint": "ask build"}
    assert cleaned(tree) == {
        "worker": "worker-1",
        "action": "build",
        "original_argv": ["swift", "build"],
        "hint": "text-1 (9 characters)",
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no space left on /Volumes/Data/build-7", "no space left on /path-1"),
        ("see /Users/anna/Library/Logs/x.log", "see /path-1"),
        ("/Users/anna: denied; /usr/bin/swift is there", "/path-1: denied; /usr/bin/swift is there"),
        ("/Applications/Xcode.app/Contents/Developer", "/Applications/Xcode.app/Contents/Developer"),
        ("Sources/App/main.swift:3:1: error", "Sources/App/main.swift:3:1: error"),
        ("anna@mini.local: Permission denied", "account-1: Permission denied"),
        ("anna@10.1.2.3 port 22", "account-1 port 22"),
        ("connect to 10.1.2.3 failed", "connect to address-1 failed"),
        ("token ghp_0123456789abcdefghijABCDEFGHIJ012345", "token [REDACTED]"),
        ("/code/app/Sources/a.swift", "/project-1/Sources/a.swift"),
        ("/code/apple is another", "/path-1 is another"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    found = cleaned({"value": text}, places={"/code/app": "/project-1"}, known=(("user", "anna"),))
    assert found == {"value": shown}


@pytest.mark.parametrize("member", ["message", "reason", "error", "hint", "human_summary", "detail"])
def test_what_people_or_workers_say_is_left_out(member: str) -> None:
    said = (
        "-I/Users/anna b/x host:/srv file:///v ~anna/ C:\\Users\\anna [fd00::1] token=hunter2 on anna/plan"
    )
    one, same, other = cleaned({member: said}, {"errors": [said]}, {member: "zz"})
    assert one == {member: f"text-1 ({len(said)} characters)"}
    assert same == {"errors": [one[member]]}
    assert other == {member: "text-2 (2 characters)"}


def test_codes_are_no_text() -> None:
    tree = {"event": "CancelAsked", "reason": "TIMEOUT_IDLE", "message": ""}
    assert cleaned(tree) == tree


def test_who_asks_groups_and_tags_read_as_words() -> None:
    tree = {"origin": "anna", "group": "anna-pr-7", "options": {"tags": ["gpu", "annas"]}}
    assert cleaned(tree) == {
        "origin": "origin-1",
        "group": "group-1",
        "options": {"tags": ["tag-2", "tag-1"]},
    }
    assert cleaned({"origin": "terminal", "group": None}) == {"origin": "terminal", "group": None}


def test_members_that_are_names_by_themselves() -> None:
    tree = {
        "host_nonce": "n" * 32,
        "lease_id": "lease-of-long-ago-1",
        "client_token": None,
        "mark": "aa",
        "udid": "1B2C",
        "pins": ["SHA256:abc"],
        "branch": "anna/secret-plan",
        "root": "/Users/anna b/My App",
        "path": "Sources/a.swift",
        "password": "hunter2",
        "effective_config": {"env": {"API_TOKEN": "s3cr3t", "MODE": "fast"}},
    }
    assert cleaned(tree) == {
        "host_nonce": "nonce-1",
        "lease_id": "lease-1",
        "client_token": None,
        "mark": "mark-1",
        "udid": "device-1",
        "pins": ["key-1"],
        "branch": "branch-1",
        "root": "/path-1",
        "path": "Sources/a.swift",
        "password": "[REDACTED]",
        "effective_config": {"env": {"API_TOKEN": "[REDACTED]", "MODE": "fast"}},
    }


def test_whom_everybody_knows_is_left_alone() -> None:
    tree = {"worker": "local", "host": "localhost", "schema_id": "rch-xcode/accepted@1"}
    assert cleaned(tree) == tree


def test_what_is_of_the_fleet_names_its_worker() -> None:
    assert cleaned({"run_id": "fleet", "name": "mini"}) == {"run_id": "fleet", "name": "worker-1"}
    assert cleaned({"run_id": "run-00000001", "name": "renew"})["name"] == "renew"
