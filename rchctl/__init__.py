"""The thin client."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its enums, which cost a start
import sys

# Ctrl-C while this program's modules are read ends it without a traceback; `main` takes over.
_name = "".join(sys.argv[:1])
if (_name == "-m" or _name.endswith("/rchctl")) and _signal.getsignal(
    _signal.SIGINT
) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
