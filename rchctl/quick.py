"""`rchctl status` and `rchctl submit` without a word more, where all goes as it mostly does.

An editor or a prompt asks so at each save, and what a whole client imports costs more than the answer.
Here is no argparse, no pathlib, no typing: `attempt` gives up (None) at whatever is not plain, and then the
whole client does the same from the start. A submit that was sent already is the same run, by its token.
"""

from __future__ import annotations

import _json  # what `json` is made of: its own modules take 2 ms more
import _socket
import os

import rch

token: str | None = None
"""The token of a submit that this process may have sent."""

_ANSWER_SECONDS, _SUBMIT_SECONDS = 5.0, 120.0
_MAX_ANSWER = 4 << 20
_LIVE = frozenset({"QUEUED", "RUNNING"})
_NEWEST = 50


class _Reading:
    """How JSON is read."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(_name: str) -> None:
        """NaN and its like are no JSON."""
        raise _NotPlain


# Made as `json.decoder` makes it.
_scan = _json.make_scanner(_Reading())  # type: ignore[arg-type]  # the stubs want its own kind


class _NotPlain(Exception):  # noqa: N818  (no error: another way is taken)
    """The whole client is to do it."""


_WAYS_OUT = (
    _NotPlain,
    OSError,
    ValueError,
    StopIteration,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


def attempt(words: list[str]) -> int | None:
    """The exit code, the answer being written; None where nothing was written."""
    if words not in (["status"], ["submit"]) or os.environ.get("RCH_DEBUG"):
        return None
    try:
        for fd in (0, 1, 2):
            os.fstat(fd)
        text = _status() if words == ["status"] else _submit()
        return _write(text.encode("ascii"))
    except (
        _NotPlain,
        OSError,
        ValueError,
        StopIteration,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        return None


def socket_path(env: os._Environ[str] | dict[str, str]) -> str:
    """As `host_paths` has it where the places are whole paths; `_NotPlain` else."""
    if path := env.get("RCH_SOCKET"):
        return _whole(path)
    if env.get("RCH_STATE_DIR"):
        raise _NotPlain
    if home := env.get("RCH_HOME"):
        return f"{_whole(home)}/run/rchd.sock"
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return f"{_whole(runtime)}/rch/rchd.sock"
    state = env.get("XDG_STATE_HOME") or f"{_whole(env.get('HOME', ''))}/.local/state"
    return f"{_whole(state)}/rch/run/rchd.sock"


def _whole(path: str) -> str:
    if not path.startswith("/"):
        raise _NotPlain
    return path


def _status() -> str:
    """The line of an idle daemon."""
    health, listed = _ask(("daemon.health", {}), ("runs.list", {"limit": _NEWEST}))
    if any(run["state"] in _LIVE for run in listed["runs"]):
        raise _NotPlain
    seconds = max(health["uptime_seconds"], 1)
    up = f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60} min {seconds % 60:02d} s"
    return (
        f"rchd {_plain(health['version'])}: {_plain(health['status'])},"
        f" pid {int(health['pid'])}, up {up}, {int(health['runs_running'])} running,"
        f" {int(health['runs_queued'])} queued; {_plain(health['activity'])}\n"
    )


def _submit() -> str:
    """The id of the run that was accepted."""
    global token  # noqa: PLW0603  (a process submits once)
    if os.isatty(2):  # there the stages are shown
        raise _NotPlain
    here = os.getcwd()  # noqa: PTH109
    here.encode()
    token = os.urandom(16).hex()
    params = {
        "client_token": token,
        "start": here,
        "overrides": {},
        "queue": True,
        "progress": True,
    }
    (run,) = _ask(("runs.submit", params), seconds=_SUBMIT_SECONDS)
    if run.get("simulated"):
        raise _NotPlain
    return f"{_plain(run['run_id'])}\n"


def _plain(text: str) -> str:
    """`text` where it can do nothing to a terminal."""
    if not (text.isascii() and text.isprintable()):
        raise _NotPlain
    return text


def _ask(*calls: tuple[str, dict[str, object]], seconds: float = _ANSWER_SECONDS) -> list[dict]:  # type: ignore[type-arg]
    """The results of these calls, in order, all asked in one breath; `_NotPlain` at any refusal."""
    asked = [("hello", {"client": "rchctl", "version": rch.__version__}), *calls]
    lines = [
        _text({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        for number, (method, params) in enumerate(asked)
    ]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(_ANSWER_SECONDS)
        sock.connect(socket_path(os.environ))
        sock.sendall(("\n".join(lines) + "\n").encode())
        sock.settimeout(seconds)
        results = _answers(sock, len(asked))
    finally:
        sock.close()
    if results[0].get("version") != rch.__version__ or results[0].get("protocol") != 1:
        raise _NotPlain
    return results[1:]


def _text(value: object) -> str:
    """JSON of what is asked with here: texts, whole numbers, yes and no, tables."""
    match value:
        case str():
            return str(_json.encode_basestring_ascii(value))
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case dict():
            return "{" + ",".join(f"{_text(key)}:{_text(each)}" for key, each in value.items()) + "}"
    raise _NotPlain


def _answers(sock: _socket.socket, count: int) -> list[dict]:  # type: ignore[type-arg]
    found: dict[int, dict] = {}  # type: ignore[type-arg]
    rest = b""
    while len(found) < count:
        data = sock.recv(1 << 18)
        rest += data
        if not data or len(rest) > _MAX_ANSWER:
            raise _NotPlain
        *whole, rest = rest.split(b"\n")
        for line in whole:
            answer, _ = _scan(line.decode(), 0)
            if "method" in answer:  # news of a submit's progress
                continue
            found[answer["id"]] = answer["result"]
    return [found[number] for number in range(count)]


def _write(data: bytes) -> int:
    """All of it to stdout; where that takes a part alone, no other way is left."""
    written = os.write(1, data)
    while written < len(data):
        try:
            written += os.write(1, data[written:])
        except OSError:
            return 1
    return 0
