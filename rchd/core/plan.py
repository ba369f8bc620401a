"""From config, classification and snapshot to an accepted run: pure, ids come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from rch.config.invocation import policy_for, step_argv, steps, steps_for_action
from rch.config.layers import Resolved
from rch.config.sources import Origin
from rch.contract.canonical import jcs_sha256
from rch.contract.classifier import Rejected, classify
from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Accepted, AcceptedStep, ConfigSource, Git, RunOptions, Source


@dataclass(frozen=True, slots=True)
class Minted:
    """What has to come from outside: ids in the order of the steps, and the time."""

    run_id: str
    job_ids: Sequence[str]
    nonces: Sequence[str]
    created_at: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A step before the gate has seen it: its command line, and the action that it is filed under."""

    action: str
    argv: tuple[str, ...]


def planned_steps(
    resolved: Resolved, actions: Iterable[str] | None, argv: Sequence[str] | None = None
) -> tuple[Planned, ...]:
    """The steps of the config, those of the named actions in their order, or the one of `argv`."""
    config = resolved.config
    if argv is not None and actions is not None:
        raise Failure(Kind.USAGE, "a run has actions or a command line of its own, not both")
    if argv is not None:
        action = next((word for word in argv if word in {"build", "test"}), "build")
        return (Planned(action=action, argv=tuple(argv)),)
    found = list(steps(config)) if actions is None else []
    for action in actions or ():
        if action not in {"build", "test"}:
            raise Failure(Kind.USAGE, f"action {action!r} is not build or test")
        found += steps_for_action(config, "build" if action == "build" else "test")
    return tuple(Planned(action=step.action, argv=step_argv(config, step)) for step in found)


def accepted_run(
    *,
    params: SubmitParams,
    root: str,
    project: str,
    resolved: Resolved,
    planned: Sequence[Planned],
    source: Source,
    git: Git | None,
    warnings: Sequence[str],
    minted: Minted,
) -> Accepted:
    """The accepted run: every step classified, everything that the run needs written down."""
    config = resolved.config
    policy = policy_for(config)
    steps = tuple(_step(index, step, policy, minted) for index, step in enumerate(planned))
    return Accepted(
        created_at=minted.created_at,
        run_id=minted.run_id,
        project=project,
        root=root,
        origin=params.origin,
        client_token=params.client_token,
        steps=steps,
        options=msgspec.structs.replace(
            run_options(params, resolved, planned), results=_has_results(params, resolved, steps)
        ),
        source=source,
        git=git,
        effective_config=resolved.effective,
        config_sources=tuple(
            ConfigSource(origin=str(each.origin), sha256=each.sha256, path=each.path or msgspec.UNSET)
            for each in resolved.sources
        ),
        redactions=tuple(resolved.redactions),
        policy=msgspec.to_builtins(policy),
        policy_sha256=jcs_sha256(policy),
        warnings=tuple(warnings),
        group=params.group,
        supersede=params.supersede,
    )


def _has_results(params: SubmitParams, resolved: Resolved, steps: Iterable[AcceptedStep]) -> bool:
    """Whether it has a part in the result cache: asked for, and narrowed by the repo's own steps alone."""
    own = params.argv is None and resolved.origins.get("actions.step") is Origin.REPO
    return resolved.config.cache.results and (own or not any(step.scope for step in steps))


def _step(index: int, step: Planned, policy: ClassifierPolicy, minted: Minted) -> AcceptedStep:
    accepted = AcceptedStep(
        index=index,
        action=step.action,
        job_id=minted.job_ids[index],
        host_nonce=minted.nonces[index],
        original_argv=step.argv,
        sanitized_argv=None,
    )
    verdict = classify(step.argv, policy)
    if isinstance(verdict, Rejected):
        return msgspec.structs.replace(
            accepted,
            original_argv=verdict.original_argv,
            rejected_flags=verdict.rejected_flags,
            reasons=verdict.reasons,
        )
    return msgspec.structs.replace(accepted, sanitized_argv=verdict.sanitized_argv, scope=verdict.narrowing)


def run_options(params: SubmitParams, resolved: Resolved, planned: Sequence[Planned]) -> RunOptions:
    """What of config and request the host itself goes by."""
    config = resolved.config
    wanted = msgspec.to_builtins(config.toolchain)
    return RunOptions(
        backend=config.backend,
        artifact_profile=config.run.artifact_profile,
        continue_on_failure=config.run.continue_on_failure,
        queue=params.queue,
        priority=params.priority,
        tags=config.selection.tags,
        on_busy=config.selection.on_busy,
        max_wait_seconds=config.queue.max_wait_seconds,
        probe_ttl_seconds=config.selection.probe_ttl_seconds,
        overall_seconds=config.timeouts.overall_seconds,
        idle_log_seconds=config.timeouts.idle_log_seconds,
        connect_timeout_seconds=config.timeouts.connect_timeout_seconds,
        toolchain={key: value for key, value in wanted.items() if value is not None},
        destination=config.destination.value,
        actions=tuple(dict.fromkeys(step.action for step in planned)),
        selection_mode=config.selection.mode,
    )
