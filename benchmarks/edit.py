"""`edit`: from an edit of a Swift package to the verdict over ssh, against building here or over there."""

from __future__ import annotations

import os
import time
from pathlib import Path

from package import Package
from table import MILLI, Figure, Found, Missing, clocked, in_turns
from theirs import Loopback, loopback, run, tool

from rch.config.layers import load_config
from rch.config.root import find_root
from rch.contract.errors import Failure

LOCAL_GOAL, REMOTE_GOAL = 1.15, 1.0
SETTLE_SECONDS = 0.03


def edit(rounds: int, *, quick: bool) -> list[Found]:
    """`rchctl verify`, `swift build && swift test`, and the same at the far end after an rsync."""
    swift = Path(tool("swift"))
    with loopback(stand_in=False) as around, around.master() as master:
        packages = {name: _package(around.root / name, quick=quick) for name in ("ours", "local", "remote")}
        workspace = _configure(packages["ours"])
        if workspace is None:
            return [Missing("edit", "the config is refused with and without a warm workspace")]
        (around.far / "package").mkdir()

        def before(number: int) -> None:
            for package in packages.values():
                package.edit(number)
            time.sleep(SETTLE_SECONDS)

        taken = in_turns(
            rounds,
            {
                "ours": lambda _: we_verify(around, packages["ours"].root),
                "local": lambda _: build_here(around, packages["local"].root, swift),
                "remote": lambda _: build_there(around, master, packages["remote"].root, swift),
            },
            before,
        )
    note = f"cache.workspace = {workspace!r}" + ("" if workspace == "warm" else ", for warm is refused")
    return [
        Figure(
            name=f"edit; theirs {name}",
            ours=taken["ours"],
            theirs=taken[side],
            goal=None if quick else goal,
            note=note,
        )
        for side, name, goal in (
            ("local", "swift build && swift test here", LOCAL_GOAL),
            ("remote", "rsync, then the same over ssh", REMOTE_GOAL),
        )
    ]


def _package(root: Path, *, quick: bool) -> Package:
    package = Package(root, sources=2, tests=2) if quick else Package(root)
    package.write()
    return package


def _configure(package: Package) -> str | None:
    """The best workspace that the config takes."""
    for workspace in ("warm", "off"):
        package.configure(workspace)
        try:
            load_config(find_root(package.root), host_config=package.root / "none", overrides={})
        except Failure:
            continue
        return workspace
    return None


def we_verify(around: Loopback, root: Path) -> float:
    """From the start of the client to its exit code."""
    began = time.perf_counter()
    with around.user.start("verify", cwd=root) as client:
        said = "".join(client.communicate())
        lasted = (time.perf_counter() - began) * MILLI
    if client.returncode:
        raise RuntimeError(f"rchctl verify ended {client.returncode}: {said[-2000:]}")
    return lasted


def build_here(around: Loopback, root: Path, swift: Path) -> float:
    """Incremental, in the tree itself."""
    argv = [tool("sh"), "-c", f"{swift} build && {swift} test"]
    # The second one marks it as ours to end, see `theirs.loopback`.
    env = os.environ | {"HOME": str(around.root), "RCH_WORKER_HOME": str(around.user.worker_home)}
    return clocked(lambda: run(argv, cwd=root, env=env))


def build_there(around: Loopback, master: str, root: Path, swift: Path) -> float:
    """Incremental, in a folder that stays at the far end."""
    into = around.far / "package"
    ask = [*around.ssh(master=master), around.host, f"cd {into} && {swift} build && {swift} test"]

    def both() -> None:
        around.rsync("-a", "--delete", "--exclude=.build", master=master, source=root, into=into)
        run(ask)

    return clocked(both)
