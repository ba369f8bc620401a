"""A handshake on a bad line: it ends well or as a refusal of kind SSH, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import anyio
import pytest
from support import fake_worker
from support.fault_proxy import DOWN, UP, CutAfter, Direction, Fault, FlipBit, fault_proxy
from support.sshd import SshdServer, available

from rch.contract.errors import Failure, Kind
from rchd.edges.ssh_transport import SshTarget, SshTransport

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.fault("S10"),
    pytest.mark.skipif(not available, reason="OpenSSH's sshd is not installed"),
]

# Greeting, algorithms, keys, the host's key and its proof, the client's proof, the session.
SAMPLE = (3, 700, 2100)
LENGTH = 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshdServer]:
    with SshdServer(tmp_path_factory.mktemp("sshd"), command=fake_worker.command()) as it:
        yield it


async def opened_over(server: SshdServer, fault: Fault) -> Failure | None:
    """Why no channel came of a line with this fault, if none did; the next one is always good."""
    async with fault_proxy(server.port, fault) as line:
        target = SshTarget(
            name="mini",
            host=server.host,
            port=line.port,
            user=server.user,
            fingerprint=server.fingerprints["ed25519"],
            key_path=server.client_key,
            config=(),
            connect_timeout=2,
        )
        transport = SshTransport(target)
        refusal = None
        with anyio.fail_after(60):
            try:
                await transport.open()
            except Failure as failure:
                refusal = failure
        line.set()
        transport._target = replace(target, connect_timeout=60)
        await (await transport.open()).close()
        await transport.close()
        await line.idle()
    return refusal


@pytest.mark.parametrize(("at", "direction"), list(product(SAMPLE, (UP, DOWN))))
async def test_a_line_that_is_cut_in_the_handshake_is_told_as_such(
    server: SshdServer, at: int, direction: Direction
) -> None:
    refusal = await opened_over(server, CutAfter(at, direction))
    assert refusal is None or refusal.label == "SSH / UNREACHABLE"


@pytest.mark.parametrize(("at", "direction"), list(product(SAMPLE, (UP, DOWN))))
async def test_a_bit_that_is_flipped_in_the_handshake_ends_it_by_a_word_of_kind_ssh(
    server: SshdServer, at: int, direction: Direction
) -> None:
    refusal = await opened_over(server, FlipBit(at, direction))
    assert refusal is None or refusal.kind is Kind.SSH


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("first", "direction"), list(product(range(4), (UP, DOWN))))
async def test_a_handshake_may_be_cut_or_damaged_at_any_byte(
    server: SshdServer, first: int, direction: Direction
) -> None:
    for at in range(first * 15, LENGTH, 60):
        cut = await opened_over(server, CutAfter(at, direction))
        assert cut is None or cut.label == "SSH / UNREACHABLE"
        damaged = await opened_over(server, FlipBit(at, direction, bit=at % 8))
        assert damaged is None or damaged.kind is Kind.SSH
