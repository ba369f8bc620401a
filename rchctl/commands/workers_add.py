"""`rchctl workers add`: a new worker, from its host key to its entry in the inventory."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl import asking
from rchctl.commands.workers_flags import typed
from rchctl.commands.workers_key import default_key, line_of
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError
from rchctl.terminal import one_line

_DIAL_SECONDS = 90.0
_WEAK = "make a new one there: ssh-keygen -A, with an ed25519 key in its sshd_config"


def add(context: Context) -> Outcome:
    """Nothing is written before all is known: host key, the worker's answer, its own key."""
    from rchctl.inventory_file import add_entry, refuse_known, refuse_unfit

    args = context.args
    if not args.name or not args.host:
        missing = "--host HOST" if args.name else "a name"
        raise UsageError(f"workers add: {missing} is missing: type 'rchctl workers add NAME --host HOST'")
    refuse_unfit("add", args)
    refuse_known(context.paths.workers_toml, args.name)
    first = not context.paths.workers_toml.exists()
    address = address_of(context)
    scan = scanned(context, address)
    pin = accepted_key(context, scan)
    address["known_host_fingerprint"] = pin
    answer = _probed(context, address)
    capabilities = answer["probe"].get("capabilities", {})
    _tell(context, capabilities)
    own = _own_key(context, capabilities)
    entry = _entry(context, address, own)
    added = add_entry(context.paths, entry)
    context.say(f"{context.console.style('added', 'good')}: {args.name} to {context.paths.workers_toml}\n")
    if not context.json:
        if first:
            context.console.note(
                'this machine serves no more: add a [[worker]] with transport = "local" if it should'
            )
        context.console.note("see that its key opens nothing else: rchctl doctor")
    return Outcome(
        {"worker": entry, "path": str(context.paths.workers_toml), "added": added, "probe": answer["probe"]}
    )


def scanned(context: Context, address: dict[str, Any]) -> dict[str, Any]:
    """The host keys that the machine shows."""
    try:
        return context.call("workers.scan", address, timeout=_DIAL_SECONDS)
    except Failure as failure:
        if failure.subkind == "UNREACHABLE":  # no worker yet that could be probed
            hint = "check that it is up and that its sshd listens there: --host HOST --port PORT"
            raise Failure(failure.kind, failure.message, subkind="UNREACHABLE", hint=hint) from failure
        raise


def address_of(context: Context) -> dict[str, Any]:
    """The machine that the flags name, as an entry of the inventory would."""
    args = context.args
    address: dict[str, Any] = {"name": args.name, "host": args.host}
    if args.user:
        address["user"] = args.user
    if args.port is not None:
        address["port"] = args.port
    if args.ssh_key:
        key = args.ssh_key
        address["ssh_key_path"] = key if key.startswith("~") else str(Path(key).absolute())
    elif (made := default_key(args.name, context.env)).exists():
        address["ssh_key_path"] = str(made)
    return address


# --- the host key -----------------------------------------------------------------------


def accepted_key(context: Context, scan: dict[str, Any]) -> str:
    """The fingerprint to pin. A key that nobody has seen before is never taken unasked."""
    args, where = context.args, one_line(scan.get("where", ""))
    keys = [key for key in scan.get("keys", ()) if not key.get("short")]
    shown = ", ".join(_named(key) for key in scan.get("keys", ()))
    if not keys:
        raise _refused(f"{where} shows no host key that is long enough to be trusted: {shown}", _WEAK)
    if args.fingerprint:
        if not any(key["fingerprint"] == args.fingerprint for key in keys):
            raise _refused(
                f"{where} shows {shown}, and not {args.fingerprint}", "find out who answers there"
            )
        return str(args.fingerprint)
    if (others := scan.get("other_known")) and not any(key.get("known") for key in keys):
        raise _refused(
            f"{where} shows {shown}, and known_hosts has another key for it:"
            f" {', '.join(_named(key) for key in others)}",
            "find out who answers there; if the key was changed: ssh-keygen -R, and compare it",
        )
    best = next((key for key in keys if key.get("known")), keys[0])
    kind = best["type"].removeprefix("ssh-").partition("-")[0]
    compare = f"ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"
    if args.yes and best.get("known"):
        return str(best["fingerprint"])
    if not asking.has_somebody():
        again = shlex.join(typed(args, without=("fingerprint",)))
        raise _refused(
            f"nobody is here to say whether the host key of {where} is the right one: it shows {shown}",
            f"compare with '{compare}' on the worker, then: {again} --fingerprint {best['fingerprint']}",
        )
    console = context.console
    console.note(f"{where} shows the host key")
    console.note(f"  {_named(best)}" + (", which known_hosts has" if best.get("known") else ""))
    console.note(f"compare it with what this prints at the worker itself: {compare}")
    said = asking.answer(console, "is it the same? type yes, or the fingerprint [yes/no]")
    if said.lower() != "yes" and said != best["fingerprint"]:
        raise _refused(
            "the host key was not accepted: nothing was written",
            "find out who answers there, then add it again",
        )
    return str(best["fingerprint"])


