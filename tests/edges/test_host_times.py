"""Times of the daemon, with lowered values: what sets in when each is over (docs/limits.md)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from rch.contract import local_api
from rch.contract.errors import Failure
from rch.contract.worker_rpc import TailRequest
from rchd import api_daemon, api_setup, app
from rchd.core import effects as fx
from rchd.edges import performer

TARGET = fx.Target(worker="mini", protocol=1, deadline=0.0)
OF: dict[str, Any] = {"run_id": "run-00000001", "op": 1, "target": TARGET}


class AskedError(Exception):
    """What was asked arrived where it should."""


@pytest.mark.spec("3.3")
async def test_a_tail_is_held_for_as_long_as_is_asked() -> None:
    asked: list[TailRequest] = []

    class Client:
        async def tail(self, request: TailRequest) -> None:
            asked.append(request)
            raise AskedError

    stub: Any = SimpleNamespace(_client=lambda _effect: Client())
    tail = fx.Tail(**OF, job_id="job-00000001", cursor=None, log_path="x")
    with pytest.raises(AskedError):
        await performer.Performer._tail(stub, tail, lambda _event: None)
    assert (asked[0].wait_seconds, asked[0].max_bytes) == (
        performer.TAIL_WAIT_SECONDS,
        performer.TAIL_MAX_BYTES,
    )


@pytest.mark.fault("S12")
async def test_a_control_call_has_its_time_beyond_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(performer, "CALL_SECONDS", 0.05)
    monkeypatch.setattr(performer, "_has_source", lambda *_: anyio.sleep_forever())
    stub: Any = SimpleNamespace(_client=lambda _effect: None)
    with anyio.fail_after(20), pytest.raises(Failure, match=r"did not answer within 0\.05 s") as caught:
        await performer.Performer._call(stub, fx.HasSource(**OF, source_sha256="a" * 64, lease_id=None))
    assert caught.value.label == "SSH / UNREACHABLE"


async def test_in_silence_followers_hear_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_SECONDS", 0.01)
    heard: list[int] = []
    two = anyio.Event()

    def beat(seq: int, _at: str, _trouble: object) -> None:
        heard.append(seq)
        if len(heard) == 2:
            two.set()

    hub: Any = SimpleNamespace(heartbeat=beat)
    driver: Any = SimpleNamespace(seq=7, trouble=None)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(app._heartbeat, hub, driver)
            await two.wait()
            group.cancel_scope.cancel()
    assert heard[:2] == [7, 7]


@pytest.mark.spec("4")
async def test_who_leaves_waits_for_no_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(app, "farewell", lambda _runs: ["renew"])
    begun: list[str] = []

    async def perform(effect: str, _post: object) -> None:
        begun.append(effect)
        await anyio.sleep_forever()

    async def close() -> None:
        begun.append("close")
        await anyio.sleep_forever()

    core: Any = SimpleNamespace(runs={})
    with anyio.fail_after(20):
        await app._leave(core, SimpleNamespace(perform=perform), SimpleNamespace(close=close))  # type: ignore[arg-type]
    assert begun == ["renew", "close"]


@pytest.mark.spec("4")
@pytest.mark.parametrize("beyond", [0, 1])
async def test_a_drain_may_take_as_long_as_the_limit_and_no_longer(tmp_path: Path, beyond: int) -> None:
    del tmp_path

    async def tell_core(*, off: bool) -> None:
        del off
        raise AskedError

    stub: Any = SimpleNamespace(_tell_core=tell_core)
    asked = local_api.DrainParams(timeout_seconds=api_daemon.LONGEST_DRAIN_SECONDS + beyond)
    refused = pytest.raises(Failure, match="is not 0 to 604800")
    with refused if beyond else pytest.raises(AskedError):
        await api_daemon.DaemonApi.drain(stub, asked, None)  # type: ignore[arg-type]


@pytest.mark.spec("3.1")
@pytest.mark.parametrize("op", ["look", "authorize"])
async def test_each_step_of_a_set_up_has_a_time_of_its_own(op: str) -> None:
    given: list[float] = []

    async def call(_op: str, _request: object, *, python: str, seconds: float) -> None:
        del python
        given.append(seconds)
        raise AskedError

    site: Any = SimpleNamespace(call=call)
    with pytest.raises(AskedError):
        await (
            api_setup._look(site, None, None) if op == "look" else api_setup._step(site, op, {}, "python3")
        )
    assert given == [api_setup.LOOK_SECONDS if op == "look" else api_setup.STEP_SECONDS]
