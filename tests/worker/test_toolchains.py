from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

from rch.config.worker_config import WorkerConfig
from rch.contract.records import Capabilities, JobKeyInputs, stable_capabilities
from rch.contract.toolchain import choose_swift, host_destination_inputs, swift_toolchain_inputs
from worker_agent.capabilities import capabilities, differs, toolchains, unchanged
from worker_agent.toolchains import machine
from worker_agent.toolchains.swift import SwiftProbe
from worker_agent.toolchains.swift import read_version as read_swift
from worker_agent.toolchains.versions import VersionCache
from worker_agent.toolchains.xcode import XcodeProbe
from worker_agent.toolchains.xcode import read_version as read_xcode


def tool(path: Path, text: str) -> Path:
    """A program that prints `text` and counts its starts in `<path>.starts`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho x >>'{path}.starts'\nprintf '%s\\n' '{text}'\n")
    path.chmod(0o755)
    return path


def swift_at(folder: Path, version: str) -> Path:
    """A toolchain's folder, its real path: `swift` is a link to the driver, as in the real ones."""
    tool(folder / "bin" / "swift-driver", f"Swift version {version} (swift-{version}-RELEASE)")
    (folder / "bin" / "swift").symlink_to("swift-driver")
    return folder.resolve()


def starts(folder: Path) -> int:
    return sum(len(file.read_text().split()) for file in (folder / "bin").glob("*.starts"))


