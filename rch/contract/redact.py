"""The one table of what is a secret by its look or its name, for text, streams and records (section 11).

`Scrubber` takes secrets out of bytes that come in pieces, and pieces make no difference to the
whole. Every form has a *core* of bounded length, within one line, that tells it from other text; what
follows of its alphabet goes with it, however long. So little is ever held back, and a line costs what its
length costs. `scrub` is the same for a text. All look at a text as it will be shown: a colour or a sign
without room in the midst of a secret makes it no other text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from rch.contract.shown import Past, Piece, Sieve, Stage, shown_of, woven

REDACTED = "[REDACTED]"

_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|passphrase|secrets?|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|auth)"
    r"([._-]|$)",
    re.IGNORECASE,
)


class _Form(NamedTuple):
    """One form of secret: `kept` stays, `core` tells it, `rest` may follow, `after` stays again.

    Each begins with one of its `signs`, in any case of letters, and not behind a byte of `border`.
    """

    signs: tuple[str, ...]
    border: str
    kept: str
    core: str
    rest: str = ""
    after: str = ""


_WORD = "A-Za-z0-9"
_SHOUTED = "PASSWORD|PASSPHRASE|PASSWD|SECRET|TOKEN|API_KEY|APIKEY|ACCESS_KEY|PRIVATE_KEY|SECRET_KEY"
_TAKEN = r"(?!\[REDACTED\])"  # what is taken out is taken out once
_QUOTE = r"[\"']?"
_BEGIN, _END = ("-----BEGIN", "-----END")
_KIND = r" [A-Z ]{0,40}PRIVATE KEY-----"

_FORMS = (
    _Form((_BEGIN,), "", "", _BEGIN + _KIND),
    _Form(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), "", "", r"gh[pousr]_[A-Za-z0-9]{20}", "A-Za-z0-9"),
    _Form(("github_pat_",), "", "", r"github_pat_[A-Za-z0-9_]{20}", "A-Za-z0-9_"),
    _Form(("glpat-",), "", "", r"glpat-[A-Za-z0-9_-]{16}", "A-Za-z0-9_-"),
    _Form(("akia", "asia"), _WORD, "", r"A[KS]IA[0-9A-Z]{16}", "0-9A-Z"),
    _Form(("xox",), _WORD, "", r"xox[abeprs]-[A-Za-z0-9-]{10}", "A-Za-z0-9-"),
    _Form(("sk-",), "A-Za-z0-9_", "", r"sk-[A-Za-z0-9_-]{20}", "A-Za-z0-9_-"),
    _Form(
        ("eyj",),
        "A-Za-z0-9_-",  # all of its alphabet: two of them never look at the same bytes
        "",
        r"eyJ[A-Za-z0-9_-]{8,1024}\.[A-Za-z0-9_-]{8}",
        "A-Za-z0-9_.-",
    ),
    _Form(("bearer",), "", r"(?i:bearer)[ \t]{1,8}", r"[A-Za-z0-9._~+/=-]{16}", "A-Za-z0-9._~+/=-"),
    _Form(
        ("authorization",),
        "",
        rf"(?i:authorization){_QUOTE}[ \t]{{0,4}}[:=][ \t]{{0,4}}{_QUOTE}"
        r"(?i:basic|bearer|digest|token)[ \t]{1,8}",
        r"[^\s\"']{8}",
        r"^\s\"'",
    ),
    _Form(("hooks.slack.com/",), "", r"hooks\.slack\.com/services/", r"[A-Za-z0-9/]{20}", "A-Za-z0-9/"),
    _Form(
        ("://",),
        "",
        "://",
        rf"(?:{_TAKEN}[^/\s:@\"'<>]){{0,128}}:(?:{_TAKEN}[^/\s@]){{1,1024}}"
        r"|(?:(?<=http://)|(?<=https://))[^/\s:@]{20,256}",
        after="@",
    ),
    _Form(
        tuple(f"{word}=" for word in _SHOUTED.split("|")),
        "",
        rf"(?:{_SHOUTED})={_QUOTE}",
        r"[^\s\"',;&]{8}",
        r"^\s\"',;&",
    ),
    _Form(
        ("aws_secret_access_key",),
        "",
        r"(?i:aws_secret_access_key)[ \t]{0,4}[=:][ \t]{0,4}",
        r"[A-Za-z0-9/+]{20}",
        "A-Za-z0-9/+=",
    ),
)
_LONGEST = 1500  # bytes of what is kept and of a core
_CONTEXT = 8  # bytes before a place that may tell a secret from other text


class _Rule(NamedTuple):
    """A form, compiled."""

    core: re.Pattern[bytes]
    border: re.Pattern[bytes] | None
    rest: re.Pattern[bytes] | None
    is_block: bool


@functools.cache
def _rule(form: _Form) -> _Rule:
    """Compiled at the first sign of it: most processes meet none, and it costs their start."""
    return _Rule(
        core=re.compile(f"({form.kept})(?:{form.core})({form.after})".encode()),
        border=re.compile(f"[{form.border}]".encode()) if form.border else None,
        rest=re.compile(f"[{form.rest}]*".encode()) if form.rest else None,
        is_block=form.signs == (_BEGIN,),
    )


_SIGNS = tuple((sign.lower().encode(), form) for form in _FORMS for sign in form.signs)
_LONGEST_SIGN = max(len(sign) for sign, _ in _SIGNS)

# The lines of a key block: what looks like them, and no other line.
_BASE64 = r"[A-Za-z0-9+/=\\]"
_HEADER = r"(?:Proc-Type|DEK-Info|Comment): [^\r\n]{0,200}"
_MOST_RUN = 16384


class _Lines(NamedTuple):
    """The last line, any other, a long run of one, and what may become one."""

    last: re.Pattern[bytes]
    any: re.Pattern[bytes]
    run: re.Pattern[bytes]
    partial: re.Pattern[bytes]


@functools.cache
def _lines() -> _Lines:
    """Compiled at the first key block."""
    return _Lines(
        last=re.compile(rf"[ \t]{{0,32}}{_BASE64}{{0,{_MOST_RUN}}}{_END}{_KIND}".encode()),
        any=re.compile(rf"[ \t]{{0,32}}(?:{_HEADER}|{_BASE64}{{0,{_MOST_RUN}}})[ \t]{{0,8}}\r?\n".encode()),
        run=re.compile(rf"{_BASE64}{{{_MOST_RUN}}}".encode()),
        partial=re.compile(
            rf"[ \t]{{0,32}}(?:{_BASE64}{{0,{_MOST_RUN}}}"
            r"(?:[ \t]{0,8}\r?|-{1,5}|-----EN?|-----END[A-Z ]{0,52}-{0,5})"
            rf"|Proc-[A-Za-z]{{0,4}}:?|DEK-[A-Za-z]{{0,4}}:?|Comment:|{_HEADER}[ \t]{{0,8}}\r?)".encode()
        ),
    )


def is_secret(key: str, value: object) -> bool:
    """Whether a value must not be written down; `key` is its last part alone."""
    if isinstance(value, str) and holds_secret(value):
        return True
    return names_secret(key) and value not in {None, "", True, False}


def names_secret(key: str) -> bool:
    """Whether what has this name is a secret, such as `GITHUB_TOKEN`."""
    return bool(_SECRET_KEY.search(key))


def holds_secret(text: str) -> bool:
    """Whether there is something in a text that looks like a secret."""
    raw = text.encode("utf-8", "surrogatepass")
    return any(_look(data, at, rule) for data in (raw, shown_of(raw)) for at, rule in _places(data, 0))


def scrub(text: str) -> str:
    """A text with `[REDACTED]` for each secret that has a known look."""
    data = text.encode("utf-8", "surrogatepass")
    if not _places(data, 0) and not _places(shown_of(data), 0):
        return text
    return Scrubber().feed(data, last=True).decode("utf-8", "surrogatepass")


def scrub_words(words: Sequence[str]) -> list[str]:
    """A command line's words without secrets, also by the name of the flag or variable of a value."""
    found, taken = list[str](), False
    for word in words:
        name, sign, value = word.partition("=")
        if taken and not word.startswith("-"):
            found.append(REDACTED)
        elif sign and value and names_secret(name):
            found.append(f"{name}={REDACTED}")
        else:
            found.append(scrub(word))
        taken = not sign and word.startswith("-") and names_secret(word)
    return found


