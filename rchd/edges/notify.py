"""Tells the end of a run: a command of the host's own, and the desktop (docs/configuration.md).

It stands beside everything else: whatever a hook does, runs and clients do not wait for it. One is run
after the other; who has too many waiting drops the oldest.
"""

from __future__ import annotations

import html
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio
import msgspec
import structlog
from anyio.abc import Process

from rch.config.daemon_config import load_daemon_config
from rch.config.notify import Notify
from rch.contract.errors import Failure
from rch.contract.local_api import RunView

log = structlog.get_logger("rchd.notify")

MAX_WAITING = 64
LEAVE_SECONDS = 1.0
"""What a daemon that ends leaves to the hooks that are still to run."""
_MOST_WORDS = 300
_MOST_ERROR = 400
# What a service manager gave to the daemon alone.
_SERVICE = ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")
_APPLE = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")


class Notifier:
    """Runs hooks one by one. `config` is read anew for each, so that an edit needs no restart."""

    def __init__(self, config: Path, env: Mapping[str, str] | None = None) -> None:
        self._config = config
        given = os.environ if env is None else env
        self._env = {name: value for name, value in given.items() if not name.startswith(_SERVICE)}
        self._notify: Notify | None = None
        self._waiting: deque[RunView] = deque(maxlen=MAX_WAITING)
        self._news = anyio.Event()
        self._told: str | None = None
        self._begun = False

    def ended(self, run: RunView) -> None:
        """A run is over; returns at once."""
        if len(self._waiting) == MAX_WAITING and self._notify is not None:
            self._say(f"over {MAX_WAITING} runs wait for their hook: the oldest is left out")
        self._waiting.append(run)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled; what waits then has a moment left."""
        try:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                await self._all()
        finally:
            with anyio.move_on_after(LEAVE_SECONDS, shield=True):
                await self._all()

    async def _all(self) -> None:
        while self._waiting:
            run, self._begun = self._waiting.popleft(), False
            try:
                await self._tell(run)
            except anyio.get_cancelled_exc_class():
                if not self._begun:
                    self._waiting.appendleft(run)
                raise
            except Exception as error:
                log.exception("notify.broke", error=str(error))

    async def _tell(self, run: RunView) -> None:
        try:
            notify = (await anyio.to_thread.run_sync(load_daemon_config, self._config)).notify
        except Failure as failure:
            self._say(failure.message)
            return
        self._notify = notify if notify.command or notify.desktop else None
        if self._notify is None:
            self._waiting.clear()  # nobody is to be told of any
        if not notify.wants(run.state, run.duration_ms):
            return
        failed: list[str | None] = []
        if notify.command:
            failed.append(await self._command(self._argv(notify.command), run, notify))
        if notify.desktop:
            argv = desktop_argv(run, self._env)
            failed.append(await self._command(argv, run, notify) if argv else _NO_DESKTOP)
        if whys := [why for why in failed if why is not None]:
            self._say("; ".join(whys))
        else:
            self._told = None

    def _argv(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """The command, its program below the user's home where it says so."""
        home = self._env.get("HOME")
        program = f"{home}{command[0][1:]}" if home and command[0].startswith("~/") else command[0]
        return (program, *command[1:])

    def _say(self, why: str) -> None:
        """A failure, once: the same one at each run is no news."""
        if why != self._told:
            self._told = why
            log.warning("notify.failed", message=why)

    async def _command(self, argv: tuple[str, ...], run: RunView, notify: Notify) -> str | None:
        """Run it to its end; why it failed, if it did."""
        try:
            facts, said = await anyio.to_thread.run_sync(_files, msgspec.json.encode(run))
        except OSError as error:
            return f"no room for what {argv[0]} is to read: {error.strerror or error}"
        with facts, said:
            try:
                with anyio.CancelScope(shield=True):
                    process = await self._start(argv, run, facts, said)
            except (OSError, ValueError) as error:
                return f"{argv[0]} cannot be started: {getattr(error, 'strerror', None) or error}"
            code = await _ended_within(process, notify.timeout_seconds)
            if code is None:
                return f"{argv[0]} took longer than {notify.timeout_seconds} s and was ended"
            return f"{argv[0]} ended with {code}: {_last_words(said)}" if code else None

    async def _start(
        self, argv: tuple[str, ...], run: RunView, facts: IO[bytes], said: IO[bytes]
    ) -> Process:
        """In a session of its own, so that it can be ended with all that it starts."""
        self._begun = True
        return await anyio.open_process(
            argv,
            stdin=facts,
            stdout=said,
            stderr=said,
            env={**self._env, **run_env(run)},
            cwd="/",
            start_new_session=True,
        )


async def _ended_within(process: Process, seconds: int) -> int | None:
    """The exit code; None where it was ended, with all of its session, since it took too long.

    A daemon that ends leaves it a moment, too.
    """
    code: int | None = None
    try:
        with anyio.move_on_after(seconds):
            code = await process.wait()
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            code = await process.wait()
        raise
    finally:
        if code is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.wait()
    return code


_NO_DESKTOP = "desktop = true, and there is no notify-send or osascript here"


def run_env(run: RunView) -> dict[str, str]:
    """The facts of a run as environment variables."""
    facts = {
        "RCH_RUN_ID": run.run_id,
        "RCH_RUN_STATE": run.state,
        "RCH_RUN_EXIT_CODE": "" if run.exit_code is None else str(run.exit_code),
        "RCH_RUN_PROJECT": run.project,
        "RCH_RUN_ROOT": run.root,
        "RCH_RUN_DIR": run.run_dir,
        "RCH_RUN_SUMMARY": run.human_summary,
        "RCH_RUN_SIMULATED": "1" if run.simulated else "0",
    }
    return {name: value.replace("\0", "") for name, value in facts.items()}


def desktop_argv(run: RunView, env: Mapping[str, str]) -> tuple[str, ...]:
    """What shows a notification on this desktop; empty where nothing does."""
    state = f"simulated: {run.state.lower()}" if run.simulated else run.state
    title = _words(f"rch: {run.project}: {state}")  # begins as no flag does
    text = _words(run.human_summary or f"exit code {run.exit_code}")
    path = env.get("PATH")
    if sys.platform == "darwin" and (program := shutil.which("osascript", path=path)):
        lines = [word for line in _APPLE for word in ("-e", line)]
        return (program, *lines, title, text)
    if program := shutil.which("notify-send", path=path):
        return (program, "--app-name=rch", "--", title, html.escape(text))
    return ()


def _words(text: str) -> str:
    """One printable line of bounded length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line[:_MOST_WORDS]


def _files(data: bytes) -> tuple[IO[bytes], IO[bytes]]:
    """A file that holds `data`, at its beginning, and an empty one: files block nobody."""
    facts, said = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    facts.write(data)
    facts.seek(0)
    return facts, said


def _last_words(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _MOST_ERROR))
    return _words(said.read(_MOST_ERROR).decode("utf-8", "replace")) or "it said nothing"
