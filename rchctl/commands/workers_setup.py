"""`rchctl workers setup|upgrade`: the worker's program, brought to a machine over a login of one's own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure, Kind
from rchctl.commands.workers_add import accepted_key, address_of, scanned, with_tags
from rchctl.commands.workers_key import key_path, line_of, make_key, public_of
from rchctl.context import Context, Outcome, error_body
from rchctl.inventory_file import refuse_unfit
from rchctl.parser import UsageError
from rchctl.setup_plan import plan_of, plan_text
from rchctl.terminal import one_line

if TYPE_CHECKING:
    from rch.config.inventory import WorkerEntry

_DIAL_SECONDS = 90.0
_LOOK_SECONDS = 180.0
_INSTALL_SECONDS = 1500.0
_MOST_KEYS = 6
_HOME = re.compile(r"RCH_WORKER_HOME=('[^']*'|\S+)")
_LOGIN = "this needs a login of your own, with a key that opens a shell: ssh-copy-id, or --login-key FILE"


def setup(context: Context) -> Outcome:
    """A plan; with `--apply` all of it, each step doing no more than is left to do."""
    args = context.args
    if not args.name:
        raise UsageError("workers setup: a name is missing: type 'rchctl workers setup NAME --host HOST'")
    refuse_unfit("setup", args)
    known = _entry(context, args.name)
    address = _address(context, known)
    _pin(context, address, known)
    path = key_path(context)
    public = public_of(path) if path.exists() else None
    facts = _look(context, address, public)
    line = _line(context, facts, public or "ssh-ed25519 AAAA")
    plan = plan_of(facts, name=args.name, key=path, line=line, made=public is not None, entry=known is None)
    data = {"applied": False, "found": facts, "plan": plan, "line": line if public else None}
    context.say(plan_text(facts, plan, context.console))
    if not args.apply:
        if not context.json:
            context.console.note("nothing was changed: --apply does it")
        return Outcome(data)
    make_key(path, args.name)
    public = public_of(path)
    line = _line(context, facts, public)
    probe = {**address, "ssh_key_path": str(path)}
    done = _install(context, address, probe, public, facts)
    opened = _opened(context, probe)
    entry = None if known is not None else _write(context, probe, done["own"])
    if known is not None and not known.ssh_key_path and not context.json:
        context.console.note(f'workers.toml does not name its key yet: ssh_key_path = "{path}"')
    context.say(f"{context.console.style('ready', 'good')}: {_told(args.name, done)}\n")
    return Outcome({**data, "applied": True, "line": line, "done": done, "worker": entry, "tried": opened})


def upgrade(context: Context) -> Outcome:
    """This installation's program to one worker of the inventory, or to each that is reached over SSH."""
    args = context.args
    entries = _all(context) if not args.name else [_entry(context, args.name)]
    results: list[dict[str, Any]] = []
    first: Failure | None = None
    for entry in entries:
        if entry is None:
            raise Failure(
                Kind.USAGE, f"no worker {args.name!r} in the inventory", hint="rchctl workers list"
            )
        try:
            results.append(_upgraded(context, entry))
        except Failure as failure:
            first = first or failure
            results.append({"name": entry.name, "error": error_body(failure)})
            if not context.json:
                context.console.error(failure.message, failure.hint)
    if not entries and not context.json:
        context.console.note("no worker of the inventory is reached over SSH")
    data = {"workers": results}
    return Outcome(data) if first is None else Outcome(data, first.exit_code, error_body(first))


def _upgraded(context: Context, entry: WorkerEntry) -> dict[str, Any]:
    if entry.transport != "ssh":
        raise Failure(Kind.USAGE, f"worker {entry.name} is on this machine: it is this installation's own")
    address = _address(context, entry)
    address["known_host_fingerprint"] = entry.known_host_fingerprint
    public, facts = _let_in(context, address, entry.name)
    probe = {**address}
    if entry.ssh_key_path:
        probe["ssh_key_path"] = entry.ssh_key_path
    done = _install(context, address, probe, public, facts)
    context.say(f"{context.console.style('ready', 'good')}: {_told(entry.name, done)}\n")
    return {"name": entry.name, "done": done}


