"""Tests that emit what no schema allows, on purpose, and why (see `support.emitted`)."""

from __future__ import annotations

UNLIKE: dict[str, str] = {
    "tests/fuzz/": "bytes that were changed at random, and what readers make of them",
    "tests/edges/test_socket.py": "a server whose answers are the test's own",
    "tests/edges/test_watchers.py": "a server whose answers are the test's own",
    "tests/edges/test_hostile_clients.py": "clients that say what they should not",
    "tests/edges/test_artifacts.py": "sets that are wrong, beside files that stand for right ones",
    "tests/edges/test_check.py::test_a_record_that_does_not_say": "records are spoiled to be found",
    "tests/core/test_session.py": "calls and results are of the session's own making",
}
"""The beginning of a test's id -> the reason. One test says so by `@pytest.mark.unlike_schema(why)`."""


def why_unlike(nodeid: str) -> str | None:
    """The reason why this test's documents are not looked at."""
    return next((why for begun, why in UNLIKE.items() if nodeid.startswith(begun)), None)
