"""A worker's home with a quick stand-in of `swift`, and checks run against one mutant of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.plain import PLAIN

from rch_conformance.checks import Check, Result, run_checks
from rch_conformance.worker.command import every_check
from rch_conformance.worker.jobs import TERMINAL, wait_for_end
from rch_conformance.worker.peer import Peer
from rch_conformance.worker.rig import Rig

LAUNCHER = Path(__file__).with_name("mutants.py")
LIMIT = 4 << 20

_SWIFT = """#!/bin/sh
if [ "$1" = --version ]; then echo 'Swift version 6.0.1 (swift-6.0.1-RELEASE)'; exit 0; fi
action=$1
while [ $# -gt 0 ]; do
  case "$1" in
    --xunit-output) xunit=$2 ;;
    --filter) filter=$2 ;;
  esac
  shift
done
if [ "$action" = build ]; then echo "Build complete! (0.01s)"; exit 0; fi
testing="${xunit%.xml}-swift-testing.xml"
suite='<testsuites><testsuite name="T"><testcase classname="ConformanceTests'
case "$filter" in
PassingTests)
  echo '<testsuites><testsuite name="None"/></testsuites>' > "$xunit"
  echo "$suite.PassingTests\\" name=\\"linesReachTheLog()\\"/></testsuite></testsuites>" > "$testing"
  n=1
  while [ $n -le 300 ]; do echo "conformance line $n é 漢字 🦊"; n=$((n + 1)); done
  echo "✔ Test linesReachTheLog() passed after 0.001 seconds."
  echo "✔ Test run with 1 test in 1 suite passed after 0.001 seconds." ;;
FailingTests)
  echo '<testsuites><testsuite name="None"/></testsuites>' > "$xunit"
  echo "$suite.FailingTests\\" name=\\"failsAsItShould()\\"><failure message=\\"no\\"/>" > "$testing"
  echo "</testcase></testsuite></testsuites>" >> "$testing"
  echo "✘ Test failsAsItShould() recorded an issue at FailingTests.swift:7:9: Expectation failed"
  echo "✘ Test failsAsItShould() failed after 0.001 seconds with 1 issue."
  echo "✘ Test run with 1 test in 1 suite failed after 0.001 seconds with 1 issue."
  exit 1 ;;
SlowTests)
  n=1
  while [ $n -le 2400 ]; do echo "conformance tick $n"; sleep 0.25; n=$((n + 1)); done ;;
esac
"""


class MutantBench:
    """One worker's home. `env` is the worker's environment."""

    def __init__(self, root: Path) -> None:
        self.home = root / "worker"
        swift = root / "toolchain" / "bin" / "swift"
        swift.parent.mkdir(parents=True)
        swift.write_text(_SWIFT)
        swift.chmod(0o755)
        config = self.home / "config" / "worker.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'swift = "{root / "toolchain"}"\nmax_upload_bytes = {LIMIT}\n')
        self.env = {
            **PLAIN,
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "RCH_WORKER_HOME": str(self.home),
            "RCH_WORKER_KILL_GRACE": "0.3",
        }

    def command(self, mutant: str) -> list[str]:
        """What serves one channel of a mutant, or of the honest worker: "none"."""
        words = [f"{name}={value}" for name, value in self.env.items()]
        return ["env", "-i", *words, sys.executable, str(LAUNCHER), mutant]

    def results(self, mutant: str, *ids: str, timeout: float = 20, job_timeout: float = 60) -> list[Result]:
        """What came of these checks, or of all."""
        rig = Rig(Peer(self.command(mutant), timeout), job_timeout)
        try:
            return list(run_checks(checks_of(*ids), rig, rig.need))
        finally:
            rig.close()

    def end(self) -> None:
        """Have the honest worker end what a mutant left running."""
        peer = Peer(self.command("none"), 20)
        peer.sessions = True
        for folder in (self.home / "data" / "jobs").glob("*"):
            status = peer.ask("status", {"job_id": folder.name})
            if not status.ok or status.payload.get("state") not in TERMINAL:
                peer.result("cancel", job_id=folder.name, reason="USER")
                wait_for_end(peer, folder.name, 30)
        peer.close()


def checks_of(*ids: str) -> list[Check[Rig]]:
    """The checks with these ids, all without any."""
    found = [check for check in every_check() if not ids or check.id in ids]
    assert not ids or len(found) == len(set(ids)), f"there are no such checks: {ids}"
    return found


@contextmanager
def a_mutant_bench(root: Path) -> Iterator[MutantBench]:
    """A bench, of which nothing runs on afterwards."""
    bench = MutantBench(root)
    try:
        yield bench
    finally:
        bench.end()
