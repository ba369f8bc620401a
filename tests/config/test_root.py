"""Where a project begins (spec section 1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rch.config.root import find_root
from rch.contract.errors import Failure


def _config(folder: Path) -> Path:
    (folder / ".rch").mkdir(parents=True)
    path = folder / ".rch" / "xcode.toml"
    path.write_text('backend = "swiftpm"\n')
    return path


def _package(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Package.swift").touch()
    return folder


@pytest.mark.spec("1")
def test_nearest_config_upward_wins(tmp_path: Path) -> None:
    _config(tmp_path)
    config = _config(tmp_path / "a")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    root = find_root(tmp_path / "a" / "b" / "c")
    assert (root.path, root.config_path, root.implied) == (tmp_path / "a", config, False)


@pytest.mark.spec("1")
def test_config_further_up_beats_a_nearer_package(tmp_path: Path) -> None:
    config = _config(tmp_path)
    package = _package(tmp_path / "Packages" / "Core")
    assert find_root(package).config_path == config


@pytest.mark.spec("1")
def test_nearest_package_below_the_git_top_is_implied(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    _package(tmp_path)
    inner = _package(tmp_path / "Core")
    (inner / "Sources").mkdir()
    root = find_root(inner / "Sources")
    assert (root.path, root.config_path, root.implied) == (inner, None, True)


@pytest.mark.spec("1")
def test_package_at_the_git_top_is_found(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere\n")
    _package(tmp_path)
    (tmp_path / "Sources").mkdir()
    assert find_root(tmp_path / "Sources").path == tmp_path


@pytest.mark.spec("1")
def test_package_above_the_git_top_is_not_this_project(tmp_path: Path) -> None:
    _package(tmp_path)
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    with pytest.raises(Failure) as caught:
        find_root(repo)
    assert (caught.value.label, caught.value.exit_code) == ("CONFIG / NO_PROJECT", 3)


@pytest.mark.spec("1")
def test_no_project_says_how_to_make_a_config(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "App.xcworkspace").mkdir()
    with pytest.raises(Failure) as caught:
        find_root(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert ".rch/xcode.toml" in caught.value.hint
    assert 'workspace = "App.xcworkspace"' in caught.value.hint


def test_start_that_is_a_file_or_a_link_is_followed(tmp_path: Path) -> None:
    package = _package(tmp_path / "real")
    (tmp_path / "link").symlink_to(package)
    assert find_root(tmp_path / "link").path == package
    assert find_root(package / "Package.swift").path == package


def test_missing_start_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no such folder"):
        find_root(tmp_path / "gone")
