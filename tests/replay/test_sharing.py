"""What is taken out of a transcript: names, places, secrets; each reads the same throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect

from rchd.core import events as ev
from rchd.core import share
from rchd.core.share import Names
from rchd.core.transcript import Header

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x 10.1.2.3:2222 y", "x address-1 y"),
        ("anna@mini.local:2222", "account-1"),
        ("to [fd00::1]:8080", "to address-1"),
        ("to fe80::1%en0 and on", "to address-1 and on"),
        ("at 22:16:05 in Foo::Bar", "at 22:16:05 in Foo::Bar"),
    ],
)
def test_a_port_goes_with_its_address(text: str, shown: str) -> None:
    assert cleaned({"value": text}) == {"value": shown}


def test_whoever_works_here_and_whole_names_of_machines_go_wherever_they_stand() -> None:
    tree = {
        "host": "zeus.corp.example",
        "project": "anna-App",
        "original_argv": [
            "swift",
            "--product",
            "anna",
            "URL=https://zeus.corp.example:8443/annas",
            "joanna",
        ],
    }
    assert cleaned(tree, known=(("user", "anna"), ("host", "of"), ("user", "path"))) == {
        "host": "host-1",
        "project": "user-1-App",
        "original_argv": ["swift", "--product", "user-1", "URL=https://host-1/annas", "joanna"],
    }


def test_devices_that_people_named_read_as_words_and_models_stay() -> None:
    annas, model = "Anna's phone (2)", "iPad Pro 13-inch (M4)"
    tree = {
        "devices": [
            {"udid": "1B2C", "name": annas, "device_type": "x.iPhone-16"},
            {"udid": "1B2D", "name": model, "device_type": "x.iPad"},
        ],
        "destination": {"platform": "iOS Simulator", "name": annas, "os_version": "18.2"},
        "argv": ["-destination", f"platform=iOS Simulator,name={annas},OS=18.2"],
        "value": f"name={model}",
    }
    found = cleaned(tree)
    assert [each["name"] for each in found["devices"]] == ["simulator-1", model]
    assert found["destination"]["name"] == "simulator-1"
    assert found["argv"][1] == "platform=iOS Simulator,name=simulator-1,OS=18.2"
    assert found["value"] == f"name={model}"


@pytest.mark.parametrize(
    "name",
    [
        "iPhone 16",
        "iPhone 16 Pro Max",
        "iPhone SE (3rd generation)",
        "iPad Air 11-inch (M2)",
        "iPad Pro (12.9-inch) (6th generation)",
        "iPad mini (A17 Pro)",
        "iPad (10th generation)",
        "iPod touch (7th generation)",
        "Apple TV 4K (3rd generation) (at 1080p)",
        "Apple Watch Series 10 (46mm)",
        "Apple Watch Ultra 2 (49mm)",
        "Apple Vision Pro",
        "My Mac",
        "Any iOS Simulator Device",
    ],
)
def test_names_of_models_stay(name: str) -> None:
    assert cleaned({"value": f"name={name},OS=latest"}) == {"value": f"name={name},OS=latest"}


@pytest.mark.parametrize(
    "name",
    ["iPhone of Anna", "iPhone Anna", "iPhone 16 (Anna)", "annaPhone", "iPhone anna16", "16", "Any phone"],
)
def test_names_that_begin_like_a_model_are_words(name: str) -> None:
    assert cleaned({"value": f"name={name}"}) == {"value": "name=simulator-1"}


def test_what_a_log_said_is_left_out_of_events_and_evidence_and_counts_stay() -> None:
    tree = {
        "events": [
            {"type": "note", "data": {"text": "Fatal error: anna/plan"}},
            {"type": "test", "data": {"name": "T.one", "outcome": "failed", "of_a_later_one": "anna"}},
        ],
        "evidence": [
            {"source": "build.log", "fact": "Fatal error: anna/plan"},
            {"source": "phase test", "fact": "exit code 65"},
        ],
        "failures": [{"worker": "mini", "probe_error": "mini.corp.example:2222: no route", "ms": 3}],
    }
    assert cleaned(tree) == {
        "events": [
            {"type": "note", "data": {"text": "text-1 (22 characters)"}},
            {
                "type": "test",
                "data": {"name": "T.one", "outcome": "failed", "of_a_later_one": "text-2 (4 characters)"},
            },
        ],
        "evidence": [
            {"source": "build.log", "fact": "text-1 (22 characters)"},
            {"source": "phase test", "fact": "exit code 65"},
        ],
        "failures": [{"worker": "worker-1", "probe_error": "text-3 (32 characters)", "ms": 3}],
    }


def test_layers_of_the_config_keep_their_names() -> None:
    tree = {"config_sources": [{"origin": "repo", "path": ".rch/xcode.toml", "sha256": "ab"}]}
    assert cleaned(tree) == tree


_STAYS = """
accepted_action action actions agent_version arch argv artifact_profile artifacts at backend build
by_step cached_from_job_id capabilities_sha256 classifier_policy_sha256 code comment commit concrete
content_sha256 created_at cursor data destination device_type ended_at error_kind error_subkind
failure_kind failure_subkind features filters identifier job_id job_key kind name next_cursor
on_busy only_testing operation original_argv original_constraint os_build os_name os_version outcome
policy_sha256 probed_at project provisioning rch_xcode_lane_version redactions rejected_flags
removed request_sha256 requested_at resumed_at run_id runtime sanitized_argv schema_id
schema_version scope selection_mode sha256 skip_testing skips source source_sha256 spool_name stage
state status subject subkind toolchain tools type unit until updated_at version withheld written
xcode_version
"""
STAYS = frozenset(_STAYS.split())
"""Members whose text stays, but for what is known by its look. Think before you put a new one here."""
IN_EVIDENCE = {"fact"}  # of which the whole is left out


def texts_of(kind: inspect.Type, member: str, seen: set[type]) -> Iterator[str]:
    """The names of all members in which text may stand."""
    if isinstance(kind, inspect.StructType):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        for field in kind.fields:
            yield from texts_of(field.type, field.encode_name, seen)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from texts_of(each, member, seen)
    elif isinstance(kind, inspect.Metadata):
        yield from texts_of(kind.type, member, seen)
    elif isinstance(kind, inspect.DictType):
        yield from texts_of(kind.value_type, member, seen)
    elif isinstance(
        kind, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType
    ):
        yield from texts_of(kind.item_type, member, seen)
    elif isinstance(kind, inspect.StrType | inspect.AnyType):
        yield member


def test_each_member_with_text_in_it_is_renamed_left_out_or_known_to_stay() -> None:
    seen: set[type] = set()
    found = {each for kind in (Header, ev.AnyEvent) for each in texts_of(inspect.type_info(kind), "", seen)}
    assert {"probe_error", "fact", "branch", "tags", "developer_dir", "human_summary"} < found
    assert found - share.TREATED - IN_EVIDENCE == STAYS
