"""`rchctl list`: filters, chosen columns, and when what waits may begin."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon, run_view


def an_id(number: int) -> str:
    return f"0198c2f0-7a11-7c3e-9b52-{number:012d}"


@pytest.fixture
def runs(daemon: FakeDaemon) -> dict[str, dict[str, Any]]:
    """Newest first, as the daemon lists them."""
    made = [
        run_view(
            an_id(5), group="save", origin="editor", waiting=f"behind 1 in the queue, first {an_id(4)}"
        ),
        run_view(an_id(4), created_at="2026-01-02T03:04:00.000Z"),
        run_view(an_id(3), state="SUCCEEDED", exit_code=0, duration_ms=90_000),
        run_view(an_id(2), state="FAILED", exit_code=50, project="Other", root="/src/other", group="save"),
        run_view(an_id(1), state="SUCCEEDED", exit_code=0, created_at="2025-12-01T00:00:00.000Z"),
    ]
    daemon.runs = {run["run_id"]: run for run in made}

    def listed(params: dict[str, Any], _connection: object) -> dict[str, Any]:
        ids = list(daemon.runs)
        begin = ids.index(params["before"]) + 1 if "before" in params else 0
        return {"runs": [daemon.runs[each] for each in ids[begin : begin + params["limit"]]]}

    daemon.on("runs.list", listed)
    return daemon.runs


@pytest.mark.spec("12")
@pytest.mark.parametrize(
    ("flags", "numbers"),
    [
        ([], [5, 4, 3, 2, 1]),
        (["--project", "Other"], [2]),
        (["--project", "/src/demo", "--limit", "2"], [5, 4]),
        (["--origin", "editor"], [5]),
        (["--group", "save"], [5, 2]),
        (["--since", "2026-01-01"], [5, 4, 3, 2]),
        (["--group", "save", "--project", "Demo"], [5]),
        (["--origin", "nobody"], []),
    ],
)
def test_filters_are_for_all_that_there_is(
    cli: Cli, runs: dict[str, Any], flags: list[str], numbers: list[int]
) -> None:
    assert runs
    found = json.loads(cli("list", "--json", *flags).stdout)["data"]["runs"]
    assert [run["run_id"] for run in found] == [an_id(number) for number in numbers]


def test_what_waits_has_its_place_and_the_time_until_its_likely_start(
    cli: Cli, runs: dict[str, Any]
) -> None:
    assert runs
    told = json.loads(cli("list", "--json").stdout)["data"]["runs"]
    assert [(run.get("position"), run.get("expected_wait_ms")) for run in told[:3]] == [
        (2, 90_000),
        (1, 0),
        (None, None),
    ]
    assert told[0]["expected_start"] > told[1]["expected_start"]
    rows = cli("list", "--columns", "position,starts,now").stdout.splitlines()
    assert rows[0].split() == ["POSITION", "STARTS", "NOW"]
    assert rows[1].startswith("2         ~1 min 30 s  queued: behind 1 in the queue")
    assert rows[2].startswith("1         soon         queued")


def test_chosen_columns_come_in_the_order_asked_for(cli: Cli, runs: dict[str, Any]) -> None:
    assert runs
    rows = cli("list", "--columns", "state,RUN,group", "--limit", "1").stdout.splitlines()
    assert [row.split() for row in rows] == [["STATE", "RUN", "GROUP"], ["QUEUED", an_id(5), "save"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--columns", "run,stat"], "unknown column 'stat': did you mean 'state'?"),
        (["--since", "soon"], "--since 'soon' is no age (7d, 36h) and no date (2026-01-31)"),
        (["--limit", "0"], "--limit '0' is no number from 1 to 1000"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(cli: Cli, flags: list[str], said: str) -> None:
    result = cli("list", "--no-autostart", *flags)
    assert (result.returncode, said in result.stderr) == (2, True), result.stderr
