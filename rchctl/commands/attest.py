"""`rchctl attest`: whether artifacts are what their worker signed, and its statements for other tools."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure, Kind
from rchctl.amounts import counted
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.terminal import one_line

if TYPE_CHECKING:
    from rchctl.attesting import Looked

_PIN = re.compile(r"SHA256:[0-9a-f]{64}")
_FORMATS = ("dsse", "jsonl")
_WORDS = {
    "verify": "examine every byte, the signature and the statements",
    "export": "write the statements out",
}
_SHOWN = 20


def configure(parser: VerbParser) -> None:
    """`verify` or `export`, and the place."""
    parser.word(
        _WORDS,
        "; ".join(_WORDS.values()),
        {"--pin": ("verify",), "--format": ("export",), "--output": ("export",)},
    )
    parser.add_argument(
        "place", metavar="DIR|RUN", help="a job's set, a run's folder, a .rejected set, or a run's id"
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="SHA256:HEX",
        help="a key that may have signed, again for more; else those in workers.toml for the worker",
    )
    parser.add_argument(
        "--format",
        metavar="dsse|jsonl",
        default="jsonl",
        help="with export: an envelope a file, or an in-toto bundle (the default)",
    )
    parser.add_argument(
        "--output", metavar="PATH", help="with export: the file, with dsse the folder; else stdout"
    )
    parser.examples(
        "rchctl attest verify latest            the newest run's sets",
        "rchctl attest verify ./job-set --pin SHA256:9f2c...",
        "rchctl attest verify DIR --json | jq -r '.data.sets[].result'",
        "rchctl attest export latest --output run.intoto.jsonl",
        "rchctl attest export DIR --format dsse --output statements/",
    )


def run(context: Context) -> Outcome:
    """Exit 0 where all is as it was signed, 70 for bytes or records that are not, 93 for the attestation.

    A set by a key that nobody pinned is told as unpinned, and is no failure. No daemon is asked but for
    a run that is named by `latest` or a beginning of its id.
    """
    args = context.args
    what = one_of("attest", "word", args.what, ("verify", "export"))
    shape = one_of("attest", "format", args.format, _FORMATS)
    for pin in args.pin:
        if not _PIN.fullmatch(pin):
            raise UsageError(f"attest: --pin {pin!r} is not SHA256: and 64 hex digits")
    if what == "verify" and args.output:
        raise UsageError("attest verify: --output goes with export")
    from rchctl.attesting import look, pins_given

    place = _place(context, args.place)
    found = look(place, pins_given(tuple(args.pin), context.paths.workers_toml))
    context.mark({"simulated": any(each.simulated for each in found)})
    data = {"place": str(place), "sets": [each.as_json() for each in found]}
    failure = _failure(found)
    if what == "verify":
        context.say("".join(_told(each, context) for each in found))
        return Outcome(data) if failure is None else _failed(data, failure)
    if failure is not None:
        context.say("".join(_told(each, context) for each in found if each.kind is not None))
        return _failed(data, failure)
    from rchctl.exporting import export

    return export(context, found, shape, data)


def _place(context: Context, word: str) -> Path:
    """A folder, else the run of that id on this machine, else what the daemon knows by that name."""
    path = Path(word)
    if path.is_dir():
        return path.absolute()
    if "/" in word:
        raise UsageError(f"attest: {word!r} is no folder")
    own = context.paths.artifacts / word
    if word not in {"", ".", ".."} and own.is_dir():
        return own
    return Path(str(context.call("runs.get", {"run": word}).get("run_dir")))


def _failure(found: list[Looked]) -> Failure | None:
    """Of the sets that are not good: damaged bytes before a bad attestation."""
    bad = [each for each in found if each.kind is not None]
    if not bad:
        return None
    first = next((each for each in bad if each.kind is Kind.ARTIFACTS), bad[0])
    kind = Kind.ARTIFACTS if first.kind is Kind.ARTIFACTS else Kind.ATTESTATION
    many = f"{len(bad)} of {len(found)} are" if len(found) > 1 else "the set is"
    return Failure(
        kind,
        f"{many} not what was signed: {first.detail}",
        subkind="INTEGRITY_MISMATCH" if kind is Kind.ARTIFACTS else None,
        hint="do not use it; rchctl verify makes another" if kind is Kind.ARTIFACTS else None,
    )


def _failed(data: dict[str, Any], failure: Failure) -> Outcome:
    return Outcome(data, failure.exit_code, error_body(failure))


def _told(looked: Looked, context: Context) -> str:
    """A set for people."""
    style = {"verified": "good", "failed": "bad"}.get(looked.result, "warn")
    name = " ".join(filter(None, (looked.action, looked.job_id))) or looked.path.name
    lines = [f"{context.console.style(looked.result, style)}: {one_line(name)}"]
    if looked.result == "failed":
        every = [*looked.errors, *looked.distrust]
        lines += [f"  {one_line(line)}" for line in every[:_SHOWN]]
        if len(every) > _SHOWN:
            lines.append(f"  and {len(every) - _SHOWN} more: --json has them")
    else:
        lines.append(f"  {one_line(looked.detail)}")
    if looked.result == "verified" or (looked.pins.origin and not looked.pins.keys):
        lines.append(f"  pins: {one_line(looked.pins.origin)}")
    if looked.files:
        held = f"{counted(looked.files, 'file')}, {counted(looked.size, 'byte')}"
        lines.append(f"  {held}; statements: {_kinds(looked)}")
    lines += [f"  note: {one_line(note)}" for note in looked.notes]
    return "\n".join(lines) + "\n"


def _kinds(looked: Looked) -> str:
    return ", ".join(one_line(kind) for kind in looked.statements) or "none"
