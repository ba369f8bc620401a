"""The hook at the end of a run: told once, in time, and in nobody's way."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
import structlog
from support.fake_daemon import run_view
from support.lab import lab

from rch.config.daemon_config import load_daemon_config
from rch.config.notify import Notify
from rch.contract.errors import Failure
from rch.contract.local_api import RunView
from rchd.edges import notify as module
from rchd.edges.notify import Notifier, desktop_argv, run_env

PATIENCE = 20


def ended(**changes: Any) -> RunView:
    fields = {"state": "FAILED", "exit_code": 50, "duration_ms": 5000, "human_summary": "no", **changes}
    return msgspec.convert(run_view(**fields), RunView)


async def until(seen: Callable[[], object]) -> None:
    """Look until it is so: other processes tell nobody."""
    while not seen():  # noqa: ASYNC110
        await anyio.sleep(0.01)


class Hook:
    """A command in Python, and the file of its host that names it."""

    def __init__(self, base: Path) -> None:
        self.config = base / "config.toml"
        self.out = base / "out"
        self._script = base / "hook.py"

    def says(self, body: str, **keys: Any) -> None:
        """Name a command that does `body`; `out` is where it may write."""
        self._script.write_text(f"import os, sys, time\nout = {str(self.out)!r}\n{body}\n")
        self.named([sys.executable, "-I", str(self._script)], **keys)

    def named(self, command: list[str], **keys: Any) -> None:
        rows = [f"{key} = {json.dumps(value)}" for key, value in {"command": command, **keys}.items()]
        self.config.write_text("\n".join(["[notify]", *rows]))

    async def heard(self) -> str:
        """What it wrote, once it has."""
        with anyio.fail_after(PATIENCE):
            await until(lambda: self.out.exists() and self.out.read_text().endswith("."))
        return self.out.read_text()


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


@asynccontextmanager
async def at_work(hook: Hook, **env: str) -> AsyncIterator[Notifier]:
    notifier = Notifier(hook.config, {**os.environ, **env})
    async with anyio.create_task_group() as group:
        group.start_soon(notifier.run)
        yield notifier
        group.cancel_scope.cancel()


async def told(logs: list[Any], times: int = 1) -> list[str]:
    """The failures that were logged, once there are so many."""
    with anyio.fail_after(PATIENCE):
        await until(lambda: len(_failures(logs)) >= times)
    return _failures(logs)


def _failures(logs: list[Any]) -> list[str]:
    return [each["message"] for each in logs if each["event"] == "notify.failed"]


async def test_a_real_command_is_given_the_facts_on_stdin_and_in_its_environment(hook: Hook) -> None:
    hook.says(
        "import json\nrun, env = json.load(sys.stdin), os.environ\n"
        "facts = [run['run_id'], run['exit_code'], len(sys.argv), env['RCH_RUN_STATE']]\n"
        "facts += [env['RCH_RUN_SUMMARY'], env['KEPT'], os.getcwd()]\n"
        "open(out, 'w').write(repr(facts) + '.')"
    )
    run = ended(human_summary="$(touch /nowhere) `x` ; \0y")
    async with at_work(hook, KEPT="yes") as notifier:
        notifier.ended(run)
        facts = eval((await hook.heard()).removesuffix("."))  # noqa: S307  (what this test wrote)
    assert facts == [run.run_id, 50, 1, "FAILED", "$(touch /nowhere) `x` ; y", "yes", "/"]


async def test_no_shell_reads_the_command(hook: Hook) -> None:
    hook.says("open(out, 'w').write(sys.argv[1] + '.')")
    command = json.loads(hook.config.read_text().partition("command = ")[2])
    hook.named([*command, "$HOME; exit 1 & `x`"])
    async with at_work(hook) as notifier:
        notifier.ended(ended())
        assert await hook.heard() == "$HOME; exit 1 & `x`."


async def test_a_hook_that_hangs_is_ended_with_all_it_started(hook: Hook) -> None:
    hook.says("pid = os.fork()\nif pid: open(out, 'w').write(f'{pid}.')\ntime.sleep(60)", timeout_seconds=1)
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook) as notifier:
            notifier.ended(ended())
            child = int((await hook.heard()).removesuffix("."))
            (message,) = await told(logs)
            assert message.endswith("took longer than 1 s and was ended")
    with anyio.fail_after(PATIENCE):
        await until(lambda: not _lives(child))


def _lives(pid: int) -> bool:
    """Whether it runs: a process that has ended waits for its parent, here nobody's."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


