"""A worker that lies, in each way that the protocol leaves it, beside an honest one (spec 3, fault W7)."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import support.impatient_daemon
from support.lab import Lab, lab
from support.liar import MISDEEDS, command
from support.until import until

from rch.files.paths import host_paths
from rchctl.client import Client

TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
MIB = 1 << 20
AT_ONCE = 14
"""Workers, and needs, of one moment: what is known of each need is worked out for each worker."""

Verdict = tuple[str | None, str | None, int]

BROKEN = ("EXECUTOR", "PROTOCOL_ERROR", 40)
BUSY = ("WORKER_BUSY", None, 90)
UNFIT = ("WORKER_INCOMPATIBLE", None, 91)
MISMATCH = ("ARTIFACTS", "INTEGRITY_MISMATCH", 70)
UNTRUSTED = ("ATTESTATION", None, 93)
GREEN = (None, None, 0)

OTHERWISE: dict[str, Verdict] = {
    "capabilities that control a terminal": GREEN,
    "range upside down": UNFIT,
    "no upload": UNFIT,
    "busy for no time": BUSY,
    "busy for less than no time": BUSY,
    "busy for ages": BUSY,
    "busy in words": BUSY,
    "upload refused as a feature": ("WORKER_INCOMPATIBLE", "FEATURE_MISSING", 91),
    "source that is never there": ("TRANSFER", None, 30),
    "lease that is never alive": BUSY,
    "half an answer, always": ("SSH", "UNREACHABLE", 20),
    "silence": ("SSH", "UNREACHABLE", 20),
    "set of a terabyte": ("ARTIFACTS", "SIZE_EXCEEDED", 70),
    "set of 1 GiB that is cut": ("TRANSFER", None, 30),
    "set with another digest": MISMATCH,
    "set of another job": MISMATCH,
    "attestation of another job": UNTRUSTED,
    "attestation for another asker": UNTRUSTED,
    "attestation of another source": UNTRUSTED,
    "success with an exit code": MISMATCH,
    "success of a failed job": MISMATCH,
    "failure with exit code 0": MISMATCH,
    "success of an unknown word": MISMATCH,
    "end that is none": MISMATCH,
    "result of stand-ins": ("WORKER_INCOMPATIBLE", "SIMULATED", 91),
    "result of stand-ins by its summary alone": MISMATCH,
    "result of a job that is a path": MISMATCH,
    "attestation of values": MISMATCH,
    "artifacts that are gone": ("ARTIFACTS", "GONE", 70),
    "flood on stderr": GREEN,
    "release of wrong types": GREEN,
}
"""What becomes of a run whose worker has this misdeed; of the others it is `BROKEN`."""
REPRESENTATIVE = (
    "talks before the protocol",
    "capabilities of 3 MiB",
    "range upside down",
    "lease of no time",
    "result and error",
    "another request's answer",
    "an answer in another protocol",
    "an error nobody knows",
    "nested without end",
    "line without end",
    "busy for ages",
    "busy for 1e400",
    "source that is never there",
    "submit in an unknown state",
    "submit with a seq that leaps",
    "events of 600 KiB",
    "state that goes back",
    "seq that falls",
    "log without end",
    "log that begins anew for ever",
    "set of another job",
    "attestation of another job",
    "success with an exit code",
    "result of a job of long ago",
)
"""One of each class."""
LONG = (
    "capabilities of 50 MB",
    "line of 100 MB",
    "half an answer, always",
    "set of 1 GiB that is cut",
    "flood on stderr",
    "silence",
)
"""Those that take seconds, or much of the machine."""
FOR_EVER = ("set without end",)
"""In a test of its own: only the limit of what is taken of a set ends it, and that is 8 GiB."""
IMPATIENT = {"half an answer, always", "silence", "set of 1 GiB that is cut"}


class Court:
    """A daemon, a worker for each misdeed, and one client."""

    def __init__(self, user: Lab, patience: float = 30) -> None:
        self.user = user
        self.project = user.project()
        self.folder = user.root / "liars"
        self.folder.mkdir()
        user.env["RCH_RCHD"] = shlex.join([sys.executable, str(support.impatient_daemon.__file__)])
        user.env["RCH_TEST_PATIENCE"] = str(patience)

    def workers(self, misdeeds: Iterable[str]) -> None:
        """One worker for each misdeed, and an honest one, each with a tag of its own."""
        self.user.workers(
            "".join(
                f'[[worker]]\nname = "{name_of(each)}"\ntransport = "local"\ntags = ["{name_of(each)}"]\n'
                f"command = {json.dumps(command(each, self.folder))}\n"
                for each in ("none", *misdeeds)
            )
        )

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the daemon, which is started."""
        assert self.user.rchctl("daemon", "start").returncode == 0
        client = Client.open(host_paths(self.user.env))
        try:
            client.hello()
            yield client
        finally:
            client.close()

    def submit(self, client: Client, misdeed: str) -> str:
        """A run that only the worker with this misdeed may get."""
        busy = OTHERWISE.get(misdeed) == BUSY
        overrides = {
            "selection.tags": [name_of(misdeed)],
            "queue.max_wait_seconds": 5 if busy or misdeed in IMPATIENT else 100,
        }
        params: dict[str, Any] = {"start": str(self.project), "actions": ["build"], "overrides": overrides}
        if busy and misdeed != "lease that is never alive":
            params["queue"] = False
        return str(client.call("runs.submit", params)["run_id"])

    def ended(self, client: Client, run_id: str, seconds: float = 100) -> dict[str, Any]:
        """The run when it is over."""
        deadline = time.monotonic() + seconds
        while (view := client.call("runs.get", {"run": run_id}))["state"] not in TERMINAL:
            assert time.monotonic() < deadline, view
            time.sleep(0.02)
        return view

    def peak_rss(self) -> int:
        """The most bytes of memory that the daemon ever had."""
        status = Path(f"/proc/{self.user.daemon_pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) << 10


def verdict(view: dict[str, Any]) -> Verdict:
    """What became of a run: kind, subkind, exit code."""
    return view["failure_kind"], view["failure_subkind"], view["exit_code"]


def name_of(misdeed: str) -> str:
    """The misdeed as a worker's name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", misdeed)[:64]


def try_all(court: Court, misdeeds: Iterable[str]) -> None:
    """A run for each misdeed, `AT_ONCE` at a time, and an honest run beside each of these lots."""
    names = list(misdeeds)
    views: dict[str, dict[str, Any]] = {}
    with court.client() as client:
        before = court.peak_rss()
        for at in range(0, len(names), AT_ONCE):
            some = names[at : at + AT_ONCE]
            court.workers(some)
            runs = {name: court.submit(client, name) for name in some}
            honest = court.submit(client, "none")
            views |= {name: court.ended(client, run_id) for name, run_id in runs.items()}
            assert verdict(court.ended(client, honest)) == GREEN
        assert {name: verdict(view) for name, view in views.items()} == {
            name: OTHERWISE.get(name, BROKEN) for name in names
        }
        assert court.peak_rss() - before < 64 * MIB
    for name, view in views.items():
        # What is said of a worker is short, however long its own words were.
        assert view["exit_code"] == 0 or 0 < len(view["human_summary"]) < 4096, name


@pytest.mark.spec("3.1")
@pytest.mark.spec("3.3")
@pytest.mark.fault("W7")
@pytest.mark.fault("S9")
def test_no_lie_of_a_worker_becomes_a_green_run(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        try_all(Court(user), REPRESENTATIVE)


@pytest.mark.faults_long
@pytest.mark.spec("3.1")
@pytest.mark.spec("3.3")
@pytest.mark.fault("W7")
@pytest.mark.fault("S9")
@pytest.mark.fault("A4")
def test_nor_does_any_other(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        try_all(Court(user), (name for name in MISDEEDS if name not in {*REPRESENTATIVE, *LONG, *FOR_EVER}))


@pytest.mark.faults_long
@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
@pytest.mark.fault("S9")
@pytest.mark.fault("S12")
def test_nor_does_one_that_is_long_or_slow(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        try_all(Court(user, patience=8), LONG)


@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("misdeed", ["lease of wrong types", "attestation for another asker"])
def test_a_worker_that_lies_three_times_is_set_aside_and_whoever_asks_is_told_why(
    tmp_path: Path, misdeed: str
) -> None:
    with lab(tmp_path) as user:
        court = Court(user)
        court.workers([misdeed])
        with court.client() as client:
            verdicts = [verdict(court.ended(client, court.submit(client, misdeed))) for _ in range(3)]
            assert verdicts == [OTHERWISE.get(misdeed, BROKEN)] * 3
            refused = court.ended(client, court.submit(client, misdeed))
            assert verdict(refused) == verdicts[0]
            assert "set aside until" in refused["human_summary"]
            assert refused["hint"]
            assert verdict(court.ended(client, court.submit(client, "none"))) == GREEN
        told = user.rchctl("workers", "explain", cwd=court.project)
        assert told.returncode == 0
        (line,) = (each for each in told.stdout.splitlines() if each.strip().startswith(name_of(misdeed)))
        assert "set aside until" in line


@pytest.mark.fault("W7")
def test_what_a_worker_says_of_itself_does_not_reach_the_terminal_as_control(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        court = Court(user)
        court.workers(["capabilities that control a terminal"])
        for verb in ("probe", "explain", "list"):
            told = user.rchctl("workers", verb, cwd=court.project)
            assert told.returncode == 0, told.stderr
            assert not set(told.stdout + told.stderr) & set("\x1b\x07\u202e")


@pytest.mark.spec("3.2")
@pytest.mark.fault("W7")
@pytest.mark.fault("S12")
def test_a_set_without_end_takes_no_memory_and_ends_with_its_run(tmp_path: Path) -> None:
    misdeed = "set without end"
    with lab(tmp_path) as user:
        user.env["RCH_TEST_LAST_FETCH"] = "0.5"
        court = Court(user)
        court.workers([misdeed])
        with court.client() as client:
            before = court.peak_rss()
            run_id = court.submit(client, misdeed)
            until(lambda: sum(each.stat().st_size for each in _fetches(user)) > 96 * MIB)
            assert court.peak_rss() - before < 48 * MIB
            client.call("runs.cancel", {"run": run_id})
            assert court.ended(client, run_id)["exit_code"] == 80
            assert not list(_fetches(user))


def _fetches(user: Lab) -> Iterator[Path]:
    return user.home.glob("**/fetch.tar.zst*")
