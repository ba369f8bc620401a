"""`rchctl init`: a first `.rch/xcode.toml` from what the checkout holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser

if TYPE_CHECKING:
    from rch.config.discover import Found

_NAME = ".rch/xcode.toml"


def configure(parser: VerbParser) -> None:
    """What the checkout does not tell can be said."""
    parser.add_argument("--container", metavar="NAME", help="the *.xcworkspace or *.xcodeproj, of several")
    parser.add_argument(
        "--scheme", action="append", default=[], metavar="NAME", help="a scheme; again for more"
    )
    parser.add_argument("--destination", metavar="VALUE", help="such as platform=macOS")
    parser.add_argument("--print", dest="show", action="store_true", help="print it, write nothing")
    parser.add_argument("--force", action="store_true", help="write over a config that is there")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl init                                        look around and write .rch/xcode.toml",
        "rchctl init --print                                the same, to look at",
        "rchctl init --container App.xcworkspace --scheme App --destination platform=macOS",
    )


def run(context: Context) -> Outcome:
    """Writes the file whole or not at all; exit 3 where the checkout does not tell enough."""
    from rch.config.discover import discover

    args, root = context.args, Path.cwd()
    target = root / _NAME
    if not args.show:
        _refuse_links(target)
    if target.exists() and not (args.force or args.show):
        raise Failure(Kind.CONFIG, f"{_NAME} is there already", hint="rchctl init --force writes over it")
    found = _completed(discover(root, args.container), args.scheme, args.destination)
    text = config_text(found)
    if args.show:
        context.say(text)
    else:
        _write(target, text)
        context.say(f"{context.console.style('written', 'good')}: {_NAME}\n")
        if not context.json:
            context.console.note("look at it, then: rchctl config validate && rchctl verify")
    return Outcome({"path": str(target), "written": not args.show, "text": text})


def _refuse_links(target: Path) -> None:
    """A checkout may bring a link: what is written through it would lie outside."""
    for path, name in ((target.parent, ".rch"), (target, _NAME)):
        if path.is_symlink():
            raise Failure(
                Kind.CONFIG,
                f"{name} is a symbolic link: nothing was written through it",
                hint=f"remove the link {path}",
            )


def _write(target: Path, text: str) -> None:
    from rch.files.durable import make_dirs, write_atomic

    try:
        make_dirs(target.parent, 0o755)
        write_atomic(target, text.encode(), mode=0o644)
    except OSError as error:
        message = f"{error.filename or target}: cannot be written: {error.strerror or error}"
        raise Failure(Kind.CONFIG, message, hint="rchctl init --print shows the config") from error


def _completed(found: Found, schemes: list[str], destination: str | None) -> Found:
    """What was said wins over what was seen."""
    import msgspec

    if found.backend == "swiftpm":
        if schemes or destination:
            raise UsageError("init: a Swift package has no schemes and no destination: type 'rchctl init'")
        return found
    found = msgspec.structs.replace(
        found, schemes=tuple(schemes) or found.schemes, destination=destination or found.destination
    )
    if not found.schemes:
        raise Failure(
            Kind.CONFIG,
            f"{found.container} has no shared scheme",
            hint="share one in Xcode (Manage Schemes, Shared), or say it: rchctl init --scheme NAME",
        )
    return found


def config_text(found: Found) -> str:
    """The file, with a word on each key that a person may want to change."""
    actions = ["build", "test"] if found.has_tests else ["build"]
    lines = [
        "# How this project is verified on a worker; rchctl config show has every key in force.",
        "schema_version = 1",
        f'backend = "{found.backend}"',
        "",
        "[project]",
    ]
    if found.container is None:
        lines.append('package = "."')
    else:
        kind = "workspace" if found.container.endswith(".xcworkspace") else "project"
        lines.append(f"{kind} = {_toml(found.container)}")
        lines.append(
            f"schemes = {_toml(list(found.schemes))}  # the first one is taken where none is named"
        )
        lines.append(f"configurations = {_toml(list(found.configurations or ('Debug', 'Release')))}")
    lines += ["", "[actions]", f"verify = {_toml(actions)}"]
    if not found.has_tests:
        lines.append('# no test target was found; with one: verify = ["build", "test"]')
    if found.destination is not None:
        lines += ["", "[destination]", f"value = {_toml(found.destination)}"]
        if "Simulator" in found.destination:
            lines.append(
                '# provisioning = "ephemeral"  # a simulator made for each job, and deleted after it'
            )
    version = 'swift_version = ">=6.0"' if found.container is None else 'xcode_version = ">=16,<27"'
    lines += ["", "# [run]", "# allow_narrowing = true  # rchctl verify --filter, rchctl rerun --failed"]
    lines += ["", "# [toolchain]", f"# {version}", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    """Text and lists of texts are written alike in TOML and in JSON."""
    return json.dumps(value, ensure_ascii=False)
