"""What a program does when nobody reads its output any more, as behind `| head`."""

from __future__ import annotations

import os

EXIT = 141
"""As a shell tells the signal SIGPIPE, by which most programs end then."""


def left_alone() -> int:
    """The exit code; what Python still has for standard output at its end goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return EXIT
