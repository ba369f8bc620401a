"""Writes a page as one HTML file that asks for nothing: style and script stand in it, by their digests.

Every value is neutralised, loses its secrets and is escaped on its way into the template; nothing in it is
marked as safe but our own style and script.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rch.contract.redact import scrub
from rchctl.render import duration
from rchctl.report import past_model, timeline
from rchctl.report.model import Page
from rchctl.report.text import neutral
from rchctl.report.timeline import Bar

TEMPLATES = Path(__file__).parent / "templates"
_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)


def render(page: Page) -> str:
    """The page as HTML; it can be encoded as UTF-8."""
    style, script = _own("style.css"), _own("filter.js")
    template = _environment().get_template("page.html")
    return template.render(
        page=page,
        style=Markup(style),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (as above)
        policy=_POLICY.format(style=_digest(style), script=_digest(script)),
        chart=past_model,
        gantt=timeline,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["duration"] = duration
    environment.filters["groupby_run"] = _in_groups
    return environment


def _in_groups(bars: Iterable[Bar]) -> list[list[Bar]]:
    """Bars that follow one another under one head."""
    return [list(found) for _, found in itertools.groupby(bars, key=lambda bar: bar.group)]


def _finalize(value: Any) -> Any:
    """What a template prints: text from outside loses its power and its secrets, our own markup stays."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return scrub(neutral(value))
    return value


def _own(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a content security policy names what stands inline."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
