"""What is there before anything is done (see `landing`): runs on whatever Python there is, 3.7 at least."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys

from rchd.edges.landing_call import Call, Refused, complete, current, read
from rchd.edges.landing_keys import is_ours, keys_file, standing

MYPY = False
if MYPY:
    from typing import Any

_NEWEST, _OLDEST = 20, 11
_FOLDERS = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "~/.local/bin", "~/.pyenv/shims")
_ASK = (
    "import json,sys,platform as p;from importlib.util import find_spec as f;"
    "print(json.dumps([list(sys.version_info[:3]),bool(f('venv') and (f('ensurepip') or f('pip'))),"
    "p.machine(),' '.join(p.libc_ver())]))"
)


def look(call: Call) -> dict[str, Any]:
    """What is there. Changes nothing."""
    free = call.base
    while not os.path.isdir(free):
        free = os.path.dirname(free)
    keys = read(keys_file())
    return {
        "home": os.path.expanduser("~"),
        "system": platform.system(),
        "release": _release(),
        "machine": platform.machine(),
        "hostname": platform.node(),
        "pythons": _pythons(call),
        "disk_free_bytes": shutil.disk_usage(free).free,
        "swift": shutil.which("swift"),
        "xcode": _xcode(),
        "base": call.base,
        "current": current(call.base),
        "installed": sorted(complete(call.base)),
        "commands": [line for line in keys.decode("utf-8", "replace").splitlines() if is_ours(line)],
        **_key(keys, call.request.get("key")),
    }


def _key(keys: bytes, key: str | None) -> dict[str, Any]:
    """What stands of the key: `absent`, `ours` with its line, or `foreign`."""
    found, at = ("absent", -1) if key is None else standing(keys, key)
    return {"key": found, "line": None if at < 0 else keys.splitlines()[at].decode("utf-8", "replace")}


def _release() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    for line in read("/etc/os-release").decode("utf-8", "replace").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return f"{platform.system()} {platform.release()}"


def _pythons(call: Call) -> list[dict[str, Any]]:
    """Those that can carry the agent, or the one that was named, the best first."""
    names = [f"python3.{minor}" for minor in range(_NEWEST, _OLDEST - 1, -1)] + ["python3"]
    paths = [os.path.expanduser(call.request["python"])] if call.request.get("python") else []
    if not paths:
        folders = [os.path.expanduser(each) for each in _FOLDERS]
        found = [sys.executable] + [shutil.which(name) for name in names]
        found += [os.path.join(folder, name) for folder in folders for name in names]
        paths = [path for path in found if path and os.access(path, os.X_OK)]
    seen: dict[str, dict[str, Any]] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            continue
        try:
            answer = json.loads(call.run([path, "-I", "-c", _ASK], seconds=20))
        except (Refused, OSError, ValueError, RecursionError):
            continue
        version, usable, machine, libc = answer
        seen[real] = {
            "path": path, "version": version, "venv": usable, "machine": machine, "libc": libc,
        }  # fmt: skip
    return sorted(seen.values(), key=lambda each: (not each["venv"], [-part for part in each["version"]]))


def _xcode() -> str | None:
    if platform.system() != "Darwin":
        return None
    try:
        return subprocess.check_output(["/usr/bin/xcode-select", "-p"], universal_newlines=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
