"""`rch-worker`: the worker's entry point (spec section 3.1). Modules come in as they are needed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

USAGE = """usage: rch-worker xcode rpc      serve requests on standard input and output
       rch-worker key           the fingerprint to pin in a host's workers.toml
       rch-worker --version
       rch-worker --help

In authorized_keys: restrict,command="rch-worker xcode rpc" ssh-ed25519 ...
Places and keys of worker.toml: docs/places.md, in a checkout or below share/doc/rch of the prefix;
RCH_WORKER_HOME moves everything.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 2 for a command line that is none of ours."""
    words = sys.argv[1:] if argv is None else argv
    if words == ["xcode", "rpc"]:
        return _serve()
    if words[:2] == ["xcode", "supervise"] and len(words) == 5:
        return _supervise(words[2], words[3], words[4])
    if words == ["xcode", "sweep"]:
        from worker_agent import sweep

        return sweep.main()
    if words == ["key"]:
        return _key()
    if words == ["--version"]:
        from rch import __version__

        sys.stdout.write(f"rch-worker {__version__}\n")
        return 0
    if words in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    sys.stderr.write(USAGE)
    return 2


def completed() -> argparse.ArgumentParser:
    """What a shell may complete; nothing is read with it, since argparse costs a start ten milliseconds."""
    import argparse

    whole = argparse.ArgumentParser(prog="rch-worker")
    whole.add_argument("--version", action="store_true", help="the version")
    words = whole.add_subparsers()
    xcode = words.add_parser("xcode", help="what a forced command calls").add_subparsers()
    xcode.add_parser("rpc", help="serve requests on standard input and output")
    words.add_parser("key", help="the fingerprint to pin in a host's workers.toml")
    return whole


def _serve() -> int:
    """What the end of a job needs is looked for at the beginning."""
    from importlib.machinery import PathFinder  # find_spec of importlib.util costs a start far more

    if PathFinder.find_spec("junitparser") is None:
        from rch.files.origin import origin

        hint = origin().command("worker")
        sys.stderr.write(f"rch-worker: the package junitparser is not installed\n  hint: {hint}\n")
        return 1
    from worker_agent.rpc import serve_stdio

    return serve_stdio(os.environ)


def _key() -> int:
    from rch.contract.worker_rpc import RpcError
    from worker_agent.worker import Worker

    try:
        fingerprint = Worker(os.environ).key.fingerprint
    except RpcError as error:
        sys.stderr.write(f"rch-worker: {error.message}\n")
        return 1
    sys.stdout.write(f"{fingerprint}\n")
    return 0


def _supervise(job_id: str, lock_fd: str, ready_fd: str) -> int:
    """Internal: own one job. The descriptors come from `launch`."""
    from worker_agent.supervisor import supervise
    from worker_agent.worker import Worker

    return supervise(Worker(os.environ), job_id, int(lock_fd), int(ready_fd))


if __name__ == "__main__":
    sys.exit(main())
