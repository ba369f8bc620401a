"""From a request and a config to an accepted run: what is planned, kept, classified and withheld."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import accepted

from rch.config.layers import Resolved
from rch.config.schema import Config
from rch.config.sources import Origin
from rch.config.sources import Source as ConfigLayer
from rch.contract.canonical import jcs_sha256
from rch.contract.errors import Failure, Kind
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted, Narrowing
from rchd.core.plan import Minted, Planned, accepted_run, again, planned_steps

pytestmark = pytest.mark.spec("6")

ROOT = "/src/demo"
TOKEN = "ghp_" + "a" * 36
ONE = {"actions": {"step": [{"action": "test", "only_testing": ["AppTests/One"]}]}}


def resolved(origins: dict[str, Origin] | None = None, **tables: Any) -> Resolved:
    config = msgspec.convert({"backend": "swiftpm", **tables}, Config)
    layers = (
        ConfigLayer(origin=Origin.BUILT_IN, sha256="0" * 64),
        ConfigLayer(origin=Origin.REPO, path="/src/demo/.rch/xcode.toml", sha256="1" * 64),
    )
    return Resolved(
        config=config,
        origins=origins or {},
        sources=layers,
        redactions=("env.TOKEN",),
        effective={"backend": "swiftpm"},
    )


def made(config: Resolved | None = None, **asked: Any) -> Accepted:
    config = config or resolved()
    params = SubmitParams(start=ROOT, **asked)
    planned = planned_steps(config, params.actions, params.argv, params.narrowing)
    minted = Minted(
        run_id="run-00000001",
        job_ids=[f"job-000000000{index}" for index in range(9)],
        nonces=[f"nonce-{index}" for index in range(9)],
        created_at="2026-01-02T03:04:05Z",
    )
    return accepted_run(
        params=params,
        root=ROOT,
        project="demo",
        resolved=config,
        planned=planned,
        source=accepted().source,
        git=None,
        warnings=["a warning"],
        minted=minted,
    )


def usage(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Failure) as caught:
        call(*args, **kwargs)
    assert caught.value.kind is Kind.USAGE
    return str(caught.value)


def test_the_plan_is_the_configs_or_that_of_the_named_actions() -> None:
    config = resolved(actions={"verify": ["build", "test"]})
    build, test = planned_steps(config, None)
    assert (build.action, test.action, build.argv[:2]) == ("build", "test", ("swift", "build"))
    assert planned_steps(config, ["test", "build"]) == (test, build)
    assert planned_steps(config, ["test"]) == (test,)


def test_a_command_line_of_its_own_is_one_step_under_its_action() -> None:
    assert planned_steps(resolved(), None, ["swift", "test", "--filter", "build"]) == (
        Planned(action="test", argv=("swift", "test", "--filter", "build")),
    )
    assert planned_steps(resolved(), None, ["archive"])[0].action == "build"
    assert "both" in usage(planned_steps, resolved(), ["build"], ["swift", "build"])
    assert "'archive' is not build or test" in usage(planned_steps, resolved(), ["archive"])


def test_a_narrowing_leaves_less_of_the_test_steps() -> None:
    build, test = planned_steps(resolved(), ["build", "test"], None, Narrowing(filters=("One",)))
    assert "--filter" not in build.argv
    assert test.argv[-2:] == ("--filter", "One")


def test_an_accepted_run_holds_the_request_the_config_and_each_step_classified() -> None:
    run = made(actions=("build",), origin="editor", client_token="t" * 12, group="g", supersede=True)
    (step,) = run.steps
    assert (step.index, step.action, step.job_id, step.host_nonce) == (
        0,
        "build",
        "job-0000000000",
        "nonce-0",
    )
    assert step.sanitized_argv is not None
    assert step.sanitized_argv[0] == "build"
    assert step.original_argv[:2] == ("swift", "build")
    assert (run.run_id, run.created_at, run.root, run.project) == (
        "run-00000001",
        "2026-01-02T03:04:05Z",
        ROOT,
        "demo",
    )
    assert (run.origin, run.client_token, run.group, run.supersede) == ("editor", "t" * 12, "g", True)
    assert run.policy_sha256 == jcs_sha256(run.policy)
    assert [(each.origin, each.path) for each in run.config_sources] == [
        ("built-in", msgspec.UNSET),
        ("repo", "/src/demo/.rch/xcode.toml"),
    ]
    assert (run.redactions, run.warnings, run.effective_config) == (
        ("env.TOKEN",),
        ("a warning",),
        {"backend": "swiftpm"},
    )


def test_what_the_host_goes_by_is_taken_from_config_and_request() -> None:
    config = resolved(
        toolchain={"swift_version": "6.1"},
        timeouts={"overall_seconds": 60, "idle_log_seconds": 20, "connect_timeout_seconds": 7},
        selection={"tags": ["fast"], "on_busy": "wait", "mode": "adaptive", "probe_ttl_seconds": 11},
        queue={"max_wait_seconds": 99},
        run={"artifact_profile": "minimal", "continue_on_failure": True},
    )
    options = made(config, actions=("test", "build", "test"), priority=5, queue=False).options
    assert (options.toolchain, options.tags, options.on_busy) == (
        {"swift_version": "6.1"},
        ("fast",),
        "wait",
    )
    assert (options.overall_seconds, options.idle_log_seconds, options.connect_timeout_seconds) == (
        60,
        20,
        7,
    )
    assert (options.selection_mode, options.probe_ttl_seconds, options.max_wait_seconds) == (
        "adaptive",
        11,
        99,
    )
    assert (options.artifact_profile, options.continue_on_failure) == ("minimal", True)
    assert (options.priority, options.queue, options.actions) == (5, False, ("test", "build"))


@pytest.mark.spec("4")
def test_a_rejected_step_keeps_its_reasons_and_shows_no_secret() -> None:
    (step,) = made(argv=("swift", "build", f"--token={TOKEN}", TOKEN)).steps
    assert step.sanitized_argv is None
    assert step.reasons
    assert TOKEN not in str(msgspec.to_builtins(step))
    assert step.original_argv[:2] == ("swift", "build")


@pytest.mark.spec("11")
@pytest.mark.parametrize(
    ("config", "asked", "wanted"),
    [
        (resolved(), {}, True),
        (resolved(cache={"results": False}), {}, False),
        (resolved(), {"simulate": True}, False),
        (resolved(), {"narrowing": Narrowing(filters=("One",))}, False),
        (resolved(run={"allow_narrowing": True}), {"argv": ("swift", "test", "--filter", "One")}, False),
        (resolved(), {"argv": ("swift", "test")}, True),
        (resolved({"actions.step": Origin.REPO}, **ONE), {}, True),
        (resolved({"actions.step": Origin.CLI}, **ONE), {}, False),
        (resolved({"actions.step": Origin.REPO}, cache={"results": False}, **ONE), {}, False),
    ],
)
def test_results_of_others_serve_only_what_the_repo_itself_calls_its_gate(
    config: Resolved,
    asked: dict[str, Any],
    wanted: bool,  # noqa: FBT001
) -> None:
    assert made(config, **asked).options.results is wanted


def test_a_request_can_be_made_again_as_it_was() -> None:
    asked: dict[str, Any] = {
        "actions": ("test",),
        "overrides": {"timeouts.overall_seconds": 60},
        "origin": "editor",
        "priority": 7,
        "group": "g",
        "supersede": True,
        "queue": False,
        "narrowing": Narrowing(filters=("One",)),
    }
    assert again(made(**asked)) == SubmitParams(start=ROOT, **asked)
    own: dict[str, Any] = {"argv": ("swift", "test"), "simulate": True}
    assert again(made(**own)) == SubmitParams(start=ROOT, **own)


@pytest.mark.parametrize(
    ("asked", "withheld"),
    [
        ({"argv": ("swift", "build", TOKEN)}, "the command line"),
        ({"overrides": {"env.DEPLOY_TOKEN": "x"}}, "env.DEPLOY_TOKEN"),
    ],
)
def test_a_request_that_held_a_secret_is_not_kept_and_cannot_be_made_again(
    asked: dict[str, Any], withheld: str
) -> None:
    run = made(**asked)
    assert "are secrets" in usage(again, run)
    assert withheld in usage(again, run)
    assert TOKEN not in str(msgspec.to_builtins(run))


def test_what_an_earlier_version_accepted_cannot_be_made_again() -> None:
    run = msgspec.structs.replace(made(), request=None)
    assert "an earlier version" in usage(again, run)
