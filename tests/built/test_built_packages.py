"""What the packages hold: all of it, nothing else, and the same bytes each time."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from support.installed import EPOCH, packages, sources
from support.lab import REPO

import rch
from building.content import COMPLETIONS, STATIC, man_place
from building.dist import BuildError, build
from rchctl.verbs import VERBS

PACKAGES = ("rch", "rch_conformance", "rchctl", "rchd", "worker_agent")
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
SCRIPTS = PROJECT["scripts"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return packages(tmp_path_factory)


@pytest.fixture(scope="module")
def names(built: list[Path]) -> set[str]:
    return set(zipfile.ZipFile(built[0]).namelist())


def tracked(*folders: str) -> Iterator[str]:
    """Files of the checkout that are no products of its use."""
    for folder in folders:
        for path in (REPO / folder).rglob("*"):
            parts = path.relative_to(REPO).parts
            if parts[:2] == ("docs", "reference"):
                continue
            if (path.is_file() or path.is_symlink()) and not {"__pycache__", ".build", ".swiftpm"} & set(
                parts
            ):
                yield "/".join(parts)


def test_the_wheel_holds_the_packages_whole_and_no_others(names: set[str]) -> None:
    inside = {each for each in names if not each.startswith("rch_xcode-")}
    assert inside == set(tracked(*PACKAGES))


def test_the_wheel_brings_a_page_for_each_program_and_verb(names: set[str]) -> None:
    data = {name.split("/data/", 1)[1] for name in names if ".data/data/" in name}
    pages = {place for place in data if place.startswith("share/man/")}
    assert {Path(place).stem for place in pages} == {*SCRIPTS, *(f"rchctl-{verb}" for verb in VERBS)}
    assert {man_place("rchd", 8), man_place("rch-worker", 8), man_place("rchctl", 1)} <= pages
    assert {place.format(name) for place in COMPLETIONS.values() for name in SCRIPTS} <= data
    assert {f"{folder}/{Path(name).name}" for folder, files in STATIC for name in files} <= data


_NAMED = re.compile(r"\bdocs/[a-z-]+\.md\b")


def test_every_page_that_a_program_names_comes_with_it(built: list[Path], names: set[str]) -> None:
    """As a checkout has them, but for what makes the site; in a wheel of a bearable size."""
    docs = {name.partition("/share/doc/rch/")[2] for name in names if "/share/doc/rch/" in name}
    assert docs == {"CHANGELOG.md"} | {
        each for each in tracked("docs") if not {"_ext", "_static", "conf.py"} & set(each.split("/"))
    }
    told = {
        page
        for name in tracked(*PACKAGES)
        if name.endswith(".py")
        for page in _NAMED.findall((REPO / name).read_text())
    }
    assert len(told) > 5
    assert told <= docs
    assert built[0].stat().st_size < 2 << 20


def test_what_contrib_holds_is_all_installed() -> None:
    assert {name for _, files in STATIC for name in files} == set(tracked("contrib"))


def test_programs_of_the_wheel_may_be_run(built: list[Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        modes = {each.filename: each.external_attr >> 16 & 0o777 for each in wheel.infolist()}
    shims = {name for name in modes if "/shims/" in name}
    assert {name: modes[name] for name in shims} == dict.fromkeys(shims, 0o755)
    others = {mode for name, mode in modes.items() if name not in shims and not name.endswith("/RECORD")}
    assert others == {0o644}


def test_the_metadata_is_valid_and_names_the_licence(built: list[Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        raw = wheel.read(name)
        assert name.replace("METADATA", "licenses/LICENSE") in wheel.namelist()
    told = Metadata.from_email(raw, validate=True)
    assert (told.name, str(told.version)) == (PROJECT["name"], rch.__version__)
    assert (told.license_expression, told.license_files) == ("Apache-2.0", ["LICENSE"])
    assert {"host", "worker", "tui", "all"} <= set(told.provides_extra or ())
    assert email.message_from_bytes(raw)["Description-Content-Type"] == "text/markdown"


def test_the_sdist_can_be_checked_and_built_by_whoever_has_it(built: list[Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        members = sdist.getmembers()
    top = f"rch_xcode-{rch.__version__}/"
    inside = {each.name.removeprefix(top) for each in members if each.isfile() or each.issym()}
    needed = {
        *tracked(*PACKAGES, "building", "tests", "docs", "scripts"),
        "Makefile",
        "LICENSE",
        "setup.py",
    }
    assert needed <= inside
    marks = {each.name.removeprefix(top) for each in members if each.issym()}
    assert marks == {each for each in tracked("tests") if (REPO / each).is_symlink()} != set()
    assert {(each.uid, each.gid, each.uname, each.mtime) for each in members} == {(0, 0, "", EPOCH)}
    assert {each.mode & 0o7777 for each in members} <= {0o755, 0o644}


@pytest.mark.faults_long
def test_equal_sources_make_equal_packages(
    built: list[Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Under another name, umask and clock; the wheel from the tree and not from the sdist."""
    sources(tmp_path_factory, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*"):
        if path.is_symlink():
            continue
        os.utime(path, (1, 1))
        if not path.is_dir():
            path.chmod(path.stat().st_mode & 0o700)
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "elsewhere", tmp_path / "out", "--sdist", "--wheel", epoch=EPOCH)
    finally:
        os.umask(before)
    assert {each.name: each.read_bytes() for each in again} == {
        each.name: each.read_bytes() for each in built
    }


_SMALL = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "small"
version = "1"
"""


def test_a_build_that_warns_fails(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(_SMALL)
    (tree / "MANIFEST.in").write_text("include nothing.txt\n")
    with pytest.raises(BuildError, match=r"nothing\.txt"):
        build(tree, tmp_path / "out", "--sdist", epoch=EPOCH)


@pytest.mark.skipif(not (shutil.which("mandoc") or shutil.which("man")), reason="no reader of manual pages")
def test_every_page_is_read_without_a_complaint(built: list[Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(tmp_path)  # noqa: S202  (made by ourselves)
    pages = sorted(map(str, tmp_path.glob("*.data/data/share/man/man*/*")))
    assert len(pages) > len(VERBS)
    if shutil.which("mandoc"):
        argv = ["mandoc", "-T", "lint", "-W", "warning", *pages]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")
    if shutil.which("groff"):
        argv = ["groff", "-man", "-Tutf8", "-ww", *pages]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "RCHCTL-VERIFY(1)" in done.stdout
        assert "rchctl verify --quiet && git push" in done.stdout
