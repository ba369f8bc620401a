"""A history made safe to pass on: names, places and secrets of it, each by one word throughout.

What is renamed are events alone. The core then decides anew from these, and what it decides is written
down: nothing of an effect gets out that no renamed event holds. That the renamed history is the same
one is checked step by step. Words keep the order that the names had, for the core puts workers
and devices in order by their names. What stays: ids of runs and jobs, digests, times, versions, the
names of projects, schemes, targets, tests, models of devices and of files within a project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rch.config.redact import redact
from rch.contract.forms import CANCEL_WORDS
from rch.contract.redact import REDACTED, names_secret, scrub, scrub_words
from rchd.core.fleet import FLEET

ARTIFACTS = "/artifacts"
_EVERYBODYS = frozenset({"local", "localhost", "root", "fleet", "terminal", ""})
_KINDS = {
    "worker": "worker",
    "selected_worker": "worker",
    "host": "host",
    "hostname": "host",
    "selected_worker_host": "host",
    "host_nonce": "nonce",
    "lease_id": "lease",
    "client_token": "token",
    "mark": "mark",
    "udid": "device",
    "attestation_pubkey_fingerprint": "key",
    "branch": "branch",
    "origin": "origin",
    "group": "group",
}
"""Members whose value is a name of that kind."""
_LISTS = {"spared": "worker", "silent": "worker", "pins": "key", "tags": "tag"}
_BY_WORKER = frozenset({"drained", "refused", "kinds", "weighed", "hosts", "passed", "reports", "health"})
"""Objects whose members are named for workers."""
_PLACES = frozenset({"root", "path", "developer_dir", "toolchain_dir"})
_CONFIGS = frozenset({"effective_config", "overrides", "policy"})
_PROSE = frozenset(
    {"message", "error", "errors", "hint", "why", "reason", "detail", "human_summary", "warnings"}
    | {"probe_error", "evidence", "text"}
    | {"busy", "trouble", "drained", "passed", "refused", "integrity_errors", "rejection_reason", "waiting"}
)
"""Members for people: anything may be in them, and no rule finds all of it. Their text is left out."""
TREATED = frozenset({*_KINDS, *_LISTS, *_BY_WORKER, *_PLACES, *_CONFIGS, *_PROSE})
"""Members whose text is renamed, or left out. That of others stays, but for what is known by its look."""
_CODES = frozenset({*CANCEL_WORDS, "accepted"})
_COUNTS = re.compile(
    r"exit code -?\d+|ended by signal \d+|\d+ errors, \d+ warnings|phase \w+|worker|results|comparison"
    r"|build\.log|result\.xcresult|xunit(?:-swift-testing)?\.xml"
)
"""What is no text, though it stands in such a member: codes, and evidence of a fixed form."""
_TOLD = frozenset({"name", "state", "ms", "framework", "outcome", "path", "line", "column", "severity"})
"""Members of a job event's `data` that are no text. A worker may put there what it likes."""
_PATH = re.compile(r"(?<![\w.~/:-])/(?:[\w.+@~%-]+/)*[\w.+@~%-]+")
_SYSTEM = re.compile(
    r"/(?:usr|opt|bin|sbin|lib|etc|dev|proc|Library|System|Applications|artifacts|nix|private/etc)(?:/|$)"
)
_PORT = r"(?::\d{1,5}(?!\d))?"
_ACCOUNT = re.compile(
    rf"[\w.+-]+@(?:[A-Za-z][\w.-]*|\d{{1,3}}(?:\.\d{{1,3}}){{3}}){_PORT}"
)  # no schema's @1
_GROUP = r"[0-9A-Fa-f]{1,4}"
_ADDRESS = re.compile(
    rf"(?<![\w.])(?:\d{{1,3}}\.){{3}}\d{{1,3}}{_PORT}(?![\w.])"
    rf"|\[?(?<![\w:])(?:{_GROUP}(?::{_GROUP}){{7}}|(?:{_GROUP}:){{1,7}}:(?:{_GROUP}(?::{_GROUP}){{0,5}})?)"
    rf"(?:%\w+)?(?![\w:])(?:\]{_PORT})?"
)
_NAMED = re.compile(r"(?<![\w-])name=([^,]+)")
"""The device of a destination."""
_MODEL = re.compile(r"(?:iPhone|iPad|iPod|Apple (?:TV|Watch|Vision)|My Mac|Any )[\w .()-]*")
_OF_A_MODEL = re.compile(
    r"iPhone|iPad|iPod|Apple|TV|Watch|Vision|My|Mac|Any|iOS|tvOS|watchOS|visionOS|macOS|Simulator|Device|touch"
    r"|Pro|Max|Plus|Air|mini|SE|Ultra|Series|XS|XR|X|generation|inch|at|\d[\d.]*[a-z]{0,2}|\d+K|1080p|[AM]\d+"
)
"""Names that devices have of Apple, and the words in them; others were given to them by people."""
_SHORTEST = 3  # of a name that is looked for anywhere
_STEMS = {"path": "/path"}
_OF_DEVICES = frozenset({"udid", "platform"})
"""What stands beside the name of a device, or of a destination."""
_OURS = frozenset(
    {"path", "project", "artifacts", "home", "text", "name", *_KINDS.values(), *_LISTS.values()}
)
"""What our words are made of."""

