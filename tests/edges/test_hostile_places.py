"""Folders and files that a request names and that are no such thing, or never answer (fault C3)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from rch.config.inventory import load_inventory
from rch.config.sources import MAX_BYTES
from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.files.paths import HostPaths, host_paths
from rchd.edges import reach as reach_module
from rchd.edges.intake import MAX_ARGV_BYTES, MAX_NAME, Intake
from rchd.edges.reach import MAX_STUCK, Reach

MANIFEST = "// swift-tools-version: 5.9\n"
CONFIG = 'backend = "swiftpm"\n'


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / ".rch").mkdir(parents=True)
    (root / "Package.swift").write_text(MANIFEST)
    (root / ".rch" / "xcode.toml").write_text(CONFIG)
    return root


async def refused(paths: HostPaths, **params: object) -> Failure:
    """What a submit is refused with; another one is taken all the same."""
    intake = Intake(paths)
    try:
        with anyio.fail_after(30), pytest.raises(Failure) as caught:
            await intake.take(SubmitParams(**params))  # type: ignore[arg-type]
    finally:
        intake.close()
    return caught.value


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _gigabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _nothing(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


@pytest.mark.fault("C3")
@pytest.mark.parametrize("what", [_fifo, _device, _loop, _folder, _gigabyte, _nothing])
async def test_a_config_that_is_no_plain_small_file_is_refused_at_once(
    paths: HostPaths, project: Path, what: object
) -> None:
    assert callable(what)
    config = project / ".rch" / "xcode.toml"
    config.unlink()
    what(config)
    failure = await refused(paths, start=str(project))
    assert (failure.kind, failure.subkind) == (Kind.CONFIG, "BAD_VALUE")
    assert "xcode.toml" in failure.message


@pytest.mark.fault("C3")
@pytest.mark.parametrize("what", [_fifo, _device, _loop, _folder, _gigabyte])
def test_nor_is_such_an_inventory_waited_for(paths: HostPaths, what: object) -> None:
    assert callable(what)
    paths.config_dir.mkdir(parents=True)
    what(paths.workers_toml)
    with pytest.raises(Failure) as caught:
        load_inventory(paths.workers_toml)
    assert caught.value.kind is Kind.CONFIG


@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_config_is_as_long_as_the_limit_and_no_longer(
    paths: HostPaths, project: Path, beyond: int
) -> None:
    text = CONFIG + "#" * (MAX_BYTES - len(CONFIG) + beyond)
    (project / ".rch" / "xcode.toml").write_text(text)
    if beyond:
        assert f"is over {MAX_BYTES} bytes" in (await refused(paths, start=str(project))).message
    else:
        intake = Intake(paths)
        await intake.take(SubmitParams(start=str(project)))
        intake.close()


@pytest.mark.fault("C3")
@pytest.mark.parametrize("start", ["/proc", "/proc/self/task", "/dev", "/dev/null"])
async def test_what_is_no_project_is_told_at_once(paths: HostPaths, start: str) -> None:
    failure = await refused(paths, start=start)
    assert (failure.kind, failure.subkind) == (Kind.CONFIG, "NO_PROJECT")


@pytest.mark.fault("C3")
async def test_a_start_that_leads_round_is_nowhere(paths: HostPaths, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    failure = await refused(paths, start=str(tmp_path / "round"))
    assert (failure.kind, failure.subkind) == (Kind.CONFIG, "NO_PROJECT")


@pytest.mark.fault("C3")
async def test_a_start_longer_than_any_path_is_told_in_short(paths: HostPaths) -> None:
    failure = await refused(paths, start="/" + "x/" * 400_000)
    assert failure.kind is Kind.CONFIG


@pytest.mark.fault("C3")
@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("name", ["origin", "client_token", "group"])
async def test_a_name_is_as_long_as_the_limit_and_no_longer(
    paths: HostPaths, project: Path, name: str, beyond: int
) -> None:
    params: dict[str, Any] = {"start": str(project), name: "x" * (MAX_NAME + beyond)}
    if beyond:
        failure = await refused(paths, **params)
        assert failure.kind is Kind.USAGE
        assert f"{name} 'xx" in failure.message
        assert len(failure.message) < 200
    else:
        intake = Intake(paths)
        accepted = await intake.take(SubmitParams(**params))
        assert getattr(accepted, name) == params[name]
        intake.close()


@pytest.mark.spec("11")
@pytest.mark.parametrize("name", ["origin", "client_token", "group"])
async def test_a_name_that_looks_like_a_secret_is_refused_and_not_repeated(
    paths: HostPaths, project: Path, name: str
) -> None:
    failure = await refused(paths, start=str(project), **{name: "ghp_" + "A1b2" * 9})
    assert failure.kind is Kind.USAGE
    assert f"the {name} looks like a secret" in failure.message
    assert "A1b2" not in failure.message


@pytest.mark.fault("C3")
@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_command_line_is_as_long_as_the_limit_and_no_longer(
    paths: HostPaths, project: Path, beyond: int
) -> None:
    words: tuple[str, ...] = (
        "swift",
        "build",
        "--x" + "é" * ((MAX_ARGV_BYTES - 13) // 2),
        "x" * (1 + beyond),
    )
    size = sum(len(word.encode()) for word in words)
    words = (*words, "y" * (MAX_ARGV_BYTES - size + beyond))
    if beyond:
        failure = await refused(paths, start=str(project), argv=words)
        assert f"argv has {MAX_ARGV_BYTES + 1} bytes, over {MAX_ARGV_BYTES}" in failure.message
    else:
        intake = Intake(paths)
        accepted = await intake.take(SubmitParams(start=str(project), argv=words))
        assert accepted.steps[0].sanitized_argv is None  # the gate saw it, and said no
        intake.close()


class DeadMount:
    """A disk that answers when it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, _path: Path) -> None:
        self.gate.wait(60)


@pytest.fixture
def dead_mount() -> Iterator[DeadMount]:
    mount = DeadMount()
    yield mount
    mount.gate.set()


@pytest.mark.fault("C3")
async def test_a_folder_that_never_answers_costs_its_caller_some_seconds_and_nobody_else_any(
    paths: HostPaths, project: Path, dead_mount: DeadMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach_module, "ROOT_SECONDS", 0.2)
    looks = Reach(lambda path: dead_mount(path) if path.name == "dead" else None)
    intake = Intake(paths)
    vars(intake)["_looks"] = looks
    with anyio.fail_after(30):
        with pytest.raises(Failure, match="it did not answer within") as caught:
            await intake.take(SubmitParams(start="/mnt/dead"))
        assert (caught.value.kind, caught.value.subkind) == (Kind.CONFIG, "NO_PROJECT")
        assert (await intake.take(SubmitParams(start=str(project)))).root == str(project)
    intake.close()


@pytest.mark.fault("C3")
async def test_few_looks_may_be_stuck_and_each_that_is_freed_makes_room(
    dead_mount: DeadMount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach_module, "ROOT_SECONDS", 0.05)
    looks = Reach(lambda path: dead_mount(path) if path.name == "dead" else None)
    for _ in range(MAX_STUCK):
        with pytest.raises(Failure, match="it did not answer within"):
            await looks.look_at("/mnt/dead")
    with pytest.raises(Failure, match=f"{MAX_STUCK} folders before it do not answer"):
        await looks.look_at("/mnt/alive")
    dead_mount.gate.set()
    with anyio.fail_after(20):
        while True:
            try:
                await looks.look_at("/mnt/alive")
            except Failure:
                await anyio.sleep(0.01)
            else:
                break
