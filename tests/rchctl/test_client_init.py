"""`rchctl init`: a first config from a checkout, with no Xcode and no daemon."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli

from rch.config.discover import discover

PBXPROJ = """
/* Begin XCBuildConfiguration section */
		AA /* Debug */ = {
			isa = XCBuildConfiguration;
			buildSettings = {
				SDKROOT = %s;
			};
			name = Debug;
		};
		AB /* Release */ = {
			isa = XCBuildConfiguration;
			buildSettings = { };
			name = "Ad Hoc";
		};
"""
SCHEME = "<Scheme><TestAction><Testables>%s</Testables></TestAction></Scheme>"
WORKSPACE = """<?xml version="1.0" encoding="UTF-8"?>
<Workspace version="1.0">
  <FileRef location="group:App.xcodeproj"></FileRef>
  <FileRef location="group:Pods/Pods.xcodeproj"></FileRef>
  <FileRef location="group:../Elsewhere.xcodeproj"></FileRef>
</Workspace>
"""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def project(folder: Path, name: str = "App", *, sdk: str = "iphoneos", tests: bool = True) -> Path:
    bundle = folder / f"{name}.xcodeproj"
    (bundle / "xcshareddata/xcschemes").mkdir(parents=True)
    (bundle / "project.pbxproj").write_text(PBXPROJ % sdk)
    reference = "<TestableReference skipped='NO'/>" if tests else ""
    (bundle / f"xcshareddata/xcschemes/{name}.xcscheme").write_text(SCHEME % reference)
    return bundle


def written(cli: Cli, *args: str) -> dict[str, Any]:
    done = cli("init", *args)
    assert (done.returncode, done.stdout) == (0, "written: .rch/xcode.toml\n"), done.stderr
    validated = cli("config", "validate")
    assert validated.returncode == 0, validated.stderr
    return tomllib.loads((cli.home / ".rch/xcode.toml").read_text())


@pytest.mark.spec("6")
def test_a_swift_package_with_tests(cli: Cli) -> None:
    (cli.home / "Package.swift").write_text('let p = Package(targets: [.testTarget(name: "T")])')
    told = written(cli)
    assert (told["backend"], told["project"]) == ("swiftpm", {"package": "."})
    assert told["actions"]["verify"] == ["build", "test"]


@pytest.mark.spec("6")
def test_a_swift_package_without_tests_is_only_built(cli: Cli) -> None:
    (cli.home / "Package.swift").write_text('let p = Package(targets: [.target(name: "T")])')
    assert written(cli)["actions"]["verify"] == ["build"]


@pytest.mark.spec("6")
def test_a_project_tells_schemes_configurations_and_platform(cli: Cli) -> None:
    project(cli.home)
    told = written(cli)
    assert told["project"] == {
        "project": "App.xcodeproj",
        "schemes": ["App"],
        "configurations": ["Ad Hoc", "Debug"],
    }
    assert told["destination"]["value"] == "platform=iOS Simulator,name=iPhone 16,OS=latest"


@pytest.mark.spec("6")
def test_a_workspace_wins_over_the_projects_that_it_names(cli: Cli) -> None:
    project(cli.home, sdk="macosx")
    project(cli.home / "Pods", "Pods")
    extra = cli.home / "App.xcodeproj/xcshareddata/xcschemes/A first.xcscheme"
    extra.write_text(SCHEME % "")
    (cli.home / "App.xcworkspace").mkdir()
    (cli.home / "App.xcworkspace/contents.xcworkspacedata").write_text(WORKSPACE)
    told = written(cli)
    assert told["project"]["workspace"] == "App.xcworkspace"
    assert told["project"]["schemes"] == ["App", "A first"], "the one of the workspace's name comes first"
    assert told["destination"]["value"] == "platform=macOS"


def test_what_is_said_wins_over_what_is_seen(cli: Cli) -> None:
    project(cli.home)
    project(cli.home, "Other")
    refused = cli("init")
    assert refused.returncode == 3
    assert "App.xcodeproj, Other.xcodeproj" in refused.stderr
    assert "say which: --container NAME" in refused.stderr
    told = written(
        cli, "--container", "Other.xcodeproj", "--scheme", "Mine", "--destination", "platform=macOS"
    )
    assert told["project"]["schemes"] == ["Mine"]
    assert told["destination"]["value"] == "platform=macOS"


def test_a_config_that_is_there_is_kept(cli: Cli) -> None:
    (cli.home / "Package.swift").write_text("")
    (cli.home / ".rch").mkdir()
    file = cli.home / ".rch/xcode.toml"
    file.write_text("# mine\n")
    done = cli("init")
    assert (done.returncode, file.read_text()) == (3, "# mine\n")
    assert "rchctl init --force" in done.stderr
    shown = cli("init", "--print")
    assert (shown.returncode, file.read_text()) == (0, "# mine\n")
    assert tomllib.loads(shown.stdout)["backend"] == "swiftpm"
    data = json.loads(cli("init", "--force", "--json").stdout)["data"]
    assert (data["written"], data["text"]) == (True, file.read_text())


@pytest.mark.parametrize(
    ("folder", "words"), [("Sources", "holds no Package.swift"), ("A.xcodeproj", "no shared scheme")]
)
def test_what_the_checkout_does_not_tell_is_asked_for(cli: Cli, folder: str, words: str) -> None:
    (cli.home / folder).mkdir()
    done = cli("init")
    assert done.returncode == 3
    assert words in done.stderr
    assert "hint: " in done.stderr
    assert not (cli.home / ".rch").exists()


def test_a_package_takes_no_scheme(cli: Cli) -> None:
    (cli.home / "Package.swift").write_text("")
    done = cli("init", "--scheme", "A")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.spec("6")
def test_the_tests_of_a_shared_scheme_are_found(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "rchctl/demos/xcode"
    assert discover(demo).has_tests
    project(tmp_path, tests=False)
    assert not discover(tmp_path).has_tests


@pytest.mark.spec("6")
@pytest.mark.parametrize("flags", [[], ["--force"]])
@pytest.mark.parametrize("there", ["a folder", ""])
def test_nothing_is_written_through_a_link(cli: Cli, flags: list[str], there: str) -> None:
    (cli.home / "Package.swift").write_text("let p = Package()")
    elsewhere = cli.home.parent / f"{cli.home.name}-elsewhere"
    if there:
        elsewhere.mkdir()
    (cli.home / ".rch").symlink_to(elsewhere)
    done = cli("init", *flags)
    assert done.returncode == 3
    assert ".rch is a symbolic link" in done.stderr
    assert not elsewhere.exists() or not list(elsewhere.iterdir())
    (cli.home / ".rch").unlink()
    (cli.home / ".rch").mkdir()
    (cli.home / ".rch/xcode.toml").symlink_to(elsewhere / "x")
    done = cli("init", *flags)
    assert (done.returncode, ".rch/xcode.toml is a symbolic link" in done.stderr) == (3, True)
