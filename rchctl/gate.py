"""The gate on this side: what the project's config says of a command line, in words (spec section 6).

Imported by the verbs that need it alone: the config's types cost the common verbs too much.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rch.config.invocation import policy_for
from rch.config.layers import load_config
from rch.config.root import ProjectRoot, find_root
from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.errors import Failure, Kind
from rch.contract.policy import GRAMMARS, ClassifierPolicy
from rch.contract.remedies import remedy
from rchctl.context import Context, Outcome, error_body
from rchctl.terminal import one_line

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Judged:
    """A command line, what it was judged against, and the verdict."""

    root: ProjectRoot
    policy: ClassifierPolicy
    verdict: Accepted | Rejected

    @property
    def rejected(self) -> Rejected | None:
        """The verdict, if it is a refusal."""
        return self.verdict if isinstance(self.verdict, Rejected) else None

    @property
    def data(self) -> dict[str, Any]:
        """The verdict for programs; `word` is the index of the refused word."""
        told = {
            "root": str(self.root.path),
            "config": str(self.root.config_path) if self.root.config_path else None,
            "original_argv": list(self.verdict.original_argv),
        }
        if isinstance(self.verdict, Accepted):
            return {
                **told,
                "verdict": "accepted",
                "action": self.verdict.action,
                "sanitized_argv": list(self.verdict.sanitized_argv),
                "narrowing": list(self.verdict.narrowing),
            }
        return {
            **told,
            "verdict": "rejected",
            "rejection_reason": self.verdict.rejection_reason,
            "reasons": [
                {
                    "code": reason.code,
                    "subject": reason.subject,
                    "message": reason.message,
                    "word": at,
                    "remedy": remedy(reason, self.policy),
                }
                for reason, at in zip(self.verdict.reasons, self.verdict.places, strict=True)
            ],
        }


def judge(context: Context, words: list[str]) -> Judged:
    """The verdict on `words` in the project of the current folder; `Failure` CONFIG without one."""
    root = find_root(Path.cwd())
    resolved = load_config(root, host_config=context.paths.config_toml, overrides={})
    policy = policy_for(resolved.config)
    return Judged(root=root, policy=policy, verdict=classify(words, policy))


def refusal(judged: Judged, verdict: Rejected) -> Outcome:
    """Exit 10, with every reason in `data` and the first in `error`."""
    failure = Failure(Kind.CLASSIFIER_REJECTED, verdict.rejection_reason)
    return Outcome(judged.data, failure.exit_code, error_body(failure))


def text(judged: Judged, context: Context) -> str:
    """The verdict for people."""
    if isinstance(judged.verdict, Rejected):
        return _rejected(judged.verdict, judged.policy, context)
    return _accepted(judged.verdict, judged.policy, context)


def _accepted(verdict: Accepted, policy: ClassifierPolicy, context: Context) -> str:
    """What would run."""
    console, tool = context.console, GRAMMARS[policy.backend].tool
    lines = [f"{console.style('accepted', 'good')}: {verdict.action}"]
    lines.append(f"{_INDENT}runs as  {_spelled([tool, *verdict.sanitized_argv])}")
    if policy.backend == "xcodebuild":
        lines.append(f"{_INDENT}the destination is made concrete on the worker that serves")
    if verdict.narrowing:
        part = _spelled(verdict.narrowing)
        lines.append(f"{_INDENT}{console.style('less than the full gate', 'warn')}: {part}")
    return "\n".join(lines) + "\n"


def _rejected(verdict: Rejected, policy: ClassifierPolicy, context: Context) -> str:
    """The command with its refused words underlined, and for each reason what to type instead."""
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
