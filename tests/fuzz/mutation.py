"""Seeds, changed: what stands in for a coverage-guided fuzzer in the quick pass and where there is none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st

MOST_CHANGES = 6
# Bytes that mean something to one reader or another.
TOKENS = (
    b"\0",
    b"\n",
    b"..",
    b"/",
    b"\\",
    b'"',
    b"[" * 70,
    b"{}",
    b"null",
    b"-1",
    b"1e400",
    b"9" * 20,
    b"\\ud800",
    b"\xff",
    b"\xef\xbb\xbf",
    bytes(512),
    b"\x28\xb5\x2f\xfd",
    b"\x1b[",
    b"\xc2\x90",
    b"<!DOCTYPE",
    b"&#0;",
)


@st.composite
def mutants(draw: Any, seeds: Collection[bytes]) -> bytes:
    """A seed with a few changes: bits, cuts, doubles, tokens, pieces of other seeds."""
    data = draw(st.sampled_from(sorted(seeds)))
    others = st.sampled_from(sorted(seeds))
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        at = draw(st.integers(0, max(0, len(data))))
        end = min(len(data), at + draw(st.sampled_from([1, 2, 8, 100, 512, 1024])))
        kind = draw(st.sampled_from(["bit", "byte", "cut", "double", "token", "splice", "swap"]))
        if kind == "bit" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "byte" and at < len(data):
            data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[end:]
        elif kind == "double":
            data = data[:end] + data[at:]
        elif kind == "token":
            data = data[:at] + draw(st.sampled_from(TOKENS)) + data[draw(st.sampled_from([at, end])) :]
        elif kind == "splice":
            data = data[:at] + draw(others)[at:]
        else:
            data = data[end:] + data[:end]
    return bytes(data)
