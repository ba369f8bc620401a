"""The thin client."""

from __future__ import annotations

import signal
import sys

# Ctrl-C while this program's modules are read ends it without a traceback; `main` takes over.
_name = "".join(sys.argv[:1])
if (_name == "-m" or _name.endswith("/rchctl")) and signal.getsignal(
    signal.SIGINT
) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
