"""The verbs: one line each, and the module that serves it."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """A verb. `module` is imported only when the verb is chosen."""

    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "demo": Verb("rchctl.commands.demo", "one run from end to end, of a project that is brought along"),
    "init": Verb("rchctl.commands.init", "write a first .rch/xcode.toml from what this folder holds"),
    "verify": Verb(
        "rchctl.commands.verify", "build and test this project on a worker; exit with the verdict"
    ),
    "run": Verb("rchctl.commands.verify", "the same for chosen actions: run --action build"),
    "submit": Verb("rchctl.commands.submit", "hand a run to the daemon and print its id"),
    "rerun": Verb("rchctl.commands.rerun", "an earlier run again, or only what failed of it"),
    "wait": Verb("rchctl.commands.wait", "wait for a run and exit with its code"),
    "watch": Verb("rchctl.commands.watch", "stay and tell what runs do and find, as it comes"),
    "list": Verb("rchctl.commands.list", "the newest runs"),
    "status": Verb("rchctl.commands.status", "the daemon and what it runs now, or one run"),
    "top": Verb("rchctl.commands.top", "all runs and workers on one screen"),
    "tail": Verb("rchctl.commands.tail", "the log of a run"),
    "cancel": Verb("rchctl.commands.cancel", "end a run"),
    "artifacts": Verb("rchctl.commands.artifacts", "the verified files of a run"),
    "diagnostics": Verb(
        "rchctl.commands.diagnostics", "what a run's compilers and tests found, for editors and CI"
    ),
    "report": Verb("rchctl.commands.report", "a run as one HTML page"),
    "open": Verb("rchctl.commands.open", "open a run's report, log, folder or results"),
    "history": Verb("rchctl.commands.history", "how this project's runs ended, and how long they took"),
    "flaky": Verb("rchctl.commands.flaky", "tests that do not always say the same of one source"),
    "fetch": Verb("rchctl.commands.fetch", "copies of a run's verified files, where you want them"),
    "exec": Verb("rchctl.commands.exec", "run one command line of xcodebuild or swift on a worker"),
    "explain": Verb("rchctl.commands.explain", "what the gate says of a command line, without running it"),
    "config": Verb("rchctl.commands.config", "the config in force and its origins; check every file"),
    "check": Verb("rchctl.commands.check", "compare the database with the artifacts"),
    "attest": Verb(
        "rchctl.commands.attest", "verify a set's signature and every byte offline; export its statements"
    ),
    "workers": Verb(
        "rchctl.commands.workers", "the workers: list, probe, setup, upgrade, add, key, explain, drain, gc"
    ),
    "doctor": Verb(
        "rchctl.commands.doctor", "what is wrong with the set-up and its workers, and what mends it"
    ),
    "rpc": Verb("rchctl.commands.rpc", "the daemon's JSON-RPC on stdin and stdout, or its methods"),
    "completion": Verb("rchctl.commands.completion", "what a shell completes: bash, zsh or fish"),
    "daemon": Verb("rchctl.commands.daemon", "start, stop, install or look at the daemon"),
    "bugreport": Verb("rchctl.commands.bugreport", "versions, config, state and log in one redacted file"),
    "debug": Verb(
        "rchctl.commands.debug", "a run's decisions as a file to pass on (transcript); replay such a file"
    ),
    "metrics": Verb("rchctl.commands.metrics", "the daemon's numbers in Prometheus' format"),
    "gc": Verb("rchctl.commands.gc", "remove old runs from this machine, or name them"),
}

OVERVIEW = """\
usage: rchctl VERB [options]        rchctl VERB --help tells more

Build and test a Swift or Xcode project on a worker; the verdict lands on this machine.

verbs:
{verbs}

examples:
  rchctl verify                     build and test the project of this folder
  rchctl verify --json | jq .ok     the same for scripts: one JSON object on stdout
  rchctl tail -f latest             follow the newest run from another terminal
  rchctl artifacts latest           every file of the newest run

exit code: the run's own (0 success, 50 build or tests failed, 80 cancelled, ...);
  1 internal, 2 usage, 3 config, 4 daemon unreachable
environment: RCH_HOME, RCH_SOCKET, RCH_NO_AUTOSTART=1, NO_COLOR, RCH_DEBUG=1
pages that are named docs/...: in the checkout, or below share/doc/rch of the installation's prefix
"""


def overview() -> str:
    """The text of `rchctl --help`."""
    return OVERVIEW.format(verbs="\n".join(f"  {name:<11} {verb.summary}" for name, verb in VERBS.items()))
