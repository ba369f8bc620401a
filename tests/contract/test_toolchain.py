from __future__ import annotations

import pytest

from rch.contract.errors import Failure, Kind
from rch.contract.records import Capabilities, Capacity, Limits, ToolchainEntry
from rch.contract.toolchain import (
    backend_of,
    choose_swift,
    choose_xcode,
    host_destination_inputs,
    swift_toolchain_inputs,
    toolchain_change,
)
from rch.contract.versions import lags, numbers_of


def swift(version: str, *, active: bool = False, path: str | None = None) -> ToolchainEntry:
    return ToolchainEntry(
        kind="swift", version=version, path=path or f"/opt/swift-{version}/usr", active=active
    )


def worker(*toolchains: ToolchainEntry) -> Capabilities:
    return Capabilities(
        hostname="mini",
        agent_version="0.1.0",
        probed_at="2026-01-01T00:00:00Z",
        os_name="Linux",
        os_version="debian-12",
        os_build=None,
        arch="x86_64",
        toolchains=toolchains,
        capacity=Capacity(
            cpus=2, memory_bytes=1, slots_total=1, slots_free=1, disk_free_bytes=1, load_milli=0
        ),
        limits=Limits(max_upload_bytes=0, max_artifact_bytes=0, max_log_bytes=0),
    )


THREE = worker(swift("6.2.3"), swift("6.3.1", active=True), swift("6.3"), swift("7.0-dev"))


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("wanted", "version", "warned"),
    [
        ("6.3.1", "6.3.1", False),
        ("6.3", "6.3", False),
        ("6.3.0", "6.3", False),
        ("6.2", "6.2.3", True),
        ("6", "6.3.1", True),
        (">=6.0,<7", "6.3.1", True),
        (">6.2, <6.3", "6.2.3", True),
        ("==6.2.3", "6.2.3", True),
        ("<=6.3", "6.3", True),
        ("7.0-dev", "7.0-dev", False),
        ("7", "7.0-dev", True),
        (None, "6.3.1", False),
    ],
)
def test_an_exact_version_wins_else_the_highest_that_matches_with_a_warning(
    wanted: str | None, version: str, *, warned: bool
) -> None:
    entry, warning = choose_swift(THREE, wanted)
    assert entry.version == version
    assert (warning is not None) is warned
    assert not warned or (version in str(warning) and str(wanted) in str(warning))


@pytest.mark.spec("7")
@pytest.mark.parametrize("wanted", ["6.4", "5", ">=8", "<6,>7", "6.3.1.1", "6.3.1-dev", "7.0"])
def test_no_match_names_what_is_wanted_and_what_is_there(wanted: str) -> None:
    have = worker(swift("6.2.3"), swift("6.3.1"))
    with pytest.raises(Failure) as refused:
        choose_swift(have, wanted)
    assert refused.value.kind is Kind.WORKER_INCOMPATIBLE
    assert refused.value.subkind == "NO_TOOLCHAIN"
    assert refused.value.exit_code == 91
    for word in (wanted, "6.2.3", "6.3.1", "/opt/swift-6.3.1/usr", "mini"):
        assert word in refused.value.message


@pytest.mark.spec("7")
def test_a_worker_without_swift_says_so() -> None:
    xcode = ToolchainEntry(kind="xcode", version="16.2", path="/Applications/Xcode.app", build="16C5032a")
    with pytest.raises(Failure) as refused:
        choose_swift(worker(xcode), None)
    assert refused.value.subkind == "NO_TOOLCHAIN"
    assert "none" in refused.value.message


