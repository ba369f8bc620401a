"""`rch-conformance host` ends in bounded time and leaves nothing, whatever the client is."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hosts import RCHCTL
from support.plain import PLAIN
from support.until import until

from rch_conformance.checks import Broken
from rch_conformance.host import calling
from rch_conformance.host.calling import Call
from rch_conformance.host.home import program_of
from rch_conformance.running import UsageError

HOST = (sys.executable, "-m", "rch_conformance", "host")


def script(tmp_path: Path, text: str) -> str:
    """A client of one line."""
    client = tmp_path / "client.sh"
    client.write_text(f"#!/bin/sh\n{text}\n")
    client.chmod(0o755)
    return str(client)


def begin(tmp_path: Path, client: str, *words: str) -> subprocess.Popen[bytes]:
    """The command, its temporary files and its marked processes below `tmp_path`."""
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, **PLAIN, "TMPDIR": str(tmp_path / "tmp"), "RCH_TEST_OF": str(tmp_path)}
    command = [*HOST, "--rchctl", client, *words]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path
    )


def of_this_test(tmp_path: Path) -> list[str]:
    """The command lines of processes that have a home below `tmp_path`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, line = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{tmp_path}/tmp/rch-host-".encode() in environment:
            found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_child_that_holds_the_output_is_not_waited_for_and_is_ended(tmp_path: Path) -> None:
    client = script(tmp_path, "sleep 555 & echo '{}'")
    begun = time.monotonic()
    process = begin(
        tmp_path, client, "--timeout", "3", "--only", "success-is-told", "--only", "busy-without-queue"
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert time.monotonic() - begun < 30
    assert of_this_test(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_client_that_says_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "OUTPUT_BYTES", 1 << 20)
    call = Call(["yes"], dict(os.environ), tmp_path)
    with pytest.raises(Broken, match="more than 1 MiB on standard output"):
        call.end(60)
    assert not call.has_group


def test_a_client_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    call = Call(["sh", "-c", "sleep 555 & exec >&- 2>&-; wait"], dict(os.environ), tmp_path)
    with pytest.raises(Broken, match=r"did not end within 0\.2 s"):
        call.end(0.2)
    until(lambda: not call.has_group)


def test_a_call_is_over_when_its_program_is(tmp_path: Path) -> None:
    call = Call(["sh", "-c", "sleep 555 & echo said"], dict(os.environ), tmp_path)
    try:
        assert call.end(60) == (0, "said\n", "")
        assert call.has_group
    finally:
        call.send_signal(signal.SIGKILL)


def test_what_a_client_says_is_whole(tmp_path: Path) -> None:
    call = Call(["sh", "-c", "seq 100000; echo end >&2; exit 7"], dict(os.environ), tmp_path)
    code, out, err = call.end(60)
    assert (code, out.split()[-1], len(out), err) == (7, "100000", 588_895, "end\n")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults_long), signal.SIGTERM]
)
def test_broken_off_it_leaves_no_daemon_no_worker_and_no_home(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = begin(
        tmp_path, shlex.join(RCHCTL), "--only", "interrupt-cancels", "--only", "leases-are-renewed"
    )
    until(lambda: any("rch_conformance.mock" in line for line in of_this_test(tmp_path)))
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, out
    assert of_this_test(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_client_is_started_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "true")
    monkeypatch.chdir(tmp_path)
    assert program_of("--rchctl", "./client.sh --flag") == [str(tmp_path / "client.sh"), "--flag"]
    with pytest.raises(UsageError, match=r"--rchd '\./none': there is no such program"):
        program_of("--rchd", "./none")
    with pytest.raises(UsageError, match="No closing quotation"):
        program_of("--rchctl", "'open")
