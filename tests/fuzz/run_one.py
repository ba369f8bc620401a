"""One fuzz target: `run_one.py TARGET SECONDS FOLDER` looks for what breaks it, `TARGET FILE` repeats it.

With atheris, which follows what the code does with the bytes; with hypothesis where it has no wheel.
What breaks it lies in FOLDER as `crash-<sha>`; what leads to new places is kept in FOLDER/corpus.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from fuzz.targets import Target

OURS = ("rch", "rchd", "rchctl", "worker_agent")
MOST_BYTES = 16 << 10
SLOWEST_SECONDS = 20
ROUND = 200


def main() -> int:
    """Run; 0 where nothing was found."""
    name, *rest = sys.argv[1:]
    if len(rest) == 1:
        target, _ = _loaded(name)
        target(Path(rest[0]).read_bytes())
        print(f"{name}: {rest[0]} breaks nothing")
        return 0
    seconds, folder = int(rest[0]), Path(rest[1])
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    atheris = _atheris()
    if atheris is None:
        return _with_hypothesis(name, seconds, folder)
    with atheris.instrument_imports(include=list(OURS)):
        target, seeds = _loaded(name)
    for data in seeds.values():
        (folder / "corpus" / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    flags = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/",
        f"-max_len={MOST_BYTES}",
        f"-timeout={SLOWEST_SECONDS}",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], target)
    atheris.Fuzz()
    return 0


def _loaded(name: str) -> tuple[Target, dict[str, bytes]]:
    targets = importlib.import_module("fuzz.targets")
    return targets.TARGETS[name], targets.seeds(name)


def _atheris() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def _with_hypothesis(name: str, seconds: int, folder: Path) -> int:
    """Rounds of changed seeds until the time is over; the smallest that breaks it is kept."""
    from fuzz.mutation import mutants
    from hypothesis import HealthCheck, Phase, given, settings

    target, seeds = _loaded(name)
    runs, last = 0, b""

    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(data=mutants(seeds.values()))
    def run(data: bytes) -> None:
        nonlocal runs, last
        runs += 1
        last = data
        target(data)

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            run()
        except BaseException:
            digest = hashlib.sha1(last, usedforsecurity=False).hexdigest()
            (folder / f"crash-{digest}").write_bytes(last)
            raise
        finally:
            print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
