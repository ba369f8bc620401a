"""Tests that emit what no schema allows, on purpose, and why (see `support.emitted`)."""

from __future__ import annotations

UNLIKE: dict[str, str] = {
    "tests/fuzz/": "bytes that were changed at random, and what readers make of them",
    "tests/edges/test_socket.py": "a server whose answers are the test's own",
    "tests/edges/test_socket_slow.py": "a server whose answers are the test's own",
    "tests/edges/test_watchers.py": "a server whose answers are the test's own",
    "tests/edges/test_hostile_clients.py": "clients that say what they should not",
    "tests/edges/test_artifacts.py": "sets that are wrong, beside files that stand for right ones",
    "tests/edges/test_artifacts_stream.py": "sets that are wrong, beside files that stand for right ones",
    "tests/edges/test_publishing.py": "files that stand for right ones, where sets are to be put",
    "tests/edges/test_check.py::test_a_record_that_does_not_say": "records are spoiled to be found",
    "tests/rchctl/test_client_artifacts.py": "folders by hand, of which indices alone are to be read",
    "tests/rchctl/test_client_fetch.py": "folders by hand, of which indices alone are to be read",
    "tests/rchctl/test_client_narrowed.py": "folders by hand, of which the mark alone is to be read",
    "tests/rchctl/test_client_attest.py::test_a_step_that_no": "a file that is only to be there",
    "tests/rchctl/test_diagnostics.py": "records that are hostile or broken, and must harm nobody",
    "tests/rchctl/test_report_browser.py": "records that are hostile, and must harm nobody",
    "tests/rchctl/test_report_page.py": "records that are hostile or broken, and must harm nobody",
    "tests/security/test_tampering": "sets and records that are harmed, hostile or without end",
    "tests/security/test_hostile": "sets and records that are harmed, hostile or without end",
    "tests/security/test_record_bombs": "sets and records that are harmed, hostile or without end",
    "tests/security/test_forms_at_both_ends": "sets and records that are harmed, hostile or without end",
    "tests/security/test_decoder": "sets and records that are harmed, hostile or without end",
    "tests/security/test_limit_edges": "sets and records that are harmed, hostile or without end",
    "tests/security/test_result_limits": "sets and records that are harmed, hostile or without end",
    "tests/conformance/test_conformance_mutants.py": "workers that are broken on purpose",
    "tests/core/test_session.py": "calls and results are of the session's own making",
}
"""The beginning of a test's id -> the reason. One test says so by `@pytest.mark.unlike_schema(why)`."""


def why_unlike(nodeid: str) -> str | None:
    """The reason why this test's documents are not looked at."""
    return next((why for begun, why in UNLIKE.items() if nodeid.startswith(begun)), None)