Rename = Callable[[str, str], str]


def _is_code(text: str) -> bool:
    return not text or text in _CODES or _COUNTS.fullmatch(text) is not None


def _is_model(name: str) -> bool:
    words = re.findall(r"[^ ()-]+", name)
    return _MODEL.fullmatch(name) is not None and all(map(_OF_A_MODEL.fullmatch, words))


class Names:
    """First everything is `seen`, then every name has its word: `worker-1`, in the order of the names."""

    def __init__(self, places: Mapping[str, str], known: Iterable[tuple[str, str]] = ()) -> None:
        """`places` maps folders to what they read; `known` are kinds and names that are to go anywhere."""
        self._seen: dict[str, set[str]] = {}
        self._words: dict[tuple[str, str], str] = {}
        self._keys: dict[str, str] = {}
        self._places = dict(places)
        self._anywhere = re.compile(r"(?!)")
        self._kinds: dict[str, str] = {}
        for kind, name in known:
            if len(name) >= _SHORTEST and name not in _OURS:
                self._kinds[self._see(kind, name)] = kind

    def _see(self, kind: str, name: str) -> str:
        if kind == "path" and not self._is_private(name := self._moved(scrub(name))):
            return name
        if kind == "simulator" and _is_model(name):
            return name
        if name not in _EVERYBODYS:
            self._seen.setdefault(kind, set()).add(name)
        return name

    def learn(self, tree: Any) -> None:
        """Take note of every name in a JSON value."""
        _walk(tree, "", self._see, self._look)

    def _look(self, text: str, prose: bool) -> str:  # noqa: FBT001  (as below)
        if prose:
            return text if _is_code(text) else self._see("text", text)
        text = self._moved(scrub(text))
        for kind, pattern in (("account", _ACCOUNT), ("address", _ADDRESS)):
            for found in pattern.finditer(text):
                self._see(kind, found[0])
        for found in _NAMED.finditer(text):
            self._see("simulator", found[1])
        for found in _PATH.finditer(text):
            if self._is_private(found[0]):
                self._see("path", found[0])
        return text

    def settle(self) -> None:
        """All is seen: give each name its word."""
        for kind, names in self._seen.items():
            width = len(str(len(names)))
            for number, name in enumerate(sorted(names), 1):
                word = f"{_STEMS.get(kind, kind)}-{number:0{width}d}"
                self._words[kind, name] = f"{word} ({len(name)} characters)" if kind == "text" else word
        # A machine's whole name is a word of nobody else.
        self._kinds |= {name: "host" for name in self._seen.get("host", ()) if "." in name}
        if self._kinds:
            longest_first = "|".join(re.escape(name) for name in sorted(self._kinds, key=len, reverse=True))
            self._anywhere = re.compile(rf"(?<![^\W_])({longest_first})({_PORT})(?![^\W_])")

    def keep_keys(self, pairs: Iterable[tuple[str, str]]) -> bool:
        """Each job's old key and its new one, made of what was renamed; whether any is news."""
        before = dict(self._keys)
        self._keys |= dict(pairs)
        return self._keys != before

    def clean(self, tree: Any) -> Any:
        """A copy of a JSON value in those words."""
        return _walk(tree, "", self._word, self._text)

    def _word(self, kind: str, name: str) -> str:
        if kind == "path":
            name = self._moved(scrub(name))
        return self._words.get((kind, name), name)

    def _text(self, text: str, prose: bool) -> str:  # noqa: FBT001  (what a walk says of each text)
        if text in self._keys:
            return self._keys[text]
        if prose and not _is_code(text):
            return self._words["text", text]
        text = self._moved(scrub(text))
        text = _ACCOUNT.sub(lambda found: self._word("account", found[0]), text)
        text = _ADDRESS.sub(lambda found: self._word("address", found[0]), text)
        text = _NAMED.sub(lambda found: f"name={self._word('simulator', found[1])}", text)
        text = _PATH.sub(self._place, text)
        return self._anywhere.sub(self._everywhere, text)

    def _everywhere(self, found: re.Match[str]) -> str:
        """The word of a name that is looked for anywhere; the port of a machine goes with it."""
        kind = self._kinds[found[1]]
        return self._word(kind, found[1]) + ("" if kind == "host" else found[2])

    def _moved(self, text: str) -> str:
        """Known folders by what they read, longest first."""
        for folder in sorted(self._places, key=len, reverse=True):
            if folder in text:
                text = re.sub(rf"{re.escape(folder)}(?![\w.-])", self._places[folder], text)
        return text

    def _is_private(self, path: str) -> bool:
        told = any(path == each or path.startswith(f"{each}/") for each in self._places.values())
        return not told and _SYSTEM.match(path) is None

    def _place(self, found: re.Match[str]) -> str:
        return self._word("path", found[0]) if self._is_private(found[0]) else found[0]


