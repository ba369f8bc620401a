"""The files by which systemd or launchd keeps `rchd` alive, as text; `contrib/` holds them for copying.

What they harden is bounded by one rule: a worker on this machine builds and tests as a child of the
daemon, and a verdict must not depend on who started that. So the unit forbids nothing that a build could
notice but a gain of privileges; the rest stands in `HARDENED`, for hosts whose workers are all elsewhere.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MARKER = "written by rchctl daemon install"
"""What this program wrote says so, and nothing else is ever replaced or removed."""
BY_HAND = "A copy to be put in place by hand: set the path of your checkout or venv (docs/operations.md)"
"""What the copies in contrib/ say instead."""
LABEL = "dev.rch.rchd"
SERVICE, SOCKET = "rchd.service", "rchd.socket"
WATCHDOG_SECONDS = 120
DEFAULT_SOCKET = "%t/rch/rchd.sock"

_SERVICE = """\
# {marker}
[Unit]
Description=RCH Xcode lane, host daemon
Requires=rchd.socket
After=rchd.socket

[Service]
Type=notify
ExecStart={command}
{environment}Restart=on-failure
RestartSec=2
# It says so itself as long as its work goes on; a commit may have to wait for a slow disk.
WatchdogSec={watchdog}
TimeoutStopSec=20
# What a worker on this machine runs outlives the daemon, which takes it up again at its next start.
KillMode=process
# A compiler that the kernel ends for want of memory fails its job, not the daemon.
OOMPolicy=continue
NoNewPrivileges=yes

[Install]
WantedBy=default.target
Also=rchd.socket
"""

_SOCKET = """\
# {marker}
[Unit]
Description=RCH Xcode lane, the daemon's socket

[Socket]
ListenStream={path}
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""

_HARDENED = """\
# {marker}
# For a host whose workers are all on other machines: a build under this unit would fail by these lines.
# No PrivateTmp and no ProtectHome: projects lie there, and the daemon has to read them.
[Service]
UMask=0077
ProtectSystem=strict
ReadWritePaths={writable}
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
"""


class ServiceFile(NamedTuple):
    """A file and what it is to hold."""

    path: Path
    text: str


def systemd_service(command: Sequence[str], environment: Mapping[str, str], *, marker: str = MARKER) -> str:
    """`rchd.service`; `command` begins with an absolute path, or with `%h`."""
    lines = "".join(
        f"Environment={_quoted(f'{name}={value}')}\n" for name, value in sorted(environment.items())
    )
    return _SERVICE.format(
        marker=marker,
        # A dollar sign begins a variable, but not in the program's own name.
        command=" ".join([_word(command[0]), *(_word(word.replace("$", "$$")) for word in command[1:])]),
        environment=lines,
        watchdog=WATCHDOG_SECONDS,
    )


def systemd_socket(path: str, *, marker: str = MARKER) -> str:
    """`rchd.socket`; `path` may begin with a specifier."""
    return _SOCKET.format(marker=marker, path=_specifiers(path))


def systemd_hardened(writable: Sequence[str], *, marker: str = MARKER) -> str:
    """A drop-in of the service; `writable` is all that the daemon writes to."""
    return _HARDENED.format(marker=marker, writable=" ".join(_quoted(path, "-") for path in writable))


def launch_agent(command: Sequence[str], environment: Mapping[str, str], *, marker: str = MARKER) -> str:
    """`dev.rch.rchd.plist`. The daemon binds its own socket and opens its own log there."""
    agent: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ProcessType": "Interactive",
        # What a worker on this machine runs outlives the daemon.
        "AbandonProcessGroup": True,
    }
    if environment:
        agent["EnvironmentVariables"] = dict(sorted(environment.items()))
    head, _, body = plistlib.dumps(agent, sort_keys=False).decode().partition("<plist ")
    return f"{head}<!-- {marker} -->\n<plist {body}"


def is_nameable(program: str) -> bool:
    """Whether systemd takes a program of that name; it knows no way to spell these signs."""
    return not set(program) & set("\"'\\\n")


def is_ours(text: str) -> bool:
    """Whether this program wrote a file of that text."""
    return any(MARKER in line for line in text.splitlines()[:4])


def _specifiers(text: str) -> str:
    """Per cent signs doubled, but for the specifier that a text may begin with."""
    head = text[:2] if text.startswith(("%h/", "%t/")) else ""
    return head + text[len(head) :].replace("%", "%%")


def _quoted(text: str, before: str = "") -> str:
    """One word of a unit file, whatever it holds; `before` is a sign of systemd's own."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{before}{_specifiers(escaped)}"'


def _word(text: str) -> str:
    """One word of a command line, quoted where it has to be."""
    plain = _specifiers(text)
    return plain if plain and not set(plain) & set(" \t\"'\\;") else _quoted(text)
