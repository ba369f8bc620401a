"""What a package installs beside its modules, below the prefix that it is installed to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STATIC = [
    ("share/rch/systemd", ["contrib/systemd/rchd.service", "contrib/systemd/rchd.socket"]),
    ("share/rch/systemd/rchd.service.d", ["contrib/systemd/rchd.service.d/rch-hardened.conf"]),
    ("share/rch/launchd", ["contrib/launchd/dev.rch.rchd.plist"]),
    ("share/rch/shims", ["contrib/shims/swift", "contrib/shims/xcodebuild"]),
]
"""Files of `contrib/`, for putting in place by hand: a folder of the prefix, and what goes there."""

DOCUMENTS = "share/doc/rch"
"""Where the pages lie that hints and `--help` name, as in a checkout: docs/workers.md, CHANGELOG.md."""
_NO_PAGES = {"_ext", "_static", "reference", "__pycache__", "conf.py"}


def documents() -> Iterator[tuple[str, str]]:
    """Each page, example and schema as a path of the checkout, and the folder of the prefix for it."""
    yield "CHANGELOG.md", DOCUMENTS
    for path in sorted((ROOT / "docs").rglob("*")):
        place = path.relative_to(ROOT)
        if path.is_file() and not _NO_PAGES & set(place.parts):
            yield place.as_posix(), f"{DOCUMENTS}/{place.parent.as_posix()}"


COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
"""Where each shell looks for the completion of a program."""


def man_place(name: str, section: int) -> str:
    """Where `man` looks for a page."""
    return f"share/man/man{section}/{name}.{section}"
