"""`rch-conformance`, and `python -m rch_conformance`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; its exit code."""
    from rch_conformance.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
