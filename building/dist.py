"""`make dist`: sdist and wheel of what git tracks, the wheel out of the sdist, without a warning.

    python -m building.dist [FOLDER]        default: dist/, which holds these alone then

What was there stays until the new packages are whole.

Nothing is fetched: setuptools and what the pages are made with are those of this environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from building.content import ROOT

_WARNING = re.compile(r"\s*warning: |.*Warning: ")
_MADE = frozenset({".git", ".venv", ".demo", ".fuzz", ".hypothesis", "build", "dist"})


class BuildError(Exception):
    """A package that is not clean, with what was said."""


def export(to: Path) -> None:
    """The files that git tracks as they lie here; all but what is made where there is no git."""
    try:
        argv = ["git", "ls-files", "-z"]
        listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(ROOT, to, ignore=_made, symlinks=True)
        return
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


def _made(folder: str, names: list[str]) -> set[str]:
    """What builds, tests and checks leave: caches anywhere, the rest at the top alone."""
    caches = {each for each in names if each == "__pycache__" or each.endswith(("_cache", ".egg-info"))}
    return caches | (_MADE & set(names) if Path(folder) == ROOT else set())


def committed_at() -> int:
    """The time of the newest commit, or of pyproject.toml, in seconds."""
    argv = ["git", "log", "-1", "--format=%ct"]
    told = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return int(told) if told.isdecimal() else int((ROOT / "pyproject.toml").stat().st_mtime)


def build(tree: Path, into: Path, *what: str, epoch: int) -> list[Path]:
    """What `python -m build` makes of `tree`; without `what` an sdist, and of that a wheel."""
    env = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONWARNINGS": "error",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    argv = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(into), *what, str(tree)]
    done = subprocess.run(
        argv, env=env, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"the build ended with {done.returncode}:\n{done.stdout[-4000:]}")
    told = [line for line in done.stdout.splitlines() if _WARNING.match(line)]
    if told:
        raise BuildError("\n".join(["the build warns:", *told]))
    return sorted(into.iterdir())


def _put(built: list[Path], into: Path) -> None:
    """`into` holds these and no others; each is there as a whole or as it was."""
    into.mkdir(parents=True, exist_ok=True)
    for path in built:
        arriving = into / f".{path.name}.new"  # the temporary folder may be on another disk
        shutil.copy2(path, arriving)
        arriving.rename(into / path.name)
    names = {path.name for path in built}
    for path in into.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def main(argv: list[str]) -> int:
    """Build, and tell what there is."""
    into = Path(argv[0]) if argv else ROOT / "dist"
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or committed_at())
    with tempfile.TemporaryDirectory(prefix="rch-dist.") as folder:
        export(Path(folder) / "tree")
        try:
            built = build(Path(folder) / "tree", Path(folder) / "dist", epoch=epoch)
        except BuildError as error:
            sys.stderr.write(f"dist: {error}\n")
            return 1
        _put(built, into)
    for path in sorted(into.iterdir()):
        sys.stdout.write(f"{path.stat().st_size:>9}  {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
