"""The checks, a module a theme. Within a section they run in the order of their modules' names."""

from rch_conformance.worker.checks import (
    attestations,
    envelope,
    fetching,
    framing,
    gate,
    leases,
    life,
    operations,
    records,
    resuming,
    running,
    sessions,
    sets,
    sources,
    tails,
    texts,
)

__all__ = [
    "attestations",
    "envelope",
    "fetching",
    "framing",
    "gate",
    "leases",
    "life",
    "operations",
    "records",
    "resuming",
    "running",
    "sessions",
    "sets",
    "sources",
    "tails",
    "texts",
]
