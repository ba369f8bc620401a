"""Where the docs say what each check asks for: by its id where that is not its section's."""

from __future__ import annotations

_WORKER = "docs/protocol-worker.md"
_CHANNEL = f"{_WORKER}#the-channel"
_ENVELOPE = f"{_WORKER}#the-envelope"
_PROBE = f"{_WORKER}#probe-and-negotiation"
_LEASES = f"{_WORKER}#leases-and-fences"
_SOURCE = f"{_WORKER}#the-source"
_SUBMIT = f"{_WORKER}#submit"
_FOLLOWING = f"{_WORKER}#following"
_CANCEL = f"{_WORKER}#cancel"
_SET = f"{_WORKER}#the-artifact-set"
_NAMES = "docs/canonical-tar.md#names"
_RECORDS = "docs/reference/artifacts.md (make docs)"
_STATEMENTS = "docs/attestation.md#statements-for-other-tools"

_SECTIONS = {
    "2": _ENVELOPE,
    "3.1": _ENVELOPE,
    "3.2": f"{_WORKER}#framed-messages",
    "3.3": _SUBMIT,
    "3.4": _LEASES,
    "4": _SUBMIT,
    "5": "docs/canonical-tar.md#form",
    "8": _SET,
    "10": f"{_WORKER}#the-attestations-bytes",
}
_ELSEWHERE = {
    _CHANNEL: (
        "one-shot",
        "channel-ends-with-its-input",
        "session-keeps-the-order",
        "session-ends-with-its-input",
        "lines-in-pieces",
        "job-outlives-its-channel",
    ),
    _PROBE: (
        "probe-in-version-0",
        "probe-has-its-members",
        "speaks-what-hosts-need",
        "probes-agree",
        "probe-in-another-version",
        "attestation-names-the-capabilities",
        "fingerprint-is-advertised",
    ),
    f"{_WORKER}#error-codes": ("unknown-operation", "refusals-have-their-form"),
    _LEASES: ("slots-bound-the-jobs",),
    _SOURCE: (
        "has-source-has-its-shape",
        "parts-make-a-source",
        "empty-part-asks",
        "parts-go-on",
        "damaged-part-is-not-added",
        "cut-part-keeps-the-others",
        "parts-belong-to-their-source",
        "totals-are-checked",
        "thin-upload-makes-the-whole",
        "thin-upload-is-verified",
        "base-is-needed",
        "removed-names-are-known",
        "thin-upload-is-held-to-the-form",
        "duplicates-are-taken",
        "duplicates-are-checked",
        "uploads-at-once",
        "uploads-are-atomic",
        "has-source-under-a-lease",
    ),
    _NAMES: (
        "names-stay-inside",
        "names-are-told-apart",
        "files-are-no-folders",
        "links-stay-inside",
    ),
    _FOLLOWING: (
        "log-is-counted-while-it-grows",
        "held-tail-wakes",
        "tail-does-not-wait",
        "held-tail-holds-nobody-else",
        "status-has-its-shape",
        "status-counts-the-log",
        "unknown-jobs",
        "tail-has-its-shape",
        "live-text-is-the-log",
        "printed-lines-reach-the-log",
        "max-bytes-loses-nothing",
        "pieces-hold-whole-characters",
        "null-cursor-is-the-end",
        "strange-cursors-are-refused",
        "cursors-hold-still",
        "events-are-numbered",
        "late-readers-read-all",
        "events-are-those-of-the-tail",
    ),
    _CANCEL: (
        "cancel-wakes-a-held-tail",
        "cancelled-job-has-its-set",
        "tombstone",
        "cancel-at-the-end",
        "reasons-are-taken",
        "cancel-of-a-running-job",
        "reasons-are-known",
        "overall-timeout-is-kept",
    ),
    _SET: (
        "running-job-has-no-set",
        "set-header-is-the-response",
        "set-header-echoes",
        "set-is-what-its-header-says",
        "set-is-the-same-again",
        "fetch-goes-on",
        "offset-beyond-the-set",
    ),
    "docs/job-key.md": (
        "job-key-is-checked",
        "numbers-beyond-the-canonical-form",
        "key-inputs-are-the-form",
    ),
    _RECORDS: (
        "timestamps-of-records",
        "verdict-is-on-record",
        "configuration-is-kept",
        "policy-is-kept",
        "profile-is-named",
        "minimal-job-that-ran",
        "records-are-of-their-types",
        "records-name-their-job",
        "given-records-are-kept",
        "summary-of-success",
        "summary-of-failure",
        "summary-of-cancellation",
        "summary-has-its-members",
        "tests-are-counted",
        "environment-has-no-values",
        "sets-are-complete",
        "profiles-differ",
        "result-bundle-is-kept",
    ),
    _STATEMENTS: (
        "envelopes-are-signed",
        "provenance-is-about-the-set",
        "provenance-names-the-toolchain",
        "failed-tests-are-attested",
    ),
}
PAGES = {**_SECTIONS, **{check: page for page, checks in _ELSEWHERE.items() for check in checks}}
"""The page of a section or of a check, with the heading below which it stands."""
