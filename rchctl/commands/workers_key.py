"""`rchctl workers key`: the line for a worker's `authorized_keys`, and a key made for it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rch.contract.authorized_keys import COMMAND, authorized_line
from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.inventory_file import refuse_unfit
from rchctl.parser import UsageError
from rchctl.terminal import one_line

_KEYS_SECONDS = 60.0


def key(context: Context) -> Outcome:
    """Prints one line on stdout; what is to be known of the key, on stderr."""
    args = context.args
    if not args.name:
        raise UsageError("workers key: a name is missing: type 'rchctl workers key NAME'")
    refuse_unfit("key", args)
    made = False
    if args.create or args.ssh_key:
        path = key_path(context)
        try:
            made = bool(args.create) and make_key(path, args.name)
            found = {"line": public_of(path), "source": "file", "path": str(path), "fingerprint": None}
        except OSError as error:
            message = f"{error.filename or path}: {error.strerror or error}"
            raise Failure(Kind.CONFIG, message, hint="give another place: --ssh-key FILE") from error
        _tell_made(context, path, made=made)
    else:
        found = _offered(context)
    line = line_of(str(found["line"]), args.command or COMMAND, args.sources)
    context.say_value(line)
    if not context.json and not args.command:
        context.console.note("put the path of rch-worker right, or say it: --command 'PATH xcode rpc'")
    return Outcome({"line": line, "key": found, "created": made})


def line_of(public: str, command: str = COMMAND, sources: Sequence[str] = ()) -> str:
    """The line for a `TYPE BASE64`."""
    host = socket.gethostname().partition(".")[0] or "host"
    return authorized_line(public, command=command, sources=sources, comment=f"rch@{host}")


def default_key(name: str, env: Mapping[str, str]) -> Path:
    """Where `--create` puts a key that no entry names."""
    return Path(env.get("HOME") or Path.home()) / ".ssh" / f"rch_{name}"


def key_path(context: Context) -> Path:
    """The key file: the one that was named, else the entry's, else one of its own name."""
    from rch.config.inventory import load_inventory

    if context.args.ssh_key:
        return Path(context.args.ssh_key).expanduser().absolute()
    inventory = load_inventory(context.paths.workers_toml)
    entry = next((each for each in inventory.workers if each.name == context.args.name), None)
    if entry is not None and entry.ssh_key_path:
        return Path(entry.ssh_key_path).expanduser()
    return default_key(context.args.name, context.env)


def make_key(path: Path, name: str) -> bool:
    """Make an ed25519 key, 0600 and without a passphrase, unless there is one; whether it was made."""
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"rch {name}", "-f", str(path)]
    _keygen(argv)
    path.chmod(0o600)
    return True


def public_of(path: Path) -> str:
    """`TYPE BASE64` of a key file, out of the file beside it or out of the key itself."""
    beside = path.with_name(f"{path.name}.pub")
    text = beside.read_text(encoding="utf-8") if beside.is_file() else ""
    words = (text or _keygen(["ssh-keygen", "-y", "-P", "", "-f", str(path)])).split()
    return " ".join(words[:2])


def _keygen(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(
            Kind.CONFIG, f"ssh-keygen cannot be started: {error.strerror}", hint="install OpenSSH's client"
        ) from error
    if done.returncode:
        said = one_line(done.stderr) or f"it ended with {done.returncode}"
        raise Failure(Kind.CONFIG, f"ssh-keygen: {said}", hint="rchctl workers key NAME --create makes one")
    return done.stdout


def _tell_made(context: Context, path: Path, *, made: bool) -> None:
    if context.json:
        return
    note = f"made {path}, without a passphrase" if made else f"the key {path}"
    context.console.note(f'{note}; workers.toml names it so: ssh_key_path = "{path}"')


def _offered(context: Context) -> dict[str, Any]:
    """The first key that would be offered to the worker of the inventory."""
    name = context.args.name
    try:
        view = context.call("workers.keys", {"name": name}, timeout=_KEYS_SECONDS)
    except Failure as failure:
        if failure.kind is Kind.USAGE:  # it is in no inventory yet
            hint = f"rchctl workers key {name} --create has a key before the worker is added"
            raise Failure(Kind.USAGE, failure.message, hint=hint) from failure
        raise
    keys: list[dict[str, Any]] = view.get("keys") or []
    if not keys:
        raise Failure(
            Kind.SSH,
            f"no key is there that could be offered to {name}",
            subkind="AUTH",
            hint=f"rchctl workers key {name} --create",
        )
    first = keys[0]
    if not context.json:
        if first.get("source") == "agent" and not first.get("path"):
            context.console.note(
                f"the agent alone has this key ({one_line(first.get('comment') or first['fingerprint'])}):"
                " runs need a terminal whose agent lives"
            )
        for other in keys[1:]:
            context.console.note(f"offered too: {one_line(other.get('path') or other.get('comment'))}")
    return first
