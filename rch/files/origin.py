"""From what this installation was made, as its installer noted it (PEP 610)."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from rch.contract.decoding import decode_json
from rch.contract.extras import DISTRIBUTION, Origin, read_origin


def origin() -> Origin:
    """Never fails: what is not known, and a file that is gone, have no place."""
    pip = Path(sys.prefix) / "bin/pip"
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
        found = read_origin(decode_json(text) if text else None)
    except (PackageNotFoundError, OSError, ValueError):
        found = Origin()
    if found.place is not None and "://" not in found.place and not Path(found.place).exists():
        found = Origin()
    return found._replace(pip=str(pip) if pip.exists() else "pip")
