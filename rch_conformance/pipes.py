"""What a program does when its output goes nowhere: closed, full, or not read, as behind `| head`."""

from __future__ import annotations

import os
import sys

EXIT = 141
"""As a shell tells the signal SIGPIPE, by which most programs end then."""


def left_alone() -> int:
    """The exit code; what Python still has for standard output at its end goes nowhere."""
    forget()
    return EXIT


def forget() -> None:
    """Standard output goes nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def opened() -> None:
    """Have the three descriptors that everybody reckons with, also where the caller closed some.

    Else the next file that is opened would be one of them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
