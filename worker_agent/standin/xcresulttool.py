"""The stand-in `xcresulttool`: prints the documents of the stand-in's own result bundles."""

from __future__ import annotations

from collections.abc import Sequence

from worker_agent.standin.bundle import BundleError, read
from worker_agent.standin.context import Context
from worker_agent.standin.documents import unknown_shape
from worker_agent.standin.scenario import ScenarioError, find

_DOCUMENTS = {
    ("get", "test-results", "summary"): "summary",
    ("get", "test-results", "tests"): "tests",
    ("get", "build-results"): "build-results",
}
_USAGE_EXIT = 64


def main(argv: Sequence[str], context: Context) -> int:
    """Run one command line; 0, 1 for a bundle that cannot be read, 64 for a command that is unknown."""
    words, path, compact = _options(argv)
    if words == ("version",):
        number = context.release.bundle_version
        context.output.say(
            f"xcresulttool version {number}, schema version: 0.1.0 (legacy commands format version: 3.53)\n"
        )
        return 0
    document = _DOCUMENTS.get(words)
    if document is None:
        given = " ".join(words)
        context.output.complain(f"Error: Unexpected argument '{given}'\nUsage: xcresulttool <subcommand>\n")
        return _USAGE_EXIT
    if path is None:
        context.output.complain("Error: Missing expected argument '--path <path>'\n")
        return _USAGE_EXIT
    folder = context.place(path)
    try:
        told = read(folder)
        scenario = find(context.env, (context.cwd, context.root)).scenario("xcresulttool")
    except (BundleError, ScenarioError) as error:
        context.output.complain(f"Error: {error}\n")
        return 1
    if scenario.unknown_shape:
        context.output.document(unknown_shape([document]), compact=compact)
        return 0
    if document not in told:
        context.output.complain(f"Error: Failed to get {document}: the result bundle holds no tests\n")
        return 1
    context.output.document(told[document], compact=compact)
    return 0


def _options(argv: Sequence[str]) -> tuple[tuple[str, ...], str | None, bool]:
    """Words of the command, the bundle's path, and whether the output is to be compact."""
    words: list[str] = []
    path, compact = None, False
    rest = iter(argv)
    for word in rest:
        if word == "--path":
            path = next(rest, None)
        elif word == "--compact":
            compact = True
        elif word in {"--format", "--schema-version"}:
            next(rest, None)
        else:
            words.append(word)
    return tuple(words), path, compact
