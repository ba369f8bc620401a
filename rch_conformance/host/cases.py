"""Every run that the checks look at, by name: a worker's scenario, and the words that are given beside."""

from __future__ import annotations

from rch_conformance.host.rig import Case, changed, interrupted, killed

WHOLE_RUN_SECONDS = 620
"""What a run of one step with `WHOLE_WORDS` may take: 20 to connect, and 600."""
WHOLE_WORDS = ("--set", "timeouts.connect_timeout_seconds=20", "--set", "timeouts.overall_seconds=600")
_BUILD = ("--action", "build")
_PLAIN = (
    # refusals, and what a host makes of them
    "source-lost",
    "source-never",
    "lease-lost",
    "lease-never",
    "no-space",
    "no-space-at-submit",
    "too-large",
    "rejected",
    "toolchain-changed",
    "key-mismatch",
    "internal",
    "unknown-operation",
    "invalid-request",
    "unsupported-protocol",
    "feature-missing",
    "gone",
    # versions and features
    "protocol-9",
    "protocol-1-to-9",
    "range-upside-down",
    "no-session",
    "no-tail",
    "no-lease",
    "no-lease-busy",
    "no-upload",
    "no-toolchain",
    # lines and words that make no sense
    "cut-line",
    "cut-tail",
    "cut-fetch",
    "seq-falls",
    "state-unknown",
    "other-request",
    "no-json",
    "unknown-members",
    "busy-twice",
    "renewals",
    # sets
    "plain-set",
    "wrong-digest",
    "wrong-digest-once",
    "missing-file",
    "extra-file",
    "unsafe-path",
    "absolute-path",
    "link",
    "twice",
    "other-job",
    "unsigned",
    "bad-signature",
    "other-key",
    "wrong-nonce",
    "wrong-root",
    "bad-statement",
)
"""Cases of one build step each, on the scenario of their own name."""

CASES = {
    "success": Case(),
    "again": Case(after="success"),
    "app": Case(scenario="success", project="app"),
    "build-failed": Case(),
    "goes-on": Case(scenario="build-failed", words=("--set", "run.continue_on_failure=true")),
    "tests-failed": Case(),
    "refused-here": Case(scenario="success", words=("--filter", "MockTests")),
    "busy": Case(words=(*_BUILD, "--no-queue")),
    "no-lease-taken": Case(words=(*_BUILD, "--no-queue")),
    "no-lease-long-job": Case(words=_BUILD, drive=interrupted),
    "upload-alone": Case(words=_BUILD, pin=False),
    "no-renewals": Case(words=(*_BUILD, *WHOLE_WORDS)),
    "base-missing": Case(project="changing", words=_BUILD),
    "changed": Case(after="base-missing", project="changing", words=_BUILD, drive=changed),
    "preferred": Case(scenario="success", words=_BUILD, spare=True),
    "absent": Case(scenario="success", words=_BUILD, absent=True),
    "interrupted": Case(scenario="long-job", words=_BUILD, drive=interrupted),
    "too-long": Case(scenario="long-job", words=(*_BUILD, "--set", "timeouts.overall_seconds=1")),
    "too-quiet": Case(scenario="quiet-job", words=(*_BUILD, "--set", "timeouts.idle_log_seconds=1")),
    "next": Case(scenario="busy", words=_BUILD, spare=True),
    "killed": Case(scenario="slow-log", words=_BUILD, spare=True, drive=killed),
    "stand-in": Case(scenario="success", words=_BUILD, real=False),
    "simulation": Case(scenario="success", words=("--simulate",), real=False),
    **{name: Case(words=_BUILD) for name in _PLAIN},
}
