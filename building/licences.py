"""What licence each library bears, as SPDX names it, and which are expected (docs/decisions/0004).

python -m building.licences      exits 1 where a library of the wheel has none, or one that is not expected
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from importlib.metadata import Distribution, distribution
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement

from rch.contract.extras import DISTRIBUTION

EXPECTED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "EPL-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
    }
)
"""Licences that ask for no more of an Apache-licensed program than to be named. Weak copyleft (EPL, MPL) is
among them: it binds changes of the library's own files, and we ship none."""

_CLASSIFIERS: Mapping[str, str] = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_TEXTS: Mapping[str, str] = {
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "MIT License": "MIT",
    "Eclipse Public License v2.0": "EPL-2.0",
}


def licence_of(metadata: Message | Any) -> str:
    """An SPDX expression, from the newest field that tells one; empty where none does."""
    expression = metadata.get("License-Expression") or ""
    text = (metadata.get("License") or "").strip()
    named = [
        each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or [] if "License ::" in each
    ]
    for each in (expression, _TEXTS.get(text, text), *(_CLASSIFIERS.get(name, "") for name in named)):
        if each and len(each) < 100:
            try:
                return str(canonicalize_license_expression(each))
            except InvalidLicenseExpression:
                continue
    return ""


def unexpected(expression: str) -> set[str]:
    """The licences that an expression names and nobody expects; of a choice, one will do."""
    for choice in re.split(r"\bOR\b", expression):
        names = {each for each in re.findall(r"[A-Za-z0-9.+-]+", choice) if each not in {"AND", "WITH"}}
        if not (strange := names - EXPECTED) and names:
            return set()
    return strange or {"none"}


def libraries(root: Distribution, *extras: str) -> Iterator[tuple[Distribution, tuple[str, ...]]]:
    """`root` and what is installed here of what it needs with these extras, each with what it names.

    `PackageNotFoundError` where one is not installed.
    """
    of = normal(root.metadata["Name"])
    left, seen = [(of, extra) for extra in ("", *extras)], set[tuple[str, str]]()
    whole, found = dict[str, set[str]](), {of: root}
    while left:
        owner, extra = left.pop()
        here = found.get(owner) or found.setdefault(owner, distribution(owner))
        for need in map(Requirement, here.requires or ()):
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            name = normal(need.name)
            if name != of:
                whole.setdefault(owner, set()).add(name)
            for wanted in ("", *need.extras):
                if (name, wanted) not in seen:
                    seen.add((name, wanted))
                    left.append((name, wanted))
    for name in sorted(found):
        yield found[name], tuple(sorted(whole.get(name, ())))


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Tell each library that is not as expected."""
    code = 0
    for library, _ in libraries(distribution(DISTRIBUTION), "all"):
        name, expression = library.metadata["Name"], licence_of(library.metadata)
        if strange := unexpected(expression):
            said = ", ".join(sorted(strange))
            sys.stderr.write(
                f"licences: {name} {library.version} has {said}: see docs/decisions/0004-packages.md\n"
            )
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
