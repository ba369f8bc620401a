"""What the common path does not import: the client's speed is a promise (design of the client)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon

HEAVY = {
    "anyio",
    "asyncio",
    "asyncssh",
    "difflib",
    "jinja2",
    "msgspec",
    "multiprocessing",
    "pathspec",
    "rch.contract.local_api",
    "rch.contract.odd_text",
    "rchctl.report",
    "rchd",
    "rich",
    "sqlite3",
    "structlog",
    "subprocess",
    "shutil",
    "tempfile",
    "worker_agent",
    "zstandard",
}
PROBE = """
import json, sys
from rchctl.__main__ import main
code = main(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("argv", [["status"], ["status", RUN_ID], ["list", "--json"], ["wait", RUN_ID]])
def test_the_common_path_stays_thin(cli: Cli, daemon: FakeDaemon, argv: list[str]) -> None:
    daemon.change(state="SUCCEEDED", exit_code=0)
    process = subprocess.run(
        [sys.executable, "-c", PROBE, *argv],
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, modules = json.loads(process.stderr.splitlines()[-1])
    assert code == 0
    assert HEAVY & set(modules) == set()


def test_only_the_chosen_verb_is_imported(cli: Cli, daemon: FakeDaemon) -> None:
    assert daemon.runs
    process = subprocess.run(
        [sys.executable, "-c", PROBE, "cancel", RUN_ID],
        env=cli.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    verbs = {name for name in json.loads(process.stderr)[1] if name.startswith("rchctl.commands.")}
    assert verbs == {"rchctl.commands.cancel"}
