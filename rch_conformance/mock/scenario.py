"""What a mock worker does, as data: the form of a scenario file (docs/mock-worker.md).

A scenario changes an honest worker. `[worker]` is what it is, `[job]` what its jobs come to, `[set]`
what is wrong with the sets that it hands out, and each `[[answer]]` how some of its answers differ.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind

BUILT_IN = Path(__file__).parent / "scenarios"
"""A TOML file a scenario; each is an example of the form, too."""

Operation = Literal[
    "probe",
    "reserve",
    "renew",
    "release",
    "has_source",
    "upload_source",
    "submit",
    "status",
    "tail",
    "cancel",
    "fetch",
]
"""`renew` is a `reserve` that names a lease."""
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Word = Annotated[str, Meta(min_length=1, max_length=200)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manner of every table: immutable, by keyword, no unknown keys."""


class Worker(Table, frozen=True, kw_only=True):
    """What the worker says of itself.

    `capabilities` are merged, key by key, over those of the mock Mac; `without` are features that it
    does not offer. It grants `slots` leases at once, each for up to `lease_seconds`; a job without a
    lease needs a free slot, too. With `forgets_bases` it offers thin uploads, and never has the base of
    one.
    """

    protocol_min: int = 1
    protocol_max: int = 1
    without: tuple[Word, ...] = ()
    slots: Annotated[int, Meta(ge=1, le=1000)] = 1
    lease_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 90
    forgets_bases: bool = False
    capabilities: dict[str, Any] = {}


class Job(Table, frozen=True, kw_only=True):
    """What jobs come to. `outcome` is that of the jobs of action `on`; all others succeed.

    `lines` are added to the log, which grows evenly over `seconds`.
    """

    outcome: Literal[
        "success", "build-failed", "tests-failed", "tests-crashed", "no-tests", "infrastructure"
    ] = "success"
    on: Literal["build", "test", "any"] = "any"
    seconds: Seconds = 0
    lines: Count = 0


Fault = Literal[
    "wrong-digest",
    "missing-file",
    "extra-file",
    "unsafe-path",
    "absolute-path",
    "link",
    "twice",
    "unsigned",
    "bad-signature",
    "other-key",
    "wrong-nonce",
    "wrong-root",
    "bad-statement",
    "other-job",
    "cut",
]


class Set(Table, frozen=True, kw_only=True):
    """How the artifact sets are sent, and what is wrong with them.

    `fault` is in the first `times` fetches of a job (0: in all).
    """

    fault: Fault | None = None
    times: Count = 0
    compression: Literal["zstd", "none"] = "zstd"


class Answer(Table, frozen=True, kw_only=True):
    """How answers to `op` differ: `skip` requests are answered as usual, then `times` this way (0: all).

    `refuse` names `code`, `message` and `data`, with `unknown_code` a code that is none; `change` puts
    `payload` over the usual one and `envelope` over the usual members; `raw` sends `text` and a newline;
    `cut` does what was asked and hangs up without an answer, `drop` hangs up without having done it,
    `half` sends half the answer and hangs up; `silence` never answers. `seconds` pass before any of these.
    """

    op: Operation
    do: Literal["refuse", "change", "raw", "cut", "drop", "half", "silence"]
    skip: Count = 0
    times: Count = 0
    seconds: Seconds = 0
    code: Word = "INTERNAL"
    unknown_code: bool = False
    message: Word = "as the scenario has it"
    data: dict[str, Any] = {}
    payload: dict[str, Any] = {}
    envelope: dict[str, Any] = {}
    text: str = ""

    def meets(self, number: int) -> bool:
        """Whether it is about the `number`th request of its operation, counted from 1."""
        return number > self.skip and (not self.times or number <= self.skip + self.times)


class Scenario(Table, frozen=True, kw_only=True):
    """A whole file; `about` is one line for people."""

    about: str = ""
    worker: Worker = Worker()
    job: Job = Job()
    set: Set = Set()
    answer: tuple[Answer, ...] = ()


def names() -> tuple[str, ...]:
    """The built-in scenarios."""
    return tuple(sorted(path.stem for path in BUILT_IN.glob("*.toml")))


def all_built_in() -> Iterator[tuple[str, Scenario]]:
    """Each with its name."""
    for name in names():
        yield name, load(name)


def is_file(named: str) -> bool:
    """Whether a scenario is named by its file's path, and not as one that is built in."""
    return "/" in named or named.endswith((".toml", ".json"))


def identity(named: str) -> str:
    """What tells it from every other scenario: the name, or the whole path of its file."""
    return str(Path(named).resolve()) if is_file(named) else named


def text_of(named: str) -> bytes:
    """The file of a scenario as it lies there; `Failure` CONFIG where it is none."""
    load(named)
    return (Path(named) if is_file(named) else BUILT_IN / f"{named}.toml").read_bytes()


def load(named: str) -> Scenario:
    """The built-in scenario of that name, or the one in the file of that path.

    `Failure` CONFIG names the file and what is wrong with it, for an unknown name the nearest one.
    """
    if is_file(named):
        from rch.config.sources import read_bytes

        return parse(read_bytes(Path(named), named), named)
    path = BUILT_IN / f"{named}.toml"
    if not named.replace("-", "").isalnum() or not path.is_file():
        import difflib

        near = difflib.get_close_matches(named, names(), 1, 0.4)
        hint = f"the nearest is {near[0]}" if near else "rch-mock-worker --list names them"
        raise Failure(Kind.CONFIG, f"there is no scenario {named[:80]!r}; {hint}", subkind="BAD_VALUE")
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Scenario)


def parse(data: bytes, file: str) -> Scenario:
    """The scenario in the bytes of a file: JSON if its name says so, else TOML."""
    from rch.config.keys import check_tree
    from rch.config.sources import parse_toml
    from rch_conformance.mock.checking import check_meaning
    from rch_conformance.mock.mac import FROZEN, mac

    tree = _json(data, file) if file.endswith(".json") else parse_toml(data, file)
    check_tree(tree, Scenario, file)
    check_meaning(tree, file)
    made = msgspec.convert(tree, Scenario)
    try:
        mac(made.worker.capabilities, simulated=True, signs=True, slots=(1, 1), probed_at=FROZEN)
    except msgspec.ValidationError as error:
        message = f"{file}: worker.capabilities: {error}"
        raise Failure(Kind.CONFIG, message, subkind="BAD_VALUE") from error
    return made


def _json(data: bytes, file: str) -> dict[str, Any]:
    try:
        return decode_json(data, dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Failure(Kind.CONFIG, f"{file}: is no JSON object: {error}", subkind="BAD_VALUE") from error
