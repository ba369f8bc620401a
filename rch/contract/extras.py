"""Which extra of the distribution brings a package that is not there, and the words that say so. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rch.contract.errors import Failure, Kind

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


def lacking(error: ImportError, who: str, kind: Kind = Kind.USAGE) -> Failure | None:
    """What `who` lacks, if an extra has it; None where `error` is a defect. `Failure` of `kind`."""
    package = (error.name or "").partition(".")[0]
    extra = next((extra for extra, brought in EXTRAS.items() if package in brought), None)
    if extra is None:
        return None
    return Failure(
        kind,
        f"{who} needs the package {package}, which is not installed",
        hint=f"pip install 'rch[{extra}]'",
    )
