"""`rch-conformance`, and `python -m rch_conformance`."""

from __future__ import annotations

import argparse
import sys


def parser() -> argparse.ArgumentParser:
    """What may be written after `rch-conformance`, without what stands behind `--`."""
    from rch_conformance.cli import make_parser

    return make_parser()


def main() -> int:
    """Run the command line; its exit code."""
    from rch_conformance.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
