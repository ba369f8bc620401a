"""What earlier runs say together: how long they take, and which tests do not always say the same. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

_RECENT = 5
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class TestCounts:
    """How many tests a step ran, and what became of them; `flaky` ones count as passed."""

    __test__ = False

    total: int
    passed: int
    failed: int
    skipped: int
    flaky: int


@dataclass(frozen=True, slots=True)
class PastStep:
    """One step of an ended run.

    `group`: steps of one group ran the same source with the same toolchain and destination. `failed` and
    `retried` name tests; `outcomes` has all of them, where they were asked for. `junit` is where they are.
    """

    action: str
    status: str
    duration_ms: int | None = None
    cached: bool = False
    group: str | None = None
    tests: TestCounts | None = None
    failed: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    junit: Path | None = None
    outcomes: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PastRun:
    """One ended run."""

    run_id: str
    run_dir: Path
    created_at: str
    project: str
    root: str
    status: str
    exit_code: int
    failure_kind: str | None
    failure_subkind: str | None
    duration_ms: int
    simulated: bool
    scope: tuple[str, ...]
    worker: str | None
    branch: str | None
    commit: str | None
    steps: tuple[PastStep, ...]

    @property
    def cached(self) -> bool:
        """Whether any result of it is that of an earlier run."""
        return any(step.cached for step in self.steps)

    @property
    def actions(self) -> tuple[str, ...]:
        """What was asked for, in order."""
        return tuple(step.action for step in self.steps)

    @property
    def tests(self) -> TestCounts | None:
        """The tests of all its steps."""
        counts = [step.tests for step in self.steps if step.tests is not None]
        if not counts:
            return None
        return TestCounts(
            sum(each.total for each in counts),
            sum(each.passed for each in counts),
            sum(each.failed for each in counts),
            sum(each.skipped for each in counts),
            sum(each.flaky for each in counts),
        )


@dataclass(frozen=True, slots=True)
class Trend:
    """Of the successes that were executed and whole: the middle length of all and of the newest ones.

    `actions`: those of the runs that are compared.
    """

    actions: tuple[str, ...]
    runs: int
    median_ms: int
    recent: int
    recent_ms: int
    change_percent: int | None


@dataclass(slots=True)
class FlakyTest:
    """A test that wavers.

    `retried`: runs in which it passed on a retry alone; `disagreed`: sources on which it both failed and
    passed; `evidence`: run and outcome, newest first. Where no test failed, passes are not looked up.
    """

    test: str
    retried: int = 0
    disagreed: int = 0
    failed: int = 0
    passed: int = 0
    last_at: str = ""
    evidence: list[tuple[str, str]] = field(default_factory=list)

    @property
    def times(self) -> int:
        """How often it was seen to waver."""
        return self.retried + self.disagreed


def trend(runs: Sequence[PastRun]) -> Trend | None:
    """The trend of `runs`, newest first; narrowed, cached and failed ones do not count.

    Nor do those of other actions than most have. Simulated runs and real ones are never given together.
    """
    plain = [run for run in runs if run.status == "success" and is_plain(run)]
    if not plain:
        return None
    ((actions, _),) = Counter(run.actions for run in plain).most_common(1)
    lengths = [run.duration_ms for run in plain if run.actions == actions]
    recent, earlier = lengths[:_RECENT], lengths[_RECENT:]
    change = None
    if earlier and median(earlier) > 0:
        change = round((median(recent) / median(earlier) - 1) * 100)
    return Trend(actions, len(lengths), round(median(lengths)), len(recent), round(median(recent)), change)


def is_plain(run: PastRun) -> bool:
    """Whether the run is the whole gate, executed for itself."""
    return not (run.scope or run.cached)


def spark(values: Sequence[int]) -> str:
    """The values as a line of blocks, from nothing to the greatest."""
    top = max(values, default=0)
    if top <= 0:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, value * len(_BLOCKS) // (top + 1))] for value in values)


def doubtful_groups(runs: Iterable[PastRun]) -> frozenset[str]:
    """The groups in which a test failed: only there it matters which ones passed."""
    return frozenset(
        step.group for run in runs for step in run.steps if step.failed and step.group is not None
    )


def flaky(runs: Sequence[PastRun]) -> list[FlakyTest]:
    """The tests of `runs` (newest first) that waver, those first that do so most, then latest."""
    found: dict[str, FlakyTest] = {}
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        for step in run.steps:
            if step.cached or step.status not in {"success", "failed"}:
                continue  # nothing was run, or not to its end
            for test, outcome in _outcomes(step).items():
                _note(found.setdefault(test, FlakyTest(test)), run, outcome)
                if step.group is not None:
                    seen[step.group, test].add("failed" if outcome == "failed" else "passed")
    for (_, test), outcomes in seen.items():
        found[test].disagreed += len(outcomes) == 2
    return sorted(
        (each for each in found.values() if each.times),
        key=lambda each: (-each.times, _later(each), each.test),
    )


def _outcomes(step: PastStep) -> dict[str, str]:
    """What is known of its tests: failed, retried or passed; what was skipped says nothing."""
    known = {
        test: outcome for test, outcome in (step.outcomes or {}).items() if outcome in {"passed", "failed"}
    }
    return {**known, **dict.fromkeys(step.failed, "failed"), **dict.fromkeys(step.retried, "retried")}


def _note(test: FlakyTest, run: PastRun, outcome: str) -> None:
    test.retried += outcome == "retried"
    test.failed += outcome == "failed"
    test.passed += outcome == "passed"
    test.last_at = max(test.last_at, run.created_at)
    test.evidence.append((run.run_id, outcome))


def _later(test: FlakyTest) -> tuple[int, ...]:
    """Sorts what was seen last first."""
    return tuple(-ord(each) for each in test.last_at)
