"""The words and flags of `rchctl workers`, and which flag goes with which word."""

from __future__ import annotations

import argparse
from typing import Any

from rchctl.context import Context
from rchctl.parser import UsageError, VerbParser, one_of

WORDS = {
    "list": "what is known",
    "probe": "ask them now",
    "setup": "bring the program to a machine that has only SSH",
    "upgrade": "bring a new version of it",
    "add": "enter a machine that has it already",
    "key": "the line for its authorized_keys",
    "explain": "who would serve the project of this folder, and why not",
    "drain": "no new runs",
    "undrain": "take new runs again",
    "gc": "remove what is over",
}
_TAG = {"metavar": "TAG", "action": "append"}
_GOES_WITH: tuple[tuple[str, tuple[str, ...], dict[str, Any], str], ...] = (
    ("host", ("add", "setup"), {"metavar": "HOST"}, "a name, an address, or an alias of ~/.ssh/config"),
    ("user", ("add", "setup"), {"metavar": "USER"}, "the account there"),
    ("port", ("add", "setup"), {"metavar": "PORT", "type": int}, "where its sshd listens"),
    (
        "fingerprint",
        ("add", "setup"),
        {"metavar": "SHA256:..."},
        "the host key, as the worker itself says it",
    ),
    ("yes", ("add", "setup"), {}, "take a host key that known_hosts has, no other; pin the worker's own"),
    (
        "tag",
        ("add", "setup"),
        _TAG,
        "a word for selection.tags; again for more",
    ),
    ("priority", ("add", "setup"), {"metavar": "N", "type": int}, "lower goes first (100)"),
    ("ssh-key", ("add", "key", "setup"), {"metavar": "FILE"}, "the private key for the worker alone"),
    ("from", ("key", "setup"), {"metavar": "CIDR", "action": "append"}, "whence the key may be used"),
    ("create", ("key",), {}, "make one where there is none"),
    ("command", ("key",), {"metavar": "CMD"}, "the worker's program, 'PATH xcode rpc'"),
    ("apply", ("setup",), {}, "do it; else it is only said what would be done"),
    ("login-key", ("setup", "upgrade"), {"metavar": "FILE"}, "a key of your own that opens a shell there"),
    ("python", ("setup", "upgrade"), {"metavar": "PATH"}, "the Python there, 3.11 or newer"),
    ("wheels", ("setup", "upgrade"), {"metavar": "DIR"}, "libraries out of this folder, and from no index"),
    ("home", ("setup",), {"metavar": "DIR"}, "the worker's own folder there (RCH_WORKER_HOME)"),
    ("reason", ("drain",), {"metavar": "TEXT"}, "what waiting runs and people are told"),
    ("dry-run", ("gc",), {}, "only name what would be removed"),
    ("action", ("explain",), {"metavar": "ACTION", "action": "append"}, "build or test, as of rchctl run"),
    ("set", ("explain",), {"metavar": "KEY=VALUE", "action": "append"}, "another config value"),
    ("simulate", ("explain",), {}, "a run on stand-in tools"),
)


def configure(parser: VerbParser) -> None:
    """A word, a name and the flags of all words."""
    parser.word(WORDS, "; ".join(WORDS.values()), {f"--{flag}": words for flag, words, _, _ in _GOES_WITH})
    parser.add_argument(
        "name", metavar="WORKER", nargs="?", help="its name; with probe, upgrade and gc this one alone"
    )
    for flag, words, options, text in _GOES_WITH:
        how: dict[str, Any] = dict(options) if options else {"action": "store_true"}
        if how.get("action") == "append":
            how["default"] = []
        parser.add_argument(
            f"--{flag}", dest=_member(flag), help=f"with {' and '.join(words)}: {text}", **how
        )
    parser.examples(
        "rchctl workers list              in the order that selection takes",
        "rchctl workers probe             ask all of them now",
        "rchctl workers probe studio --json | jq .data.workers[0].status",
        "rchctl workers setup studio --host studio.local --user ci",
        "rchctl workers setup studio --host studio.local --user ci --apply",
        "rchctl workers upgrade           bring all of them to this version",
        "rchctl workers drain studio --reason 'a new Xcode'",
        "rchctl workers key studio --create --from 192.0.2.7",
        "rchctl workers add studio --host studio.local --user ci",
        "rchctl workers explain           for each worker: would serve, or why not",
        "rchctl workers explain --action build --set toolchain.xcode_version=16.2",
        "rchctl workers gc --dry-run      what the workers would remove: sources, jobs, trees of runs",
        "rchctl workers gc studio --json | jq .data.workers[0].totals",
    )


def word_of(context: Context) -> str:
    """The word that was asked for; `UsageError` for a flag or a name that goes with another one."""
    args = context.args
    what = one_of("workers", "word", args.what, WORDS)
    for flag, words, _, _ in _GOES_WITH:
        if what not in words and getattr(args, _member(flag)) not in (None, False, []):
            instead = f"rchctl workers {words[0]}{' --dry-run' if flag == 'dry-run' else ''}"
            raise UsageError(f"workers {what}: --{flag} goes with {words[0]}: type '{instead}'")
    if what == "list" and args.name:
        raise UsageError(f"workers list: takes no name: type 'rchctl workers probe {args.name}'")
    return what


def typed(args: argparse.Namespace, without: tuple[str, ...] = ()) -> list[str]:
    """The words of a call, for the same once more; `without` some flags."""
    words = ["rchctl", "workers", args.what, args.name or ""]
    for flag, goes_with, _, _ in _GOES_WITH:
        if args.what not in goes_with or flag in without:
            continue
        value = getattr(args, _member(flag))
        if value is True:
            words.append(f"--{flag}")
        elif value is not None and value is not False:
            for each in value if isinstance(value, list) else [value]:
                words += [f"--{flag}", str(each)]
    return words


def _member(flag: str) -> str:
    return "sources" if flag == "from" else flag.replace("-", "_")
