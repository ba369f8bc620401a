"""What a worker finds is told while its build still goes on (spec sections 3.3 and 12)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import lab


@pytest.mark.spec("12")
def test_a_compiler_s_message_arrives_before_its_build_is_over(tmp_path: Path) -> None:
    go = tmp_path / "go"
    build = (
        f'echo "$PWD/main.swift:2:5: error: no such type"\n'
        f'until [ -e "{go}" ]; do sleep 0.05; done\n'
        'echo "$PWD/main.swift:3:1: warning: at the end"\nexit 1\n'
    )
    with lab(tmp_path) as user:
        project = user.project(build=build, **{"main.swift": "a\nb\nc\n"})
        run_id = user.rchctl("submit", cwd=project).stdout.strip()
        watch = user.start("watch", run_id, "--format", "errorfmt")
        assert watch.stdout is not None
        assert watch.stdout.readline() == f"rchctl: begin {run_id}\n"
        assert watch.stdout.readline() == f"{project}/main.swift:2:5: error: no such type\n"
        go.touch()
        rest, _ = watch.communicate(timeout=60)
        assert rest.splitlines() == [
            f"{project}/main.swift:3:1: warning: at the end",
            f"rchctl: end {run_id} FAILED 50",
        ]
        assert watch.returncode == 50
        told = user.json("diagnostics", run_id, "--exit-code")
        assert [each["line"] for each in told["data"]["findings"]] == [2, 3]
        assert (told["exit_code"], told["data"]["findings"][0]["changed"]) == (50, False)
        refused = subprocess.run(
            [sys.executable, "-m", "rchctl", "rpc", "--hello"],
            env=user.env,
            input="no json\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert json.loads(refused.stdout)["error"]["code"] == -32700
