"""`rchctl doctor`: what is wrong with this machine's set-up and its workers, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rch.doctor.findings import DAEMON, Finding, Level, exit_code_of, failed
from rch.doctor.host import host_findings
from rch.doctor.workers import workers_findings
from rchctl import asking
from rchctl.client import Client
from rchctl.commands import daemon
from rchctl.context import Context, Outcome, error_body
from rchctl.doctor_facts import host_facts
from rchctl.parser import VerbParser
from rchctl.plan import PLAN_SECONDS
from rchctl.terminal import one_line

_EXAMINE_SECONDS = 330.0
_STYLE = {Level.OK: "good", Level.WARN: "warn", Level.FAIL: "bad"}


def configure(parser: VerbParser) -> None:
    """What to mend; which worker."""
    parser.add_argument("name", metavar="WORKER", nargs="?", help="this worker alone, instead of all")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="mend what is safe: modes of our own folders, a dead socket, an old daemon (asks)",
    )
    parser.examples(
        "rchctl doctor                     this machine and every worker, in the order of selection",
        "rchctl doctor studio              one worker",
        "rchctl doctor --fix",
        "rchctl doctor --json | jq '.data.findings[] | select(.level != \"ok\")'",
    )


def run(context: Context) -> Outcome:
    """Exit 0 where nothing failed; else the code of the worst: 4 daemon, 3 config, 20, 93, 91."""
    host, client = host_facts(context)
    fixed: list[str] = []
    findings = host_findings(host)
    if context.args.fix:
        wanted = [each for each in findings if each.fix is not None]
        if any(each.fix is not None and each.fix.what == "restart" for each in wanted) and client:
            client.close()
        fixed = [said for each in wanted if (said := _mended(each, context)) is not None]
        if wanted:
            if client is not None:
                client.close()
            host, client = host_facts(context)
            findings = host_findings(host)
    try:
        if client is not None:
            findings += _workers(client, context, host.config.project)
    finally:
        if client is not None:
            client.close()
    _show(findings, fixed, context)
    return _outcome(findings, fixed, context)


def _workers(client: Client, context: Context, project: str | None) -> list[Finding]:
    """What the daemon finds out of the workers."""
    from rch.contract.worker_rpc import PROTOCOL_MAX, PROTOCOL_MIN

    name = context.args.name
    if "door" not in (client.server.get("features") or ()):
        message = "this daemon is older and cannot look at them"
        return [failed("workers", message, "rchctl daemon restart", DAEMON)]
    if not context.json:
        context.console.status("the workers are looked at")
    try:
        view = client.call("workers.examine", {"name": name} if name else {}, _EXAMINE_SECONDS)
    except Failure as failure:
        if name and failure.kind is Kind.USAGE:
            raise
        return [failed("workers", failure.message, failure.hint, failure.exit_code)]
    finally:
        context.console.clear_status()
    candidates: dict[str, dict[str, Any]] = {}
    nobody = None
    if project is not None:
        try:
            plan = client.call("workers.explain", {"start": project}, PLAN_SECONDS)
            candidates = {each["worker"]: each for each in plan.get("workers", ())}
            nobody = plan.get("failure") if not name else None
        except Failure as failure:
            nobody = {
                "message": failure.message,
                "hint": failure.hint,
                "exit_code": failure.exit_code,
            }
    spoken = (PROTOCOL_MIN, PROTOCOL_MAX)
    return workers_findings(view.get("workers", ()), candidates, spoken, nobody=nobody)


# --- mending ----------------------------------------------------------------------------


def _mended(finding: Finding, context: Context) -> str | None:
    """What was done about it, if anything."""
    fix = finding.fix
    if fix is None:
        return None
    if fix.what == "mode":
        Path(fix.path).chmod(fix.mode)
        return f"chmod {fix.mode:o} {fix.path}"
    if fix.what == "unlink":
        Path(fix.path).unlink(missing_ok=True)
        return f"removed {fix.path}"
    if not asking.has_somebody():
        return None
    if not asking.agrees(context.console, f"{finding.message}: restart it? what runs goes on"):
        return None
    context.args.drain, context.args.timeout = False, None
    daemon.restart(context)
    return "restarted the daemon"


# --- telling ----------------------------------------------------------------------------


def _show(findings: Sequence[Finding], fixed: Sequence[str], context: Context) -> None:
    console, subject = context.console, ""
    width = max((len(each.check) for each in findings), default=0)
    for each in findings:
        if each.subject != subject:
            subject = each.subject
            context.say(f"\n{'worker ' + one_line(subject) if subject else 'all workers'}\n")
        word = console.style(f"{each.level:<4}", _STYLE[each.level])
        context.say(f"{word}  {each.check:<{width}}  {one_line(each.message)}\n")
        if each.level is not Level.OK and each.remedy:
            context.say(f"{'':<6}{'':<{width}}  -> {one_line(each.remedy)}\n")
    if not context.json:
        for said in fixed:
            console.note(f"mended: {one_line(said)}")


def _outcome(findings: Sequence[Finding], fixed: Sequence[str], context: Context) -> Outcome:
    rows = [
        {
            "check": each.check,
            "subject": each.subject or None,
            "level": str(each.level),
            "message": each.message,
            "remedy": each.remedy,
            "exit_code": each.exit_code,
        }
        for each in findings
    ]
    data = {"findings": rows, "fixed": list(fixed)}
    code = exit_code_of(findings)
    if not code:
        return Outcome(data)
    worst = next(each for each in findings if each.level is Level.FAIL and (each.exit_code or 1) == code)
    kinds = {
        4: Kind.DAEMON,
        3: Kind.CONFIG,
        20: Kind.SSH,
        93: Kind.ATTESTATION,
        91: Kind.WORKER_INCOMPATIBLE,
    }
    about = f"worker {worst.subject}: " if worst.subject else ""
    failure = Failure(
        kinds.get(code, Kind.INTERNAL), f"{about}{worst.check}: {worst.message}", hint=worst.remedy
    )
    body = {**error_body(failure), "exit_code": code}
    if not context.json:
        failures = sum(each.level is Level.FAIL for each in findings)
        context.console.note(f"{failures} to mend; exit code {code}")
    return Outcome(data, code, body)
