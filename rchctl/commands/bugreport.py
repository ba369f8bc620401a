"""`rchctl bugreport`: what somebody who mends a defect would ask for, in one file; it is sent nowhere."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rch.files.durable import make_dirs, write_atomic
from rchctl import bug_facts as facts
from rchctl.bug_names import Names
from rchctl.commands.daemon_logs import journal_lines, last_lines
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser
from rchctl.render import size, table
from rchctl.terminal import one_line

_LOG_LINES = 2000
_MOST_BYTES = 8 << 20
# The names of all files of a project are its own matter, and nobody mends anything by them.
_LEFT_OUT = frozenset({"source_manifest.json", "manifest.json"})
_LOGS = ("build.log", "live.log")
_PACKED = (".tar.gz", ".tgz")

_README = """\
A report of rchctl bugreport. Read it before you give it to anybody: it was sent nowhere.

Values that look like secrets, and those of keys that name one, read [REDACTED]. {names}
Of runs it holds the records{logs}; no source, no artifacts, no list of files.

{listing}
"""


def configure(parser: VerbParser) -> None:
    """Where to, and of which runs."""
    parser.add_argument("runs", metavar="RUN", nargs="*", help="an id, or the beginning of one")
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="a file that ends with .tar.gz, or a folder that is not there yet (else: our state folder)",
    )
    parser.add_argument("--with-logs", action="store_true", help="the logs of these runs, too")
    parser.add_argument("--with-names", action="store_true", help="leave machines, users and keys readable")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl bugreport                          versions, config, state and log, redacted",
        "rchctl bugreport 0198c2f0 --with-logs     a run and what its tools printed",
        "rchctl bugreport --output report          a folder, to look through",
    )


def run(context: Context) -> Outcome:
    """Needs no daemon and starts none."""
    args = context.args
    if args.with_logs and not args.runs:
        raise UsageError("bugreport: --with-logs needs a run: type 'rchctl bugreport RUN --with-logs'")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = Path(args.output or _own_place(context) / f"rch-bugreport-{stamp}.tar.gz").absolute()
    if target.exists():
        raise UsageError(f"bugreport: {target} is there already: give another --output")
    content = _content(context)
    try:
        if target.name.endswith(_PACKED):
            write_atomic(target, _packed(content, target.name.split(".")[0]), mode=0o600)
        else:
            _spread(target, content)
    except OSError as error:
        raise Failure(
            Kind.USAGE,
            f"{error.filename or target}: {error.strerror or error}",
            hint="give another --output",
        ) from error
    listed = [(name, len(data)) for name, data in content.items()]
    rows = [(name, size(count)) for name, count in listed]
    context.say(table(("FILE", "SIZE"), rows, context.console))
    context.say(f"{one_line(target)}\n")
    if not context.json:
        context.console.note("nothing was sent: read it, then give it to whom you like")
    return Outcome(
        {"path": str(target), "files": [{"name": name, "bytes": count} for name, count in listed]}
    )


def _own_place(context: Context) -> Path:
    """A folder of ours: in the one where somebody stands, a checkout mostly, it would be committed."""
    folder = context.paths.bugreports
    try:
        make_dirs(folder)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder


def _content(context: Context) -> dict[str, bytes]:
    """Every file of the report, redacted, its README first."""
    args, paths = context.args, context.paths
    names = Names(kept=args.with_names)
    for kind, name in facts.own_names():
        names.add(kind, name)
    inventory = facts.tables(paths.workers_toml)
    workers = inventory.get("worker", []) if isinstance(inventory, dict) else []
    names.add_inventory(each for each in workers if isinstance(each, dict))
    daemon = facts.daemon(paths)
    metrics = daemon.pop("metrics", {})
    chosen = [paths.artifacts / each for each in dict.fromkeys(_named(context, word) for word in args.runs)]
    names.learn(daemon)
    files: dict[str, bytes] = {}

    # First of all, so that their machines are known wherever else they are named.
    runs: dict[str, bytes] = {}
    for folder in chosen:
        runs |= _of_run(folder, names, with_logs=args.with_logs)

    def put(name: str, value: Any) -> None:
        files[name] = _json(names.clean(value))

    put("versions.json", facts.versions())
    put("environment.json", facts.environment(context.env))
    put("config.json", facts.tables(paths.config_toml))
    put("workers.json", inventory)
    put("places.json", facts.places(paths))
    put("database.json", facts.database(paths.database))
    put("daemon.json", daemon)
    files["metrics.txt"] = names.clean_text(str(metrics.get("text", ""))).encode()
    files["rchd.log"] = names.clean_text(_tail(paths.log, daemon.get("health", {}))).encode()
    files |= runs
    return {"README.txt": _readme(context, list(files)), **files}


def _readme(context: Context, names: list[str]) -> bytes:
    kept = "Names of machines, users and keys stand in it as they are (--with-names)."
    replaced = "Names of machines, users and keys read <host-1>, <user-1>, <key-1>."
    return _README.format(
        names=kept if context.args.with_names else replaced,
        logs=" and logs" if context.args.with_logs else "",
        listing="\n".join(names),
    ).encode()


def _tail(log: Path, health: dict[str, Any]) -> str:
    """The daemon's last lines, from where they go."""
    try:
        if health.get("supervisor") == "systemd":
            return journal_lines(str(health.get("unit") or "rchd.service"), _LOG_LINES)
        return last_lines(log, _LOG_LINES)[0]
    except Failure as failure:
        return f"{failure.message}\n"
    except OSError as error:
        return f"{log}: {error.strerror}\n"