class Place:
    """A machine's folders below tmp_path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache" / "toolchains.json"
        self.env = {"PATH": "/usr/bin:/bin", "HOME": str(root / "home")}

    def probe(self, *, configured: str | None = None, usual: tuple[str, ...] = ()) -> SwiftProbe:
        return SwiftProbe(
            versions=VersionCache(self.cache), env=self.env, configured=configured, usual=usual
        )

    def found(self, *, configured: str | None = None, usual: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        probe = self.probe(configured=configured, usual=usual)
        return [(entry.version, entry.path) for entry in probe.toolchains()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.spec("7")
def test_the_first_swift_on_path_is_the_active_one(place: Place) -> None:
    one, two = swift_at(place.root / "one/usr", "6.1"), swift_at(place.root / "two/usr", "6.3.1")
    place.env["PATH"] = f"{two}/bin:relative/bin::{one}/bin"
    entries = place.probe().toolchains()
    assert [(entry.version, entry.path, entry.active) for entry in entries] == [
        ("6.3.1", str(two), True),
        ("6.1", str(one), False),
    ]
    assert entries[0].build == "swift-6.3.1-RELEASE"


def test_a_link_on_path_is_followed_to_its_toolchain(place: Place) -> None:
    real = swift_at(place.root / "libexec/swift", "6.3.1")
    (place.root / "usr/bin").mkdir(parents=True)
    (place.root / "usr/bin/swift").symlink_to(real / "bin/swift")
    place.env["PATH"] = str(place.root / "usr/bin")
    assert place.found() == [("6.3.1", str(real))]


def test_a_launcher_that_chooses_anew_at_each_start_is_no_toolchain(place: Place) -> None:
    folder = place.root / "home/.local/share/swiftly/bin"
    tool(folder / "swiftly", "Swift version 6.3.1")
    (folder / "swift").symlink_to("swiftly")
    place.env["PATH"] = str(folder)
    assert place.found() == []


def test_the_usual_places_are_searched_with_home_and_each_folder_counts_once(place: Place) -> None:
    old = swift_at(place.root / "home/.swiftly/toolchains/5.10.1/usr", "5.10.1")
    new = swift_at(place.root / "home/.swiftly/toolchains/6.2.3/usr", "6.2.3")
    (place.root / "alias").symlink_to(new)
    usual = ("~/.swiftly/toolchains/*/usr", f"{place.root}/alias", f"{place.root}/nowhere/*")
    assert place.found(usual=usual) == [("6.2.3", str(new)), ("5.10.1", str(old))]


@pytest.mark.parametrize("named", ["", "/usr", "/usr/bin", "/usr/bin/swift"])
def test_a_configured_toolchain_is_the_only_one(place: Place, named: str) -> None:
    mine, other = swift_at(place.root / "mine/usr", "6.3.1"), swift_at(place.root / "other/usr", "6.2")
    place.env["PATH"] = f"{other}/bin"
    assert place.found(configured=f"{place.root}/mine{named}") == [("6.3.1", str(mine))]


def test_a_configured_toolchain_that_is_missing_is_not_replaced(place: Place) -> None:
    other = swift_at(place.root / "other/usr", "6.2")
    place.env["PATH"] = f"{other}/bin"
    assert place.found(configured=str(place.root / "nowhere")) == []


@pytest.mark.parametrize("text", ["", "swift: broken", "Swift version unknown"])
def test_a_swift_that_does_not_say_its_version_is_left_out(place: Place, text: str) -> None:
    tool(place.root / "usr/bin/swift", text)
    place.env["PATH"] = f"{place.root}/usr/bin"
    assert place.found() == []


def test_a_swift_that_fails_is_left_out(place: Place) -> None:
    program = tool(place.root / "usr/bin/swift", "Swift version 6.3.1")
    program.write_text("#!/bin/sh\necho Swift version 6.3.1\nexit 1\n")
    loop = place.root / "loop/bin/swift"
    loop.parent.mkdir(parents=True)
    loop.symlink_to("swift")
    place.env["PATH"] = f"{program.parent}:{loop.parent}"
    assert place.found() == []


@pytest.mark.spec("7")
def test_a_version_is_asked_once_and_again_when_the_file_changes(place: Place) -> None:
    folder = swift_at(place.root / "usr", "6.3.1")
    place.env["PATH"] = f"{folder}/bin"
    for _ in range(3):
        assert place.found() == [("6.3.1", str(folder))]
    assert starts(folder) == 1
    tool(folder / "bin/swift-driver", "Swift version 6.3.2 (swift-6.3.2-RELEASE)")
    os.utime(folder / "bin/swift-driver", ns=(1, 1))
    assert place.found() == [("6.3.2", str(folder))]
    assert starts(folder) == 2


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"versions": {"x": 1}}', b"\xff"])
def test_a_spoiled_cache_costs_time_and_is_made_anew(place: Place, junk: bytes) -> None:
    folder = swift_at(place.root / "usr", "6.3.1")
    place.env["PATH"] = f"{folder}/bin"
    place.cache.parent.mkdir()
    place.cache.write_bytes(junk)
    assert place.found() == [("6.3.1", str(folder))]
    assert place.found() == [("6.3.1", str(folder))]
    assert starts(folder) == 1


def test_a_cache_that_cannot_be_written_is_done_without(place: Place) -> None:
    folder = swift_at(place.root / "usr", "6.3.1")
    place.env["PATH"] = f"{folder}/bin"
    place.cache.parent.write_text("a file where the folder should be")
    assert place.found() == [("6.3.1", str(folder))]


@pytest.mark.parametrize(
    ("text", "version", "build"),
    [
        (
            "Swift version 6.3.1 (swift-6.3.1-RELEASE)\nTarget: x86_64-unknown-linux-gnu\n",
            "6.3.1",
            "swift-6.3.1-RELEASE",
        ),
        (
            "swift-driver version: 1.1 Apple Swift version 6.1.2 (swiftlang-6.1.2.1.2 clang-1700.0.13.5)\n",
            "6.1.2",
            "swiftlang-6.1.2.1.2",
        ),
        ("Swift version 6.4-dev (LLVM 0123456789abcde, Swift fedcba9876543)\n", "6.4-dev", None),
        ("Swift version 6.0\n", "6.0", None),
    ],
)
def test_both_forms_of_swift_version_are_read(text: str, version: str, build: str | None) -> None:
    told = read_swift(text)
    assert told is not None
    assert (told.version, told.build) == (version, build)


@pytest.mark.spec("7")
def test_xcodes_are_found_with_build_and_developer_folder(tmp_path: Path) -> None:
    for name, version, build in (("Xcode", "16.2", "16C5032a"), ("Xcode_26.0", "26.0", "17A324")):
        tool(
            tmp_path / f"{name}.app/Contents/Developer/usr/bin/xcodebuild",
            f"Xcode {version}\nBuild version {build}",
        )
    tools = tmp_path / "CommandLineTools"
    swift_at(tools / "usr", "6.2")
    selected = tool(tmp_path / "xcode-select", str(tools))
    probe = XcodeProbe(
        versions=VersionCache(tmp_path / "cache.json"),
        env={"PATH": "/usr/bin:/bin", "DEVELOPER_DIR": str(tmp_path / "Xcode.app/Contents/Developer")},
        usual=(f"{tmp_path}/Xcode*.app",),
        select=str(selected),
    )
    entries = probe.toolchains()
    assert [(entry.version, entry.build, entry.path, entry.active) for entry in entries] == [
        ("16.2", "16C5032a", str(tmp_path / "Xcode.app"), True),
        ("26.0", "17A324", str(tmp_path / "Xcode_26.0.app"), False),
    ]
    assert entries[1].developer_dir == str(tmp_path / "Xcode_26.0.app/Contents/Developer")
    assert tools in probe.developer_dirs()


def test_a_machine_without_xcode_has_none(tmp_path: Path) -> None:
    probe = XcodeProbe(
        versions=VersionCache(tmp_path / "cache.json"),
        env={"PATH": "/usr/bin"},
        usual=("~/Applications/Xcode*.app", f"{tmp_path}/Xcode*.app"),
        select=str(tmp_path / "xcode-select"),
    )
    assert probe.toolchains() == ()
    assert read_xcode("xcode-select: error: tool 'xcodebuild' requires Xcode") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian-12"),
        ("ID=ubuntu\nVERSION_ID='24.04'\n# comment\n", "ubuntu-24.04"),
        ("ID=arch\nBUILD_ID=rolling\n", "arch"),
        ("", "linux"),
    ],
)
def test_a_linux_system_is_named_by_distribution_and_release(text: str, version: str) -> None:
    assert machine.linux_version(text) == version


def test_a_mac_is_named_by_its_property_list(tmp_path: Path) -> None:
    plist = tmp_path / "SystemVersion.plist"
    plist.write_text(
        '<?xml version="1.0"?><plist version="1.0"><dict><key>ProductVersion</key><string>15.5</string>'
        "<key>ProductBuildVersion</key><string>24F74</string></dict></plist>"
    )
    assert machine.macos_version(plist) == ("15.5", "24F74")


@pytest.fixture
def here(place: Place) -> tuple[WorkerConfig, Path]:
    return WorkerConfig(swift=str(swift_at(place.root / "usr", "6.3.1"))), place.root / "probe"


@pytest.mark.spec("7")
def test_capabilities_tell_toolchain_limits_and_capacity(here: tuple[WorkerConfig, Path]) -> None:
    told = capabilities(*here, slots_free=1, slots_total=3)
    swift = [entry for entry in told.toolchains if entry.kind == "swift"]
    assert [(entry.version, entry.path) for entry in swift] == [("6.3.1", here[0].swift)]
    assert told.os_name in {"Linux", "macOS"}
    assert (told.capacity.slots_free, told.capacity.slots_total) == (1, 3)
    assert min(told.capacity.cpus, told.capacity.memory_bytes, told.capacity.disk_free_bytes) > 0
    assert told.limits.max_log_bytes == here[0].max_log_bytes
    assert told.simulated is False
    assert msgspec.json.decode(msgspec.json.encode(told), type=Capabilities) == told


@pytest.mark.spec("7")
def test_a_home_with_letters_beyond_ascii_is_told(here: tuple[WorkerConfig, Path], tmp_path: Path) -> None:
    plain = capabilities(*here, slots_free=1, slots_total=1)
    told = capabilities(*here, slots_free=1, slots_total=1, disk=tmp_path / "Zoë")
    assert (plain.home_beyond_ascii, told.home_beyond_ascii) == (UNSET, True)
    assert stable_capabilities(told)["home_beyond_ascii"] is True


def inputs_of(told: Capabilities) -> JobKeyInputs:
    return JobKeyInputs(
        source_sha256="0" * 64,
        sanitized_argv=("build",),
        toolchain=swift_toolchain_inputs(told, choose_swift(told, None)[0]),
        destination=host_destination_inputs(told),
    )


@pytest.mark.fault("W10")
@pytest.mark.spec("3.3")
def test_a_replaced_toolchain_is_told_before_it_runs(here: tuple[WorkerConfig, Path]) -> None:
    inputs = inputs_of(capabilities(*here, slots_free=1, slots_total=1))
    assert unchanged(*here, inputs) is None
    driver = tool(Path(str(here[0].swift)) / "bin/swift-driver", "Swift version 6.3.2")
    os.utime(driver, ns=(1, 1))
    assert unchanged(*here, inputs) == "swift_version 6.3.1 is 6.3.2 now"
    driver.unlink()
    assert "toolchain_dir" in str(unchanged(*here, inputs))


@pytest.mark.fault("W10")
@pytest.mark.parametrize("member", ["toolchain", "destination"])
@pytest.mark.parametrize("change", ["other", "missing", "further"])
def test_every_member_of_the_identity_must_be_as_it_was(
    here: tuple[WorkerConfig, Path], member: str, change: str
) -> None:
    told = capabilities(*here, slots_free=1, slots_total=1)
    inputs = inputs_of(told)
    table: dict[str, str] = dict(getattr(inputs, member))
    if change == "other":
        table["os_version"] = "plan9-4"
    elif change == "missing":
        del table["os_version"]
    else:
        table["udid"] = "x"
    assert differs(told, msgspec.structs.replace(inputs, **{member: table})) is not None


def test_a_toolchain_of_another_kind_is_not_served(here: tuple[WorkerConfig, Path]) -> None:
    told = capabilities(*here, slots_free=1, slots_total=1)
    inputs = msgspec.structs.replace(inputs_of(told), toolchain={"xcode_build": "16C5032a"})
    assert "xcode_build=16C5032a" in str(differs(told, inputs))


@pytest.mark.swift
def test_the_toolchain_of_this_machine_is_found(tmp_path: Path) -> None:
    found = [entry for entry in toolchains(WorkerConfig(), tmp_path) if entry.kind == "swift"]
    if not found:
        pytest.skip("no Swift toolchain on PATH or in the usual places")
    assert found[0].active
    assert (Path(found[0].path) / "bin" / "swift").exists()
