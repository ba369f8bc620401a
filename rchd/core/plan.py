"""From config, classification and snapshot to an accepted run: pure, ids come in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from rch.config.invocation import Step, policy_for, step_argv, steps, steps_for_action
from rch.config.layers import Resolved
from rch.config.redact import redact
from rch.config.schema import Config
from rch.config.sources import Origin
from rch.contract.canonical import jcs_sha256
from rch.contract.classifier import Rejected, classify
from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import (
    Accepted,
    AcceptedRequest,
    AcceptedStep,
    ConfigSource,
    Git,
    Narrowing,
    RunOptions,
    Source,
)
from rch.contract.redact import scrub
from rchd.core.narrow import narrowed


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
    resolved: Resolved,
    actions: Iterable[str] | None,
    argv: Sequence[str] | None = None,
    narrowing: Narrowing | None = None,
) -> tuple[Planned, ...]:
    """The steps of the config, those of the named actions in their order, or the one of `argv`.

    With `narrowing` less of the test steps.
    """
    if argv is not None and actions is not None:
        raise Failure(Kind.USAGE, "a run has actions or a command line of its own, not both")
    if argv is not None:
        action = next((word for word in argv if word in {"build", "test"}), "build")
        whole = [(action, tuple(argv), tuple[str, ...]())]
    else:
        config = resolved.config
        whole = [
            (each.action, step_argv(config, each), each.only_testing) for each in _steps(config, actions)
        ]
    if narrowing is None:
        left = [(action, words) for action, words, _ in whole]
    else:
        left = narrowed(whole, narrowing, resolved.config.backend)
    return tuple(Planned(action=action, argv=words) for action, words in left)


def _steps(config: Config, actions: Iterable[str] | None) -> list[Step]:
    found = list(steps(config)) if actions is None else []
    for action in actions or ():
        if action not in {"build", "test"}:
            raise Failure(Kind.USAGE, f"action {action!r} is not build or test")
        found += steps_for_action(config, "build" if action == "build" else "test")
    return found


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
        request=_request(params),
    )


def _request(params: SubmitParams) -> AcceptedRequest:
    overrides, withheld = redact(params.overrides)
    argv = params.argv if params.argv is None else _shown(params.argv)
    if argv != params.argv:
        withheld = (*withheld, "the command line")
    return AcceptedRequest(
        actions=params.actions,
        argv=argv,
        overrides=overrides,
        narrowing=params.narrowing,
        withheld=withheld,
    )


def again(accepted: Accepted) -> SubmitParams:
    """The request that was accepted, to be made again of its project as it is now.

    `Failure` USAGE where it was not written down as a whole.
    """
    asked = accepted.request
    if asked is None or asked.withheld:
        why = "an earlier version accepted it, which kept no request"
        if asked is not None:
            why = f"the values of {', '.join(asked.withheld)} are secrets and were not kept"
        raise Failure(
            Kind.USAGE,
            f"run {accepted.run_id} cannot be asked for again: {why}",
            hint=f"in {accepted.root}: rchctl verify",
        )
    return SubmitParams(
        start=accepted.root,
        actions=asked.actions,
        argv=asked.argv,
        overrides=asked.overrides,
        origin=accepted.origin,
        priority=accepted.options.priority,
        group=accepted.group,
        supersede=accepted.supersede,
        queue=accepted.options.queue,
        narrowing=asked.narrowing,
        simulate=accepted.options.simulate,
    )


def _has_results(params: SubmitParams, resolved: Resolved, steps: Iterable[AcceptedStep]) -> bool:
    """Whether it has a part in the result cache: asked for, and narrowed by the repo's own steps alone."""
    if params.simulate or params.narrowing is not None:
        return False
    own = params.argv is None and resolved.origins.get("actions.step") is Origin.REPO
    return resolved.config.cache.results and (own or not any(step.scope for step in steps))


def _shown(argv: Iterable[str]) -> tuple[str, ...]:
    """A command line as it is written down: without what looks like a secret."""
    return tuple(scrub(word) for word in argv)


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
            original_argv=_shown(verdict.original_argv),
            rejected_flags=_shown(verdict.rejected_flags),
            reasons=tuple(
                msgspec.structs.replace(each, subject=scrub(each.subject), message=scrub(each.message))
                for each in verdict.reasons
            ),
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
        simulate=params.simulate,
        provisioning=config.destination.provisioning,
    )
