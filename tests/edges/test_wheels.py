"""Wheels out of what is installed: whole, equal for equal files, and enough for the agent."""

from __future__ import annotations

import base64
import hashlib
import io
import platform
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from support.lab import REPO

import rch
from rchd.edges.wheels import NEEDS, Machine, agent_wheel, needed, repacked

HERE = Machine(
    platform.system(),
    platform.machine(),
    ".".join(map(str, sys.version_info[:2])),
    " ".join(platform.libc_ver()),
)

_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[1:]
for top in ("rch", "worker_agent"):
    package = importlib.import_module(top)
    assert package.__file__.startswith(sys.argv[1]), package.__file__
    for each in pkgutil.walk_packages(package.__path__, top + "."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
import nacl.signing, junitparser.xunit2
print(*sorted(name for name in sys.modules if "." not in name))
"""


def test_the_agent_imports_nothing_but_what_is_brought(tmp_path: Path) -> None:
    for wheel in (agent_wheel(), *needed(HERE, HERE)):
        zipfile.ZipFile(io.BytesIO(wheel.data)).extractall(tmp_path)
    argv = [sys.executable, "-I", "-S", "-c", _IMPORT_ALL, str(tmp_path)]
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert not {"asyncssh", "anyio", "structlog", "jinja2", "rchd", "rchctl"} & set(told.stdout.split())


def test_the_extra_names_what_is_brought() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    worker = project["optional-dependencies"]["worker"]
    assert tuple(sorted([*worker, *project["dependencies"]])) == NEEDS


@pytest.mark.parametrize("name", ["msgspec", "junitparser"])
def test_a_wheel_lists_its_files_as_they_are_installed(name: str) -> None:
    wheel = repacked(distribution(name))
    assert wheel is not None
    archive = zipfile.ZipFile(io.BytesIO(wheel.data))
    (record,) = [each for each in archive.namelist() if each.endswith(".dist-info/RECORD")]
    rows = [line.rsplit(",", 2) for line in archive.read(record).decode().splitlines()]
    assert {row[0] for row in rows} == set(archive.namelist())
    for path, digest, size in rows:
        if path != record:
            data = archive.read(path)
            encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={encoded}", str(len(data)))
            assert data == Path(str(distribution(name).locate_file(path))).read_bytes()
    assert wheel.name.startswith(f"{name}-{distribution(name).version}-")


def test_equal_files_are_an_equal_wheel() -> None:
    first, second = agent_wheel(), agent_wheel()
    assert first == second
    assert first.name == f"rch_worker-{rch.__version__}-py3-none-any.whl"


def test_another_machine_is_sent_what_fits_any_and_one_like_this_all() -> None:
    every = {wheel.name for wheel in needed(HERE, HERE)}
    pure = {name for name in every if name.endswith("-none-any.whl")}
    assert {name.partition("-")[0] for name in every} >= {
        "msgspec",
        "zstandard",
        "pynacl",
        "cffi",
        "rfc8785",
    }
    for other in (
        HERE._replace(system="Darwin"),
        HERE._replace(machine="sparc"),
        HERE._replace(libc="musl 1.2"),
    ):
        assert {wheel.name for wheel in needed(other, HERE)} == pure
    newer = {wheel.name for wheel in needed(HERE._replace(python="3.99"), HERE)}
    assert pure < newer < every
    assert any("-abi3-" in name for name in newer)


def test_what_is_only_linked_in_is_no_wheel(tmp_path: Path) -> None:
    info = tmp_path / "linked-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: linked\nVersion: 1\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nTag: py3-none-any\n")
    (info / "RECORD").write_text("linked-1.dist-info/METADATA,,\n")
    from importlib.metadata import PathDistribution

    assert repacked(PathDistribution(info)) is not None
    (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')
    assert repacked(PathDistribution(info)) is None
