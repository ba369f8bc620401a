"""`rchctl explain`: what the gate says of a command line; no daemon and no worker are asked."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure, Kind, lookup
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser
from rchctl.terminal import one_line

if TYPE_CHECKING:
    from rch.contract.classifier import Accepted, Rejected
    from rch.contract.policy import ClassifierPolicy

_INDENT = "  "


def configure(parser: VerbParser) -> None:
    """The command line, after `--`."""
    parser.command("WORD", "the command to judge, after --")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl explain -- xcodebuild test -scheme App -derivedDataPath out",
        "rchctl explain -- swift test --filter DemoTests",
        "rchctl explain --json -- swift build | jq .data.reasons",
    )


def run(context: Context) -> Outcome:
    """Exit 0 when the project's config lets the command run, 10 when it does not."""
    words = list(context.args.words)
    if not words:
        raise UsageError("explain: a command is missing: type 'rchctl explain -- xcodebuild build'")
    # The config's types are needed here alone: the common verbs start without them.
    from rch.config.invocation import policy_for
    from rch.config.layers import load_config
    from rch.config.root import find_root
    from rch.contract.classifier import Accepted, classify

    root = find_root(Path.cwd())
    resolved = load_config(root, host_config=context.paths.config_toml, overrides={})
    policy = policy_for(resolved.config)
    verdict = classify(words, policy)
    judged = {"root": str(root.path), "config": str(root.config_path) if root.config_path else None}
    if isinstance(verdict, Accepted):
        context.say(_accepted(verdict, policy, context))
        return Outcome({**judged, **_accepted_data(verdict)})
    context.say(_rejected(verdict, policy, context))
    failure = Failure(Kind.CLASSIFIER_REJECTED, verdict.rejection_reason)
    error = {
        "kind": str(failure.kind),
        "subkind": None,
        "message": failure.message,
        "hint": None,
        "exit_code": failure.exit_code,
    }
    data = {**judged, **_rejected_data(verdict, policy)}
    return Outcome(data, lookup(Kind.CLASSIFIER_REJECTED).exit_code, error)


def _accepted_data(verdict: Accepted) -> dict[str, Any]:
    return {
        "verdict": "accepted",
        "action": verdict.action,
        "original_argv": list(verdict.original_argv),
        "sanitized_argv": list(verdict.sanitized_argv),
        "narrowing": list(verdict.narrowing),
    }


def _rejected_data(verdict: Rejected, policy: ClassifierPolicy) -> dict[str, Any]:
    from rch.contract.remedies import remedy

    return {
        "verdict": "rejected",
        "original_argv": list(verdict.original_argv),
        "rejection_reason": verdict.rejection_reason,
        "reasons": [
            {
                "code": reason.code,
                "subject": reason.subject,
                "message": reason.message,
                "word": at,
                "remedy": remedy(reason, policy),
            }
            for reason, at in zip(verdict.reasons, verdict.places, strict=True)
        ],
    }


def _accepted(verdict: Accepted, policy: ClassifierPolicy, context: Context) -> str:
    console = context.console
    tool = "swift" if policy.backend == "swiftpm" else "xcodebuild"
    lines = [f"{console.style('accepted', 'good')}: {verdict.action}"]
    lines.append(f"{_INDENT}runs as  {_spelled([tool, *verdict.sanitized_argv])}")
    if policy.backend == "xcodebuild":
        lines.append(f"{_INDENT}the destination is made concrete on the worker that serves")
    if verdict.narrowing:
        part = _spelled(verdict.narrowing)
        lines.append(f"{_INDENT}{console.style('less than the full gate', 'warn')}: {part}")
    return "\n".join(lines) + "\n"


def _rejected(verdict: Rejected, policy: ClassifierPolicy, context: Context) -> str:
    from rch.contract.remedies import remedy

    console, count = context.console, len(verdict.reasons)
    lines = [f"{console.style('rejected', 'bad')}: {count} reason{'s' if count != 1 else ''}", ""]
    for text, marks in _underlined(verdict.original_argv, set(verdict.places), console.width):
        lines += [f"{_INDENT}{text}"]
        if marks.strip():
            lines += [f"{_INDENT}{console.style(marks, 'bad')}"]
    lines.append("")
    for reason in verdict.reasons:
        lines.append(f"{console.style(reason.code, 'bad')}  {one_line(reason.message)}")
        lines.append(f"{_INDENT}{console.style('instead:', 'good')} {one_line(remedy(reason, policy))}")
    return "\n".join(lines) + "\n"


def _underlined(words: tuple[str, ...], bad: set[int], width: int) -> Iterator[tuple[str, str]]:
    """The command in lines of at most `width`, each with the marks below its refused words."""
    text, marks = "", ""
    shown = [(_spelled([word]), at in bad) for at, word in enumerate(words)]
    if len(words) in bad:
        shown.append(("...", True))
    for word, is_bad in shown:
        if text and len(text) + 1 + len(word) > width - len(_INDENT) - 2:
            yield f"{text} \\", marks.rstrip()
            text, marks = _INDENT, _INDENT
        elif text:
            text, marks = f"{text} ", f"{marks} "
        text += word
        marks += ("^" if is_bad else " ") * len(word)
    yield text, marks.rstrip()


def _spelled(words: list[str] | tuple[str, ...]) -> str:
    """Words as a shell takes them; what cannot be printed is written out, so that it is seen."""
    return " ".join(
        shlex.quote(word)
        if word.isprintable()
        else "$'" + word.encode("unicode_escape").decode().replace("'", "\\'") + "'"
        for word in words
    )