@pytest.mark.spec("7")
def test_what_a_worker_has_instead_is_told_with_an_xcodes_build_and_its_place() -> None:
    xcode = ToolchainEntry(kind="xcode", version="16.2", path="/Applications/Xcode.app", build="16C5032a")
    with pytest.raises(Failure) as refused:
        choose_xcode(worker(xcode, swift("6.3")), "16B40", None)
    told = "Xcode build 16B40 is wanted; mini has 16.2 16C5032a (/Applications/Xcode.app)"
    assert refused.value.message == told
    with pytest.raises(Failure) as refused:
        choose_swift(worker(xcode, swift("6.3"), swift("6.2")), "7")
    told = "Swift 7 is wanted; mini has 6.3 (/opt/swift-6.3/usr), 6.2 (/opt/swift-6.2/usr)"
    assert refused.value.message == told


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    ("named", "backend"),
    [
        ({"xcode_build": "16C5032a", "developer_dir": "/x"}, ("xcodebuild", "16C5032a")),
        ({"swift_version": "6.3.1"}, ("swiftpm", "6.3.1")),
        ({}, ("swiftpm", "unknown")),
    ],
)
def test_the_tool_that_serves_a_job_is_told_by_its_toolchain(
    named: dict[str, str], backend: tuple[str, str]
) -> None:
    assert backend_of(named) == backend


@pytest.mark.spec("4", "7")
def test_a_toolchain_that_is_gone_is_told_with_those_that_are_there() -> None:
    here = worker(swift("6.2.3"), swift("6.3.1"))
    named = swift_toolchain_inputs(THREE, swift("6.3"))
    left = "/opt/swift-6.2.3/usr, /opt/swift-6.3.1/usr"
    assert toolchain_change(here, named) == f"toolchain_dir /opt/swift-6.3/usr is gone; there is {left}"
    assert toolchain_change(worker(), named) == "toolchain_dir /opt/swift-6.3/usr is gone; there is none"
    other = {**swift_toolchain_inputs(here, swift("6.3.1")), "swift_version": "6.3.0"}
    assert toolchain_change(here, other) == "swift_version 6.3.0 is 6.3.1 now"


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("named", "words"), [({"rustc": "1", "cargo": "2"}, "cargo=2 rustc=1"), ({}, "(empty)")]
)
def test_a_toolchain_of_no_kind_that_is_served_is_told_as_it_was_named(
    named: dict[str, str], words: str
) -> None:
    assert toolchain_change(THREE, named) == f"toolchain {words} is none that this worker serves"


@pytest.mark.spec("7")
@pytest.mark.parametrize("wanted", ["", "latest", "6.x", ">=", ">=six", "=>6", "6.3,<7", "6..3", ">=6.0,"])
def test_a_wish_that_is_no_version_is_a_config_error(wanted: str) -> None:
    with pytest.raises(Failure) as refused:
        choose_swift(THREE, wanted)
    assert (refused.value.kind, refused.value.subkind) == (Kind.CONFIG, "BAD_VALUE")


@pytest.mark.spec("7")
def test_with_none_active_the_highest_release_serves() -> None:
    entry, _ = choose_swift(worker(swift("6.2.3"), swift("6.10"), swift("6.11-dev"), swift("6.9")), None)
    assert entry.version == "6.10"


@pytest.mark.spec("7")
def test_of_two_folders_with_one_version_the_active_one_serves() -> None:
    have = worker(swift("6.3.1", path="/b/usr"), swift("6.3.1", path="/a/usr", active=True))
    assert choose_swift(have, "6.3.1")[0].path == "/a/usr"


@pytest.mark.spec("7")
def test_the_inputs_of_a_job_key_are_the_five_and_the_four() -> None:
    entry = swift("6.3.1")
    assert swift_toolchain_inputs(THREE, entry) == {
        "swift_version": "6.3.1",
        "toolchain_dir": "/opt/swift-6.3.1/usr",
        "os_name": "Linux",
        "os_version": "debian-12",
        "arch": "x86_64",
    }
    assert host_destination_inputs(THREE) == {
        "platform": "Linux",
        "name": "host",
        "os_version": "debian-12",
        "provisioning": "existing",
    }


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("text", "numbers"),
    [("6.0", (6,)), ("6.3.1", (6, 3, 1)), ("0.0", (0,)), ("dev", ()), ("6.4-dev", (6, 4))],
)
def test_zeros_at_the_end_of_a_version_do_not_count(text: str, numbers: tuple[int, ...]) -> None:
    assert numbers_of(text) == numbers


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    ("theirs", "late"), [("0.9", True), ("1.0", False), ("1.0.0", False), ("1.1", False), ("", False)]
)
def test_an_older_program_lags_and_one_that_says_nothing_does_not(theirs: str, *, late: bool) -> None:
    assert lags(theirs, "1.0") is late