def _walk(
    value: Any, key: str, name: Rename, text: Callable[[str, bool], str], *, prose: bool = False
) -> Any:
    """A copy of a JSON value with each name through `name` and each other text through `text`."""
    if isinstance(value, Mapping):
        if key in _CONFIGS:
            value = redact(value)[0]
        return {
            (name("worker", each) if key in _BY_WORKER else text(each, False)): _member(
                value, each, key, name, text, prose=prose or key in _PROSE
            )
            for each in value
        }
    if isinstance(value, list | tuple):
        if key in _LISTS or (key == "drained" and not prose):
            kind = _LISTS.get(key, "worker")
            return [name(kind, each) if isinstance(each, str) else each for each in value]
        if key.endswith("argv") and all(isinstance(each, str) for each in value):
            return [text(each, False) for each in scrub_words(value)]
        # Only an object itself is one of workers, no list of objects.
        inner = "" if key in _BY_WORKER else key
        return [_walk(each, inner, name, text, prose=prose or key in _PROSE) for each in value]
    if not isinstance(value, str):
        return value
    return text(value, prose or key in _PROSE)


def _member(
    owner: Mapping[str, Any],
    key: str,
    where: str,
    name: Rename,
    text: Callable[[str, bool], str],
    *,
    prose: bool,
) -> Any:
    """One member of an object."""
    value = owner[key]
    if where in _BY_WORKER and isinstance(value, str):
        # Where a worker is, or why it was refused.
        return name("host", value) if where == "hosts" else text(value, True)
    prose = prose or (where == "data" and key not in _TOLD)
    if isinstance(value, str) and not prose:
        if key == "name" and owner.get("run_id") == FLEET:
            return name("worker", value)
        if key == "name" and not owner.keys().isdisjoint(_OF_DEVICES):
            return name("simulator", value)
        if key == "origin" and "sha256" in owner:
            return value  # a layer of the config
        if (kind := _KINDS.get(key)) is not None:
            return name(kind, value)
        if key in _PLACES and value.startswith("/"):
            return name("path", value)
        if names_secret(key) and where not in _CONFIGS:
            return REDACTED
    return _walk(value, key, name, text, prose=prose)
