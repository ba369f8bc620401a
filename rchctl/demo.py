"""A demo in a throw-away home: a project that is brought along, verified by this very installation.

The Swift package where this machine has a Swift toolchain; without one the Xcode project on stand-in tools,
which says so on every line and is no verdict. Home and project are left to be looked at.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.files.durable import remove_tree

PROJECTS = Path(__file__).parent / "demos"
_MARK = ".rch-demo"
_SOCKET = "socket"
_LONGEST = 80
"""The platform takes socket paths of about a hundred bytes; a deep folder needs one elsewhere."""
_PRODUCTS = shutil.ignore_patterns(".build", ".swiftpm")
_FORGOTTEN = ("RCH_SOCKET", "RCH_STATE_DIR", "RCH_NO_AUTOSTART", "RCH_RCHD")
_CANCELLED = 80
_USUAL = (
    "/opt/swift*/usr/bin/swift",
    "/opt/swift/*/usr/bin/swift",
    "/usr/local/swift*/usr/bin/swift",
    "~/.swiftly/bin/swift",
    "~/.local/share/swiftly/bin/swift",
    "~/.swiftly/toolchains/*/usr/bin/swift",
    "~/.local/share/swiftly/toolchains/*/usr/bin/swift",
    "/usr/libexec/swift/bin/swift",
    "/usr/libexec/swift*/bin/swift",
    "/usr/libexec/swift/*/bin/swift",
    "~/Library/Developer/Toolchains/*.xctoolchain/usr/bin/swift",
    "/Library/Developer/Toolchains/*.xctoolchain/usr/bin/swift",
)


@dataclass
class Demo:
    """A demo in `folder`, which is removed first.

    `client` is how this program is called, `say` tells a line; `swift` is the toolchain's program, or None
    for stand-ins.
    """

    folder: Path
    client: Sequence[str]
    env: Mapping[str, str]
    swift: Path | None
    say: Callable[[str], None]
    _env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """The places of its own."""
        kept = {name: value for name, value in self.env.items() if name not in _FORGOTTEN}
        places = {"RCH_HOME": str(self.folder / "home"), "RCH_WORKER_HOME": str(self.folder / "worker")}
        self._env = {**kept, **places}
        if self.swift and shutil.which("swift", path=kept.get("PATH")) != str(self.swift):
            self._env["PATH"] = f"{self.swift.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"

    @property
    def project(self) -> Path:
        """The copy that is verified."""
        return self.folder / "project"

    def run(self) -> int:
        """The exit code of the run; `Failure` where no demo can be made."""
        self._remove_earlier()
        self.folder.mkdir(mode=0o700, parents=True)
        (self.folder / _MARK).touch()
        source = PROJECTS / ("package" if self.swift else "xcode")
        shutil.copytree(source, self.project, ignore=_PRODUCTS)
        with self._short_socket(), _patience():
            try:
                return self._verify()
            finally:
                if self._call("daemon", "stop", quiet=True):
                    self.say(f"its daemon did not stop: see {self.folder}/home/state/rchd.log")

    def _verify(self) -> int:
        if self.swift:
            self.say(f"the package in {self.project}, built by {self.swift}")
        else:
            self.say(
                f"the Xcode project in {self.project}, on stand-in tools:"
                " nothing is compiled, nothing is proved"
            )
        code = self._call("verify", *([] if self.swift else ["--simulate"]))
        if code == _CANCELLED:  # the job is seen to its end before its daemon goes
            self._call("wait", "--quiet", "latest")
        self.say(f"exit code {code}")
        found = self._told("artifacts", "latest")
        if found:
            self.say(f"artifacts in {found.removeprefix('simulated: ')}")
            if "RCH_SOCKET" not in self._env:
                self.say(f"list them with: RCH_HOME={self.folder / 'home'} rchctl artifacts latest")
        return code

    def _remove_earlier(self) -> None:
        """Nothing but an earlier demo is removed, and not while its daemon goes on."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            with suppress(FileNotFoundError):
                self.folder.rmdir()
            return
        if not (self.folder / _MARK).exists() and not (self.folder / "home/state/rchd.log").exists():
            raise Failure(
                Kind.USAGE,
                f"{self.folder} holds something that no demo has made",
                hint="name a folder that is empty or not there: rchctl demo --at FOLDER",
            )
        with suppress(OSError):
            self._env["RCH_SOCKET"] = (self.folder / _SOCKET).read_text(encoding="utf-8")
        if self._call("daemon", "stop", quiet=True):
            raise Failure(
                Kind.DAEMON,
                "an earlier demo's daemon does not stop",
                hint=f"see {self.folder}/home/state/rchd.log",
            )
        self._env.pop("RCH_SOCKET", None)
        remove_tree(self.folder)

    @contextmanager
    def _short_socket(self) -> Iterator[None]:
        if len(os.fsencode(self._env["RCH_HOME"])) <= _LONGEST:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="rch-demo.", dir="/tmp") as short:
            self._env["RCH_SOCKET"] = f"{short}/s"
            (self.folder / _SOCKET).write_text(f"{short}/s", encoding="utf-8")
            yield

    def _call(self, *words: str, quiet: bool = False) -> int:
        where = self.project if self.project.exists() else None
        sink = subprocess.DEVNULL if quiet else None
        argv = [*self.client, *words]
        return subprocess.run(
            argv, env=self._env, cwd=where, stdout=sink, stderr=sink, check=False
        ).returncode

    def _told(self, *words: str) -> str:
        """The first line that a call prints; empty where it fails."""
        argv = [*self.client, *words]
        done = subprocess.run(
            argv, env=self._env, cwd=self.project, capture_output=True, text=True, check=False
        )
        return "" if done.returncode else done.stdout.partition("\n")[0]


def own_client() -> list[str]:
    """How this installation's client is called, wherever one stands."""
    return [sys.executable, "-P", "-m", "rchctl"]


def find_swift(env: Mapping[str, str]) -> Path | None:
    """A toolchain's `swift` that runs: on `PATH`, or in one of the usual places."""
    home = env.get("HOME", "")
    usual = (each.replace("~", home, 1) for each in _USUAL if home or not each.startswith("~"))
    named = [
        shutil.which("swift", path=env.get("PATH")),
        *(place for each in usual for place in sorted(glob(each))),  # noqa: PTH207  (whole patterns)
    ]
    return next((Path(each) for each in named if each and _runs(each, env)), None)


def _runs(program: str, env: Mapping[str, str]) -> bool:
    """Apple's /usr/bin/swift is there even where no tools are: it only offers to install them."""
    asked = [[program, "--version"]]
    if program == "/usr/bin/swift" and sys.platform == "darwin":
        asked.insert(0, ["xcode-select", "-p"])
    try:
        return all(
            subprocess.run(argv, env=dict(env), capture_output=True, check=False, timeout=60).returncode
            == 0
            for argv in asked
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def _patience() -> Iterator[None]:
    """Ctrl-C is the client's, which cancels the run; here one stays, to tell how it ended.

    What else asks for an end gets it, when the daemon has been stopped.
    """
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
