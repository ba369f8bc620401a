"""`rchctl top`: all runs and workers on one screen."""

from __future__ import annotations

from importlib import import_module

from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser


def configure(parser: VerbParser) -> None:
    """Nothing but the keys."""
    parser.hide("--json")
    parser.examples("rchctl top        ? shows the keys, q leaves")


def run(context: Context) -> Outcome:
    """Exits 0 when the user leaves; nothing ends with it."""
    if context.json:
        raise UsageError("top: a screen is no JSON: type 'rchctl list --json'")
    try:
        for name in ("rich", "textual"):
            import_module(name)
    except ImportError as error:
        from rch.contract.extras import lacking
        from rch.files.origin import origin

        raise lacking(error, "top", origin()) or error from None
    if not context.console.out_is_terminal:
        raise UsageError("top: there is no terminal: type 'rchctl list'")
    from rchctl.tui.app import Top
    from rchctl.tui.feed import DaemonFeed

    context.connect().close()  # a daemon that does not start is told before the screen is taken
    Top(DaemonFeed(context)).run()
    return Outcome({})
