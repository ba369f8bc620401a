"""`rchctl daemon install` and `uninstall`: have systemd or launchd keep the daemon."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rch.files.durable import write_atomic
from rchctl import service_files as files
from rchctl.autostart import PLACES, absolute
from rchctl.client import Client, NoDaemon
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError

_TOOL_SECONDS = 60.0
# Beside its places: what makes a build by a worker on this machine the one that a terminal would start.
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "RCH_LOG", "RCH_LOG_FORMAT", "RCH_WORKER_SIMULATE")
_DROP_IN = "rch-hardened.conf"

Stop = Callable[[Context], Outcome]


@dataclass
class Plan:
    """What an installation consists of: files and commands. That one of `stop` fails is no matter."""

    manager: str
    reachable: bool
    files: list[files.ServiceFile] = field(default_factory=list)
    stop: list[list[str]] = field(default_factory=list)
    begin: list[list[str]] = field(default_factory=list)
    end: list[list[str]] = field(default_factory=list)
    reload: list[list[str]] = field(default_factory=list)


def install(context: Context, stop: Stop) -> Outcome:
    """Write the files, take over from a daemon that runs, and start it; `--dry-run` shows all of it."""
    plan = _plan(context)
    if context.args.hardened and plan.manager != "systemd":
        raise UsageError("daemon install: --hardened is for systemd alone")
    for file in plan.files:
        _refuse_strange(file.path, context)
    if context.args.dry_run:
        return _shown(plan, context)
    took_over = plan.reachable and _take_over(context, stop)
    for file in plan.files:
        _write(file)
    stale = _drop_in(context) if plan.manager == "systemd" and not context.args.hardened else None
    if stale is not None and stale.exists() and files.is_ours(stale.read_text(errors="replace")):
        stale.unlink()
    ran: list[list[str]] = []
    if plan.reachable:
        ran = _run_all(plan.stop, may_fail=True) + _run_all([*plan.reload, *plan.begin])
    return _told(plan, context, ran, took_over=took_over)


def uninstall(context: Context) -> Outcome:
    """Stop it, and remove what `install` wrote."""
    plan = _plan(context)
    places = [file.path for file in plan.files]
    if plan.manager == "systemd" and _drop_in(context) not in places:
        places.append(_drop_in(context))
    there = [path for path in places if path.exists()]
    for path in there:
        _refuse_strange(path, context)
    if context.args.dry_run:
        for path in there:
            context.say(f"would remove {path}\n")
        return Outcome({"dry_run": True, "removed": [], "would_remove": [str(path) for path in there]})
    ran = _run_all(plan.end, may_fail=True) if plan.reachable and there else []
    for path in there:
        path.unlink(missing_ok=True)
        context.say(f"removed {path}\n")
    with suppress(OSError):  # others may have put their own into it, or it was never there
        _drop_in(context).parent.rmdir()
    if plan.reachable and there:
        ran += _run_all(plan.reload)
    if not there:
        context.say(f"nothing is installed for {plan.manager}\n")
    elif not context.json:
        context.console.note("the next call starts the daemon by itself; rchctl daemon install undoes this")
    return Outcome({"dry_run": False, "removed": [str(path) for path in there], "commands": ran})


# --- the plan ----------------------------------------------------------------------------


def _plan(context: Context) -> Plan:
    args = context.args
    if args.systemd and args.launchd:
        raise UsageError("daemon: --systemd or --launchd, not both")
    if args.launchd or (sys.platform == "darwin" and not args.systemd):
        return _launchd(context)
    return _systemd(context)


def _systemd(context: Context) -> Plan:
    folder = _config_home(context) / "systemd" / "user"
    command = _command(context)
    if not files.is_nameable(command[0]):
        raise UsageError(f"daemon install: systemd can start no program of the name {command[0]!r}")
    environment = _environment(context)
    usual = context.env.get("XDG_RUNTIME_DIR", "") and context.paths.socket == (
        Path(context.env["XDG_RUNTIME_DIR"]).absolute() / "rch" / "rchd.sock"
    )
    if not usual:
        # Under systemd the variables that lead to it may be others.
        environment["RCH_SOCKET"] = str(context.paths.socket)
    environment.pop("XDG_RUNTIME_DIR", None)
    socket = files.DEFAULT_SOCKET if usual else str(context.paths.socket)
    ctl = ["systemctl", "--user"]
    plan = Plan(
        manager="systemd",
        reachable=_answers([*ctl, "show-environment"]),
        files=[
            files.ServiceFile(folder / files.SOCKET, files.systemd_socket(socket)),
            files.ServiceFile(folder / files.SERVICE, files.systemd_service(command, environment)),
        ],
        stop=[[*ctl, "stop", files.SERVICE, files.SOCKET]],
        begin=[
            [*ctl, "enable", files.SOCKET, files.SERVICE],
            [*ctl, "start", files.SOCKET],
            [*ctl, "start", files.SERVICE],
        ],
        end=[[*ctl, "disable", "--now", files.SOCKET, files.SERVICE]],
        reload=[[*ctl, "daemon-reload"]],
    )
    if context.args.hardened:
        paths = context.paths
        writable = dict.fromkeys(map(str, (paths.data_dir, paths.state_dir, paths.run_dir)))
        plan.files.append(files.ServiceFile(_drop_in(context), files.systemd_hardened(list(writable))))
    return plan


def _launchd(context: Context) -> Plan:
    place = _home(context) / "Library" / "LaunchAgents" / f"{files.LABEL}.plist"
    domain = f"gui/{os.getuid()}"
    text = files.launch_agent(_command(context), _environment(context))
    return Plan(
        manager="launchd",
        reachable=_answers(["launchctl", "print", domain]),
        files=[files.ServiceFile(place, text)],
        stop=[["launchctl", "bootout", f"{domain}/{files.LABEL}"]],
        begin=[["launchctl", "bootstrap", domain, str(place)]],
        end=[["launchctl", "bootout", f"{domain}/{files.LABEL}"]],
    )


def _command(context: Context) -> list[str]:
    """The daemon of this very installation, by absolute paths."""
    if other := context.env.get("RCH_RCHD"):
        program, *rest = shlex.split(other)
        return [str(Path(shutil.which(program) or program).absolute()), *rest, "run"]
    script = Path(sys.executable).with_name("rchd")
    if script.exists():
        return [str(script), "run"]
    return [sys.executable, "-P", "-m", "rchd", "run"]


def _environment(context: Context) -> dict[str, str]:
    names = (*sorted(PLACES), *_KEPT)
    return absolute({name: context.env[name] for name in names if context.env.get(name)})


def _home(context: Context) -> Path:
    return Path(context.env.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111  (as rch.files.paths)


def _config_home(context: Context) -> Path:
    return Path(context.env.get("XDG_CONFIG_HOME") or _home(context) / ".config").absolute()


def _drop_in(context: Context) -> Path:
    return _config_home(context) / "systemd" / "user" / f"{files.SERVICE}.d" / _DROP_IN


# --- carrying it out ---------------------------------------------------------------------


def _refuse_strange(path: Path, context: Context) -> None:
    """`Failure` where another hand wrote what lies there."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failure(Kind.USAGE, f"{path}: {error.strerror or error}", hint="see who owns it") from error
    if not files.is_ours(text) and not context.args.force:
        raise Failure(
            Kind.USAGE,
            f"{path} was not written by rchctl daemon install",
            hint="move it away, or give --force",
        )


