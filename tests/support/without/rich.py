"""Hides the library of this name from the programs under test, as users do not have it.

It comes with a tool of the developers', structlog loads it wherever it is, and a daemon's start then
takes a third more time.
"""

from __future__ import annotations

raise ModuleNotFoundError("no part of rch", name="rich")
