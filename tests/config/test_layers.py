"""Layers of the config: merging, origins, bounds, locks, refusals (spec sections 4 and 6)."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from rch.config.layers import Resolved, load_config, parse_overrides
from rch.config.root import find_root
from rch.config.sources import Origin
from rch.contract.errors import Failure

XCODE = """
schema_version = 1
backend = "xcodebuild"
[project]
workspace = "MyApp.xcworkspace"
schemes = ["MyApp"]
configurations = ["Debug", "Release"]
[actions]
verify = ["build", "test"]
[destination]
value = "platform=iOS Simulator,name=iPhone 16,OS=latest"
provisioning = "existing"
[toolchain]
xcode_build = "16C5032a"
[timeouts]
[bundle]
[cache]
namespace = "myapp"
derived_data = "run"
spm = "shared"
workspace = "off"
results = true
[run]
continue_on_failure = false
artifact_profile = "rich"
[selection]
tags = []
mode = "deterministic"
"""


class Tree:
    """A project and a host config on disk."""

    def __init__(self, base: Path) -> None:
        self.root = base / "project"
        self.root.mkdir()
        self.host = base / "config.toml"

    def package(self) -> None:
        (self.root / "Package.swift").touch()

    def repo(self, text: str) -> None:
        (self.root / ".rch").mkdir(exist_ok=True)
        (self.root / ".rch" / "xcode.toml").write_text(text)

    def load(self, overrides: Mapping[str, object] | None = None, host: str | None = None) -> Resolved:
        if host is not None:
            self.host.write_text(host)
        return load_config(find_root(self.root), host_config=self.host, overrides=overrides or {})

    def refusal(self, overrides: Mapping[str, object] | None = None, host: str | None = None) -> Failure:
        with pytest.raises(Failure) as caught:
            self.load(overrides, host)
        assert caught.value.exit_code == 3
        assert "\n" not in caught.value.message
        return caught.value


def unplaced(failure: Failure) -> str:
    """Its message without the line of the key, which `test_lines` looks at."""
    return re.sub(r"^(\.rch/xcode\.toml):\d+: ", r"\1: ", failure.message)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def package(tree: Tree) -> Tree:
    tree.package()
    return tree


@pytest.fixture
def xcode(tree: Tree) -> Tree:
    (tree.root / "MyApp.xcworkspace").mkdir()
    tree.repo(XCODE)
    return tree


@pytest.mark.spec("6")
def test_the_config_of_the_contract_is_taken_whole(xcode: Tree) -> None:
    resolved = xcode.load()
    assert resolved.config.project.workspace == "MyApp.xcworkspace"
    assert resolved.config.toolchain.xcode_build == "16C5032a"
    assert resolved.origins["cache.namespace"] is Origin.REPO
    assert resolved.origins["queue.max_wait_seconds"] is Origin.BUILT_IN


@pytest.mark.spec("4")
def test_defaults_of_an_implied_package(package: Tree) -> None:
    config = package.load().config
    assert (config.backend, config.project.package) == ("swiftpm", ".")
    timeouts = config.timeouts
    assert (timeouts.overall_seconds, timeouts.idle_log_seconds, timeouts.connect_timeout_seconds) == (
        1800,
        300,
        30,
    )
    assert config.queue.max_wait_seconds == 3600
    assert config.selection.probe_ttl_seconds == 300
    assert config.actions.verify == ("build", "test")
    assert not config.run.allow_narrowing


@pytest.mark.spec("6")
def test_layers_override_in_order_and_each_value_knows_its_layer(package: Tree) -> None:
    package.repo('backend = "swiftpm"\n[timeouts]\noverall_seconds = 200\nidle_log_seconds = 20\n')
    host = (
        "[timeouts]\noverall_seconds = 100\nconnect_timeout_seconds = 7\n[selection]\ntags = ['a', 'b']\n"
    )
    resolved = package.load({"timeouts.idle_log_seconds": 10, "selection.tags": ["c"]}, host)
    timeouts = resolved.config.timeouts
    assert (timeouts.overall_seconds, timeouts.idle_log_seconds, timeouts.connect_timeout_seconds) == (
        200,
        10,
        7,
    )
    assert resolved.config.selection.tags == ("c",), "arrays replace"
    keys = ("overall_seconds", "idle_log_seconds", "connect_timeout_seconds")
    assert [resolved.origins[f"timeouts.{key}"] for key in keys] == [Origin.REPO, Origin.CLI, Origin.HOST]


@pytest.mark.spec("6")
def test_every_value_has_an_origin(xcode: Tree) -> None:
    resolved = xcode.load()

    def leaves(value: object, prefix: str) -> set[str]:
        if isinstance(value, dict):
            return {key for name, item in value.items() for key in leaves(item, f"{prefix}.{name}")}
        return {prefix[1:]}

    assert leaves(resolved.effective, "") == set(resolved.origins)


@pytest.mark.spec("6")
def test_sources_name_each_layer_with_its_digest(xcode: Tree) -> None:
    resolved = xcode.load({"run.continue_on_failure": "true"}, "")
    by_origin = {source.origin: source for source in resolved.sources}
    assert list(by_origin) == [Origin.BUILT_IN, Origin.HOST, Origin.REPO, Origin.CLI]
    repo = by_origin[Origin.REPO]
    assert (repo.path, repo.sha256) == (".rch/xcode.toml", hashlib.sha256(XCODE.encode()).hexdigest())
    assert by_origin[Origin.HOST].path == str(xcode.host)
    assert all(len(source.sha256) == 64 for source in resolved.sources)


@pytest.mark.spec("6")
def test_command_line_texts_are_read_as_the_type_of_their_key(xcode: Tree) -> None:
    words = [
        *("timeouts.overall_seconds=60", "run.allow_no_tests=true", "selection.tags=ios, fast"),
        *('project.schemes=["MyApp", "Other"]', "destination.value=platform=macOS,arch=arm64"),
    ]
    resolved = xcode.load(parse_overrides(words))
    config = resolved.config
    assert config.timeouts.overall_seconds == 60
    assert config.run.allow_no_tests is True
    assert config.selection.tags == ("ios", "fast")
    assert config.project.schemes == ("MyApp", "Other")
    assert config.destination.value == "platform=macOS,arch=arm64"
    nested = xcode.load({"timeouts": {"overall_seconds": 61}})
    assert nested.config.timeouts.overall_seconds == 61


@pytest.mark.parametrize("word", ["timeouts.overall_seconds", "=5", ""])
def test_override_without_a_key_or_value_is_usage(word: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_overrides([word])
    assert caught.value.exit_code == 2


@pytest.mark.spec("4")
@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("timeouts.overall_seconds", [1, 86400], [0, -1, 86401, 1.5, True, "soon"]),
        ("timeouts.idle_log_seconds", [1, 1800], [0, 1801, 86401]),
        ("timeouts.connect_timeout_seconds", [1, 300], [0, 301]),
        ("queue.max_wait_seconds", [0, 3600], [-1]),
        ("bundle.max_bytes", [0, 5], [-1]),
        ("run.retry_tests", [0], [-1, 6]),
        ("selection.on_busy", ["next", "wait"], ["never"]),
        ("bundle.mode", ["worktree", "git_index"], ["all"]),
        ("bundle.symlinks", ["preserve", "dereference"], ["drop"]),
        ("cache.namespace", ["a.b-c_1"], ["", "-a", "a/b", "x" * 65, "a\n"]),
        ("toolchain.swift_version", ["6.0.3", ">=5.9,<6.2"], ["latest", "6.0.3\n", ">5.9 "]),
        ("schema_version", [1], [2, 0]),
        ("actions.verify", [["build"], ["test", "build"]], [[], ["archive"], [1]]),
    ],
)
def test_bounds_hold_before_anything_runs(
    package: Tree, key: str, good: list[object], bad: list[object]
) -> None:
    for value in good:
        package.load({key: value})
    for value in bad:
        failure = package.refusal({key: value})
        assert failure.subkind == "BAD_VALUE", value
        assert key in failure.message


@pytest.mark.spec("4")
def test_idle_default_gives_way_to_a_shorter_overall(package: Tree) -> None:
    assert package.load({"timeouts.overall_seconds": 60}).config.timeouts.idle_log_seconds == 60


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[timeouts]\noveral_seconds = 5", "timeouts.overal_seconds", "timeouts.overall_seconds"),
        ("[timeout]\noverall_seconds = 5", "timeout", "timeouts"),
        ('schemes = ["A"]', "schemes", "project.schemes"),
        ('[run]\nretry_test = 1\nmode = "x"', "run.retry_test", "run.retry_tests"),
        ("[bundle]\nmax = 1", "bundle.max", "bundle.max_bytes"),
        (
            '[[actions.step]]\naction = "test"\nonlytesting = []',
            "actions.step[0].onlytesting",
            "only_testing",
        ),
    ],
)
def test_unknown_key_names_file_key_and_nearest(package: Tree, text: str, key: str, nearest: str) -> None:
    package.repo(f'backend = "swiftpm"\n{text}\n' if not text.startswith("[") else f"{text}\n")
    failure = package.refusal()
    assert failure.label == "CONFIG / UNKNOWN_KEY"
    assert unplaced(failure).startswith(f".rch/xcode.toml: unknown key {key}; ")
    assert failure.message.endswith(nearest)


@pytest.mark.spec("6")
def test_unknown_key_of_host_and_command_line(package: Tree) -> None:
    assert str(package.host) in package.refusal(host="[caching]\n").message
    package.host.unlink()
    failure = package.refusal({"timeouts.idle": "5"})
    assert failure.subkind == "UNKNOWN_KEY"
    assert failure.message.startswith("command line")


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "mcp"),
        ("project.package", "Packages/Core"),
    ],
)
def test_what_is_not_built_yet_refuses_by_name(package: Tree, key: str, value: object) -> None:
    failure = package.refusal({key: value})
    assert failure.label == "CONFIG / NOT_OFFERED"
    assert f"not offered yet: {key} = " in failure.message
    table, _, leaf = key.rpartition(".")
    line = f"{leaf} = {value!r}\n"
    package.repo(f"[{table}]\n{line}" if table else line)
    assert package.refusal().label == "CONFIG / NOT_OFFERED"


@pytest.mark.spec("4", "6")
def test_a_broken_runner_may_be_tried_once_more_and_not_twice(package: Tree) -> None:
    resolved = package.load({"run.retry_infrastructure": "1"})
    assert resolved.effective["run"]["retry_infrastructure"] == 1
    assert package.refusal({"run.retry_infrastructure": 2}).label == "CONFIG / BAD_VALUE"


@pytest.mark.spec("6", "7")
def test_devices_are_made_for_simulators_alone(tree: Tree, package: Tree) -> None:
    wanted = {"destination.provisioning": "ephemeral"}
    assert 'does not go with backend = "swiftpm"' in package.refusal(wanted).message
    # A host wants it for every project; one that it does not fit has no use for it.
    package.load(host='[destination]\nprovisioning = "ephemeral"\n')
    package.host.unlink()
    (tree.root / "Package.swift").unlink()
    (tree.root / "MyApp.xcworkspace").mkdir()
    tree.repo(XCODE)
    assert tree.load(wanted).effective["destination"]["provisioning"] == "ephemeral"
    message = tree.refusal({**wanted, "destination.value": "platform=macOS"}).message
    assert message.startswith('command line: destination.provisioning = "ephemeral" is for simulators')


@pytest.mark.spec("6")
def test_locked_key_may_not_be_changed_from_below(package: Tree) -> None:
    host = "[timeouts]\noverall_seconds = 100\n[policy]\nlock = ['timeouts.overall_seconds', 'run']\n"
    failure = package.refusal({"timeouts.overall_seconds": 200}, host)
    assert failure.label == "CONFIG / LOCKED"
    assert "command line: timeouts.overall_seconds" in failure.message
    assert "100" in failure.message
    package.repo('backend = "swiftpm"\n[run]\nallow_narrowing = true\n')
    failure = package.refusal()
    assert unplaced(failure).startswith(".rch/xcode.toml: run.allow_narrowing"), "a table locks its keys"
    assert "cannot be true" in failure.message, "in the words of the file"
    assert "keeps it at false" in failure.message


@pytest.mark.spec("6")
def test_locked_key_may_be_repeated_with_its_value(package: Tree) -> None:
    host = "[policy]\nlock = ['timeouts.overall_seconds', 'actions.verify']\n"
    resolved = package.load({"timeouts.overall_seconds": "1800", "actions.verify": "build,test"}, host)
    assert resolved.config.timeouts.overall_seconds == 1800


@pytest.mark.spec("6")
def test_lock_does_not_reach_a_key_that_begins_alike(package: Tree) -> None:
    host = "[policy]\nlock = ['run.retry_tests']\n"
    assert package.load({"run.allow_no_tests": True}, host).config.run.allow_no_tests


@pytest.mark.spec("6")
def test_policy_table_is_the_hosts_alone(package: Tree) -> None:
    assert package.refusal({"policy.allow_flags": "-sdk"}).label == "CONFIG / LOCKED"
    package.repo("backend = 'swiftpm'\n[policy]\nlock = []\n")
    assert package.refusal().label == "CONFIG / LOCKED"


@pytest.mark.spec("6")
def test_policy_names_only_what_it_can_permit_or_lock(package: Tree) -> None:
    resolved = package.load(host="[policy]\nallow_flags = ['-skipMacroValidation', 'TEST_RUNNER_*']\n")
    assert resolved.config.policy.allow_flags == ("-skipMacroValidation", "TEST_RUNNER_*")
    assert package.refusal(host="[policy]\nallow_flags = ['-xcconfig']\n").label == "CONFIG / BAD_VALUE"
    assert package.refusal(host="[policy]\nlock = ['timeout']\n").label == "CONFIG / UNKNOWN_KEY"


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('project = "MyApp.xcodeproj"', "project.workspace"),
        ('package = "."', "project.package"),
        ("schemes = []", "project.schemes"),
        ('schemes = ["-derivedDataPath"]', "project.schemes"),
        ('workspace = "../MyApp.xcworkspace"', "project.workspace"),
        ('workspace = "/MyApp.xcworkspace"', "project.workspace"),
        ('workspace = "Gone.xcworkspace"', "project.workspace"),
        ('workspace = "MyApp.xcodeproj"', "project.workspace"),
    ],
)
def test_xcode_configs_that_disagree(xcode: Tree, change: str, key: str) -> None:
    value = tomllib.loads(change)
    failure = xcode.refusal({f"project.{name}": item for name, item in value.items()})
    assert failure.label == "CONFIG / BAD_VALUE"
    assert key in failure.message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('backend = "swiftpm"\n[project]\nworkspace = "A.xcworkspace"', "project.workspace"),
        ('backend = "swiftpm"\n[project]\nschemes = ["A"]', "project.schemes"),
        ('backend = "swiftpm"\n[project]\nconfigurations = ["Debug"]', "project.configurations"),
        ('backend = "swiftpm"\n[destination]\nvalue = "platform=macOS"', "destination.value"),
        ('backend = "swiftpm"\n[toolchain]\nxcode_version = "16.2"', "toolchain.xcode_version"),
        ('[[actions.step]]\naction = "build"\nonly_testing = ["A"]', "actions.step[0]"),
        ('[[actions.step]]\naction = "test"\nscheme = "A"', "actions.step[0]"),
        ('[[actions.step]]\naction = "test"\nconfiguration = "fast"', "actions.step[0]"),
        ('[[actions.step]]\naction = "test"\nonly_testing = ["A/B/c/d"]', "actions.step[0]"),
        ('[[actions.step]]\nscheme = "A"', "actions.step[0]"),
        ('[actions]\nverify = ["build"]\n[[actions.step]]\naction = "test"', "actions.verify"),
        ("timeouts = 5", "timeouts"),
        ("[actions]\nstep = [5]", "actions.step[0]"),
    ],
)
def test_swift_configs_that_disagree(package: Tree, text: str, key: str) -> None:
    package.repo(text + "\n")
    failure = package.refusal()
    assert failure.label == "CONFIG / BAD_VALUE"
    assert unplaced(failure).startswith(f".rch/xcode.toml: {key} ")


@pytest.mark.spec("6")
def test_package_config_in_a_folder_without_a_package(tree: Tree) -> None:
    tree.repo('backend = "swiftpm"\n[project]\npackage = "."\n')
    failure = tree.refusal()
    assert failure.label == "CONFIG / BAD_VALUE"
    assert "Package.swift" in failure.message


@pytest.mark.spec("6")
def test_toolchain_of_the_whole_host_does_not_disturb_a_package(package: Tree) -> None:
    resolved = package.load(
        host='[toolchain]\nxcode_version = "16.2"\n[destination]\nvalue = "platform=macOS"\n'
    )
    assert resolved.config.backend == "swiftpm"


@pytest.mark.spec("1")
def test_root_with_workspace_and_project_names_the_pair(tree: Tree) -> None:
    (tree.root / "App.xcworkspace").mkdir()
    (tree.root / "App.xcodeproj").mkdir()
    tree.repo(
        'backend = "xcodebuild"\n[project]\nschemes = ["App"]\n[destination]\nvalue = "platform=macOS"\n'
    )
    failure = tree.refusal()
    assert failure.label == "CONFIG / AMBIGUOUS"
    assert "App.xcworkspace" in failure.message
    assert "App.xcodeproj" in failure.message
    named = tree.load({"project.project": "App.xcodeproj"})
    assert named.config.project.workspace is None


@pytest.mark.spec("1")
def test_the_only_project_of_a_root_is_implied(tree: Tree) -> None:
    (tree.root / "App.xcodeproj").mkdir()
    tree.repo('[project]\nschemes = ["App"]\n[destination]\nvalue = "platform=macOS"\n')
    resolved = tree.load()
    assert (resolved.config.backend, resolved.config.project.project) == ("xcodebuild", "App.xcodeproj")
    assert resolved.origins["project.project"] is Origin.IMPLIED


@pytest.mark.spec("1")
def test_package_beside_a_project_needs_a_backend(package: Tree) -> None:
    (package.root / "App.xcodeproj").mkdir()
    package.repo("[run]\n")
    assert package.refusal().label == "CONFIG / AMBIGUOUS"
    package.repo('backend = "swiftpm"\n')
    assert package.load().config.backend == "swiftpm"


@pytest.mark.spec("1")
def test_config_in_an_empty_folder_is_no_project(tree: Tree) -> None:
    tree.repo("[run]\n")
    assert tree.refusal().label == "CONFIG / NO_PROJECT"
    tree.repo('backend = "xcodebuild"\n')
    assert tree.refusal().label == "CONFIG / NO_PROJECT"


@pytest.mark.spec("6")
@pytest.mark.parametrize("data", [b"a = \n", b"\xff = 1\n", b"a = 1\na = 2\n", b"x" * (1 << 20) + b"=1"])
def test_file_that_is_no_toml_is_named(package: Tree, data: bytes) -> None:
    package.repo("")
    (package.root / ".rch" / "xcode.toml").write_bytes(data)
    failure = package.refusal()
    assert failure.label == "CONFIG / BAD_VALUE"
    assert unplaced(failure).startswith(".rch/xcode.toml: ")


def test_config_that_is_a_folder_or_a_dangling_link_is_an_error(package: Tree) -> None:
    (package.root / ".rch" / "xcode.toml").mkdir(parents=True)
    assert "cannot be read" in package.refusal().message
    (package.root / ".rch" / "xcode.toml").rmdir()
    (package.root / ".rch" / "xcode.toml").symlink_to("gone")
    assert "cannot be read" in package.refusal().message


@pytest.mark.parametrize("value", [5, "5", [5], None, {}])
def test_a_table_is_no_value_on_the_command_line(package: Tree, value: object) -> None:
    if value == {}:
        assert package.load({"timeouts": value}).config.timeouts.overall_seconds == 1800
        return
    failure = package.refusal({"timeouts": value, "timeouts.overall_seconds": 5})
    assert failure.label == "CONFIG / BAD_VALUE"


@pytest.mark.parametrize("value", [1e3, float("nan"), 2**70, b"x", object()])
def test_values_that_no_file_could_hold_are_refused(package: Tree, value: object) -> None:
    assert package.refusal({"timeouts.overall_seconds": value}).label == "CONFIG / BAD_VALUE"


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("timeouts.overall_seconds", "1e9", "= 1000000000.0 is not a whole number from 1 to"),
        ("actions.verify", ["archive"], "= ['archive'] is not a list, each one of build, test"),
        ("actions.verify", [["build"]], "= [['build']] is not a list, each one of build, test"),
    ],
)
def test_a_bad_value_is_shown_and_told_what_is_taken(
    package: Tree, key: str, value: object, told: str
) -> None:
    failure = package.refusal({key: value})
    assert failure.message.startswith(f"command line: {key} {told}")


@pytest.mark.parametrize("key", ["a.b.c", "zzzzzz"])
def test_a_key_in_no_known_table_is_told_the_tables(package: Tree, key: str) -> None:
    failure = package.refusal({key: 1})
    assert "known: schema_version, backend, project, actions," in failure.message


def test_a_refusal_blames_no_file_that_is_not_there(package: Tree) -> None:
    failure = package.refusal({"backend": "xcodebuild"})
    assert failure.message.startswith("command line: backend = xcodebuild needs a workspace or project")
    (package.root / "A.xcodeproj").mkdir()
    failure = package.refusal({"backend": "xcodebuild"})
    assert failure.message.startswith("command line: project.schemes is empty")


def test_effective_config_is_json_and_redacted(package: Tree) -> None:
    token = "ghp_" + "a" * 36
    resolved = package.load({"selection.tags": ["plain", token]})
    assert resolved.effective["selection"]["tags"] == ["plain", "[REDACTED]"]
    assert resolved.redactions == ("selection.tags[1]",)
    assert token.encode() not in msgspec.json.encode(resolved.effective)
    assert resolved.config.selection.tags == ("plain", token), "what runs is unredacted"


@pytest.mark.spec("11")
@pytest.mark.parametrize(("key", "value"), [("cache.workspace", "warm"), ("cache.derived_data", "shared")])
def test_what_jobs_share_needs_a_name(package: Tree, key: str, value: str) -> None:
    failure = package.refusal({key: value})
    assert failure.label == "CONFIG / BAD_VALUE"
    assert f'{key} = "{value}" needs cache.namespace' in failure.message
    assert package.load({key: value, "cache.namespace": "app"}).config.cache.namespace == "app"
