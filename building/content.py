"""What a package installs beside its modules, below the prefix that it is installed to."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STATIC = [
    ("share/rch/systemd", ["contrib/systemd/rchd.service", "contrib/systemd/rchd.socket"]),
    ("share/rch/systemd/rchd.service.d", ["contrib/systemd/rchd.service.d/rch-hardened.conf"]),
    ("share/rch/launchd", ["contrib/launchd/dev.rch.rchd.plist"]),
    ("share/rch/shims", ["contrib/shims/swift", "contrib/shims/xcodebuild"]),
]
"""Files of `contrib/`, for putting in place by hand: a folder of the prefix, and what goes there."""

COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
"""Where each shell looks for the completion of a program."""


def man_place(name: str, section: int) -> str:
    """Where `man` looks for a page."""
    return f"share/man/man{section}/{name}.{section}"
