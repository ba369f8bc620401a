"""The daemon's log: its level, its form, and the turn of its file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rch.config.daemon_config import Log
from rchd.edges import logfile

_SPEAK = """
import os, sys, structlog
from pathlib import Path
from rch.config.daemon_config import Log
from rchd.edges.logfile import configure_log
configure_log(os.environ, Log(level="warning"))
log = structlog.get_logger("x")
log.debug("low"); log.info("middle", text="a\\nb", many=[1, 2]); log.warning("high")
"""
_TURN = """
import os, sys
from pathlib import Path
from rch.config.daemon_config import Log
from rchd.edges import logfile
logfile.configure_log()
path, settings = Path(sys.argv[1]), Log(max_bytes=65536, keep=2)
print(logfile.turn(path, settings), flush=True)
for number in range(4):
    os.write(2, b"x" * 65535 + b"%d" % number)
    print(logfile.turn(path, settings), flush=True)
"""


def spoken(**env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SPEAK], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr.splitlines()


def test_the_level_of_the_config_holds_until_the_environment_names_one() -> None:
    assert [json.loads(line)["event"] for line in spoken()] == ["high"]
    events = [json.loads(line)["event"] for line in spoken(RCH_LOG="DEBUG")]
    assert events == ["low", "middle", "high"]


def test_a_line_of_text_is_one_line_that_begins_with_when_and_what() -> None:
    first, second = spoken(RCH_LOG="info", RCH_LOG_FORMAT="text")
    assert first.split(" ", 1)[1] == 'level=info event=middle text=a\\nb many="[1, 2]"'
    assert first.startswith("timestamp=2")
    assert " event=high" in second


def test_a_word_that_is_none_is_told_and_does_no_harm() -> None:
    first, second = map(json.loads, spoken(RCH_LOG="loud"))
    assert "RCH_LOG='loud' is none of debug, info, warning, error: warning is in force" in first["message"]
    assert second["event"] == "high"


def test_a_full_file_is_turned_and_stdout_and_stderr_go_on_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "rchd.log"
    with path.open("ab") as log:
        subprocess.run(
            [sys.executable, "-c", _TURN, str(path)], stdout=log, stderr=log, check=True, timeout=60
        )
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["rchd.log", "rchd.log.1", "rchd.log.2"]
    assert path.read_text().splitlines()[-1] == "True"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("rchd.log.1").read_text().endswith("3")
    assert path.with_name("rchd.log.2").read_text().endswith("2")


def test_what_is_not_our_own_stderr_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rchd.log"
    assert not logfile.turn(path, Log(max_bytes=65_536))
    path.write_bytes(b"x" * 100_000)
    assert not logfile.turn(path, Log(max_bytes=65_536))
    assert path.stat().st_size == 100_000


def test_a_start_loads_no_library_for_consoles() -> None:
    code = (
        "import sys; from rchd.__main__ import load_structlog; load_structlog(); import rchd.app;"
        "print('structlog' in sys.modules, 'rich' in sys.modules); import rich"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