async def test_a_failure_is_logged_once_until_it_is_another(hook: Hook) -> None:
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook) as notifier:
            hook.named(["/nowhere/hook"])
            for _ in range(3):
                notifier.ended(ended())
            await told(logs)
            await until(lambda: not notifier._waiting)
            hook.says("print('no network', file=sys.stderr)\nsys.exit(3)")
            notifier.ended(ended())
            messages = await told(logs, 2)
    assert messages[0] == "/nowhere/hook cannot be started: No such file or directory"
    assert messages[1].endswith("ended with 3: no network")
    assert len(messages) == 2


async def test_a_broken_config_is_told_and_costs_nothing_else(hook: Hook) -> None:
    hook.config.write_text("[notify]\ncommand = 'a word'\n")
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook) as notifier:
            notifier.ended(ended())
            (message,) = await told(logs)
            assert "notify.command" in message
            hook.says("open(out, 'w').write('.')")
            notifier.ended(ended())
            await hook.heard()


async def test_many_runs_wait_within_bounds(hook: Hook) -> None:
    go = hook.out.with_name("go")
    hook.says(
        f"open(out, 'a').write('.')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)",
        timeout_seconds=PATIENCE,
    )
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook) as notifier:
            notifier.ended(ended())
            await hook.heard()
            for _ in range(module.MAX_WAITING + 3):
                notifier.ended(ended())
            assert len(notifier._waiting) == module.MAX_WAITING
            assert len(_failures(logs)) == 1
            notifier._waiting.clear()
            go.touch()


async def test_where_nobody_is_to_be_told_nothing_waits_and_nothing_is_said(hook: Hook) -> None:
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook) as notifier:
            for _ in range(3 * module.MAX_WAITING):
                notifier.ended(ended())
            with anyio.fail_after(PATIENCE):
                await until(lambda: not notifier._waiting)
    assert _failures(logs) == []


async def test_the_desktop_is_told_even_where_the_command_failed(hook: Hook) -> None:
    bin_dir = hook.out.with_name("bin")
    bin_dir.mkdir()
    tool = bin_dir / "notify-send"
    tool.write_text(f'#!/bin/sh\nprintf "%s|%s." "$3" "$4" > "{hook.out}"\n')
    tool.chmod(0o755)
    hook.named(["/nowhere/hook"], desktop=True)
    with structlog.testing.capture_logs() as logs:
        async with at_work(hook, PATH=f"{bin_dir}:{os.environ['PATH']}", LISTEN_FDS="1") as notifier:
            assert "LISTEN_FDS" not in notifier._env
            notifier.ended(ended(human_summary="1 & 2"))
            assert await hook.heard() == "rch: Demo: FAILED|1 &amp; 2."
            await told(logs)


async def test_a_daemon_that_ends_leaves_the_last_hook_a_moment_and_no_more(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", PATIENCE)
    hook.says("open(out, 'w').write('.')")
    async with at_work(hook) as notifier:
        await anyio.lowlevel.checkpoint()
        notifier.ended(ended())  # and is cancelled at once
    assert hook.out.exists()
    hook.out.unlink()
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.1)
    hook.says("open(out, 'w').write('.')\ntime.sleep(60)", timeout_seconds=60)
    async with at_work(hook) as notifier:
        notifier.ended(ended())
        await hook.heard()
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    ("keys", "state", "ms", "wanted"),
    [
        ({}, "SUCCEEDED", 1, False),
        ({"command": ("x",)}, "SUCCEEDED", None, True),
        ({"desktop": True}, "CANCELLED", 1, True),
        ({"desktop": True, "when": "failure"}, "CANCELLED", 1, False),
        ({"desktop": True, "when": "failure"}, "FAILED", 1, True),
        ({"desktop": True, "finished_after_seconds": 60}, "FAILED", 59_999, False),
        ({"desktop": True, "finished_after_seconds": 60}, "FAILED", 60_000, True),
    ],
)
def test_who_is_told(keys: dict[str, Any], state: str, ms: int | None, wanted: bool) -> None:  # noqa: FBT001
    assert Notify(**keys).wants(state, ms) is wanted


