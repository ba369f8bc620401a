"""What a bug report must not give away: secrets, and whose machines these are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from rch.config.redact import redact
from rch.contract.redact import scrub_words

# Whoever is called so gives nothing away.
_NOBODY = frozenset({"localhost", "root", "local"})
_HOSTS = frozenset({"host", "hostname"})
_SHORTEST = 2
"""A name of one letter stands in too many words that are none."""
# What of the inventory names a machine, an account, or a key.
_NAMED = {"host": "host", "user": "user", "ssh_key_path": "key", "known_hosts": "key"}
_PINS = ("known_host_fingerprint", "attestation_pubkey_fingerprint")


class Names:
    """Puts a word in the place of each name, the same one everywhere in a report."""

    def __init__(self, *, kept: bool = False) -> None:
        self._kept = kept
        self._words: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, kind: str, name: str) -> None:
        """`name` is a `kind`: from now on it reads `<kind-1>`, and so on."""
        if self._kept or len(name) < _SHORTEST or name in self._words or name in _NOBODY:
            return
        number = sum(word.startswith(f"<{kind}-") for word in self._words.values()) + 1
        self._words[name] = f"<{kind}-{number}>"
        ordered = sorted(self._words, key=len, reverse=True)
        # A user's name inside of a longer word is that word's business.
        self._pattern = re.compile(
            "|".join(rf"(?<![A-Za-z0-9_]){re.escape(each)}(?![A-Za-z0-9_])" for each in ordered)
        )

    def add_inventory(self, workers: Iterable[Mapping[str, Any]]) -> None:
        """Every machine, account and key that an inventory names."""
        for worker in workers:
            for key, kind in _NAMED.items():
                if isinstance(value := worker.get(key), str):
                    self.add(kind, value)
            for key in _PINS:
                pins = worker.get(key)
                for pin in [pins] if isinstance(pins, str) else pins or ():
                    self.add("pin", str(pin))

    def learn(self, value: Any) -> None:
        """Every machine that a record names, wherever in it."""
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in _HOSTS and isinstance(item, str):
                    self.add("host", item)
                self.learn(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.learn(item)

    def clean(self, value: Any) -> Any:
        """A copy of any JSON value that can be given away: the one place where a report is redacted."""
        return self._renamed(redact({"": _without_flag_values(value)})[0][""])

    def clean_text(self, text: str) -> str:
        """The same for lines; one that holds a secret goes as a whole."""
        return "".join(self.clean(line) + "\n" for line in text.splitlines())

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if self._pattern is None else self._pattern.sub(self._word, value)
        if isinstance(value, Mapping):
            return {key: self._renamed(item) for key, item in value.items()}
        return [self._renamed(item) for item in value] if isinstance(value, list | tuple) else value

    def _word(self, found: re.Match[str]) -> str:
        return self._words[found[0]]


def _without_flag_values(value: Any) -> Any:
    """A copy in which each list of words is read as a command line."""
    if isinstance(value, Mapping):
        return {key: _without_flag_values(item) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if all(isinstance(item, str) for item in value):
        return scrub_words(value)
    return [_without_flag_values(item) for item in value]
