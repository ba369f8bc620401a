"""The statements of sets that were found good, written out for other tools (spec section 10)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.provenance import PROVENANCE, TEST_RESULT
from rch.contract.records import DsseEnvelope
from rch.files.durable import make_dirs, write_atomic
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError

if TYPE_CHECKING:
    from rchctl.attesting import Looked

_SHORT = {PROVENANCE: "provenance", TEST_RESULT: "test-result"}


class _Statement(NamedTuple):
    job_id: str
    kind: str
    envelope: DsseEnvelope

    @property
    def file_name(self) -> str:
        """Of an envelope that has a file to itself."""
        return f"{self.job_id}.{_SHORT[self.kind]}.dsse.json"

    @property
    def line(self) -> bytes:
        """The envelope as JSON."""
        return msgspec.json.encode(self.envelope) + b"\n"


def export(context: Context, found: list[Looked], shape: str, data: dict[str, Any]) -> Outcome:
    """Write them to `--output`, or to stdout; under `--json` without one they are in `data`."""
    given = [
        _Statement(each.job_id, kind, envelope)
        for each in found
        for kind, envelope in zip(each.statements, each.envelopes, strict=True)
    ]
    if not given:
        raise Failure(
            Kind.USAGE,
            f"{data['place']} holds no statements: it is unsigned, or an older worker signed it",
            hint="rchctl attest verify tells which",
        )
    told: list[dict[str, Any]] = [{"job_id": each.job_id, "type": each.kind} for each in given]
    output = context.args.output
    if output is None:
        _to_stdout(context, given, shape)
        if context.json:
            for one, each in zip(told, given, strict=True):
                one["envelope"] = msgspec.to_builtins(each.envelope)
    else:
        paths = _to_disk(Path(output), given, shape)
        told = [{**one, "path": str(path)} for one, path in zip(told, paths, strict=True)]
        context.say("".join(f"{path}\n" for path in dict.fromkeys(map(str, paths))))
    return Outcome({**data, "format": shape, "statements": told})


def _to_stdout(context: Context, given: list[_Statement], shape: str) -> None:
    if shape == "dsse" and len(given) > 1 and not context.json:
        raise UsageError(
            f"attest export: {len(given)} statements are {len(given)} files: name a folder with --output,"
            " or type --format jsonl"
        )
    context.console.mark = ""  # it is for programs; the statements themselves say what is simulated
    context.say(b"".join(each.line for each in given).decode())


def _to_disk(output: Path, given: list[_Statement], shape: str) -> list[Path]:
    """Where each statement lies now."""
    try:
        if shape == "jsonl":
            write_atomic(output.absolute(), b"".join(each.line for each in given))
            return [output] * len(given)
        make_dirs(output.absolute(), 0o755)
        for each in given:
            write_atomic(output.absolute() / each.file_name, each.line)
    except OSError as error:
        raise UsageError(f"attest export: {output} cannot be written: {error.strerror or error}") from error
    return [output / each.file_name for each in given]
