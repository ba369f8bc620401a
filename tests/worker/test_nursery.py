"""Supervisors and sweeps that a channel forks: nothing of it is theirs; some are programs still."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.worker_pipe import (
    Bench,
    ProcessPipe,
    a_bench,
    follow,
    submit,
    supervisor_of,
    tail_until,
    until,
)

from worker_agent import sweep
from worker_agent.supervisor import NAME

pytestmark = pytest.mark.spec("3.3")

_WAITING = "echo up; while [ ! -e {gate} ]; do sleep 0.02; done; echo done\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def descriptors_of(pid: int) -> set[str]:
    folder = Path(f"/proc/{pid}/fd")
    return {str(each.readlink()) for each in folder.iterdir()}


def test_a_forked_supervisor_has_nothing_of_its_channel(bench: Bench) -> None:
    gate = bench.root / "gate"
    pipe = ProcessPipe(bench.env)
    try:
        job = bench.script(pipe, _WAITING.format(gate=gate))
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        owner = supervisor_of(bench, job.job_id)
        assert "rpc" in words_of(owner), "it is a fork, not a new program"
        assert Path(f"/proc/{owner}/comm").read_text().strip() == NAME
        assert os.getsid(owner) == owner
        assert Path(f"/proc/{owner}/cwd").readlink() == Path("/")
        channel = int(Path(f"/proc/{owner}/stat").read_text().rpartition(")")[2].split()[1])
        lines = {each for each in descriptors_of(channel) if each.startswith("pipe:")}
        assert lines, "the channel has its pipes"
        assert not lines & descriptors_of(owner)
    finally:
        pipe.close()
    gate.touch()  # the channel is gone: the job is not
    with bench.pipe() as after:
        log, _, state = follow(after, job.job_id)
    assert (log, state) == ("up\ndone\n", "SUCCEEDED")


_TELLS = """
import os
real = os.nice
def nice(number):
    told = open("/proc/self/cmdline").read().split("\\0")
    told += [open("/proc/self/comm").read().strip(), f"leads: {os.getsid(0) == os.getpid()}", os.getcwd()]
    for fd in range(3, 256):
        try:
            told.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    with open(NOTE + ".new", "w") as note:
        note.write("\\n".join(told))
    os.rename(NOTE + ".new", NOTE)
    return real(number)
os.nice = nice
"""


def test_a_sweep_is_forked_and_has_nothing_of_its_channel(bench: Bench, tmp_path: Path) -> None:
    site, note = tmp_path / "site", tmp_path / "note"
    site.mkdir()
    (site / "sitecustomize.py").write_text(f"NOTE = {str(note)!r}\n{_TELLS}")
    pipe = ProcessPipe({**bench.env, "PYTHONPATH": str(site)})
    try:
        lease = pipe.ask("reserve", run_id="run-0000000001", host_id="host-00000001")
        tree = bench.data / "runs" / "run-0000000002" / "tree"
        tree.mkdir(parents=True)
        pipe.ask("release", lease_id=lease["lease_id"], fence=lease["fence"])
        until(lambda: note.exists() and not tree.exists())
        told = note.read_text().split("\n")
        assert "rpc" in told, "it is a fork, not a new program"
        assert {sweep.NAME, "leads: True", "/"} < set(told), "name, session and folder are its own"
        assert not any(each.startswith("pipe:") for each in told)
        lines = descriptors_of(pipe.process.pid)
        assert any(each.startswith("pipe:") for each in lines), "the channel has its pipes"
    finally:
        pipe.close()


def test_a_channel_whose_code_was_replaced_starts_a_program(bench: Bench, tmp_path: Path) -> None:
    """Another version is installed while the channel stands: jobs run by what is installed."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import os\nimport worker_agent.nursery as nursery\nnursery._CODE = ({str(site / 'code')!r},)\n"
    )
    (site / "code").write_text("one")
    gate = bench.root / "gate"
    pipe = ProcessPipe({**bench.env, "PYTHONPATH": str(site)})
    try:
        job = bench.script(pipe, _WAITING.format(gate=gate))
        (site / "another").write_text("two")
        (site / "another").replace(site / "code")
        submit(pipe, job)
        assert "supervise" in words_of(supervisor_of(bench, job.job_id))
        gate.touch()
        assert follow(pipe, job.job_id)[2] == "SUCCEEDED"
    finally:
        pipe.close()
