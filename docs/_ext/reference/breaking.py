"""Where a browser may break a long word of code in a table: behind its separators, not within a name."""

from __future__ import annotations

import html
import re

_LONG = 19
"""Characters; a word of so many stays whole: it gives its column the width."""
_WORD = re.compile(r'<span class="pre">([^<]+)</span>')
_BEHIND = re.compile(r"(/|::?|[_=|]|\.(?=\w{4}))(?=.)")


def breakable(written: str) -> str:
    """Code as Sphinx has written it, its long words marked `long`, with <wbr> in them, never copied."""

    def word(found: re.Match[str]) -> str:
        if len(html.unescape(found[1])) <= _LONG:
            return found[0]
        broken = _BEHIND.sub(r"\1<wbr>", found[1])
        return f'<span class="pre long">{broken}</span>'

    return _WORD.sub(word, written)
