"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

from rchctl.console import Console


def has_somebody() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def answer(console: Console, question: str) -> str:
    """What is typed, without spaces around it; nothing where the input has ended."""
    console.note(question)
    return sys.stdin.readline().strip()


def agrees(console: Console, question: str) -> bool:
    """Whether `yes` was typed."""
    return answer(console, f"{question} [yes/no]").lower() in {"yes", "y"}
