"""The files that the host writes, at every point of a run's life."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, report, unreachable

from rch.contract import records
from rch.contract.records import JobIndex, Record, RunIndex, decode_record, schema_id_of
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.projections import projections

KINDS: dict[str, type[Record]] = {
    schema_id_of(kind): kind
    for kind in vars(records).values()
    if isinstance(kind, type)
    and issubclass(kind, Record)
    and "schema_id" in {field.name for field in msgspec.structs.fields(kind)}
}
FROM_OTHERS = {"source_manifest.json", "live.log", "attestation_verification.json"}


def succeeded(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    return run


def first_failed(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0, "failed")
    play.answer(run, ev.Released)
    return run


def rejected(play: Playbook) -> m.Run:
    return play.accept(accepted(rejected=True))


def unreached(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    reports = (unreachable(), report("old", result=None, error="x"))
    while not isinstance(run.phase, m.Ended):
        play.answer(run, ev.Probed, reports=reports, embedded=False)
    return run


def cancelled_early(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    return run


def integrity(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.answer(run, ev.TailNews, state="SUCCEEDED", seq=3, next_cursor=None, log_offset=0, log_bytes=4)
    for _ in range(2):
        play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.answer(run, ev.Released)
    return run


STORIES = [succeeded, first_failed, rejected, unreached, cancelled_early, integrity]
Story = Callable[[Playbook], m.Run]


class Watching(Playbook):
    """Looks at the files of every run after every event."""

    def __init__(self) -> None:
        super().__init__()
        self.on_disk: dict[str, bytes] = {}
        self.seen: list[dict[str, bytes]] = []

    def feed(self, event: ev.Event) -> list[fx.Effect]:
        effects = super().feed(event)  # type: ignore[arg-type]
        self.on_disk |= {each.path: each.data for each in effects if isinstance(each, fx.WriteRecord)}
        for run in self.core.runs.values():
            self.seen.append(projections(run))
            check(run, self.seen[-1])
        return effects


def check(run: m.Run, files: dict[str, bytes]) -> None:
    base = run.run_id
    decoded: dict[str, Any] = {}
    for path, data in files.items():
        kind = KINDS[json.loads(data)["schema_id"]]
        decoded[path] = decode_record(data, kind)
        assert path.rpartition("/")[2] == f"{schema_id_of(kind).removeprefix('rch-xcode/')[:-2]}.json"
        assert decoded[path].run_id == base
    assert list(files)[-1] == f"{base}/run_index.json"
    index = decoded[f"{base}/run_index.json"]
    assert isinstance(index, RunIndex)
    named = [value for value in msgspec.to_builtins(index).values() if str(value).endswith(".json")]
    assert all(f"{base}/{name}" in files for name in named if name not in FROM_OTHERS)
    for pointer, step in zip(index.steps, run.steps, strict=True):
        moving = isinstance(run.phase, m.Publishing) and run.phase.step == pointer.index
        check_step(base, files, decoded, pointer, step, moving=moving)
    written = {path.partition("/")[2] for path in files if path.count("/") == 1}
    assert written - {"run_index.json"} <= set(named)


def check_step(
    base: str,
    files: dict[str, bytes],
    decoded: dict[str, Any],
    pointer: Any,
    step: m.StepRun,
    *,
    moving: bool,
) -> None:
    place = f"{base}/steps/{pointer.action}/{pointer.job_id}"
    published = step.summary is not None and not step.host_made
    for name in ("job_index_path", "host_metrics_path", "host_summary_path"):
        value = getattr(pointer, name)
        assert value is None or f"{base}/{value}" in files or (name == "job_index_path" and published)
    if published or moving:
        assert not [path for path in files if path.startswith(f"{place}/")]
        return
    assert (f"{place}/job_state.json" in files) is (step.state is not None)
    if f"{place}/job_index.json" in files:
        index = decoded[f"{place}/job_index.json"]
        assert isinstance(index, JobIndex)
        held = {path.removeprefix(f"{place}/") for path in files if path.startswith(f"{place}/")}
        assert set(index.files.values()) == held - {"job_index.json"}


@pytest.mark.spec("8")
@pytest.mark.parametrize("story", STORIES)
def test_at_every_point_each_file_decodes_and_each_pointer_leads_somewhere(story: Story) -> None:
    play = Watching()
    run = story(play)
    assert isinstance(run.phase, m.Ended)
    assert len(play.seen) >= 1
    assert {path: play.on_disk[path] for path in play.seen[-1]} == play.seen[-1]


@pytest.mark.spec("4")
@pytest.mark.parametrize("story", [first_failed, rejected, unreached, cancelled_early])
def test_a_step_that_never_was_has_no_job_state(story: Story) -> None:
    play = Watching()
    run = story(play)
    for index, step in enumerate(run.steps):
        path = f"{run.run_id}/steps/{run.accepted.steps[index].action}/{run.accepted.steps[index].job_id}"
        if step.state is None:
            assert f"{path}/job_state.json" not in play.on_disk
            told = json.loads(play.on_disk[f"{run.run_id}/run_index.json"])["steps"][index]
            assert told["status"] in {"skipped", "rejected"}
    assert any(step.state is None for step in run.steps)


@pytest.mark.spec("4")
def test_the_states_seq_never_falls_and_follows_the_rows() -> None:
    play = Watching()
    run = succeeded(play)
    seqs = [json.loads(files[f"{run.run_id}/run_state.json"])["seq"] for files in play.seen]
    assert seqs == sorted(seqs)
    assert seqs[-1] == run.seq


@pytest.mark.spec("4")
def test_nothing_is_written_into_a_published_folder_after_it_was_published() -> None:
    play = Watching()
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0)
    play.all_effects.clear()
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    place = f"{run.run_id}/steps/build/"
    written = [each.path for each in play.all_effects if isinstance(each, fx.WriteRecord)]
    assert not [path for path in written if path.startswith(place)]


@pytest.mark.spec("4")
def test_the_current_step_stands_in_the_state_while_there_is_one() -> None:
    play = Watching()
    run = play.accept(accepted())
    path = f"{run.run_id}/run_state.json"
    assert json.loads(play.on_disk[path])["current_step"] is None
    play.to_step(run)
    assert json.loads(play.on_disk[path])["current_step"] == {
        "index": 0,
        "job_id": f"{run.run_id}-job-0",
        "action": "build",
    }
    play.finish_step(run, 0)
    assert json.loads(play.on_disk[path])["current_step"]["index"] == 1
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    assert json.loads(play.on_disk[path])["current_step"] is None


@pytest.mark.spec("8")
def test_bundling_and_waiting_are_stages_of_the_host_on_record() -> None:
    play = Watching()
    run = play.accept(msgspec.structs.replace(accepted(), bundle_ms=40))
    play.at += 3
    play.to_step(run)
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    for index in (0, 1):
        path = f"{run.run_id}/host/{run.run_id}-job-{index}/host_metrics.json"
        stages = json.loads(play.on_disk[path])["stages_ms"]
        assert stages["bundle"] == 40
        asked = sum(stages[name] for name in ("selecting", "reserving"))
        assert stages["queue"] + asked >= 3000


@pytest.mark.spec("4")
def test_the_same_run_gives_the_same_bytes() -> None:
    play = Watching()
    run = succeeded(play)
    copy = msgspec.json.decode(msgspec.json.encode(run), type=m.Run)
    assert projections(copy) == projections(run)
