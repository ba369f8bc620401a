"""`rchctl workers drain`, from the command line over a restart to the run that waits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.lab import lab
from support.until import until

pytestmark = pytest.mark.spec("7")


def test_a_drained_worker_gets_no_run_over_a_restart_until_it_is_undrained(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project(build="echo built")
        said = user.rchctl("workers", "drain", "local", "--reason", "a new Xcode")
        assert said.returncode == 0, said.stderr
        assert "local is drained: a new Xcode; it gets no new run until" in said.stdout
        again = user.json("workers", "drain", "local")["data"]
        assert again["reason"] == "a new Xcode", "once more without a reason is no other one"
        run = user.json("submit", "--action", "build", cwd=project)["data"]["run_id"]
        assert user.rchctl("daemon", "restart").returncode == 0

        def waits() -> bool:
            return bool(user.json("status", run)["data"]["waiting"] == "local: drained: a new Xcode")

        until(waits, 30)
        (listed,) = user.json("workers", "list")["data"]["workers"]
        assert (listed["drained"], listed["detail"].partition(" since ")[0]) == (
            "a new Xcode",
            "drained: a new Xcode",
        )
        assert re.search(r" since \d{4}-\d\d-\d\d \d\d:\d\dZ$", listed["detail"])
        explained = user.json("workers", "explain", cwd=project)
        assert (explained["exit_code"], explained["error"]["hint"]) == (90, "rchctl workers undrain local")
        findings = user.json("doctor")["data"]["findings"]
        (told,) = [each for each in findings if each["check"] == "drained"]
        assert (told["level"], told["remedy"]) == ("warn", "rchctl workers undrain local")
        assert user.rchctl("workers", "undrain", "local").stdout == "local may have new runs\n"
        assert user.rchctl("wait", run).returncode == 0
        assert user.json("workers", "drain", "nobody")["exit_code"] == 2
