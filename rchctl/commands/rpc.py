"""`rchctl rpc`: the daemon's JSON-RPC over this process's stdin and stdout, for editors and scripts."""

from __future__ import annotations

import json

from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser


def configure(parser: VerbParser) -> None:
    """The bridge, or what can be said over it."""
    parser.hide("--json")
    parser.add_argument(
        "--hello", action="store_true", help="greet the daemon first: the first request need not be hello"
    )
    parser.add_argument(
        "--describe", action="store_true", help="print every method with its JSON Schemas, and end"
    )
    parser.examples(
        "rchctl rpc --describe | jq keys",
        """echo '{"jsonrpc":"2.0","id":1,"method":"runs.list","params":{}}' | rchctl rpc --hello""",
    )


def run(context: Context) -> Outcome:
    """Exits 0 at the end of stdin, once all is answered; 4 where the daemon hangs up before."""
    if context.args.describe:
        from rch.contract.schemas import describe

        methods = describe()
        context.say(json.dumps(methods, indent=2) + "\n")
        return Outcome({"methods": methods})
    if context.json:
        raise UsageError("rpc: stdout belongs to the daemon's answers: type it without --json")
    from rchctl.bridge import Bridge
    from rchctl.client import Client

    client = context.connect()
    if not context.args.hello:  # that is the caller's to say; the daemon is there now
        client.close()
        client = Client.open(context.paths)
    try:
        Bridge(client.release(), 0, 1).run()
    finally:
        client.close()
    return Outcome({})
