"""A headless Chromium for tests: its DevTools protocol over a pipe, and no more of it than they need."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
WITHIN = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-crash-reporter",
    "--password-store=basic",
    "--proxy-bypass-list=<-loopback>",
)


# It speaks on descriptors 3 and 4, whatever ours are.
_MOVED = """
import fcntl, os, sys
there, here = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(there, 3)
os.dup2(here, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a running browser. `events` has all that it told beside answers."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._left = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command."""
        self.send(method, **params)
        while True:
            told = self._read()
            if told.get("id") == self._number:
                assert "error" not in told, (method, told["error"])
                result: dict[str, Any] = told["result"]
                return result

    def send(self, method: str, **params: Any) -> None:
        """One command, whose answer nobody awaits."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")

    def leave(self) -> None:
        """End the browser."""
        self._session = None
        self.send("Browser.close")

    def attach(self) -> None:
        """Take a page of its own."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, path: Path) -> None:
        """Load a file to its end."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired")

    def wait_for(self, method: str, has: str = "") -> None:
        """Until it has told of `method` since `open`, with `has` somewhere in it."""
        while not any(each["method"] == method and has in json.dumps(each) for each in self.events):
            self._read()

    def look(self, *, width: int, dark: bool = False, media: str = "", height: int = 900) -> None:
        """The size of the window and what its user likes."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def script(self, on: bool) -> None:  # noqa: FBT001
        """Whether the next page may run scripts."""
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """The addresses that the page asked for since `open`."""
        return [
            each["params"]["request"]["url"]
            for each in self.events
            if each["method"] == "Network.requestWillBeSent"
        ]

    def _read(self) -> dict[str, Any]:
        """The next message; events are kept."""
        until = time.monotonic() + WITHIN
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._back], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser said nothing"
            piece = os.read(self._back, 1 << 20)
            assert piece, "the browser went away"
            self._left += piece
        line, _, self._left = self._left.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        if "id" not in told:
            self.events.append(told)
        return told


@contextmanager
def browser(home: Path, proxy: str) -> Iterator[Browser]:
    """A browser whose every request to another place goes to `proxy`."""
    assert PROGRAM is not None
    there, to = os.pipe()
    back, here = os.pipe()
    command = [PROGRAM, *_FLAGS, f"--proxy-server={proxy}", f"--user-data-dir={home}", "about:blank"]
    process = subprocess.Popen(
        [sys.executable, "-c", _MOVED, str(there), str(here), *command],
        pass_fds=(there, here),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    os.close(there)
    os.close(here)
    try:
        page = Browser(to, back)
        page.attach()
        yield page
        page.leave()
    finally:
        os.close(to)
        os.close(back)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
