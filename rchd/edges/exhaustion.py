"""Whether what failed here is this machine running short of something that may come back (fault H13)."""

from __future__ import annotations

import errno

_EXHAUSTED = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_exhausted(error: BaseException) -> bool:
    """Whether a descriptor, a process, a thread or memory is missing."""
    if isinstance(error, OSError):
        return error.errno in _EXHAUSTED
    return isinstance(error, RuntimeError) and "can't start new thread" in str(error)