def _places(data: bytes, start: int) -> list[tuple[int, _Rule]]:
    """Where a secret may begin, in order: most text has no such place, and is told so at once."""
    low, found = data.lower(), list[tuple[int, _Rule]]()
    for sign, form in _SIGNS:
        at = low.find(sign, start)
        while at >= 0:
            found.append((at, _rule(form)))
            at = low.find(sign, at + 1)
    found.sort(key=itemgetter(0))
    return found


def _look(data: bytes, at: int, rule: _Rule, fresh: int = 0) -> re.Match[bytes] | None:
    """The secret that begins at a place; one that was taken out up to `fresh` is no border."""
    if rule.border is not None and at > fresh and rule.border.match(data, at - 1):
        return None
    return rule.core.match(data, at)


class Scrubber:
    """Takes what looks like a secret out of a stream, also where a piece's border cuts it in two.

    Back is held the beginning of what may become one, within its line and up to 1500 bytes. `first` makes
    a stage that looks at the stream before. All of it is done twice: to what is shown, and then to the
    bytes: a sequence without an end takes a letter of a secret from who looks at a screen alone.
    """

    def __init__(self, first: Callable[[], Stage] | None = None) -> None:
        makers = [Looks] if first is None else [first, Looks]
        self._raw: list[Stage] = [make() for make in makers]
        self._sieve = Sieve()
        self._stages = [Past(make()) for make in makers]
        self._out = 0

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What is safe to pass on; all that is left with `last`."""
        data, aside = self._sieve.feed(data, last=last)
        for stage in self._stages:
            data, aside = stage.feed(data, aside, last=last)
        at, self._out = self._out, self._out + len(data)
        data = woven(data, aside, at)
        for raw in self._raw:
            data = b"".join(piece.data for piece in raw.pieces(data, last=last))
        return data


class Looks:
    """The stage that knows secrets by their look."""

    def __init__(self) -> None:
        self._held = b""
        self._before = b""
        self._at = 0  # of the first byte that is held
        self._fresh = True
        self._rest: re.Pattern[bytes] | None = None
        self._block = False
        self._line_ended = False

    def pieces(self, data: bytes, *, last: bool = False) -> list[Piece]:
        """What is safe to pass on; all that is left with `last`."""
        whole, out = self._before + self._held + data, list[Piece]()
        at = len(self._before)
        base = self._at - at
        fresh = at if self._fresh else 0
        limit = len(whole) if last else _limit(whole, at)
        decided = len(whole) if last else max(whole.rfind(b"\n") + 1, len(whole) - _LONGEST)
        if self._rest is not None or self._block:
            at = fresh = self._swallowed(whole, at, out, last=last)
        for place, rule in _places(whole, at):
            if self._rest is not None or self._block:
                break
            if place < at:
                continue
            found = _look(whole, place, rule, fresh)
            if found is not None:
                _keep(out, base, whole, at, found.end(1))
                out.append(Piece(base + found.end(1), REDACTED.encode(), put=True))
                _keep(out, base, whole, found.start(2), found.end(2))
                self._rest, self._block, self._line_ended = rule.rest, rule.is_block, False
                at = fresh = self._swallowed(whole, found.end(), out, last=last)
            elif place >= decided:
                limit = place
                break
        if self._rest is None and not self._block and limit > at:
            _keep(out, base, whole, at, limit)
            at = limit
        self._before, self._held = whole[max(0, at - _CONTEXT) : at], whole[at:]
        self._at = base + at
        self._fresh = at == fresh
        if last:
            self._rest, self._block = None, False
        return out

    def _swallowed(self, whole: bytes, at: int, out: list[Piece], *, last: bool) -> int:
        """Leave out what goes on a secret; where it ends."""
        base = self._at - len(self._before)
        if self._rest is not None:
            more = self._rest.match(whole, at)
            at = more.end() if more else at
            if at < len(whole) or last:
                self._rest = None
        while self._block:
            lines = _lines()
            if line := lines.last.match(whole, at):
                self._block = False
                return line.end()
            if line := lines.any.match(whole, at) or lines.run.match(whole, at):
                at, self._line_ended = line.end(), line.group().endswith(b"\n")
                continue
            if lines.partial.fullmatch(whole, at):
                if not last:
                    return at
                at = len(whole)
            self._block = False
            if self._line_ended:
                out.append(Piece(base + at, b"\n", put=True))
        return at


def _keep(out: list[Piece], base: int, whole: bytes, begin: int, end: int) -> None:
    if end > begin:
        out.append(Piece(base + begin, whole[begin:end]))


def _limit(whole: bytes, at: int) -> int:
    """Up to where no sign has begun that may still end."""
    begin = max(at, whole.rfind(b"\n") + 1, len(whole) - _LONGEST_SIGN)
    tail = whole[begin:].lower()
    for size in range(len(tail), 0, -1):
        if any(sign.startswith(tail[-size:]) for sign, _ in _SIGNS):
            return len(whole) - size
    return len(whole)
