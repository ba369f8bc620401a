"""The program that a set-up runs on the worker: sent as text over an SSH login, one call a session.

    python3 -I -c '<read so many bytes of text, and run them>'

Then comes one line of JSON (`op`, `token` and what the operation takes), and the bytes of the wheels. Every
line that it says begins with the token, so that whatever a shell prints besides does no harm: `step` names
what is begun, and at the end stands `done`, or `failed` with the step, the message and what mends it.

It is this module and its neighbours, with the standard library alone: `setup.program` puts them together.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys

from rchd.edges.landing_call import (
    BEFORE,
    COMPLETE,
    CURRENT,
    Call,
    Refused,
    complete,
    current,
    durable,
    locked,
    read,
)
from rchd.edges.landing_keys import authorize
from rchd.edges.landing_look import look

MYPY = False
if MYPY:
    from collections.abc import Callable
    from typing import IO, Any

PART = 1 << 20


def install(call: Call) -> dict[str, Any]:
    """A version in a folder of its own, beside the others; one that is there is only tried."""
    request, build = call.request, call.request["build"]
    folder, incoming = os.path.join(call.base, build), os.path.join(call.base, ".incoming")
    os.makedirs(call.base, mode=0o700, exist_ok=True)
    with locked(call.base):
        call.begin("ship")
        shutil.rmtree(incoming, ignore_errors=True)
        os.makedirs(incoming)
        for wheel in request["wheels"]:
            _receive(call.data, os.path.join(incoming, os.path.basename(wheel["name"])), wheel)
        made = build not in complete(call.base)
        if made:
            call.begin("venv")
            shutil.rmtree(folder, ignore_errors=True)  # a cut has left it
            hint = "install its venv there (Debian: apt-get install python3-venv), or name another --python"
            # To put pip into the folder takes most of the time that all of it does.
            made_without = ["--without-pip"] if _has_pip() else []
            call.run([request["python"], "-I", "-m", "venv", *made_without, folder], hint)
            call.begin("packages")
            _packages(call, folder, incoming)
        call.begin("check")
        answer = _tried(call, folder)
        own = call.run([os.path.join(folder, "bin", "rch-worker"), "key"], seconds=120).strip()
        durable(os.path.join(folder, COMPLETE), json.dumps({"build": build}).encode())
        shutil.rmtree(incoming, ignore_errors=True)
    return {"made": made, "own": own, "probe": answer}


def _has_pip() -> bool:
    """Whether this Python, which is the chosen one, has a pip that can install for another."""
    return importlib.util.find_spec("pip") is not None


def _receive(data: IO[bytes], path: str, wheel: dict[str, Any]) -> None:
    left, digest = wheel["size"], hashlib.sha256()
    with open(path, "wb") as file:
        while left:
            part = data.read(min(left, PART))
            if not part:
                raise Refused(f"the line was cut {left} bytes before the end", "run it again")
            left -= len(part)
            digest.update(part)
            file.write(part)
    if digest.hexdigest() != wheel["sha256"]:
        raise Refused("{} did not arrive as it was sent".format(wheel["name"]), "run it again")


def _packages(call: Call, folder: str, incoming: str) -> None:
    """From what was sent, where that is enough; else the rest from this machine's own index, if it may."""
    python = os.path.join(folder, "bin", "python")
    pip = [call.request["python"], "-I", "-m", "pip", "--python", python]
    pip = [*(pip if _has_pip() else [python, "-I", "-m", "pip"]), "install", "--no-input", "--quiet"]
    pip += ["--disable-pip-version-check", "--no-warn-script-location", "--find-links", incoming]
    # By its file: an index may have another's package by the same name.
    wanted = os.path.join(incoming, os.path.basename(call.request["wanted"]))
    try:
        call.run([*pip, "--no-index", wanted])
    except Refused as refused:
        if not call.request["index"]:
            refused.hint = "put wheels of what pip misses into the folder of --wheels, for this system"
            raise
        call.begin("packages from this machine's index")
        call.run([*pip, wanted], "let it reach its package index, or bring the wheels: --wheels DIR")


def _tried(call: Call, folder: str) -> dict[str, Any]:
    """The new version's own answer to a probe, before anybody is sent to it."""
    asked = {"protocol_version": 0, "op": "probe", "request_id": "setup-probe-0001", "payload": {}}
    argv = [os.path.join(folder, "bin", "rch-worker"), "xcode", "rpc"]
    text = call.run(argv, seconds=120, data=json.dumps(asked) + "\n")
    try:
        answer: dict[str, Any] = json.loads(text)["payload"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("the new version does not answer a probe", None, text) from None
    return answer


def switch(call: Call) -> dict[str, Any]:
    """`current` leads to `build`, at once or not at all; what it led to before.

    That is kept until it is `settled` that the new one answers: a cut in between forgets no way back.
    """
    build, note = call.request["build"], os.path.join(call.base, BEFORE)
    with locked(call.base):
        before = current(call.base)
        if build not in complete(call.base):
            raise Refused(f"version {build} is not installed")
        if before != build:
            durable(note, (before or "").encode())
            temp = os.path.join(call.base, f".{CURRENT}.new")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temp)
            os.symlink(build, temp)
            os.replace(temp, os.path.join(call.base, CURRENT))
        before = read(note).decode("utf-8", "replace") or before
        if call.request.get("settled"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(note)
    return {"before": before}


def prune(call: Call) -> dict[str, Any]:
    """Remove the versions that are not in `keep` and that no process runs from."""
    removed, used = [], []
    with locked(call.base):
        keep = set(call.request["keep"]) | {current(call.base)}
        running = _running()
        for name in sorted(os.listdir(call.base)):
            folder = os.path.join(call.base, name)
            if name in keep or name.startswith(".") or os.path.islink(folder) or not os.path.isdir(folder):
                continue
            if running is None or any(folder + "/" in each for each in running):
                used.append(name)
                continue
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(name)
    return {"removed": removed, "used": used}


def _running() -> list[str] | None:
    """The command lines of all processes; None where nobody tells."""
    if os.path.isdir("/proc/self"):
        found = [each for each in os.listdir("/proc") if each.isdigit()]
        return [read(f"/proc/{pid}/cmdline").decode("utf-8", "replace") for pid in found]
    try:
        listed = subprocess.check_output(["/bin/ps", "-axww", "-o", "command="], universal_newlines=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return listed.splitlines()


OPERATIONS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "look": look,
    "install": install,
    "switch": switch,
    "prune": prune,
    "authorize": authorize,
}


def serve(data: IO[bytes], out: IO[str]) -> None:
    """Answer the one request on `data`."""
    call = Call(json.loads(data.readline().decode()), data, out)
    try:
        call.say(done=OPERATIONS[call.request["op"]](call))
    except Refused as refused:
        call.say(failed=[call.step, refused.message, refused.hint, refused.said])
    except (OSError, ValueError, KeyError) as error:
        call.say(failed=[call.step, f"{type(error).__name__}: {error}", None, ""])


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout)
