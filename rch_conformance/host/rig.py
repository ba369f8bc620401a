"""The runs that the checks look at: each case is run once, some at a time, ahead of its checks."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rch_conformance.checks import Broken
from rch_conformance.host.calling import undisturbed
from rch_conformance.host.home import Ended, Home, MockEntry, read_json
from rch_conformance.host.seen import Run, transcript

AT_ONCE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run: on which worker's scenario, of which project, with which words.

    `scenario` None is that of the case's own name. `after` is a case whose worker it uses, once that
    is over. With `spare` a second worker has its tag, too; `absent` has a worker whose
    program is not there. `drive` does more than wait for the end.
    """

    scenario: str | None = None
    project: str = "package"
    words: tuple[str, ...] = ()
    real: bool = True
    pin: bool = True
    after: str | None = None
    spare: bool = False
    absent: bool = False
    drive: Callable[[Rig, str, tuple[str, ...]], Ended] | None = None


class Rig:
    """One home, a worker a case, and the runs that were made so far."""

    def __init__(self, home: Home, cases: Mapping[str, Case]) -> None:
        self.home, self.cases = home, cases
        home.inventory(self._entries())
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="run")
        self._runs: dict[str, Future[Run]] = {}
        self._lock = threading.Lock()

    def _entries(self) -> Iterable[MockEntry]:
        for name, case in self.cases.items():
            if case.after is not None:
                continue
            scenario = case.scenario or name
            yield MockEntry(
                name=name,
                scenario=scenario,
                tag=name,
                real=case.real,
                pin=case.pin,
                absent=case.absent,
                priority=10,
            )
            if case.spare:
                yield MockEntry(name=spare_of(name), scenario="success", tag=name, priority=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody looks at what still runs: it is ended, and what has not begun is left out."""
        with undisturbed():
            self.home.abandon()
            self._pool.shutdown(cancel_futures=True)

    def ahead(self, names: Iterable[str]) -> None:
        """Begin with these runs: their checks will come."""
        for name in names:
            self._future(name)

    def run(self, name: str) -> Run:
        """The run of a case when it is over."""
        return self._future(name).result()

    def _future(self, name: str) -> Future[Run]:
        with self._lock:
            if name not in self._runs:
                case = self.cases[name]
                if case.after is not None and case.after not in self._runs:
                    self._runs[case.after] = self._pool.submit(self._make, case.after)
                self._runs[name] = self._pool.submit(self._make, name)
            return self._runs[name]

    def _make(self, name: str) -> Run:
        case = self.cases[name]
        worker = case.after or name
        words = ("verify", "--json", "--set", f"selection.tags={worker}", *case.words)
        before = 0
        if case.after is not None:
            earlier = self.run(case.after)
            before = earlier.until = len(transcript(self.home.state(worker)))
        drive = case.drive or _to_its_end
        ended = drive(self, name, words)
        return Run(ended=ended, folder=_folder(ended), state=self.home.state(worker), skip=before)


def spare_of(name: str) -> str:
    """The second worker of a case: the first by its name, and the last by its priority."""
    return f"a-spare-of-{name}"


def _to_its_end(rig: Rig, name: str, words: tuple[str, ...]) -> Ended:
    return rig.home.call(*words, project=rig.cases[name].project)


def _folder(ended: Ended) -> Path | None:
    data = ended.told.get("data")
    named = data.get("run_dir") if isinstance(data, dict) else None
    return Path(named) if isinstance(named, str) else None


# --- runs that take more than waiting --------------------------------------------------------


def interrupted(rig: Rig, name: str, words: tuple[str, ...]) -> Ended:
    """Ctrl-C while the job runs."""
    begun = time.monotonic()
    process = rig.home.start(*words, project=rig.cases[name].project)
    try:
        rig.home.until("a tail of the job", lambda: _was_asked(rig, name, "tail"))
    finally:
        process.send_signal(signal.SIGINT)
        ended = rig.home.end(process, begun)
    # The client is told when the cancel is durable; the run ends when the worker has ended the job.
    rig.home.call("wait", str(ended.told["data"]["run_id"]))
    return ended


def killed(rig: Rig, name: str, words: tuple[str, ...]) -> Ended:
    """The daemon is killed while the job runs, and started again."""
    begun = time.monotonic()
    process = rig.home.start(*words, project=rig.cases[name].project)
    try:
        rig.home.until("a tail of the job", lambda: _was_asked(rig, name, "tail"))
        rig.home.kill_daemon()
        rig.home.call("daemon", "start")
    finally:
        ended = rig.home.end(process, begun)
    return ended


def changed(rig: Rig, name: str, words: tuple[str, ...]) -> Ended:
    """A run of the project with one file changed since the last one."""
    file = rig.home.projects[rig.cases[name].project] / "Sources" / "Mock" / "Mock.swift"
    with file.open("a", encoding="utf-8") as text:
        text.write("// changed\n")
    return _to_its_end(rig, name, words)


def _was_asked(rig: Rig, worker: str, op: str) -> bool:
    return any(each.op == op for each in transcript(rig.home.state(worker)))


def records_of(run: Run) -> Iterable[tuple[Path, dict[str, Any]]]:
    """Every JSON file of a run's folder."""
    found = sorted(run.dir.rglob("*.json"))
    if not found:
        raise Broken("the run's folder has no records")
    return [(path, read_json(path)) for path in found]