def _write(file: files.ServiceFile) -> None:
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file.path, file.text.encode())
    except OSError as error:
        raise Failure(
            Kind.DAEMON, f"{error.filename or file.path}: {error.strerror or error}", hint="see who owns it"
        ) from error


def _take_over(context: Context, stop: Stop) -> bool:
    """End a daemon that nobody keeps, so that its socket and locks are free; its runs go on."""
    try:
        client = Client.open(context.paths)
    except NoDaemon:
        return False
    try:
        client.hello(any_version=True)
        health = client.call("daemon.health", {})
    finally:
        client.close()
    if health.get("supervisor"):
        return False  # its manager stops it, by the commands
    return stop(context).exit_code == 0


def _answers(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run_all(commands: list[list[str]], *, may_fail: bool = False) -> list[list[str]]:
    for command in commands:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TOOL_SECONDS,
                check=False,
            )
            said, bad = f"{done.stderr}{done.stdout}".strip(), done.returncode != 0
        except (OSError, subprocess.TimeoutExpired) as error:
            said, bad = str(error), True
        if bad and not may_fail:
            raise Failure(
                Kind.DAEMON,
                f"{shlex.join(command)} failed: {' '.join(said.split())[:500] or 'without a word'}",
                hint="the files are written; mend that, then rchctl daemon install again",
            )
    return commands


# --- what is told ------------------------------------------------------------------------


def _shown(plan: Plan, context: Context) -> Outcome:
    for file in plan.files:
        context.say(f"# {file.path}\n{file.text}\n")
    commands = [*plan.stop, *plan.reload, *plan.begin]
    for command in commands:
        context.say(f"$ {shlex.join(command)}\n")
    return Outcome(_data(plan, commands, dry_run=True))


def _data(plan: Plan, commands: list[list[str]], *, dry_run: bool) -> dict[str, Any]:
    return {
        "manager": plan.manager,
        "dry_run": dry_run,
        "files": [{"path": str(file.path), "text": file.text} for file in plan.files],
        "commands": commands,
        "undo": "rchctl daemon uninstall",
    }


def _told(plan: Plan, context: Context, ran: list[list[str]], *, took_over: bool) -> Outcome:
    for file in plan.files:
        context.say(f"wrote {file.path}\n")
    for command in ran:
        context.say(f"ran {shlex.join(command)}\n")
    data = {**_data(plan, ran, dry_run=False), "took_over": took_over}
    if context.json:
        return Outcome(data)
    note = context.console.note
    if not plan.reachable:
        tool = "systemctl --user" if plan.manager == "systemd" else "launchctl"
        note(f"{tool} cannot be reached from here; in a login session of yours run:")
        for command in [*plan.reload, *plan.begin]:
            note(shlex.join(command))
    if plan.manager == "systemd" and not _lingers():
        note("systemd ends it when you log out; to have it stay: loginctl enable-linger")
    note("undo it with: rchctl daemon uninstall")
    return Outcome(data)


def _lingers() -> bool:
    if shutil.which("loginctl") is None:
        return False
    command = ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "yes"
