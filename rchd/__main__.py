"""`rchd run` in the foreground; `check`, `--rebuild`, `replay` and `transcript` beside it."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from pathlib import Path

import rch
from rch.contract.errors import Failure, Kind
from rch.contract.extras import lacking
from rch.contract.neutral import one_line
from rch.files.paths import host_paths

EPILOG = """examples:
  rchd run                    run the daemon in the foreground; logs go to stderr
  RCH_HOME=/tmp/rch rchd run  everything below one folder
  rchd run --record rchd.rec  also record what the core is told and what it decides
  rchd replay rchd.rec        tell the first decision that this version takes otherwise
  rchd transcript latest      the newest run as a file that can be passed on and replayed
  rchd check --read-data      compare database, records and every byte of the artifacts
  rchd --rebuild              make a lost or damaged database anew from the artifacts

rchctl starts the daemon by itself: rchctl daemon start | stop | status
"""


def main() -> None:
    """Parse the command line and run; exits with the failure's code."""
    words = ["rebuild" if word == "--rebuild" else word for word in sys.argv[1:]]
    args = parser().parse_args(words)
    try:
        sys.exit(_COMMANDS[args.command](args))
    except ImportError as error:
        from rch.files.origin import origin

        if (failure := lacking(error, "rchd", origin(), Kind.DAEMON)) is None:
            raise
        sys.exit(_say(failure))


def parser() -> argparse.ArgumentParser:
    """What may be written after `rchd`."""
    whole = argparse.ArgumentParser(
        prog="rchd",
        description="The host daemon of the RCH Xcode lane.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"rchd {rch.__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run in the foreground until SIGTERM")
    run.add_argument("--record", metavar="PATH", type=Path, help="write a transcript, up to 256 MiB")
    run.add_argument(
        "--private",
        action="store_true",
        help="for one client: end with standard input, and cancel what runs then",
    )
    replay = commands.add_parser(
        "replay",
        help="replay a transcript",
        description="Exit 0 where this version decides the same, 1 where not, 2 where it is no transcript.",
    )
    replay.add_argument("file", metavar="FILE", type=Path)
    transcript = commands.add_parser(
        "transcript", help="write what was recorded of a run, without names, places and secrets"
    )
    transcript.add_argument("run", metavar="RUN", help="its id, how it begins, or latest")
    transcript.add_argument("-o", "--output", metavar="FILE", help="where to; - is stdout")
    transcript.add_argument("--comment", default="", metavar="TEXT", help="a line for its header")
    transcript.add_argument("--as-is", action="store_true", help="with all names and places in it")
    check = commands.add_parser(
        "check",
        help="compare the database with the artifacts, beside a daemon or without one",
        description="Exit 0 where nothing is wrong, 4 for a damaged database, 70 for damaged artifacts.",
    )
    check.add_argument("--read-data", action="store_true", help="read every artifact, compare its digest")
    rebuild = commands.add_parser(
        "rebuild",
        help="(or --rebuild) make the database anew from the artifacts; the old one is kept",
        description="Exit 0 where every run is back, 70 where one is not; each is named with its reason.",
    )
    rebuild.add_argument("--force", action="store_true", help="replace a sound database too")
    for each in (check, rebuild, replay, transcript):
        each.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return whole


def _replay(args: argparse.Namespace) -> int:
    from rchd.replaying import replay

    return replay(args)


def _transcript(args: argparse.Namespace) -> int:
    from rchd.replaying import transcript

    return transcript(args)


def _check(args: argparse.Namespace) -> int:
    from rchd.edges import check_report
    from rchd.edges.check import check

    meter = check_report.Meter("check")
    try:
        report = check(host_paths(os.environ), read_data=args.read_data, progress=meter)
    except Failure as failure:
        return check_report.say_failure("check", failure, as_json=args.json)
    except OSError as error:
        unread = Failure(Kind.DAEMON, f"{error.filename}: {error.strerror or error}", subkind="STATE")
        return check_report.say_failure("check", unread, as_json=args.json)
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        meter.end()
    return check_report.say_check(report, as_json=args.json)


def _rebuild(args: argparse.Namespace) -> int:
    from rchd.edges import check_report
    from rchd.edges.core_rows import rows_of
    from rchd.edges.logfile import configure_log
    from rchd.edges.rebuild import rebuild

    configure_log(os.environ)
    meter = check_report.Meter("rebuild")
    try:
        rebuilt = rebuild(host_paths(os.environ), rows_of, force=args.force, progress=meter)
    except Failure as failure:
        return check_report.say_failure("rebuild", failure, as_json=args.json)
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        meter.end()
    return check_report.say_rebuild(rebuilt, as_json=args.json)


def load_structlog() -> None:
    """Load structlog without rich, which it would load for consoles: a sixth of the daemon's start."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # what is None there is "not installed"
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


def _run(args: argparse.Namespace) -> int:
    import anyio

    load_structlog()
    from rch.config.daemon_config import load_daemon_config
    from rchd.app import serve
    from rchd.edges.logfile import configure_log, go_to_file
    from rchd.edges.service import Service

    service = Service() if args.private else Service.from_env(os.environ)
    paths = host_paths(os.environ)
    try:
        if service.kind == "launchd":
            go_to_file(paths.log)
        settings = load_daemon_config(paths.config_toml)
        configure_log(os.environ, settings.log)
        if service.watchdog_seconds:
            faulthandler.enable()  # the manager's SIGABRT then leaves every thread's place in the log
        client = sys.stdin.fileno() if args.private else None
        anyio.run(serve, paths, lambda: None, args.record, service, settings, client)
    except Failure as failure:
        return _say(failure)
    except OSError as error:
        return _say(_of_disk(error))
    except BaseExceptionGroup as group:
        return _say(_first(group))
    return 0


def _of_disk(error: OSError) -> Failure:
    """A start that this machine's disk did not allow."""
    from rch.files.durable import is_no_space

    full = is_no_space(error)
    return Failure(
        Kind.DAEMON,
        f"{error.filename or 'the state'}: {error.strerror or error}",
        subkind="NO_SPACE" if full else "STATE",
        hint=f"{'free space on' if full else 'check'} the disk, then start rchd again",
    )


_INTERRUPTED = 130
_COMMANDS = {
    "run": _run,
    "replay": _replay,
    "transcript": _transcript,
    "check": _check,
    "rebuild": _rebuild,
}


def _say(failure: Failure) -> int:
    sys.stderr.write(f"rchd: {one_line(failure.message)}\n  hint: {one_line(failure.hint)}\n")
    return failure.exit_code


def _first(group: BaseExceptionGroup[BaseException]) -> Failure:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if not isinstance(found, Failure):
        raise found
    return found


if __name__ == "__main__":
    main()
