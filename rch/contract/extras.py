"""Which extra of the distribution brings a package that is not there, and the words that say so. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import rch
from rch.contract.errors import Failure, Kind

DISTRIBUTION = "rch-xcode"
"""The name of what pip installs; `rch` is somebody else's there (docs/decisions/0004-packages.md)."""
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "host": (
        "anyio",
        "asyncssh",
        "jinja2",
        "markupsafe",
        "pathspec",
        "prometheus_client",
        "shtab",
        "structlog",
        "uuid_utils",
    ),
    "worker": ("junitparser",),
    "tui": ("rich", "textual"),
}
"""What each extra of pyproject.toml brings, by the names that are imported."""


class Origin(NamedTuple):
    """Where an installation came from: `place` is a path or a URL; `pip` is what installs there."""

    place: str | None = None
    editable: bool = False
    pip: str = "pip"

    def command(self, extra: str) -> str:
        """What installs the same again with `extra`. Never a name alone: an index gives that to anybody."""
        pip = shlex.quote(self.pip)
        if self.place is None:
            wheel = f"{DISTRIBUTION.replace('-', '_')}-{rch.__version__}-py3-none-any.whl"
            return f"with the wheel that it was installed from: {pip} install 'PATH/{wheel}[{extra}]'"
        wanted = f"{self.place}[{extra}]"
        if "://" in self.place:
            wanted = f"{DISTRIBUTION}[{extra}] @ {self.place}"
        return f"{pip} install {'-e ' if self.editable else ''}{shlex.quote(wanted)}"


def read_origin(direct_url: Any) -> Origin:
    """Of a decoded direct_url.json (PEP 610); without a place where it is none, or tells nothing."""
    from urllib.parse import unquote, urlsplit

    told = direct_url if isinstance(direct_url, dict) else {}
    url, folder, versioned = told.get("url"), told.get("dir_info"), told.get("vcs_info")
    if not isinstance(url, str):
        return Origin()
    if isinstance(versioned, dict):
        return Origin(f"{versioned.get('vcs')}+{url}@{versioned.get('commit_id')}")
    editable = isinstance(folder, dict) and folder.get("editable") is True
    if url.startswith("file:"):
        return Origin(unquote(urlsplit(url).path), editable=editable)
    return Origin(url)


def lacking(error: ImportError, who: str, origin: Origin, kind: Kind = Kind.USAGE) -> Failure | None:
    """What `who` lacks, if an extra has it; None where `error` is a defect. `Failure` of `kind`."""
    package = (error.name or "").partition(".")[0]
    extra = next((extra for extra, brought in EXTRAS.items() if package in brought), None)
    if extra is None:
        return None
    return Failure(
        kind,
        f"{who} needs the package {package}, which is not installed",
        hint=origin.command(extra),
    )
