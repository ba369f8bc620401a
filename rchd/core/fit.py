"""What one worker would serve a run with, or why it would not (spec section 7): pure over a probe."""

from __future__ import annotations

import msgspec

from rch.contract.destinations import Resolved, resolve_destination
from rch.contract.errors import Failure, Kind
from rch.contract.records import Capabilities, RunOptions
from rch.contract.toolchain import (
    choose_swift,
    choose_xcode,
    host_destination_inputs,
    swift_toolchain_inputs,
    xcode_toolchain_inputs,
)
from rch.contract.worker_rpc import Feature, ProbeResult
from rchd.core import model as m

BACKEND_FEATURES = {"swiftpm": None, "xcodebuild": Feature.BACKEND_XCODEBUILD}
"""The feature by which a worker offers a backend; every worker has swiftpm."""

SIMULATED, NOT_SIMULATED = "SIMULATED", "NOT_SIMULATED"


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The toolchain and destination of a run on one worker, as `rchd.core.model.Choice` has them."""

    toolchain: dict[str, str]
    destination: dict[str, str]
    warnings: tuple[str, ...] = ()
    xcode_version: str | None = None
    concrete: str | None = None
    udid: str | None = None


def require_kind(options: RunOptions, capabilities: Capabilities) -> None:
    """Real tools for a real run, stand-ins for a simulation: neither is ever served by the other's."""
    if capabilities.simulated and not options.simulate:
        message = "simulated: its tools are stand-ins; it serves only runs that ask with --simulate"
        raise Failure(Kind.WORKER_INCOMPATIBLE, message, subkind=SIMULATED)
    if options.simulate and not capabilities.simulated:
        message = "not simulated: a run with --simulate is served by stand-in tools alone"
        raise Failure(Kind.WORKER_INCOMPATIBLE, message, subkind=NOT_SIMULATED)


def fit(options: RunOptions, result: ProbeResult) -> Fit:
    """What serves; `Failure` WORKER_INCOMPATIBLE, or CONFIG where no worker could, says what is missing."""
    if options.backend not in BACKEND_FEATURES:
        message = f"the backend {options.backend!r} is not offered by this version"
        raise Failure(Kind.WORKER_INCOMPATIBLE, message, subkind="NOT_OFFERED")
    feature = BACKEND_FEATURES[options.backend]
    if feature is not None and feature not in result.features:
        message = f"rch-worker there does not offer the backend {options.backend}"
        raise Failure(Kind.WORKER_INCOMPATIBLE, message, subkind="FEATURE_MISSING")
    if options.backend == "xcodebuild":
        return _xcode(options, result.capabilities)
    return _swift(options, result.capabilities)


def _swift(options: RunOptions, capabilities: Capabilities) -> Fit:
    entry, warning = choose_swift(capabilities, options.toolchain.get("swift_version"))
    return Fit(
        toolchain=swift_toolchain_inputs(capabilities, entry),
        destination=host_destination_inputs(capabilities),
        warnings=(warning,) if warning else (),
    )


def _xcode(options: RunOptions, capabilities: Capabilities) -> Fit:
    wanted = options.toolchain
    entry, warning = choose_xcode(capabilities, wanted.get("xcode_build"), wanted.get("xcode_version"))
    where = _resolved(options, capabilities)
    return Fit(
        toolchain=xcode_toolchain_inputs(capabilities, entry),
        destination=where.inputs,
        warnings=tuple(each for each in (warning, where.warning) if each),
        xcode_version=entry.version,
        concrete=where.value,
        udid=where.udid,
    )


def _resolved(options: RunOptions, capabilities: Capabilities) -> Resolved:
    """The config's one destination, as it is for every action of the run."""
    constraint = options.destination or ""
    found = [
        resolve_destination(capabilities, constraint, action, options.provisioning)
        for action in options.actions or ("build",)
    ]
    return found[-1]


def may_be_served(run: m.Run, choice: m.Choice) -> bool:
    """Whether a result of another job can stand for one of these, and one of these for others."""
    offered = Feature.RESULT_CACHE in choice.probe.features
    return run.accepted.options.results and offered and not choice.capabilities.simulated
