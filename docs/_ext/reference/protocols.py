"""Both protocols' tables: methods of the local socket, operations and codes of the worker protocol."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rch.contract import local_api, worker_rpc
from rch.contract.errors import Failure
from rch.contract.worker_envelope import failure_of
from rch.contract.worker_rpc import CANCEL_REASONS, OPERATIONS, Code, Feature, RpcError
from reference.markdown import code, page, prose, schema_links, table
from reference.types_told import fields_table, inner_of, struct_section

LOCAL_INTRO = """
All methods of the daemon's socket with what they take and answer. How to speak to it is in
[the local protocol](../protocol-local.md). The same table with JSON Schemas (2020-12) comes from
`rchctl rpc --describe`, or from the method `rpc.describe` itself.
"""
WORKER_INTRO = """
All operations of a worker with the members of their payloads, and its error codes. How they work together,
with bytes and a whole run, is in [the worker protocol](../protocol-worker.md). Unknown members are ignored
on both sides; integers beyond 2^53 are refused.
"""
RESULTS: dict[str, type[msgspec.Struct]] = {
    "probe": worker_rpc.ProbeResult,
    "reserve": worker_rpc.ReserveResult,
    "release": worker_rpc.Empty,
    "has_source": worker_rpc.HasSourceResult,
    "upload_source": worker_rpc.UploadResult,
    "submit": worker_rpc.SubmitResult,
    "status": worker_rpc.StatusResult,
    "tail": worker_rpc.TailResult,
    "cancel": worker_rpc.CancelResult,
    "fetch": worker_rpc.FetchHeader,
    "gc": worker_rpc.GcResult,
}
FEATURES: dict[str, str] = {
    "session": "many requests on one channel, one after the other",
    "upload": "`has_source` and `upload_source`; a host needs it",
    "tail": "`tail`, held until there is news",
    "lease": "`reserve` and `release`",
    "lease_renew": "`reserve` again with `lease_id` and `fence`",
    "fetch_resume": "`fetch` from an `offset` on",
    "upload_resumable": "`upload_source` in parts (`resume`)",
    "upload_thin": "`upload_source` of a difference (`base`)",
    "gc": "`gc`",
    "attestation_signing": "attestations are signed",
    "result_cache": "earlier results may stand for a job",
    "backend_xcodebuild": "jobs of `xcodebuild`, beside those of `swift`",
}


def local_api_page(docs: Path) -> str:
    """The local socket's methods."""
    kinds = [kind for params, result, _ in local_api.METHODS.values() for kind in (params, result)]
    inner = inner_of(kinds)
    links = {each: f"local-{each.__name__.lower()}" for each in inner}
    parts = [LOCAL_INTRO]
    rows = [
        (f"[{code(name)}](#{_target(name)})", code(params.__name__), code(result.__name__), summary)
        for name, (params, result, summary) in local_api.METHODS.items()
    ]
    parts.append(table(("method", "takes", "answers", "what it does"), rows))
    low, high = local_api.PROTOCOL
    parts.append(
        f"Protocol {low} to {high}; features: {', '.join(code(each) for each in local_api.FEATURES)}.\n"
    )
    shown: set[type[msgspec.Struct]] = set()
    for name, (params, result, summary) in local_api.METHODS.items():
        parts.append(f"({_target(name)})=\n## {name}\n\n{summary[:1].upper()}{summary[1:]}.\n")
        for word, kind in (("Takes", params), ("Answers with", result)):
            parts.append(_once(word, kind, shown, links))
        parts.append(_schemas(docs, "local-api", name))
    parts.append("## Notifications\n")
    parts.append("`runs.event`, after `runs.watch`:\n")
    event = {local_api.RunEvent: "local-runevent"}
    parts.append(struct_section(local_api.RunEvent, "local", links | event))
    parts.append("## What stands in them\n")
    parts += [struct_section(each, "local", links) for each in inner]
    return page("Methods of the local socket", *parts)


def _schemas(docs: Path, folder: str, name: str) -> str:
    return schema_links(docs, request=f"{folder}/{name}.request", response=f"{folder}/{name}.response")


def _target(method: str) -> str:
    return "method-" + method.replace(".", "-")


def _once(
    word: str, kind: type[msgspec.Struct], shown: set[type[msgspec.Struct]], links: dict[type, str]
) -> str:
    name = kind.__name__
    if name in {"NoParams", "View"}:
        return f"{word} `{{}}`.\n" if name == "NoParams" else f"{word} an object of its own.\n"
    if kind in shown:
        return f"{word} [{code(name)}](#api-{name.lower()}).\n"
    shown.add(kind)
    told = f"{word} {code(name)}: {prose(kind.__doc__)}"
    return f"(api-{name.lower()})=\n\n{told}\n\n{fields_table(kind, link=links)}"


def worker_api_page(docs: Path) -> str:
    """The worker's operations, features and error codes."""
    kinds = [*OPERATIONS.values(), *RESULTS.values()]
    records = "rch.contract.records"
    inner = [each for each in inner_of(kinds) if not each.__module__.startswith(records)]
    links = {each: f"worker-{each.__name__.lower()}" for each in inner}
    parts = [WORKER_INTRO]
    parts.append(
        f"Protocol {worker_rpc.PROTOCOL_MIN} to {worker_rpc.PROTOCOL_MAX}, and {worker_rpc.PROBE_PROTOCOL}"
        " for `probe` alone.\n"
    )
    for op, request in OPERATIONS.items():
        parts.append(
            f"(op-{op})=\n## {op}\n\n{prose(request.__doc__)}\n\n{fields_table(request, link=links)}"
        )
        result = RESULTS[op]
        parts.append(f"**Answer.** {prose(result.__doc__)}\n\n{fields_table(result, link=links)}")
        parts.append(_schemas(docs, "worker-rpc", op))
    parts.append("## What stands in them\n")
    parts.append(
        "Records that are artifacts too (`Job`, `Manifest`, …) are in [artifacts](artifacts.md).\n"
    )
    parts += [struct_section(each, "worker", links) for each in inner]
    parts.append("## Features\n")
    parts.append(table(("feature", "what it promises"), [(code(each), FEATURES[each]) for each in Feature]))
    parts.append(f"## Reasons of a cancel\n\n{', '.join(code(each) for each in sorted(CANCEL_REASONS))}.\n")
    parts += ["## Error codes\n", CODES, _codes()]
    return page("Operations of the worker protocol", *parts)


CODES = """
What a user is told where the host can do nothing else about a refusal. For what it does first (ask again,
upload, take another worker) see [the host's reactions](../protocol-worker.md#error-codes).
"""


def _codes() -> str:
    rows = []
    for each in Code:
        failure = failure_of(RpcError(each, ""), "submit")
        rows.append((code(each), code(failure.label), str(failure.exit_code), _again(failure)))
    return table(("code", "kind of failure", "exit code", "again?"), rows)


def _again(failure: Failure) -> str:
    return "yes" if failure.retryable else "no"