def _named(key: dict[str, Any]) -> str:
    return one_line(f"{key.get('type')} {key.get('fingerprint')}")


def _refused(message: str, hint: str) -> Failure:
    return Failure(Kind.SSH, message, subkind="HOST_KEY", hint=hint)


# --- the worker's answer ----------------------------------------------------------------


def _probed(context: Context, address: dict[str, Any]) -> dict[str, Any]:
    try:
        return context.call("workers.try", address, timeout=_DIAL_SECONDS)
    except Failure as failure:
        if failure.subkind == "AUTH":
            raise _no_key(context, address, failure) from failure
        raise


def _no_key(context: Context, address: dict[str, Any], failure: Failure) -> Failure:
    """The refusal, with the line that the worker's `authorized_keys` lacks."""
    view = context.call("workers.keys", {"address": address}, timeout=_DIAL_SECONDS)
    keys = view.get("keys") or []
    name = context.args.name
    if not keys:
        message = f"{failure.message}; no key is there that could be offered"
        return Failure(failure.kind, message, subkind="AUTH", hint=f"rchctl workers key {name} --create")
    line = line_of(str(keys[0]["line"]))
    context.say(f"{line}\n")
    hint = "put the line above into ~/.ssh/authorized_keys of the worker's account, its path put right"
    if context.json:
        hint = f"put this into ~/.ssh/authorized_keys of the worker's account: {line}"
    return Failure(failure.kind, failure.message, subkind="AUTH", hint=hint)


def _tell(context: Context, capabilities: dict[str, Any]) -> None:
    """What it says of itself, on one line."""
    if context.json:
        return
    tools = ", ".join(
        f"{each.get('kind')} {each.get('version')}" for each in capabilities.get("toolchains", ())
    )
    system = " ".join(str(capabilities.get(key) or "") for key in ("os_name", "os_version", "arch"))
    mark = "simulated, its tools are stand-ins: " if capabilities.get("simulated") else ""
    context.console.note(f"it answers: {mark}{tools or 'no toolchain'} on {system}")


def _own_key(context: Context, capabilities: dict[str, Any]) -> str | None:
    """The worker's own fingerprint, if it is to be pinned. It came over the key that was just accepted."""
    own = capabilities.get("attestation_pubkey_fingerprint")
    if not own:
        return None
    if context.args.yes:
        return str(own)
    if not asking.has_somebody():
        if not context.json:
            context.console.note(f"its own key is not pinned: {own}; --yes pins it, or workers.toml")
        return None
    context.console.note(f"it signs with its own key {one_line(own)}")
    question = "pin that too, so that nothing else is believed? it is what rch-worker key prints there"
    return str(own) if asking.agrees(context.console, question) else None


def _entry(context: Context, address: dict[str, Any], own: str | None) -> dict[str, Any]:
    entry = dict(address)
    if own is not None:
        entry["attestation_pubkey_fingerprint"] = own
    return with_tags(context, entry)


def with_tags(context: Context, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with the priority and the tags that were asked for."""
    if context.args.priority is not None:
        entry["priority"] = context.args.priority
    if context.args.tag:
        entry["tags"] = list(context.args.tag)
    return entry
