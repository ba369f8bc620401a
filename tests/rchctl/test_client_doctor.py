"""What `rchctl doctor --fix` does, and what it asks about first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rch.doctor.findings import Finding, Fix, Level
from rchctl import asking
from rchctl.commands import daemon, doctor
from rchctl.console import Console
from rchctl.context import Context
from rchctl.parser import VerbParser

OLD = Finding("daemon", Level.WARN, "rchd 1 runs, and 2 is installed", fix=Fix("restart"))


def context(tmp_path: Path) -> Context:
    parser = VerbParser("doctor", "text", 80)
    doctor.configure(parser)
    env = {"RCH_HOME": str(tmp_path)}
    return Context("doctor", parser.read(["--fix"]), Console(env), env)


@pytest.mark.parametrize(
    ("somebody", "agrees", "restarts"), [(True, True, 1), (True, False, 0), (False, True, 0)]
)
def test_an_old_daemon_is_restarted_where_somebody_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, somebody: bool, agrees: bool, restarts: int
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(asking, "has_somebody", lambda: somebody)
    monkeypatch.setattr(asking, "agrees", lambda *_: agrees)
    monkeypatch.setattr(daemon, "restart", done.append)
    said = doctor._mended(OLD, context(tmp_path))
    assert (len(done), said is not None) == (restarts, bool(restarts))


def test_only_what_carries_a_fix_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    bad = Finding("state folder", Level.FAIL, "", f"chmod 700 {folder}", 4)
    assert doctor._mended(bad, context(tmp_path)) is None
    assert folder.stat().st_mode & 0o777 == 0o755
    mend = bad._replace(fix=Fix("mode", str(folder), 0o700))
    assert doctor._mended(mend, context(tmp_path)) == f"chmod 700 {folder}"
    assert folder.stat().st_mode & 0o777 == 0o700
