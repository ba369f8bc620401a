"""The wheel, made once for all who ask, and installations of it in empty venvs, without a network.

The libraries of an extra are linked from this environment: a venv has those of its extras, and no others.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from building.dist import build, export
from building.licences import libraries
from rch.contract.extras import DISTRIBUTION

EPOCH = 1_700_000_000


def packages(factory: pytest.TempPathFactory) -> list[Path]:
    """Wheel and sdist, in this order."""
    shared = _shared(factory)
    with (shared / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        into = shared / "packages"
        if not into.exists():
            export(shared / "packages.tree")
            made = shared / "packages.new"
            build(shared / "packages.tree", made, epoch=EPOCH)
            made.rename(into)
        return sorted(into.iterdir(), key=lambda path: path.suffix == ".gz")


def sources(factory: pytest.TempPathFactory, to: Path) -> None:
    """A copy of the tree that the packages were made of."""
    tree = _shared(factory) / "packages.tree"
    made = {"build", *(each.name for each in tree.glob("*.egg-info"))}
    shutil.copytree(tree, to, symlinks=True, ignore=lambda folder, _: made if Path(folder) == tree else ())


def _shared(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()  # of this process; those of one test run lie side by side
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class Installed:
    """A venv in `top` with the wheel and what `extras` bring."""

    def __init__(self, top: Path, wheel: Path, *extras: str) -> None:
        self.top, self.home = top, top / "home"
        venv.create(top, symlinks=True)
        self.python = top / "bin/python"
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        argv = [*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
        subprocess.run(argv, check=True, env={**os.environ, "PIP_FIND_LINKS": ""})
        self.site = next(top.glob("lib/python*/site-packages"))
        self.home.mkdir()
        (own,) = self.site.glob("rch_xcode-*.dist-info")
        for library, _ in libraries(Distribution.at(own), *extras):
            if library.metadata["Name"] == DISTRIBUTION:
                continue
            for name in {entry.parts[0] for entry in library.files or () if entry.parts[0] != ".."}:
                to = self.site / name
                if name != "__pycache__" and not to.exists():
                    to.symlink_to(Path(str(library.locate_file(name))).resolve())

    def __call__(
        self, program: str, *words: str, stdin: str = "", timeout: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """The end of an installed program, in an environment that holds nothing of ours."""
        return subprocess.run(
            [self.top / "bin" / program, *words],
            env=self.environment,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        """No variable of the developer's."""
        return {
            "PATH": f"{self.top}/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.top),  # a socket below the home would have too long a path
            "LANG": "C.UTF-8",
        }


def has(program: str) -> bool:
    """Whether this machine has it."""
    return shutil.which(program) is not None
