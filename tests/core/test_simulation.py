"""Simulation is never chosen by itself: real runs on real tools, and `--simulate` on stand-ins alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.macs import mac, mac_report, xcode_run
from support.playbook import Playbook, accepted, capabilities, report, summary

from rch.contract.records import DeviceType
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.able import need_of
from rchd.core.fleet import Fleet
from rchd.core.projections import projections
from rchd.core.select import drifted, nobody, select

PHONE = DeviceType(identifier="com.apple.CoreSimulator.SimDeviceType.iPhone-16", name="iPhone 16")
SIMULATED = "simulated: its tools are stand-ins; it serves only runs that ask with --simulate"


def stand_in(worker: str = "sim", **changes: Any) -> ev.ProbeReport:
    """A worker whose own config says that it simulates."""
    base = report(worker)
    assert base.result is not None
    result = msgspec.structs.replace(base.result, capabilities=capabilities(simulated=True))
    return msgspec.structs.replace(base, result=result, **changes)


def standby(*, asked: bool) -> ev.ProbeReport:
    """This machine's own, which is asked for simulations alone."""
    told = stand_in("local-simulated", standby=True)
    return told if asked else msgspec.structs.replace(told, result=None)


@pytest.mark.spec("9")
def test_a_run_that_asks_for_a_verdict_passes_over_a_simulated_worker() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(stand_in("a"), report("b")), embedded=False)
    assert play.one(fx.Reserve).target.worker == "b"
    assert run.selection is not None
    assert run.selection.refused == {"a": SIMULATED}


@pytest.mark.spec("9")
def test_where_only_a_simulated_worker_is_left_the_run_ends_91_with_the_way_to_add_one() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(stand_in(),), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 91)
    assert run.trouble is not None
    assert (run.trouble.kind, run.trouble.subkind) == ("WORKER_INCOMPATIBLE", "SIMULATED")
    assert SIMULATED in run.human_summary
    # Beside a worker that lacks something else the way is told as well.
    options = accepted(toolchain={"swift_version": "5.9"}).options
    reports = (stand_in(), report())
    hint = nobody(select(options, reports), reports).hint
    assert "workers.toml" in hint
    assert "docs/workers.md" in hint


@pytest.mark.spec("9")
def test_a_simulation_is_served_by_stand_ins_and_by_nothing_else() -> None:
    play = Playbook()
    run = play.accept(accepted(simulate=True))
    assert play.one(fx.Probe).simulate
    play.answer(run, ev.Probed, reports=(report(), standby(asked=True)), embedded=True)
    assert play.one(fx.Reserve).target.worker == "local-simulated"
    assert run.selection is not None
    assert run.selection.refused["mac"].startswith("not simulated: ")


@pytest.mark.spec("9")
def test_a_simulation_without_a_stand_in_ends_91_and_is_still_one() -> None:
    play = Playbook()
    run = play.accept(accepted(simulate=True))
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert run.exit_code == 91
    assert run.trouble is not None
    assert run.trouble.subkind == "NOT_SIMULATED"
    written = {effect.path: json.loads(effect.data) for effect in play.of(fx.WriteRecord)}
    assert written["run-00000001/run_summary.json"]["simulated"] is True


@pytest.mark.spec("9")
def test_every_view_of_a_simulation_says_so_from_its_acceptance_on() -> None:
    play = Playbook()
    run = play.accept(accepted(simulate=True))
    view = play.one(fx.Reply).view
    assert view is not None
    assert view.simulated
    assert run.state == "QUEUED"


@pytest.mark.spec("9")
def test_who_stands_by_for_simulations_is_no_word_of_a_real_run() -> None:
    real = (report(), standby(asked=False))
    found = select(accepted().options, real)
    assert [choice.worker for choice in found.choices] == ["mac"]
    assert (found.refused, set(found.hosts)) == ({}, {"mac"})
    alone = select(accepted(toolchain={"swift_version": "5.9"}).options, real)
    assert "local-simulated" not in nobody(alone, real).message


@pytest.mark.spec("9")
@pytest.mark.parametrize("simulate", [True, False])
def test_every_file_of_a_simulated_run_says_so_and_none_of_a_real_one(*, simulate: bool) -> None:
    play = Playbook()
    run = play.accept(accepted(simulate=simulate))
    play.answer(run, ev.Probed, reports=(stand_in() if simulate else report(),), embedded=False)
    target = play.one(fx.Reserve).target
    play.answer(run, ev.Reserved, worker=target.worker, lease_id="lease", fence=1, ttl_seconds=60)
    play.answer(run, ev.SourceKnown, exists=True)
    play.follow(run)
    files = {path.rpartition("/")[2]: json.loads(data) for path, data in projections(run).items()}
    assert {"run_index.json", "run_plan.json", "worker_selection.json", "job_state.json"} <= files.keys()
    assert "simulated" not in files["accepted.json"]
    assert files.pop("accepted.json")["options"]["simulate"] is simulate
    told = {name for name, record in files.items() if record.get("simulated", False)}
    assert told == (files.keys() if simulate else set())


@pytest.mark.spec("9")
def test_the_fleet_tells_simulations_from_real_runs() -> None:
    fleet = Fleet()
    real, simulation = accepted().options, accepted(simulate=True).options
    assert need_of(real) != need_of(simulation)
    reaches = [frozenset({"mac"}), frozenset({"local-simulated"})]
    fleet.probed((report(), standby(asked=True)), 1.0, whole=True)
    assert [fleet.reach(each) for each in (real, simulation)] == reaches
    # A real run does not ask who stands by; what that one said before still counts.
    fleet.probed((report(), standby(asked=False)), 2.0, whole=True)
    assert [fleet.reach(each) for each in (real, simulation)] == reaches
    assert fleet.servable(simulation).answer == "yes"


@pytest.mark.spec("9")
def test_a_worker_that_turned_into_a_simulation_gives_no_verdict() -> None:
    """It was real when it was chosen; the job's own summary says what made it."""
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(
        run,
        ev.Fetched,
        summary=summary(run, 0, simulated=True),
        state="SUCCEEDED",
        seq=3,
        updated_at="2023-11-14T22:13:30.000Z",
    )
    assert isinstance(run.phase, m.Releasing)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 91)
    assert "stand-in tools" in run.human_summary


@pytest.mark.spec("4", "9")
def test_after_a_restart_a_worker_that_simulates_now_is_another_one() -> None:
    choice = select(xcode_run().options, (mac_report(),)).choices[0]
    now = mac_report(told=mac(simulated=True)).result
    assert now is not None
    found = drifted(choice, now)
    assert found is not None
    assert found.subkind == "TOOLCHAIN_CHANGED"
    assert "is simulated" in found.message


@pytest.mark.spec("7")
def test_a_run_on_a_device_that_is_made_names_none() -> None:
    kinds = mac().runtimes[0]
    told = mac(devices=(), runtimes=(msgspec.structs.replace(kinds, device_types=(PHONE,)),))
    choices = select(xcode_run(provisioning="ephemeral").options, (mac_report(told=told),)).choices
    assert [(each.udid, each.destination["provisioning"]) for each in choices] == [(None, "ephemeral")]
    assert select(xcode_run().options, (mac_report(told=told),)).choices == ()
