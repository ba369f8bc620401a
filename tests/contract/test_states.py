"""The two machines: what may follow what."""

from __future__ import annotations

from itertools import product

import pytest

from rch.contract.states import (
    JOB_MOVES,
    RUN_MOVES,
    IllegalTransition,
    JobState,
    RunState,
    can_mirror,
    is_terminal,
    move_job,
    move_run,
)


@pytest.mark.spec("4")
def test_every_move_of_the_table_raises_seq_by_one_and_every_other_is_a_defect() -> None:
    for state, to in product(RunState, RunState):
        if to in RUN_MOVES[state]:
            assert move_run(state, 4, to) == (to, 5)
        else:
            with pytest.raises(IllegalTransition):
                move_run(state, 4, to)
    for job, then in product(JobState, JobState):
        if then in JOB_MOVES[job]:
            assert move_job(job, 1, then) == (then, 2)
        else:
            with pytest.raises(IllegalTransition):
                move_job(job, 1, then)


@pytest.mark.spec("4")
@pytest.mark.parametrize("moves", [RUN_MOVES, JOB_MOVES])
def test_terminal_states_are_final_and_every_other_state_has_an_exit(moves: dict[str, set[str]]) -> None:
    for state, following in moves.items():
        assert bool(following) != is_terminal(state)
        assert is_terminal(state) or any(is_terminal(to) for to in following)


@pytest.mark.spec("4")
def test_a_mirror_moves_forward_only() -> None:
    assert can_mirror(JobState.QUEUED, 1, JobState.RUNNING, 2)
    assert can_mirror(JobState.RUNNING, 2, JobState.FAILED, 7)
    assert not can_mirror(JobState.RUNNING, 2, JobState.FAILED, 1)
    assert not can_mirror(JobState.RUNNING, 2, JobState.FAILED, 2)
    assert not can_mirror(JobState.FAILED, 3, JobState.RUNNING, 4)
    assert not can_mirror(JobState.RUNNING, 2, JobState.QUEUED, 3)