def _let_in(context: Context, address: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    """The key of ours that is let in there, of those that are offered, and what is there."""
    keys = context.call("workers.keys", {"name": name}, timeout=_DIAL_SECONDS).get("keys") or []
    for key in keys[:_MOST_KEYS]:
        facts = _look(context, address, str(key["line"]))
        if facts["key"] == "ours":
            return str(key["line"]), facts
    raise Failure(
        Kind.SSH,
        f"worker {name}: authorized_keys there lets no key of this host run rch-worker alone",
        subkind="SETUP",
        hint=f"rchctl workers setup {name} --apply",
    )


# --- where it is ------------------------------------------------------------------------


def _all(context: Context) -> list[WorkerEntry | None]:
    from rch.config.inventory import load_inventory

    inventory = load_inventory(context.paths.workers_toml)
    return [entry for entry in inventory.workers if entry.transport == "ssh"]


def _entry(context: Context, name: str) -> WorkerEntry | None:
    from rch.config.inventory import load_inventory

    inventory = load_inventory(context.paths.workers_toml)
    if inventory.implied_local:
        return None
    return next((each for each in inventory.workers if each.name == name), None)


def _address(context: Context, known: WorkerEntry | None) -> dict[str, Any]:
    """Where to dial: the flags, or the entry that is there; no key is in it."""
    args = context.args
    if known is None:
        if not args.host:
            words = f"rchctl workers setup {args.name} --host HOST"
            raise UsageError(f"workers setup: --host HOST is missing: type '{words}'")
        address = address_of(context)
        address.pop("ssh_key_path", None)
        return address
    found = {"host": known.host or known.name, "user": known.user, "port": known.port}
    found["known_hosts"] = known.known_hosts
    return {"name": known.name, **{key: value for key, value in found.items() if value is not None}}


def _pin(context: Context, address: dict[str, Any], known: WorkerEntry | None) -> None:
    """The pin of the entry, or the host key that somebody compares; no trust on first use."""
    if known is not None:
        address["known_host_fingerprint"] = known.known_host_fingerprint
        return
    address["known_host_fingerprint"] = accepted_key(context, scanned(context, address))


def _look(context: Context, address: dict[str, Any], public: str | None) -> dict[str, Any]:
    params: dict[str, Any] = {"login": _login(context, address)}
    if context.args.python:
        params["python"] = context.args.python
    if public is not None:
        params["key"] = public
    return _over_login(context, "workers.look", params, _LOOK_SECONDS)


def _login(context: Context, address: dict[str, Any]) -> dict[str, Any]:
    key = context.args.login_key
    if not key:
        return address
    return {**address, "ssh_key_path": key if key.startswith("~") else str(Path(key).absolute())}


def _over_login(context: Context, method: str, params: dict[str, Any], seconds: float) -> dict[str, Any]:
    try:
        return context.call(method, params, timeout=seconds)
    except Failure as failure:
        if failure.subkind == "AUTH" and "login" in params and method == "workers.look":
            raise Failure(failure.kind, failure.message, subkind="AUTH", hint=_LOGIN) from failure
        raise


# --- what is done -----------------------------------------------------------------------


def _line(context: Context, facts: dict[str, Any], public: str) -> str:
    """The forced command leads through `current`; a home that is in force already stays."""
    program = shlex.quote(f"{facts['base']}/current/bin/rch-worker")
    home = _worker_home(context, facts)
    prefix = f"env RCH_WORKER_HOME={shlex.quote(home)} " if home else ""
    return line_of(public, f"{prefix}{program} xcode rpc", context.args.sources)


def _worker_home(context: Context, facts: dict[str, Any]) -> str | None:
    if context.args.home:
        return str(context.args.home)
    found = _HOME.search(str(facts.get("line") or ""))
    return found[1].strip("'") if found else None


def _install(
    context: Context, address: dict[str, Any], probe: dict[str, Any], public: str, facts: dict[str, Any]
) -> dict[str, Any]:
    args = context.args
    params: dict[str, Any] = {
        "login": _login(context, address),
        "probe": probe,
        "key": public,
        "line": _line(context, facts, public),
    }
    if args.python:
        params["python"] = args.python
    if (home := _worker_home(context, facts)) is not None:
        params["home"] = home
    if args.wheels:
        params["wheels"] = str(Path(args.wheels).expanduser().absolute())
    if not context.json:
        context.console.status(f"{address['name']}: the program is brought there and tried")
    return context.call("workers.install", params, timeout=_INSTALL_SECONDS)


def _opened(context: Context, probe: dict[str, Any]) -> list[dict[str, Any]]:
    """What was tried with the worker's key; `Failure` SSH where it is good for more than the worker."""
    view = context.call("workers.examine", {"address": probe}, timeout=_LOOK_SECONDS)["workers"][0]
    attempts: list[dict[str, Any]] = view.get("attempts") or []
    opened = [str(each["what"]) for each in attempts if each["open"]]
    if opened or not attempts:
        why = f"opens more than rch-worker: {', '.join(opened)}" if opened else "could not be tried"
        raise Failure(
            Kind.SSH,
            f"the key {probe['ssh_key_path']} {why}; workers.toml was not changed",
            subkind="SETUP",
            hint="see what in sshd_config or authorized_keys there lets it, and run setup again",
        )
    return attempts


def _write(context: Context, probe: dict[str, Any], own: str) -> dict[str, Any]:
    from rchctl.inventory_file import add_entry

    first = not context.paths.workers_toml.exists()
    entry = with_tags(context, {**probe, "attestation_pubkey_fingerprint": own})
    add_entry(context.paths, entry)
    if first and not context.json:
        context.console.note(
            'this machine serves no more: add a [[worker]] with transport = "local" if it should'
        )
    return entry


def _told(name: str, done: dict[str, Any]) -> str:
    said = f"{one_line(name)} runs rch-worker {one_line(done['build'])}"
    if done.get("before"):
        said += f", before {one_line(done['before'])}"
    if not (done.get("made") or done.get("before") or done.get("authorized")):
        said += ", as it did"
    used = ", ".join(one_line(each) for each in done.get("used") or ())
    return f"{said}; {used} is kept while a job runs from it" if used else said
