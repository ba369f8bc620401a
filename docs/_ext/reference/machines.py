"""The state machines, drawn and listed out of the tables that the programs run by."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from rch.contract.states import JOB_MOVES, RUN_MOVES, is_terminal
from rchd.core import model
from rchd.core.model import Phase
from rchd.core.run import MOVES
from reference.drawing import Arrow, draw
from reference.markdown import block, code, page, prose, table

RUN_PLACES = {
    "QUEUED": (0, 1),
    "RUNNING": (1.3, 0),
    "SUCCEEDED": (2.8, 0),
    "FAILED": (2.8, 1),
    "CANCELLED": (2.8, 2),
}
JOB_PLACES = {
    "QUEUED": (0, 1),
    "RUNNING": (1.3, 0),
    "CANCEL_REQUESTED": (1.3, 2.1),
    "SUCCEEDED": (2.9, 0),
    "FAILED": (2.9, 1),
    "CANCELLED": (2.9, 2.1),
}
PHASE_PLACES = {
    "Waiting": (0, 0),
    "Coalescing": (0.55, 1),
    "Selecting": (1.1, 0),
    "Reserving": (2.2, 0),
    "CheckingSource": (3.5, 0),
    "Uploading": (3.5, 1),
    "Rechecking": (1.65, 1),
    "Submitting": (2.2, 2),
    "Rereserving": (1.1, 2),
    "Following": (2.2, 3),
    "Cancelling": (3.5, 3),
    "Fetching": (2.2, 4),
    "Publishing": (3.5, 4),
    "Releasing": (1.1, 4),
    "Ended": (0, 4),
}
TROUBLES = frozenset({"broken", "line_cut", "refused", "_another", "fail"})
"""Functions that a move calls where something went wrong; the picture shows the ways without trouble."""
INTRO = """
A run and each of its jobs are state machines, kept as tables. The pictures and lists below are made of
those tables; so is the check that refuses any other move as a defect. Every move raises `seq` by one, an
end is an end, and a host takes of a worker only states that its table lets follow.
"""
PHASES = """
While its state is `QUEUED` or `RUNNING`, a run is in one *phase*, which is kept with it. A phase other
than `Waiting`, `Coalescing` and `Ended` awaits exactly one answer; what comes instead of it (a refusal, a
cut line, a cancel, a restart) is in [architecture](../architecture.md#the-run-machine).

The arrows are where the table's functions lead when nothing goes wrong; the word on an arrow is the answer
that the phase awaited. Left out of the picture are ways back to the same phase, the early ways to
`Releasing`, which a cancelled run takes, and the ways to `Rechecking`: after a start of the daemon a run
that has still something to hand over goes there once. The list below has them too.
"""


def phases() -> dict[str, type[Phase]]:
    """Every phase by name."""
    return {
        name: each
        for name, each in vars(model).items()
        if isinstance(each, type) and issubclass(each, Phase) and each is not Phase
    }


def targets(function: Callable[..., Any]) -> set[str]:
    """The phases that a move may make, by reading the function and those of the core that it calls."""
    known, found, seen = phases(), set[str](), set[str]()
    waiting: list[Any] = [function]
    while waiting:
        each = waiting.pop()
        seen.add(each.__name__)
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each)))):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Attribute(value=ast.Name(id="m"), attr=name) if name in known:
                    found.add(name)
                case ast.Name(id=name) if name not in seen | TROUBLES:
                    called = each.__globals__.get(name)
                    if inspect.isfunction(called) and called.__module__.startswith("rchd.core"):
                        waiting.append(called)
    return found


def phase_arrows() -> list[Arrow]:
    """The moves of the table, and how a run comes out of the queue and aside."""
    found: dict[tuple[str, str], list[str]] = {("Waiting", "Selecting"): ["its turn"]}
    for (phase, event), function in MOVES.items():
        for to in targets(function):
            found.setdefault((phase.__name__, to), []).append(event.__name__)
    found["Reserving", "Coalescing"] = ["equal job"]
    found["Coalescing", "Waiting"] = ["it is over"]
    return [
        Arrow(start, end, ", ".join(words)) for (start, end), words in sorted(found.items(), key=_as_placed)
    ]


def _as_placed(move: tuple[tuple[str, str], list[str]]) -> list[int]:
    order = list(PHASE_PLACES)
    return [order.index(name) for name in move[0]]


def drawn(arrows: list[Arrow]) -> list[Arrow]:
    """Those of the picture: of a run that was not cancelled, under a daemon that was not started anew.

    A label stands once at a box: most phases await one kind of answer.
    """
    told: set[tuple[str, str]] = set()
    shown = []
    for each in arrows:
        early = each.end == "Releasing" and each.start not in {"Fetching", "Publishing"}
        if early or each.end in {each.start, "Rechecking"}:
            continue
        word = each.label.partition(",")[0]
        shown.append(each._replace(label="" if (each.start, word) in told else word))
        told.add((each.start, word))
    return shown


def state_arrows(moves: dict[str, frozenset[str]]) -> list[Arrow]:
    """Every move of a table of states."""
    return [Arrow(start, end) for start, ends in moves.items() for end in sorted(ends)]


def pictures() -> dict[str, str]:
    """Every diagram by the name of its file."""
    run, job = state_arrows(dict(RUN_MOVES)), state_arrows(dict(JOB_MOVES))
    ends = frozenset(state for state in RUN_MOVES if is_terminal(state))
    return {
        "run-states": draw("The states of a run", RUN_PLACES, run, ends=ends),
        "job-states": draw("The states of a job", JOB_PLACES, job, ends=ends),
        "run-phases": draw(
            "The phases of a run", PHASE_PLACES, drawn(phase_arrows()), ends=frozenset({"Ended"}), air=36
        ),
    }


def machines_page() -> str:
    """The page."""
    rows = [(code(name), prose(each.__doc__)) for name, each in phases().items()]
    listed = "\n".join(f"{each.start} --{each.label}--> {each.end}" for each in phase_arrows())
    return page(
        "State machines",
        INTRO,
        "## A run\n",
        _raw("run-states"),
        _moves(dict(RUN_MOVES)),
        "## A job\n",
        _raw("job-states"),
        _moves(dict(JOB_MOVES)),
        "## The phases of a run\n",
        PHASES,
        _raw("run-phases"),
        table(("phase", "what it is"), rows),
        "In words:\n",
        block(listed),
    )


def _raw(name: str) -> str:
    return f"```{{raw}} html\n:file: pictures/{name}.svg\n```\n"


def _moves(moves: dict[str, frozenset[str]]) -> str:
    rows = [
        (code(a), ", ".join(code(each) for each in sorted(b)) or "none: it is an end")
        for a, b in moves.items()
    ]
    return table(("from", "to"), rows)
