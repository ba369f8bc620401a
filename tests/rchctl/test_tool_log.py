"""How far a tool is, as its log tells it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rchctl.tool_log import ToolLog

SWIFT = b"""Building for debugging...
[0/12] Write sources
[4/14] Compiling AppTests SumTests.swift
[22/23] Linking AppTests.xctest
Build complete!
[1/4] Testing AppTests.SumTests/testOne
[3/4] Testing AppTests.SumTests/testThree
"""
XCODE = b"""note: Target dependency graph (2 targets)
SwiftCompile normal arm64 Compiling\\ Wick.swift /tree/Wick.swift (in target 'Lantern' from project 'L')

SwiftCompile normal arm64 /tree/Wick.swift (in target 'Lantern' from project 'L')
    cd /tree
Ld /build/Lantern normal (in target 'Lantern' from project 'L')
"""


def read(data: bytes, step: int) -> ToolLog:
    found = ToolLog()
    for at in range(0, len(data), step):
        found.feed(data[at : at + step])
    return found


@given(st.integers(1, 400))
def test_swift_counts_for_itself_what_it_builds_and_tests(step: int) -> None:
    found = read(SWIFT, step)
    assert (found.done, found.total, found.doing) == (22, 23, "Linking AppTests.xctest")
    assert (found.tests_begun, found.tests) == (3, 4)


@given(st.integers(1, 400))
def test_of_xcodebuild_commands_are_counted_once_a_file(step: int) -> None:
    found = read(XCODE, step)
    assert (found.done, found.targets, found.targets_total) == (2, 1, 2)
    assert (found.total, found.doing) == (0, "Ld Lantern")


def test_what_a_test_prints_in_the_midst_of_a_line_counts_nothing() -> None:
    found = read(b"said [7/9] Compiling\n[99999999/1] no\n[x/2] no\n", 5)
    assert (found.done, found.total) == (0, 0)
