"""Runs the fuzz targets one after the other: `make fuzz`, or `run_all.py [TARGET...]`.

FUZZ_SECONDS is for all of them together. What was learned is kept in `.fuzz/` and gone on with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".fuzz"
SHOWN_LINES = 25

sys.path.insert(0, str(HERE.parent))


def main() -> int:
    """Run them; 1 where any has found something."""
    from fuzz.targets import TARGETS

    names = sys.argv[1:] or list(TARGETS)
    each = max(1, int(os.environ.get("FUZZ_SECONDS", "60")) // len(names))
    print(f"{'target':14} {'executions':>10} {'new seeds':>9} {'crashes':>7}")
    broken = [name for name in names if not fuzz(name, each)]
    return 1 if broken else 0


def fuzz(name: str, seconds: int) -> bool:
    """One target, and its row; whether it held."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    before = crashes(folder)
    with tempfile.TemporaryDirectory() as temp:  # libFuzzer ends its process without leave to tidy up
        done = subprocess.run(
            [sys.executable, HERE / "run_one.py", name, str(seconds), folder],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": temp},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    said = done.stdout + done.stderr
    found = sorted(crashes(folder) - before)
    row = stat(said, "number_of_executed_units"), stat(said, "new_units_added")
    print(f"{name:14} {row[0]:>10} {row[1]:>9} {len(found):>7}", flush=True)
    for path in found:
        print(f"  {path.name}: again with  .venv/bin/python tests/fuzz/run_one.py {name} {path}")
    if done.returncode:
        words = [line for line in said.splitlines() if not re.match("#[0-9]|stat::|INFO", line)]
        print("\n".join("  " + line for line in words[-SHOWN_LINES:]))
    return not found and not done.returncode


def crashes(folder: Path) -> set[Path]:
    """What broke the target, took too long or too much memory."""
    return {path for path in folder.iterdir() if re.match("(crash|timeout|oom|leak)-", path.name)}


def stat(said: str, name: str) -> int:
    """A number of libFuzzer's last words; 0 where it says none."""
    found = re.findall(rf"stat::{name}:\s+([0-9]+)", said)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
