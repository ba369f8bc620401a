from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import fake_worker, sshd

from rch.config.inventory import WorkerEntry
from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import Feature, HasSourceRequest, JobRequest
from rchd.edges.pool import LOCAL_COMMAND, WorkerPool, target_of
from rchd.edges.worker_client import WorkerClient

STATUS = JobRequest(job_id="job-00000001")


def local(name: str, scenario: str = "honest") -> WorkerEntry:
    return WorkerEntry(name=name, transport="local", command=fake_worker.command(scenario))


def living(log: Path) -> list[str]:
    return [pid for pid in log.read_text().split() if Path(f"/proc/{pid}").exists()]


async def test_a_worker_has_one_client_until_it_is_dropped(tmp_path: Path) -> None:
    log = tmp_path / "started"
    pool = WorkerPool([local("a"), local("b")], local_env={**os.environ, "FAKE_WORKER_LOG": str(log)})
    first = pool.client("a")
    assert pool.client("a") is first
    assert pool.client("b") is not first
    await first.status(STATUS)
    assert len(living(log)) == 1
    await pool.drop("a")
    assert living(log) == []
    assert pool.client("a") is not first
    assert (await pool.client("a").status(STATUS)).seq == 2
    await pool.close()
    assert living(log) == []


async def test_an_unknown_worker_is_a_config_failure() -> None:
    with pytest.raises(Failure, match="no worker 'c'") as caught:
        WorkerPool([]).client("c")
    assert caught.value.kind is Kind.CONFIG


async def test_a_new_inventory_closes_what_changed_and_keeps_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "started"
    env = {**os.environ, "FAKE_WORKER_LOG": str(log)}
    pool = WorkerPool([local("same"), local("other"), local("gone")], local_env=env)
    before = {name: pool.client(name) for name in ("same", "other", "gone")}
    for client in before.values():
        await client.status(STATUS)
    await pool.replace([local("same"), local("other", "busy")])
    assert len(living(log)) == 1
    assert pool.client("same") is before["same"]
    assert pool.client("other") is not before["other"]
    with pytest.raises(Failure):
        pool.client("gone")
    await pool.close()


def test_an_ssh_entry_is_dialled_as_the_inventory_says() -> None:
    pin = "SHA256:" + "A" * 43
    entry = WorkerEntry(name="mini", host="alias", known_host_fingerprint=pin, ssh_key_path="~/.ssh/rch")
    target = target_of(entry, 7.0)
    assert (target.host, target.user, target.port, target.fingerprint) == ("alias", None, None, pin)
    assert target.key_path == Path.home() / ".ssh" / "rch"
    assert (target.known_hosts, target.config, target.connect_timeout) == (None, None, 7.0)


# --- the worker itself --------------------------------------------------------------------


async def ask(client: WorkerClient) -> None:
    result = await client.probe()
    assert result.capabilities.capacity.slots_total >= 1
    assert await client.protocol_version() == 1
    assert client.offers(Feature.UPLOAD)
    assert not (await client.has_source(HasSourceRequest(source_sha256="0" * 64))).exists


@pytest.mark.spec("3.1")
async def test_the_worker_beside_the_daemon_answers_over_pipes(tmp_path: Path) -> None:
    env = {**os.environ, "RCH_WORKER_HOME": str(tmp_path)}
    pool = WorkerPool([WorkerEntry(name="local", transport="local")], local_env=env)
    await ask(pool.client("local"))
    await pool.close()


@pytest.mark.sshd
@pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed")
@pytest.mark.spec("3.1")
async def test_the_worker_answers_behind_a_forced_command(tmp_path: Path) -> None:
    env = {"RCH_WORKER_HOME": str(tmp_path / "worker")}
    with sshd.SshdServer(tmp_path / "sshd", command=LOCAL_COMMAND, env=env) as server:
        entry = WorkerEntry(
            name="mini",
            host=server.host,
            port=server.port,
            user=server.user,
            known_host_fingerprint=server.fingerprints["ed25519"],
            ssh_key_path=str(server.client_key),
        )
        pool = WorkerPool([entry])
        await ask(pool.client("mini"))
        await pool.close()