@pytest.mark.parametrize("program", ["notify-send", "osascript"])
def test_the_desktop_is_told_in_words_that_no_program_takes_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin" if program == "osascript" else "linux")
    assert desktop_argv(ended(), {"PATH": str(tmp_path)}) == ()
    (tmp_path / program).touch(0o755)
    run = ended(project="--help\x1b]0;x\x07", human_summary='<b>"no"</b>\n', simulated=True)
    argv = desktop_argv(run, {"PATH": str(tmp_path)})
    assert argv[0] == str(tmp_path / program)
    assert argv[-2] == "rch: --help ]0;x : simulated: failed"
    assert ("<" in argv[-1]) is (program == "osascript")


def test_nothing_of_a_run_breaks_the_environment() -> None:
    assert all("\0" not in each for each in run_env(ended(human_summary="a\0b")).values())


@pytest.mark.spec("6")
def test_a_project_may_not_name_a_command_and_the_host_s_is_in_no_record(tmp_path: Path) -> None:
    from rch.config.layers import load_config
    from rch.config.root import find_root

    root, host = tmp_path / "project", tmp_path / "config.toml"
    (root / ".rch").mkdir(parents=True)
    (root / "Package.swift").touch()
    repo = root / ".rch" / "xcode.toml"

    def refused(call: Callable[[], object]) -> str:
        with pytest.raises(Failure) as caught:
            call()
        assert caught.value.label in {"CONFIG / LOCKED", "CONFIG / UNKNOWN_KEY", "CONFIG / BAD_VALUE"}
        return caught.value.message

    def load(**overrides: object) -> Any:
        found = {key.replace("__", "."): value for key, value in overrides.items()}
        return load_config(find_root(root), host_config=host, overrides=found)

    repo.write_text('backend = "swiftpm"\n[notify]\ncommand = ["/bin/evil"]\n')
    said = refused(load)
    assert said.startswith(".rch/xcode.toml")
    assert said.endswith("the table [notify] is the host's alone")
    repo.write_text('backend = "swiftpm"\n')
    assert "the host's alone" in refused(lambda: load(notify__command="x"))
    host.write_text('[notify]\ncommand = ["/bin/mine", "secret"]\n[timeouts]\noverall_seconds = 60\n')
    resolved = load()
    assert "notify" not in resolved.effective
    assert resolved.config.timeouts.overall_seconds == 60
    assert load_daemon_config(host).notify.command == ("/bin/mine", "secret")
    host.write_text("[notify]\ncomand = []\n")
    assert "nearest known key is notify.command" in refused(load)
    host.write_text("notify = 3\n")
    assert "write [notify]" in refused(load)


@pytest.mark.spec("12")
def test_a_run_of_a_real_daemon_is_told_and_no_client_waits_for_its_hook(tmp_path: Path) -> None:
    hook = Hook(tmp_path)
    hook.says("open(out, 'w').write(os.environ['RCH_RUN_STATE'] + '.')\ntime.sleep(60)", timeout_seconds=60)
    with lab(tmp_path) as user:
        (user.home / "config").mkdir(parents=True)
        hook.config.rename(user.home / "config" / "config.toml")
        project = user.project(test="exit 1")
        assert user.rchctl("verify", "--quiet", cwd=project).returncode != 0
        deadline = time.monotonic() + PATIENCE
        while not (hook.out.exists() and hook.out.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert hook.out.read_text() == "FAILED."
        assert user.rchctl("daemon", "stop").returncode == 0
