"""`make test-pythons`: the wheel in an empty venv of each Python of this machine, and quick tests of it.

    python -m building.pythons [WORD...]     only Pythons whose version begins so: 3.12

The tests see the wheel and not the checkout. The libraries come from the index that pip is set up for, as
constraints.txt has them. Exits 1 where one fails, 2 where there is no Python at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from building.content import ROOT
from building.dist import build, committed_at, export

OLDEST, NEWEST = (3, 11), (3, 14)
QUICK = ("contract", "core", "config", "files")
"""Folders of tests/ that stand for all."""
_TOOLS = (
    "hypothesis",
    "jsonschema",
    "jsonschema-rs",
    "pytest",
    "pytest-asyncio",
    "pytest-randomly",
    "pytest-timeout",
    "securesystemslib[crypto]",
)
_PACKAGES = ("rch", "rch_conformance", "rchd", "rchctl", "worker_agent")
_ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.prefix == sys.base_prefix)"


def found() -> dict[str, Path]:
    """One interpreter a minor version, by its whole version: on `PATH`, or of pyenv."""
    wanted = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places = [Path(each) for name in wanted if (each := shutil.which(name))]
    known: dict[tuple[int, ...], tuple[str, Path]] = {}
    newest_first = sorted(pyenv.glob("3.*/bin/python3"), key=_numbers, reverse=True)
    for place in [*places, *newest_first]:
        version = _version(place)
        minor = tuple(map(int, version.split(".")[:2])) if version else ()
        if OLDEST <= minor <= NEWEST:
            known.setdefault(minor, (version, place))
    return dict(known[minor] for minor in sorted(known))


def _numbers(python: Path) -> list[int]:
    """Of the folder that pyenv calls by its version."""
    return [int(each) for each in re.findall(r"\d+", python.parents[1].name)]


def _version(python: Path) -> str:
    """Of one that runs and is no venv; empty else. A shim of pyenv may be there and refuse."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    version, _, real = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and real == "True" else ""


def main(argv: Sequence[str]) -> int:
    """Each Python in turn; tells what it does."""
    pythons = {
        version: path for version, path in found().items() if not argv or version.startswith(tuple(argv))
    }
    if not pythons:
        sys.stderr.write("test-pythons: no such Python here, on PATH or in ~/.pyenv/versions\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="rch-pythons.") as folder:
        top = Path(folder)
        export(top / "tree")
        wheel = build(top / "tree", top / "dist", "--wheel", epoch=committed_at())[0]
        for package in _PACKAGES:  # what is tested is what is installed
            for path in (top / "tree" / package).rglob("*.py"):
                path.unlink()
        ends = {version: _try(path, version, wheel, top) for version, path in pythons.items()}
    for version, failed in ends.items():
        sys.stdout.write(f"Python {version}: {f'failed at {failed}' if failed else 'all passed'}\n")
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        if not any(version.startswith(f"3.{minor}.") for version in found()):
            sys.stdout.write(f"Python 3.{minor}: not on this machine\n")
    return int(any(ends.values()))


def _try(python: Path, version: str, wheel: Path, top: Path) -> str:
    """The name of the step that failed; empty where none did."""
    venv, home = top / version, top / f"home-{version}"
    home.mkdir()
    own = venv / "bin/python"
    flags = ["--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    tests = [top / "tree/tests" / each for each in QUICK]
    for step, command in _steps(
        venv=[python, "-m", "venv", venv],
        install=[own, "-m", "pip", "install", *flags, f"{wheel}[all]", *_TOOLS],
        tests=[own, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        demo=[venv / "bin/rchctl", "demo", "--simulate"],
    ):
        sys.stdout.write(f"== Python {version}: {step}\n")
        sys.stdout.flush()
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RCH_", "XDG_"))}
        argv = list(map(str, command))
        if step in {"tests", "demo"}:  # pip has its cache where it is used to
            env["HOME"] = str(home)
        code = subprocess.run(argv, env=env, cwd=home, check=False).returncode
        if code:
            return f"{step} (exit code {code})"
    return ""


def _steps(**commands: Sequence[Path | str]) -> Iterator[tuple[str, Sequence[Path | str]]]:
    yield from commands.items()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
