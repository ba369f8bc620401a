"""`rchctl demo`: one real run from end to end, in a home of its own."""

from __future__ import annotations

from pathlib import Path

from rchctl.console import SIMULATED
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser


def configure(parser: VerbParser) -> None:
    """Where, and on which tools."""
    parser.hide("--json")
    parser.hide("--no-autostart")
    parser.add_argument("--simulate", action="store_true", help="on stand-in tools, even where Swift is")
    parser.add_argument(
        "--at", metavar="FOLDER", help="what it leaves (default: demo/ in the state folder)"
    )
    parser.examples(
        "rchctl demo                    a Swift package, or an Xcode project on stand-ins",
        "rchctl demo --simulate         the latter in any case; nothing is compiled",
        "rchctl demo --at /tmp/rch      what is left of it lies there",
    )


def run(context: Context) -> Outcome:
    """Exits as its run does. Your own runs, daemon and settings are left alone."""
    from rchctl.demo import Demo, find_swift, own_client

    if context.json:
        raise UsageError("demo: it shows what rchctl prints: leave out --json")
    swift = None if context.args.simulate else find_swift(context.env)
    if swift is None:
        context.console.mark = SIMULATED
        if not context.args.simulate:
            context.say(
                "demo: this machine has no Swift toolchain: looked on PATH, in /opt, /usr/local,"
                " /usr/libexec, ~/.swiftly and the Toolchains folders\n"
            )
    at = context.args.at
    demo = Demo(
        folder=Path(at).expanduser().absolute() if at else context.paths.state_dir / "demo",
        client=own_client(),
        env=context.env,
        swift=swift,
        say=lambda line: context.say(f"demo: {line}\n"),
    )
    return Outcome({}, demo.run())
