"""What becomes of a request before it is a run: accepted whole, or nothing of it stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.small_disk import fill, small_disk
from support.trees import Link, checkout, make

from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted, SourceManifest, decode_record, encode_record
from rch.files import durable
from rch.files.paths import HostPaths, host_paths
from rchd.edges import intake as intake_edge
from rchd.edges import packing
from rchd.edges.intake import Intake
from rchd.edges.snapshot import Progress, take

PACKAGE: dict[str, str | bytes | Link | None] = {
    "Package.swift": "// swift-tools-version: 5.9\n",
    "Sources/a.swift": "let a = 1\n",
}


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return host_paths({"RCH_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project", PACKAGE)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def refused(paths: HostPaths, params: SubmitParams) -> Failure:
    """The refusal, after which nothing of the run is left."""
    with pytest.raises(Failure) as caught:
        await Intake(paths).take(params)
    assert not paths.artifacts.exists() or not list(paths.artifacts.iterdir())
    assert not [name for name in files(paths.spool) if durable.is_temp_name(name)]
    return caught.value


@pytest.mark.spec("4")
async def test_an_accepted_run_is_durable_before_it_is_told(paths: HostPaths, project: Path) -> None:
    told: list[Progress] = []
    accepted = await Intake(paths).take(SubmitParams(start=str(project / "Sources")), told.append)
    place = paths.artifacts / accepted.run_id
    assert files(place) == ["accepted.json", "source_manifest.json"]
    written = decode_record((place / "accepted.json").read_bytes(), Accepted)
    assert encode_record(written) == encode_record(accepted)
    manifest = decode_record((place / "source_manifest.json").read_bytes(), SourceManifest)
    assert [entry.path for entry in manifest.entries] == ["Package.swift", "Sources/a.swift"]
    assert manifest.source_sha256 == accepted.source.source_sha256
    assert files(paths.spool) == [accepted.source.spool_name]
    assert accepted.root == os.path.realpath(project)  # noqa: ASYNC240  (one look)
    assert [step.action for step in accepted.steps] == ["build", "test"]
    assert len({step.job_id for step in accepted.steps} | {step.host_nonce for step in accepted.steps}) == 4
    assert told[-1].bytes_done == told[-1].bytes_total == accepted.source.tar_bytes


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("change", "params", "kind", "subkind"),
    [
        ({".rch/xcode.toml": 'schema_version = 1\nbackend = "swiftpn"\n'}, {}, Kind.CONFIG, "BAD_VALUE"),
        ({".rch/xcode.toml": "schema_version = 1\nbackend_ = 1\n"}, {}, Kind.CONFIG, "UNKNOWN_KEY"),
        ({}, {"overrides": {"run.artefact_profile": "rich"}}, Kind.CONFIG, "UNKNOWN_KEY"),
        ({}, {"overrides": {"timeouts.overall_seconds": "-1"}}, Kind.CONFIG, "BAD_VALUE"),
        ({}, {"actions": ("archive",)}, Kind.USAGE, None),
        ({}, {"group": ""}, Kind.USAGE, None),
        ({}, {"group": "g" * 201}, Kind.USAGE, None),
        ({}, {"supersede": True}, Kind.USAGE, None),
        ({}, {"on_disconnect": "detach"}, Kind.USAGE, None),
        ({"away": Link("../../outside")}, {}, Kind.BUNDLER, "SYMLINK_ESCAPE"),
        ({"A.swift": "", "a.swift": ""}, {}, Kind.BUNDLER, "PATH_COLLISION"),
        (
            {"big.bin": b"x" * 4096},
            {"overrides": {"bundle.max_bytes": "4096"}},
            Kind.BUNDLER,
            "SIZE_EXCEEDED",
        ),
        ({}, {"overrides": {"bundle.gitignore": "true"}}, Kind.CONFIG, None),
    ],
)
async def test_what_is_refused_leaves_nothing_behind(
    paths: HostPaths,
    project: Path,
    change: dict[str, str | bytes | Link | None],
    params: dict[str, Any],
    kind: Kind,
    subkind: str | None,
) -> None:
    make(project, change)
    failure = await refused(paths, SubmitParams(start=str(project), **params))
    assert failure.kind == kind
    if subkind is not None:
        assert failure.subkind == subkind


async def test_a_fifo_is_refused_and_not_waited_for(paths: HostPaths, project: Path) -> None:
    os.mkfifo(project / "pipe")
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, "UNSUPPORTED_FILE")
    assert "pipe" in failure.message


@pytest.mark.parametrize("start", ["", ".", "project", "/a\0b", "~"])
async def test_a_start_that_is_no_whole_path_is_refused(paths: HostPaths, start: str) -> None:
    failure = await refused(paths, SubmitParams(start=start))
    assert (failure.kind, failure.exit_code) == (Kind.USAGE, 2)


async def test_a_start_that_is_nowhere_is_refused(paths: HostPaths, tmp_path: Path) -> None:
    failure = await refused(paths, SubmitParams(start=str(tmp_path / "nowhere")))
    assert (failure.kind, failure.subkind) == (Kind.CONFIG, "NO_PROJECT")


@pytest.mark.fault("H12")
async def test_a_full_disk_refuses_the_run_and_leaves_nothing(
    tmp_path: Path, project: Path, paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.data_dir.parent.mkdir(parents=True)
    with small_disk(paths.data_dir, 256) as disk:
        ballast = fill(disk)
        failure = await refused(paths, SubmitParams(start=str(project)))
        assert (failure.kind, failure.subkind, failure.exit_code) == (Kind.BUNDLER, "NO_SPACE", 92)
        ballast.unlink()
        assert (await Intake(paths).take(SubmitParams(start=str(project)))).run_id
    del tmp_path, monkeypatch


class NoAccepted(durable.System):
    """A disk on which the second file of a run cannot be made durable."""

    def rename(self, src: Path, dst: Path) -> None:
        if dst.name == "accepted.json":
            raise OSError(5, "Input/output error")
        super().rename(src, dst)


@pytest.mark.fault("H11")
async def test_a_run_that_cannot_be_written_down_leaves_nothing(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_sys", NoAccepted())
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, None)
    assert "Input/output error" in failure.message


@pytest.mark.spec("5")
async def test_the_manifest_of_the_package_is_kept_though_git_ignores_it(
    paths: HostPaths, tmp_path: Path
) -> None:
    config = (
        'schema_version = 1\nbackend = "swiftpm"\n[project]\npackage = "."\n[bundle]\ngitignore = true\n'
    )
    root = checkout(
        tmp_path / "ignored",
        {
            ".rch/xcode.toml": config,
            ".gitignore": "Package.swift\nnotes.txt\n",
            "Package.swift": "// swift-tools-version: 5.9\n",
            "notes.txt": "not for the worker\n",
        },
    )
    accepted = await Intake(paths).take(SubmitParams(start=str(root)))
    data = (paths.artifacts / accepted.run_id / "source_manifest.json").read_bytes()
    names = {entry.path for entry in decode_record(data, SourceManifest).entries}
    assert "Package.swift" in names
    assert "notes.txt" not in names


async def test_a_huge_snapshot_ends_soon_when_nobody_waits_for_it(paths: HostPaths, project: Path) -> None:
    for number in range(64):
        (project / f"big{number}.bin").write_bytes(os.urandom(1 << 20))
    reached, ended = anyio.Event(), []
    loop = asyncio.get_running_loop()
    done: list[int] = []

    def tell(progress: Progress) -> None:
        done.append(progress.bytes_done)
        loop.call_soon_threadsafe(reached.set)

    async def submit() -> None:
        try:
            await Intake(paths).take(SubmitParams(start=str(project)), tell)
        except Failure as failure:
            ended.append(failure.kind)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(submit)
            await reached.wait()
            group.cancel_scope.cancel()
    assert ended == [Kind.CANCELLED]
    assert max(done) < 64 << 20
    assert files(paths.spool) == []
    assert not paths.artifacts.exists()


async def test_what_no_worker_would_take_is_refused_before_it_is_read(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / "sparse.bin").open("wb") as file:
        file.truncate(64 << 30)
    monkeypatch.setattr(packing, "opened", None)  # to read a file fails
    failure = await refused(paths, SubmitParams(start=str(project)))
    assert (failure.kind, failure.subkind) == (Kind.BUNDLER, "SIZE_EXCEEDED")
    assert "over the limit of 68719476736" in failure.message


async def test_a_bundle_that_is_pruned_before_anyone_holds_it_is_made_again(
    paths: HostPaths, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = take, list[Path]()

    def pruned(*arguments: Any, **options: Any) -> Any:
        snapshot = real(*arguments, **options)
        made.append(snapshot.spool_path)
        if len(made) == 1:
            snapshot.spool_path.unlink()
        return snapshot

    monkeypatch.setattr(intake_edge, "take", pruned)
    accepted = await Intake(paths).take(SubmitParams(start=str(project)))
    assert len(made) == 2
    assert files(paths.spool) == [accepted.source.spool_name]
