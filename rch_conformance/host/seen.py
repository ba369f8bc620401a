"""What a run left for everyone to see: its folder at the host, and what its worker was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rch.contract.decoding import decode_json
from rch_conformance.checks import Broken
from rch_conformance.host.home import Ended, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that a worker got, in order; `answer` is what it noted of its answer, if it gave one."""

    op: str
    version: int
    request_id: str
    payload: dict[str, Any]
    at_ms: int
    wall_ms: int
    channel: int
    answer: dict[str, Any]

    @property
    def refused(self) -> str | None:
        """The code of its refusal."""
        done = self.answer.get("did") == "refuse" or self.answer.get("ok") is False
        return str(self.answer.get("code")) if done else None


@dataclass(slots=True, kw_only=True)
class Run:
    """A run that is over. `folder` is None where the host named none.

    `state` is its worker's folder, of whose requests those from `skip` to `until` are the run's.
    """

    ended: Ended
    folder: Path | None
    state: Path
    skip: int = 0
    until: int | None = None

    @property
    def dir(self) -> Path:
        """The run's folder; `Broken` where there is none."""
        if self.folder is None or not self.folder.is_dir():
            raise Broken(f"there is no folder of the run: exit {self.ended.code}: {self.ended.err[-1000:]}")
        return self.folder

    def record(self, name: str) -> dict[str, Any]:
        """A record of the run by its path below the run's folder."""
        return read_json(self.dir / name)

    @property
    def index(self) -> dict[str, Any]:
        """`run_index.json`."""
        return self.record("run_index.json")

    @property
    def summary(self) -> dict[str, Any]:
        """`run_summary.json`."""
        return self.record("run_summary.json")

    def steps(self, action: str | None = None) -> list[dict[str, Any]]:
        """The steps of the index, of one action or all."""
        return [each for each in self.index["steps"] if action in {None, each["action"]}]

    def job(self, action: str) -> Path:
        """The folder of a step's job."""
        (step,) = self.steps(action)
        return self.dir / "steps" / action / str(step["job_id"])

    def asked(self, *ops: str) -> list[Asked]:
        """What its worker was asked, of these operations or of all."""
        return [
            each for each in transcript(self.state)[self.skip : self.until] if not ops or each.op in ops
        ]

    @property
    def failure(self) -> tuple[str | None, str | None, int]:
        """Kind, subkind and exit code."""
        told = self.summary
        return told.get("failure_kind"), told.get("failure_subkind"), self.ended.code


def transcript(state: Path) -> list[Asked]:
    """What a mock worker was asked so far, in the order in which it came."""
    answers: dict[tuple[int, int], dict[str, Any]] = {}
    lines = list(_lines(state / "transcript.jsonl"))
    for line in lines:
        if line["kind"] == "answer":
            answers[line["channel"], line["of_channel"]] = line
    return [
        Asked(
            op=line.get("op", "?"),
            version=line.get("protocol_version", -1),
            request_id=str(line.get("request_id")),
            payload=line.get("payload", {}),
            at_ms=line["at_ms"],
            wall_ms=line["wall_ms"],
            channel=line["channel"],
            answer=answers.get((line["channel"], line["of_channel"]), {}),
        )
        for line in lines
        if line["kind"] == "request"
    ]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    whole, _, _ = path.read_bytes().rpartition(b"\n")  # the last line may still be written
    for line in whole.splitlines():
        yield decode_json(line, dict[str, Any])


def require(holds: object, expected: str, seen: object = "") -> None:
    """`Broken` with what was expected and what was seen, unless it holds."""
    if not holds:
        raise Broken(
            f"expected: {expected}\nseen: {seen!s:.2000}" if seen != "" else f"expected: {expected}"
        )


def require_equal(seen: object, expected: object, what: str) -> None:
    """`Broken` unless they are one."""
    if seen != expected:
        raise Broken(f"{what}\nexpected: {expected!s:.1500}\nseen: {seen!s:.1500}")