def _named(context: Context, word: str) -> str:
    """The one run whose folder begins with `word`; also where no daemon runs."""
    try:
        every = sorted(each.name for each in context.paths.artifacts.iterdir())
    except OSError:
        every = []
    found = every[-1:] if word == "latest" else [each for each in every if each.startswith(word)]
    if word in found:
        found = [word]
    if len(found) != 1:
        what = "no run" if not found else f"{len(found)} runs"
        raise UsageError(f"bugreport: {what} of the name {word[:80]!r}: see 'rchctl list'")
    return found[0]


def _of_run(folder: Path, names: Names, *, with_logs: bool) -> dict[str, bytes]:
    records: dict[str, Any] = {}
    logs: dict[str, str] = {}
    with _in_use(folder):
        for path in sorted(folder.rglob("*")):
            place = f"runs/{folder.name}/{path.relative_to(folder).as_posix()}"
            if not path.is_file() or path.is_symlink():
                continue
            if path.suffix == ".json" and path.name not in _LEFT_OUT:
                records[place] = _record(path)
            elif with_logs and path.name in _LOGS:
                logs[place] = _read(path).decode("utf-8", "replace")
    names.learn(list(records.values()))
    files = {place: _json(names.clean(value)) for place, value in records.items()}
    return files | {place: names.clean_text(text).encode() for place, text in logs.items()}


def _record(path: Path) -> Any:
    from rch.contract.decoding import decode_json

    try:
        return decode_json(_read(path))
    except ValueError as error:
        return {"unreadable": str(error)}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _read(path: Path) -> bytes:
    """A file, or its end where it is long: what went wrong stands there."""
    try:
        with path.open("rb") as file:
            if path.suffix != ".json":
                file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_BYTES))
            return file.read(_MOST_BYTES)
    except OSError as error:
        return f"{path.name}: {error.strerror}\n".encode()


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Nobody's gc removes the run meanwhile."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _packed(content: dict[str, bytes], top: str) -> bytes:
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:  # noqa: SIM117  (one closes the other)
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, data in content.items():
                member = tarfile.TarInfo(f"{top}/{name}")
                member.size, member.mode = len(data), 0o600
                tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


def _spread(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
