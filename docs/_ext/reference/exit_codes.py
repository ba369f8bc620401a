"""Every exit code with its kinds, their subkinds and what mends them, out of the registry."""

from __future__ import annotations

from collections import defaultdict

from rch.contract.errors import Entry, Kind, registry
from reference.markdown import code, page, table

INTRO = """
Every refusal and every failed run has a *kind*, and most have a *subkind*. The kind decides the exit
code, so a script may rely on the number and a person on the words. The same three stand in `--json`
(`error.kind`, `error.subkind`, `error.exit_code`), in `run_summary.json`, and in the error of a call of the
[local socket](local-api.md).

*Again?* says whether the same call may succeed without anybody changing anything: a script may try those
again, and should stop at the others. Of a run that means the same request as a new run; a daemon that is
started anew counts as no change. The remedy is the line that `rchctl` prints where nothing more exact
is known; often the message has one that names the very flag, key or file.
"""

MEANING = {
    0: "every planned step succeeded",
    1: "a defect of this software, or an end that nobody foresaw",
    2: "the command line is not understood",
    3: "a config file or key is wrong",
    4: "the daemon is not there, or may not start",
    10: "the gate does not run this command line",
    20: "SSH: the worker is out of reach, or is not who it should be",
    30: "the source did not reach the worker whole",
    40: "the worker could not carry the job out, or not in time",
    50: "the build or the tests failed",
    70: "artifacts are missing, or not what they say they are",
    80: "cancelled",
    90: "every worker that could serve is busy",
    91: "no worker can serve this, as it and they are now",
    92: "the source cannot be bundled",
    93: "the attestation does not hold: signed by nobody, by another key, or over other bytes",
}
OTHERS = """
## Others

130
: interrupted by Ctrl-C while a verb only looked on (`wait`, `watch`, `tail`, `list`).

A step of a run has an exit code of its own in `summary.json`; the run takes that of its first failed step.
"""


def exit_codes_page() -> str:
    """The page."""
    rows: dict[int, list[tuple[Kind, str | None, Entry]]] = defaultdict(list)
    for kind, subkind, entry in registry():
        rows[entry.exit_code].append((kind, subkind, entry))
    overview = [(f"[{number}](#exit-{number})", MEANING[number]) for number in sorted(rows)]
    parts = [INTRO, table(("code", "meaning"), [("0", MEANING[0]), *overview])]
    for number in sorted(rows):
        listed = sorted(rows[number], key=lambda row: (row[0], row[1] or ""))
        cells = [
            (code(kind), code(subkind or "") or "none", "yes" if entry.retryable else "no", entry.remedy)
            for kind, subkind, entry in listed
        ]
        parts.append(f"(exit-{number})=\n## {number}: {MEANING[number]}\n")
        parts.append(table(("kind", "subkind", "again?", "remedy"), cells))
    return page("Exit codes", *parts, OTHERS)
