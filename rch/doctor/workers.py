"""The workers: what each answers, why its host key is trusted, and what the host's key opens there.

Facts are what the daemon's `workers.examine` and `workers.explain` answer, as plain values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rch import __version__
from rch.contract.versions import lags
from rch.doctor.findings import (
    ATTESTATION,
    INCOMPATIBLE,
    SSH,
    Finding,
    failed,
    good,
    warning,
)

FEW_BYTES = 10 << 30

_View = Mapping[str, Any]

_MEANING = {
    "exec": "runs any command",
    "shell": "opens a shell",
    "pty": "opens a terminal",
    "sftp": "reads and writes files by sftp",
    "local-forward": "reaches the worker's network by port forwarding",
    "remote-forward": "opens ports there",
    "agent-forward": "takes a key agent along",
}


def workers_findings(
    workers: Sequence[_View],
    candidates: Mapping[str, _View],
    spoken: tuple[int, int],
    *,
    nobody: _View | None = None,
) -> list[Finding]:
    """One group a worker, in the order given, which is that of selection.

    `candidates` say by name who would serve the project of this folder; `spoken` is the range of the
    worker protocol that this host speaks; `nobody` is the failure where no worker would serve.
    """
    found: list[Finding] = []
    for view in workers:
        found += _worker(view, candidates.get(view["name"]), spoken)
    if nobody is not None:
        code = int(nobody.get("exit_code") or INCOMPATIBLE)
        found.append(failed("project", str(nobody.get("message")), nobody.get("hint"), code))
    return found


def _worker(view: _View, candidate: _View | None, spoken: tuple[int, int]) -> Iterator[Finding]:
    name, probe = view["name"], view.get("probe")
    if (drained := view.get("drained")) is not None:
        said = f"it gets no new run{f': {drained}' if drained else ''}"
        yield warning("drained", said, f"rchctl workers undrain {name}", subject=name)
    if view.get("aside"):
        yield warning("set aside", str(view["aside"]), f"rchctl workers probe {name}", subject=name)
    if probe is None:
        yield _silent(view)
        if view.get("door_failure") is None:  # it lets the key in, and has no rch-worker behind it
            yield from _trust(view)
            yield from _door(view)
        return
    took = view.get("probe_ms")
    yield good("answers", f"in {took} ms; priority {view['priority']}, {view['host']}", subject=name)
    yield from _trust(view)
    capabilities = probe["capabilities"]
    yield _protocol(name, probe, spoken)
    yield from _version(view, capabilities)
    yield _tools(name, capabilities)
    if candidate is not None:
        yield _serves(name, candidate)
    yield _disk(name, capabilities)
    yield from _home(name, capabilities)
    yield from _session(name, capabilities)
    yield _clock(name, view)
    yield _own_key(name, view, capabilities)
    if capabilities.get("simulated"):
        yield warning(
            "simulated",
            "its tools are stand-ins: it serves --simulate alone",
            "leave simulate = true out of its worker.toml",
            subject=name,
        )
    yield from _door(view)


def _silent(view: _View) -> Finding:
    failure = view.get("failure") or {}
    check = "host key" if failure.get("subkind") == "HOST_KEY" else "answers"
    code = int(failure.get("exit_code") or SSH)
    message = str(failure.get("message") or "no answer")
    return failed(check, message, failure.get("hint"), code, subject=view["name"])


def _trust(view: _View) -> Iterator[Finding]:
    key, failure = view.get("host_key"), view.get("door_failure") or {}
    if failure.get("subkind") == "HOST_KEY":  # a new connection met it; the open one may be older
        message = str(failure.get("message"))
        yield failed("host key", message, failure.get("hint"), SSH, subject=view["name"])
        return
    if key is None:
        return
    said = f"{key['type']} {key['fingerprint']}"
    if view.get("trusted_by") == "pin":
        yield good("host key", f"{said}, pinned in workers.toml", subject=view["name"])
    else:
        yield good("host key", f"{said}, by known_hosts", subject=view["name"])


def _protocol(name: str, probe: _View, spoken: tuple[int, int]) -> Finding:
    low, high = int(probe["protocol_min"]), int(probe["protocol_max"])
    common = min(high, spoken[1])
    said = f"rch-worker {probe['rch_xcode_lane_version']} speaks protocol {low} to {high}"
    if max(low, spoken[0]) > common:
        return failed(
            "protocol",
            f"{said}, this host {spoken[0]} to {spoken[1]}",
            "bring host and worker to the same version",
            INCOMPATIBLE,
            subject=name,
        )
    return good("protocol", f"{said}; {common} is used", subject=name)


def _version(view: _View, capabilities: _View) -> Iterator[Finding]:
    theirs = str(capabilities.get("agent_version") or "")
    if view.get("transport") == "ssh" and lags(theirs, __version__):
        yield warning(
            "version",
            f"rch-worker {theirs} is older than this host's {__version__}",
            f"rchctl workers upgrade {view['name']}",
            subject=view["name"],
        )


def _tools(name: str, capabilities: _View) -> Finding:
    tools = [f"{each['kind']} {each['version']}" for each in capabilities.get("toolchains", ())]
    where = f"{capabilities['os_name']} {capabilities['os_version']} {capabilities['arch']}"
    if not tools:
        return failed(
            "toolchain",
            f"none is found on {where}",
            "install Swift or Xcode there, or name it in its worker.toml",
            INCOMPATIBLE,
            subject=name,
        )
    return good("toolchain", f"{', '.join(tools)} on {where}", subject=name)


def _serves(name: str, candidate: _View) -> Finding:
    reason = str(candidate.get("reason"))
    if not candidate.get("serves"):
        return warning(
            "this project", f"would not serve it: {reason}", "rchctl workers explain", subject=name
        )
    where = candidate.get("destination_value")
    return good("this project", f"would serve it: {where or reason}", subject=name)


def _disk(name: str, capabilities: _View) -> Finding:
    free = int(capabilities["capacity"]["disk_free_bytes"])
    said = f"{free / (1 << 30):.1f} GiB are free"
    if free < FEW_BYTES:
        return warning("free disk", said, f"rchctl workers gc {name}", subject=name)
    return good("free disk", said, subject=name)


def _home(name: str, capabilities: _View) -> Iterator[Finding]:
    if capabilities.get("home_beyond_ascii"):
        yield warning(
            "worker home",
            "its path has letters beyond ASCII: swift build fails there",
            "set RCH_WORKER_HOME there to a path without such letters (docs/workers.md)",
            subject=name,
        )


def _session(name: str, capabilities: _View) -> Iterator[Finding]:
    if not any(each["kind"] == "xcode" for each in capabilities.get("toolchains", ())):
        return
    if capabilities.get("gui_session") is False:
        yield warning(
            "login session",
            "nobody is logged in at its screen, and simulator tests want that",
            "log the account in there and leave it so (docs/workers.md)",
            subject=name,
        )
    elif capabilities.get("gui_session"):
        yield good("login session", "there is one", subject=name)


def _clock(name: str, view: _View) -> Finding:
    skew = view.get("skew_seconds")
    if skew is None:
        return good("clock", "within 30 s of this machine's", subject=name)
    way = "ahead of" if skew > 0 else "behind"
    return warning(
        "clock",
        f"{abs(skew)} s {way} this machine's",
        "switch on network time on both machines",
        subject=name,
    )


def _own_key(name: str, view: _View, capabilities: _View) -> Finding:
    own, pins = capabilities.get("attestation_pubkey_fingerprint"), tuple(view.get("pins") or ())
    if pins and own not in pins:
        return failed(
            "attestation key",
            f"it signs with {own or 'no key'}, and {', '.join(pins)} is pinned",
            "do not trust it until rch-worker key, at the worker itself, says which is right",
            ATTESTATION,
            subject=name,
        )
    if pins:
        return good("attestation key", f"{own}, pinned in workers.toml", subject=name)
    if view.get("transport") == "local":
        return good("attestation key", f"{own or 'none'}, of this machine itself", subject=name)
    if own is None:
        return warning(
            "attestation key", "it signs nothing", "bring rch there to this version", subject=name
        )
    return warning(
        "attestation key",
        f"{own} is not pinned: its signatures prove nothing",
        f'compare with rch-worker key there; in workers.toml: attestation_pubkey_fingerprint = "{own}"',
        subject=name,
    )


def _door(view: _View) -> Iterator[Finding]:
    name = view["name"]
    if view.get("transport") != "ssh":
        return
    if (failure := view.get("door_failure")) is not None:
        if failure.get("subkind") == "HOST_KEY":  # told where the key is
            return
        yield warning(
            "what the key opens",
            f"could not be tried: {failure.get('message')}",
            failure.get("hint"),
            subject=name,
        )
        return
    attempts = view.get("attempts") or ()
    opened = [each["what"] for each in attempts if each["open"]]
    unknown = [each["what"] for each in attempts if each["open"] is None]
    if opened:
        does = ", ".join(_MEANING.get(what, what) for what in opened)
        yield failed(
            "what the key opens",
            f"more than rch-worker: it {does}",
            f'in authorized_keys there, put restrict,command="…" before the key: rchctl workers key {name}',
            SSH,
            subject=name,
        )
    elif unknown or not attempts:
        yield warning(
            "what the key opens",
            f"is not known, there was no answer to {', '.join(unknown) or 'anything'}",
            f"rchctl doctor {name}",
            subject=name,
        )
    else:
        tried = ", ".join(each["what"] for each in attempts)
        yield good("what the key opens", f"rch-worker alone (tried: {tried})", subject=name)
