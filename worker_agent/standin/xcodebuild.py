"""The stand-in `xcodebuild`: reads its command line, plans, and carries the plan out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from worker_agent.standin import building, queries, sources, testing
from worker_agent.standin.arguments import USAGE_EXIT, Request, UsageError, parse
from worker_agent.standin.context import Context
from worker_agent.standin.model import Case
from worker_agent.standin.narrative import plan
from worker_agent.standin.plan import play
from worker_agent.standin.scenario import ScenarioError
from worker_agent.standin.session import Refused, Session, begin

IO_EXIT = 74
INTERRUPTED_EXIT = 75
SCENARIO_EXIT = 78
"""A scenario that cannot be read: no exit code of the real tool."""


def main(argv: Sequence[str], context: Context) -> int:
    """Run one command line; its exit code."""
    try:
        request = parse(argv)
        answer = queries.answer(request, context)
        if answer is None:
            answer = _act(request, context)
    except UsageError as error:
        context.output.flush()
        context.output.complain(f"xcodebuild: error: {error}\n\n{queries.USAGE}")
        return USAGE_EXIT
    except Refused as refused:
        context.output.flush()
        context.output.complain(refused.text)
        return refused.exit_code
    except ScenarioError as error:
        # In the tool's words for a bad command line: whoever mistyped it is to read what there is.
        context.output.complain(f"xcodebuild: error: invalid option: stand-in: {error}\n")
        return SCENARIO_EXIT
    except OSError as error:
        context.output.complain(f"xcodebuild: error: {error}\n")
        return IO_EXIT
    except KeyboardInterrupt:
        context.output.say(f"** {'TEST' if 'test' in argv else 'BUILD'} INTERRUPTED **\n\n")
        return INTERRUPTED_EXIT
    return answer


def _act(request: Request, context: Context) -> int:
    actions = request.actions or ["build"]
    if len(actions) > 1 or actions[0] not in {"build", "test"}:
        raise UsageError(f"the stand-in serves build or test, not '{' '.join(actions)}'")
    session = begin(request, context, actions[0], os.getpid())
    quiet = "-quiet" in request.switches
    _clone_packages(session)
    tests = session.action == "test"
    targets = building.order(session.container, session.scheme, tests=tests)
    try:
        with building.database(session.derived):
            build = building.survey(session.derived, session.variant, targets)
            return play(plan(session, build, _cases(session) if tests else ()), context.output, quiet=quiet)
    except building.Locked:
        return play(plan(session, None, ()), context.output, quiet=quiet)


def _cases(session: Session) -> tuple[Case, ...]:
    if session.scenario.no_tests:
        return ()
    declared = []
    for testable in session.scheme.tests:
        target = session.container.target(testable.target)
        for path in target.sources if target is not None else ():
            found = sources.declared_tests(sources.read(path))
            declared += [testing.Declared(testable.target, str(path), one) for one in found]
    request = session.request
    return testing.run(
        declared, _repeating(request), session.scenario, only=request.only, skip=request.skip
    )


def _repeating(request: Request) -> testing.Repeating:
    on_failure = "-retry-tests-on-failure" in request.switches
    until_failure = "-run-tests-until-failure" in request.switches
    most = int(request.values.get("-test-iterations", "3" if on_failure else "1"))
    return testing.Repeating(most, on_failure=on_failure, until_failure=until_failure)


def _clone_packages(session: Session) -> None:
    """Leave the folders of checked out packages; nothing is fetched."""
    named = session.request.values.get("-clonedSourcePackagesDirPath")
    folder = session.derived / "SourcePackages" if named is None else session.context.place(named)
    for package in session.container.packages:
        checkout: Path = folder / "checkouts" / package.identity
        checkout.mkdir(parents=True, exist_ok=True)
