"""`rchctl config`: the config in force, where each value came from, and whether it is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, nearest, one_of
from rchctl.render import table
from rchctl.request import overrides

if TYPE_CHECKING:
    from rch.config.layers import Resolved

_WORDS = {"show": "print what is in force", "validate": "check every file"}


def configure(parser: VerbParser) -> None:
    """`show` or `validate`."""
    parser.word(_WORDS, "print what is in force, or check every file", {"--origin": ("show",)})
    parser.add_argument("key", metavar="KEY", nargs="?", help="show: this key or table alone")
    parser.add_argument("--origin", action="store_true", help="show: which layer set each value")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as a run's own --set would have it"
    )
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl config show                     as TOML, secrets left out",
        "rchctl config show --origin            with the layer that set each value",
        "rchctl config show timeouts --origin",
        "rchctl config validate                 every file: exit 0, or 3 with file, line and key",
    )


def run(context: Context) -> Outcome:
    """Needs no daemon; exit 3 where the config is none."""
    what = one_of("config", "word", context.args.what, _WORDS)
    if what == "validate":
        return _validate(context)
    return _show(context)


def _load(context: Context) -> Resolved:
    # The config's types are needed here alone: the common verbs start without them.
    from rch.config.layers import load_config
    from rch.config.root import find_root

    return load_config(
        find_root(Path.cwd()),
        host_config=context.paths.config_toml,
        overrides=overrides("config", context.args.set),
    )


# --- show ------------------------------------------------------------------------------


def _show(context: Context) -> Outcome:
    from rch.config.keys import leaves

    resolved = _load(context)
    values = dict(leaves(resolved.effective))
    del values["actions.verify" if values["actions.step"] else "actions.step"]
    if (key := context.args.key) is not None:
        found = {name: each for name, each in values.items() if f"{name}.".startswith(f"{key}.")}
        if not found:
            near = nearest(key, [*values, *resolved.effective])
            raise UsageError(f"config: unknown key {key!r}: type 'rchctl config show {near or '--origin'}'")
        values = found
    places = {str(each.origin): each.path for each in resolved.sources}
    origins = {name: _origin(name, resolved) for name in values}
    context.say(_origins_table(values, origins, context) if context.args.origin else _toml(values))
    return Outcome(
        {
            "values": values,
            "origins": origins,
            "files": {origin: path for origin, path in places.items() if path},
            "redactions": list(resolved.redactions),
        }
    )


def _origin(key: str, resolved: Resolved) -> str:
    """A value that no layer names is the built-in one, or follows from another."""
    return str(resolved.origins.get(key, "built-in"))


def _origins_table(values: dict[str, Any], origins: dict[str, str], context: Context) -> str:
    shown = [
        (key, *(("-", "not set") if value is None else (_value(value), origins[key])))
        for key, value in values.items()
    ]
    return table(("KEY", "VALUE", "ORIGIN"), shown, context.console)


def _toml(values: dict[str, Any]) -> str:
    """The values as a file of their own would have them; what is not set is a comment."""
    tables: dict[str, list[str]] = {}
    for key, value in values.items():
        name, _, leaf = key.rpartition(".")
        line = f"# {leaf} is not set" if value is None else f"{leaf} = {_value(value)}"
        tables.setdefault(name, []).append(line)
    blocks = ["\n".join(([f"[{name}]"] if name else []) + lines) for name, lines in sorted(tables.items())]
    return "\n\n".join(blocks) + "\n"


def _value(value: Any) -> str:
    """A value as TOML writes it: its strings, numbers and lists are JSON's; a row is an inline table."""
    if isinstance(value, dict):
        pairs = [f"{key} = {_value(item)}" for key, item in value.items() if item not in (None, [])]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


# --- validate --------------------------------------------------------------------------


def _all_mistakes(context: Context) -> list[Failure]:
    """Each unknown key and bad value; nothing where the files are well, each by itself."""
    from rch.config.layers import all_mistakes
    from rch.config.root import find_root

    try:
        return all_mistakes(
            find_root(Path.cwd()),
            host_config=context.paths.config_toml,
            overrides=overrides("config", context.args.set),
        )
    except Failure:
        return []


def _validate(context: Context) -> Outcome:
    """Every file is looked at, so that one mistake does not hide another's file."""
    from rch.config.inventory import load_inventory

    paths, refused, good = context.paths, [], []
    try:
        resolved = _load(context)
        good += [str(each.path) for each in resolved.sources if each.path]
    except Failure as failure:
        refused += _all_mistakes(context) or [failure]
    try:
        inventory = load_inventory(paths.workers_toml)
        if not inventory.implied_local:
            good.append(str(paths.workers_toml))
    except Failure as failure:
        refused.append(failure)
    data = {"valid": good, "errors": [{**error_body(each), **each.data} for each in refused]}
    if not refused:
        named = ", ".join(good) or "no file: the built-in values are in force"
        context.say(f"{context.console.style('valid', 'good')}: {named}\n")
        return Outcome(data)
    if not context.json:
        for each in refused:
            context.console.error(each.message, each.hint)
    return Outcome(data, refused[0].exit_code, error_body(refused[0]))
