"""What the gate lets pass and what it refuses by name, out of the tables that it judges by."""

from __future__ import annotations

from collections import defaultdict

from rch.contract.denied import WORKER_OWNED_ENVIRONMENT
from rch.contract.policy import (
    GRAMMARS,
    TEST_RUNNER,
    Backend,
    Check,
    ClassifierPolicy,
    Flag,
    Grammar,
    ReasonCode,
)
from reference.markdown import code, page, table

INTRO = """
Every command line is judged by these tables, on the host before a run is accepted and again on the worker.
A flag that stands in none of them is unknown, and refused: a false no is better than a false yes. To ask
beforehand, without running anything: `rchctl explain -- xcodebuild test …`.

A line is refused with exit code 10 and *every* reason, each with the word it is about and what to type
instead. Beside the tables: exactly one action; no flag twice, unless it may repeat; no flag in another
case; no value that begins with `-`; no control characters; no `--`, no response files.
"""
VALUES: dict[Check, str] = {
    Check.NOTHING: "none",
    Check.WORKSPACE: "the config's `project.workspace`",
    Check.PROJECT: "the config's `project.project`",
    Check.SCHEME: "one of the config's `project.schemes`",
    Check.CONFIGURATION: "one of the config's `project.configurations`",
    Check.DESTINATION: "what fits the config's `destination.value`",
    Check.NAME: "a name",
    Check.SELECTOR: "`Target[/Suite[/test]]`",
    Check.FILTER: "an expression",
    Check.YES_NO: "`YES` or `NO`",
    Check.JOBS: "a number up to {caps.jobs}",
    Check.WORKERS: "a number up to {caps.workers}",
    Check.ITERATIONS: "a number up to {caps.iterations}; with a retry flag up to `run.retry_tests`",
    Check.ALLOWANCE: "seconds below the job's `timeouts.overall_seconds`",
    Check.LANGUAGE: "a language",
    Check.REGION: "a region",
    Check.SANITIZER: "a sanitizer's name",
    Check.SCM_PROVIDER: "a provider's name",
    Check.SDK: "an SDK's name, never a path",
    Check.ARCH: "an architecture",
}


def gate_page() -> str:
    """The page."""
    parts = [INTRO]
    for backend, grammar in GRAMMARS.items():
        parts += _tool(backend, grammar)
    parts.append("## Reasons\n")
    parts.append(", ".join(code(reason) for reason in ReasonCode) + ".\n")
    return page("What the gate lets pass", *parts)


def _tool(backend: Backend, grammar: Grammar) -> list[str]:
    flags = sorted(
        {flag.name: flag for flag in grammar.flags.values()}.values(), key=lambda flag: flag.name
    )
    rows = [
        (
            _spelled(flag),
            VALUES[flag.check].format(caps=ClassifierPolicy(backend=backend).caps),
            _notes(flag),
        )
        for flag in flags
    ]
    parts = [
        f"## {grammar.tool}\n",
        "Actions: `build`, `test`. Refused by name: "
        + ", ".join(code(each) for each in sorted(grammar.denied_actions))
        + ".\n",
        table(("flag", "value", "notes"), rows),
    ]
    pairs = ", ".join(f"{code(one)} and {code(other)}" for one, other in grammar.exclusive)
    parts.append(f"Not together: {pairs}.\n")
    if grammar.settings:
        values = [
            (code(key), " or ".join(code(value) if value else "nothing" for value in allowed))
            for key, allowed in grammar.settings.items()
        ]
        parts += ["Build settings, and no others:\n", table(("setting", "value"), values)]
        owned = ", ".join(code(name) for name in sorted(WORKER_OWNED_ENVIRONMENT))
        parts.append(f"Variables that the worker sets itself: {owned}. By the host's `policy.allow_flags`")
        parts.append(f"alone: {code(TEST_RUNNER)}.\n")
    whys: dict[str, list[str]] = defaultdict(list)
    for name, denied in grammar.denied.items():
        whys[denied.why].append(code(name))
    parts += [
        f"### Flags of {grammar.tool} that are refused by name\n",
        table(("why", "flags"), [(why, ", ".join(names)) for why, names in whys.items()]),
    ]
    return parts


def _spelled(flag: Flag) -> str:
    return ", ".join(code(name) for name in (flag.name, *flag.aliases))


def _notes(flag: Flag) -> str:
    notes = []
    if len(flag.serves) == 1:
        notes.append(f"`{flag.serves[0]}` alone")
    if flag.repeats:
        notes.append("may come again")
    if flag.narrows:
        notes.append("narrows, and is put on record")
    if flag.policy_only:
        notes.append("by the host's `policy.allow_flags` alone")
    return "; ".join(notes)
