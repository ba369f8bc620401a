"""`rchctl`: the plainest calls at once, all others as a whole program."""

from __future__ import annotations

import sys

from rchctl import quick


def main(argv: list[str] | None = None) -> int:
    """The exit code of one call; `argv` without the program's name."""
    code = quick.attempt(sys.argv[1:] if argv is None else argv)
    if code is not None:
        return code
    from rchctl import whole

    return whole.main(argv)


if __name__ == "__main__":
    sys.exit(main())
