"""What text from outside may hold that is not plain: the tables of `neutral` and `shown` (section 11).

A module of its own: they take as long to compile as the rest of a client takes to start, and most calls see
plain text alone. So it is imported where there is need.
"""

from __future__ import annotations

import re

# A cursor sequence, a string sequence (OSC, DCS, APC, PM, SOS) up to its end, and a short one;
# the first two also in their one-character forms. Each is bounded: what is longer is text, and
# loses its control characters alone, in however many pieces it comes.
_CURSOR = r"(?:\x1b\[|\x9b)[0-?]{0,256}[ -/]{0,16}"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\n\x90\x98\x9c-\x9f]{0,4096}"
_SHORT = r"\x1b[ -/]{0,16}"
ESCAPES = re.compile(rf"{_CURSOR}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|{_SHORT}[0-~]")
"""Terminal escape sequences, each as a whole."""
UNFINISHED = re.compile(rf"(?:{_CURSOR}|{_STRING}\x1b?|{_SHORT})\Z")
"""A sequence that has begun, and may end in the next piece."""
_STEERING = (
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_CONTROLS = f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_STEERING}]"
DROPPED = re.compile(_CONTROLS)
UNSHOWN = re.compile(f"(?:{ESCAPES.pattern}|{_CONTROLS})+")
"""What is dropped without anything in its place, so that what stands around it is shown as one."""
SEPARATORS = re.compile("[\u2028\u2029]")
SURROGATES = re.compile("[\ud800-\udfff]")
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]"
MOST_MARKS = 4  # on one letter: no writing needs more, and a pile of them covers other lines
PILE = re.compile(f"({_MARK}{{{MOST_MARKS}}}){_MARK}+")
LAST_MARKS = re.compile(f"{_MARK}{{0,{MOST_MARKS}}}\\Z")
RETURNS = re.compile(r"\r+\n?")
# What most text has none of.
ANYTHING = re.compile(
    f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u0300-\u036f{_STEERING}\u2028\u2029\ud800-\udfff]|{_MARK}"
)

NO_XML = re.compile(
    f"[^\t\n\r\u0020-\u007e\u00a0-\u2027\u2030-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[{_STEERING}]"
)
