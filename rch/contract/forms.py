"""What the contract fixes of a text, as annotations of the types (spec sections 2, 3 and 8).

The JSON Schemas show them; no decoder asks them. Whoever takes such a text from a peer checks it itself,
and says in words of its own what is wrong with it. A vocabulary stands here once it is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from rch.contract.errors import Kind
from rch.contract.policy import ReasonCode
from rch.contract.states import JobState, RunState

_HEX = "[0-9a-f]{64}"


def _like(pattern: str) -> Meta:
    """A text of this form: a regular expression that ECMA-262 and Python read alike."""
    return Meta(extra_json_schema={"pattern": pattern})


def _one_of(words: Iterable[str]) -> Meta:
    """One word of a closed vocabulary."""
    return Meta(extra_json_schema={"enum": [str(word) for word in words]})


Id = Annotated[str, _like("^[A-Za-z0-9][A-Za-z0-9_-]{9,63}$")]
"""A run, job, request, lease or upload."""
Sha256 = Annotated[str, _like(f"^{_HEX}$")]
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time", "pattern": _TIME})]
"""RFC 3339 in UTC, with the suffix `Z`."""
Version = Annotated[str, _like(r"^[0-9]+\.[0-9]+\.[0-9]+$")]
Fingerprint = Annotated[str, _like(f"^SHA256:{_HEX}$")]
"""Of a worker's own key: the SHA-256 of its 32 raw bytes."""
Base64 = Annotated[str, _like("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
RelativePath = Annotated[str, _like(r"^(?!(.*/)?\.\.(/|$))[^/]")]
"""Below a folder that the record names or lies in; its parts are divided by `/`, and none is `..`."""
Subkind = Annotated[str, _like("^[A-Z][A-Z0-9_]*$")]
"""A row of the registry of failures; further ones may come."""

Natural = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
Ordinal = Annotated[int, Meta(extra_json_schema={"minimum": 1})]
ExitCode = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": 255})]

Action = Annotated[str, _one_of(("build", "test"))]
Backend = Annotated[str, _one_of(("xcodebuild", "swiftpm"))]
Profile = Annotated[str, _one_of(("minimal", "rich"))]
Provisioning = Annotated[str, _one_of(("existing", "ephemeral"))]
RunWord = Annotated[str, _one_of(RunState)]
JobWord = Annotated[str, _one_of(JobState)]
Status = Annotated[str, _one_of(("success", "failed", "rejected", "cancelled"))]
StepStatus = Annotated[str, _one_of(("success", "failed", "rejected", "cancelled", "skipped"))]
FailureKind = Annotated[str, _one_of(Kind)]
RejectionCode = Annotated[str, _one_of(ReasonCode)]
CANCEL_WORDS = ("USER", "SIGNAL", "TIMEOUT_OVERALL", "TIMEOUT_IDLE", "SUPERSEDED")
CancelReason = Annotated[str, _one_of(CANCEL_WORDS)]
OnDisconnect = Annotated[str, _one_of(("keep", "cancel"))]
OnBusy = Annotated[str, _one_of(("next", "wait"))]
SelectionMode = Annotated[str, _one_of(("deterministic", "adaptive"))]
SnapshotSource = Annotated[str, _one_of(("cached", "fresh"))]
ToolchainKind = Annotated[str, _one_of(("xcode", "swift"))]
EntryType = Annotated[str, _one_of(("file", "directory"))]
SourceEntryType = Annotated[str, _one_of(("file", "symlink"))]
Severity = Annotated[str, _one_of(("error", "warning"))]
TrustResult = Annotated[str, _one_of(("verified", "unpinned", "unsigned"))]
EventType = Annotated[str, _one_of(("stage", "test", "failure", "diagnostic", "note"))]
Compression = Annotated[str, _one_of(("none", "zstd"))]
NewsType = Annotated[str, _one_of(("run", "stage", "log", "job", "heartbeat", "gap", "end"))]
ArchiveFormat = Annotated[str, _one_of(("tar",))]

_XCODE = ("xcode_build", "developer_dir", "macos_version", "macos_build", "arch")
_SWIFT = ("swift_version", "toolchain_dir", "os_name", "os_version", "arch")
_PLACE = ("platform", "name", "os_version", "provisioning")
_SIMULATOR = ("sim_runtime_identifier", "sim_runtime_build", "device_type_identifier")

ToolchainInputs = Annotated[
    dict[str, str],
    Meta(
        extra_json_schema={
            "oneOf": [
                {"required": list(five), "propertyNames": {"enum": list(five)}} for five in (_XCODE, _SWIFT)
            ]
        }
    ),
]
"""The toolchain of a job's identity: Xcode's five members or Swift's."""
DestinationInputs = Annotated[
    dict[str, str],
    Meta(
        extra_json_schema={
            "required": list(_PLACE),
            "propertyNames": {"enum": [*_PLACE, *_SIMULATOR]},
            "dependentRequired": {name: list(_SIMULATOR) for name in _SIMULATOR},
        }
    ),
]
"""The destination of a job's identity; the three of a simulator stand together."""
