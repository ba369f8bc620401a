"""Benchmarks: `bench.py NAME… [--rounds N] [--quick] [--json]` (README.md here tells what each one is).

`load` is start, watchers and idle: what a daemon costs under load. `fast` is all others: ours beside
what people use today. `all` is both.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

import load
import structlog
from bundle import bundle
from client import client
from edit import edit
from line import ssh, status
from memory import memory
from sync import sync
from table import Found, Missing, print_table
from tail import tail
from theirs import LoopbackError
from transfer import change, unchanged, upload


class Benchmark(Protocol):
    """Takes figures in so many rounds; `quick`: the smallest that shows that it works, without goals."""

    def __call__(self, rounds: int, *, quick: bool) -> list[Found]:
        """The figures."""


FAST: dict[str, Benchmark] = {
    "bundle": bundle,
    "unchanged": unchanged,
    "change": change,
    "upload": upload,
    "sync": sync,
    "ssh": ssh,
    "status": status,
    "tail": tail,
    "memory": memory,
    "edit": edit,
    "client": client,
}
LOAD: dict[str, Callable[[argparse.Namespace, int], load.Table]] = {
    "start": lambda args, rounds: load.start(args.runs, rounds),
    "watchers": lambda args, rounds: load.watchers(args.watchers, args.submits, rounds),
    "idle": lambda args, rounds: load.idle(args.idle, args.slow, 300, rounds),
}
GROUPS = {"load": list(LOAD), "fast": list(FAST), "all": [*LOAD, *FAST]}
LOAD_ROUNDS, FAST_ROUNDS = 5, 7


def main() -> None:
    """Measure and print."""
    args = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    names = [name for word in args.what for name in GROUPS.get(word, [word])]
    table: load.Table = {}
    figures: list[Found] = []
    for name in dict.fromkeys(names):
        if name in LOAD:
            table |= LOAD[name](args, args.rounds or LOAD_ROUNDS)
            continue
        figures += _figures(name, 1 if args.quick else args.rounds or FAST_ROUNDS, quick=args.quick)
    if args.json:
        json.dump({**table, **_as_json(figures)}, sys.stdout)
        return
    width = max(map(len, table), default=0)
    for label, value in table.items():
        print(f"{label:{width}}  {value:10.2f}")
    print_table(figures)


def _leave(number: int, _frame: object) -> None:
    """Whoever ends us gets what an interrupt gets: everything that was started is ended first."""
    signal.signal(number, signal.SIG_IGN)  # once is enough
    sys.exit(128 + number)


def _figures(name: str, rounds: int, *, quick: bool) -> list[Found]:
    print(f"{name} …", file=sys.stderr)
    try:
        return FAST[name](rounds, quick=quick)
    except LoopbackError as error:
        return [Missing(name, str(error))]


def _as_json(figures: list[Found]) -> dict[str, Any]:
    """Nothing where none was asked for: the load has a table of its own."""
    if not figures:
        return {}
    missing = {one.name: one.why for one in figures if isinstance(one, Missing)}
    taken = [one.as_json() for one in figures if not isinstance(one, Missing)]
    return {"figures": taken, "missing": missing}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=[*LOAD, *FAST, *GROUPS], metavar="NAME")
    parser.add_argument("--runs", type=int, default=10_000, help="start: how many are queued")
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--idle", type=int, default=500)
    parser.add_argument("--slow", type=int, default=500, help="idle: how many say a byte a second")
    parser.add_argument("--submits", type=int, default=40)
    parser.add_argument("--rounds", type=int, help=f"{LOAD_ROUNDS} for the load, else {FAST_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="small trees, one round, no goals")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
