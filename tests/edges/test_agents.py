"""Which key agent is asked, where terminals and their agents come and go."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from support.agents import ssh_agent

from rchd.edges.agents import MOST, Agents, answers_at


def everyone(path: str) -> bool:
    del path
    return True


def test_the_caller_that_told_last_goes_first_and_the_daemons_own_last() -> None:
    agents = Agents("/own", answers=everyone)
    assert agents.pick() == "/own"
    agents.tell("/one")
    agents.tell("/two")
    assert agents.pick() == "/two"
    agents.tell("/one")
    assert agents.pick() == "/one"


def test_an_agent_that_is_gone_is_passed_over_and_forgotten() -> None:
    living = {"/own", "/one", "/two"}
    agents = Agents("/own", answers=living.__contains__)
    agents.tell("/one")
    agents.tell("/two")
    living.discard("/two")
    assert agents.pick() == "/one"
    living.clear()
    assert agents.pick() is None
    living |= {"/own", "/one"}
    assert agents.pick() == "/own"


@pytest.mark.parametrize("path", [None, "", "relative", "/a\nb", "/" + "a" * 5000])
def test_what_is_no_path_is_passed_over(path: str | None) -> None:
    agents = Agents(answers=everyone)
    agents.tell(path)
    assert agents.pick() is None


def test_only_so_many_are_remembered() -> None:
    asked: list[str] = []

    def nobody(path: str) -> bool:
        asked.append(path)
        return False

    agents = Agents(answers=nobody)
    for number in range(MOST + 3):
        agents.tell(f"/{number}")
    assert agents.pick() is None
    assert asked == [f"/{number}" for number in reversed(range(3, MOST + 3))]


def test_a_real_agent_answers_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with ssh_agent(path) as agent:
        assert answers_at(agent)
    assert not answers_at(str(path))


def test_what_is_no_living_socket_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not answers_at(str(tmp_path / "file"))
    assert not answers_at(str(tmp_path / "nowhere"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    assert not answers_at(str(tmp_path / "dead"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another user")
def test_a_socket_of_another_user_is_never_asked(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        assert answers_at(str(tmp_path / "other"))
        os.chown(tmp_path / "other", 12345, -1)
        assert not answers_at(str(tmp_path / "other"))
