"""The lease table by itself, with a clock of the test's own."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rch.contract.worker_rpc import Code, RpcError
from worker_agent.leases import MAX_TTL_SECONDS, RETRY_AFTER_SECONDS, Leases
from worker_agent.turns import PATIENCE_SECONDS

GRACE = 600


class Machine:
    """A boot clock and the jobs that are alive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.alive: set[str] = set()
        self.boot = "boot-1"

    def leases(self, slots: int = 1) -> Leases:
        return Leases(
            self.folder / "leases",
            self.folder / "locks" / "leases.lock",
            slots=slots,
            grace_seconds=GRACE,
            boot_seconds=lambda: self.now,
            boot=self.boot,
            alive=lambda job_id: job_id in self.alive,
        )

    def start(self, leases: Leases, job_id: str, lease_id: str = "", fence: int = 0) -> None:
        """What a submit does: own the job, then take a slot for it."""
        self.alive.add(job_id)
        try:
            leases.take(job_id, lease_id or None, fence or None)
        except RpcError:
            self.alive.discard(job_id)
            raise


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def refusal(error: pytest.ExceptionInfo[RpcError]) -> Code:
    return error.value.code


@pytest.mark.spec("3.4")
@pytest.mark.fault("W6")
def test_the_same_live_run_has_the_same_lease(machine: Machine) -> None:
    leases = machine.leases()
    first = leases.reserve("run-a", "host", 90)
    machine.now += 60
    again = leases.reserve("run-a", "host", 90)
    assert (again.lease.lease_id, again.lease.fence) == (first.lease.lease_id, first.lease.fence)
    assert again.slots_free == first.slots_free == 0
    machine.now += 60
    assert leases.is_live(again.lease)


@pytest.mark.spec("3.4")
def test_no_slot_is_busy_with_a_time_to_come_back(machine: Machine) -> None:
    leases = machine.leases(slots=2)
    leases.reserve("run-a", "host-1", 90)
    assert leases.reserve("run-b", "host-2", 90).slots_free == 0
    with pytest.raises(RpcError) as busy:
        leases.reserve("run-c", "host-3", 90)
    assert refusal(busy) == Code.BUSY
    assert busy.value.data["retry_after_seconds"] > 0


@pytest.mark.spec("3.4")
def test_the_fence_rises_with_every_new_lease_also_after_the_table_is_read_again(machine: Machine) -> None:
    fences = []
    for number in range(5):
        leases = machine.leases()
        granted = leases.reserve(f"run-{number}", "host", 90)
        fences.append(granted.lease.fence)
        leases.release(granted.lease.lease_id, granted.lease.fence)
    assert fences == [1, 2, 3, 4, 5]


@pytest.mark.spec("3.4")
def test_a_renewal_moves_the_deadline_and_keeps_the_fence(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    for _ in range(10):
        machine.now += 80
        renewed = leases.renew("run-a", lease.lease_id, lease.fence, None).lease
    assert (renewed.lease_id, renewed.fence, renewed.ttl_seconds) == (lease.lease_id, lease.fence, 90)
    assert leases.renew("run-a", lease.lease_id, lease.fence, 3600).lease.ttl_seconds == 3600
    machine.now += 3599
    assert leases.slots_free() == 0
    machine.now += 2
    assert leases.slots_free() == 1


@pytest.mark.spec("3.4")
@pytest.mark.fault("W5")
def test_a_lease_that_is_dead_or_not_the_callers_is_refused(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    for run_id, lease_id, fence in (
        ("run-a", lease.lease_id, lease.fence + 1),
        ("run-a", lease.lease_id, lease.fence - 1),
        ("run-a", "lease-other", lease.fence),
        ("run-b", lease.lease_id, lease.fence),
    ):
        with pytest.raises(RpcError) as refused:
            leases.renew(run_id, lease_id, fence, None)
        assert refusal(refused) == Code.LEASE_EXPIRED
    machine.now += 91
    with pytest.raises(RpcError) as refused:
        leases.require(lease.lease_id, lease.fence)
    assert refusal(refused) == Code.LEASE_EXPIRED


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_the_run_revives_its_expired_lease_with_a_higher_fence(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1", lease.lease_id, lease.fence)
    machine.now += 90 + GRACE - 1
    with pytest.raises(RpcError) as busy:
        leases.reserve("run-b", "host", 90)  # the orphaned job still holds its slot
    assert refusal(busy) == Code.BUSY
    assert not leases.is_over(lease.lease_id)
    revived = leases.reserve("run-a", "host", 90).lease
    assert (revived.lease_id, revived.fence) == (lease.lease_id, lease.fence + 1)
    with pytest.raises(RpcError) as refused:
        leases.require(lease.lease_id, lease.fence)
    assert refusal(refused) == Code.LEASE_EXPIRED
    machine.now += GRACE
    assert not leases.is_over(lease.lease_id)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_after_the_grace_the_job_is_to_end_and_still_holds_its_slot(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1", lease.lease_id, lease.fence)
    machine.now += 90 + GRACE + 1
    assert leases.is_over(lease.lease_id)
    assert leases.slots_free() == 0
    with pytest.raises(RpcError) as busy:
        leases.reserve("run-a", "host", 90)
    assert refusal(busy) == Code.BUSY
    leases.drop("job-1")
    assert leases.reserve("run-a", "host", 90).lease.fence == lease.fence + 1


@pytest.mark.spec("3.4")
@pytest.mark.fault("W6")
def test_a_run_has_one_lease_also_while_a_job_of_its_dead_one_is_being_ended(machine: Machine) -> None:
    leases = machine.leases(slots=3)
    dead = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1", dead.lease_id, dead.fence)
    machine.now += 90 + GRACE + 1
    lease = leases.reserve("run-a", "host", 90).lease
    assert lease.lease_id != dead.lease_id
    assert leases.reserve("run-a", "host", 90).lease.lease_id == lease.lease_id
    assert leases.slots_free() == 1


@pytest.mark.spec("3.4")
def test_without_a_job_an_expired_lease_holds_nothing(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    machine.now += 91
    other = leases.reserve("run-b", "host", 90).lease
    assert other.fence == lease.fence + 1
    with pytest.raises(RpcError) as busy:
        leases.reserve("run-a", "host", 90)
    assert refusal(busy) == Code.BUSY


@pytest.mark.spec("2")
@pytest.mark.fault("W3")
def test_a_lease_of_another_boot_is_dead(machine: Machine) -> None:
    lease = machine.leases().reserve("run-a", "host", 90).lease
    machine.boot, machine.now = "boot-2", 5.0
    leases = machine.leases()
    with pytest.raises(RpcError) as refused:
        leases.require(lease.lease_id, lease.fence)
    assert refusal(refused) == Code.LEASE_EXPIRED
    assert leases.reserve("run-b", "host", 90).lease.fence == lease.fence + 1


@pytest.mark.spec("3.3")
@pytest.mark.fault("W6")
def test_a_release_that_means_nothing_does_nothing(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1", lease.lease_id, lease.fence)
    assert leases.release("lease-other", 1) == ()
    assert leases.release(lease.lease_id, lease.fence + 1) == ()
    assert leases.release(lease.lease_id, lease.fence) == ("job-1",)
    assert leases.release(lease.lease_id, lease.fence) == ()
    assert leases.slots_free() == 0  # until its processes are gone
    leases.drop("job-1")
    assert leases.slots_free() == 1


@pytest.mark.spec("3.3")
def test_a_job_without_a_lease_needs_a_free_slot(machine: Machine) -> None:
    leases = machine.leases(slots=2)
    lease = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1")
    for job_id in ("job-2", "job-3"):
        with pytest.raises(RpcError) as busy:
            machine.start(leases, job_id)
        assert refusal(busy) == Code.BUSY
    machine.start(leases, "job-4", lease.lease_id, lease.fence)
    machine.alive.discard("job-1")  # lost: nobody dropped it
    machine.start(leases, "job-5")


@pytest.mark.spec("3.3")
def test_a_lease_is_one_slot_for_one_job_at_a_time(machine: Machine) -> None:
    leases = machine.leases(slots=4)
    lease = leases.reserve("run-a", "host", 90).lease
    machine.start(leases, "job-1", lease.lease_id, lease.fence)
    machine.start(leases, "job-1", lease.lease_id, lease.fence)  # submitted again after it was lost
    with pytest.raises(RpcError) as busy:
        machine.start(leases, "job-2", lease.lease_id, lease.fence)
    assert refusal(busy) == Code.BUSY
    leases.drop("job-1")
    machine.start(leases, "job-2", lease.lease_id, lease.fence)
    assert leases.slots_free() == 3


@pytest.mark.spec("3.4")
@pytest.mark.parametrize("ttl", [0, -1])
def test_a_lease_lives_for_some_time(machine: Machine, ttl: int) -> None:
    with pytest.raises(RpcError) as refused:
        machine.leases().reserve("run-a", "host", ttl)
    assert refusal(refused) == Code.INVALID_REQUEST


def test_a_lease_lives_no_longer_than_the_worker_allows_and_says_so(machine: Machine) -> None:
    assert machine.leases().reserve("run-a", "host", 10**9).lease.ttl_seconds == MAX_TTL_SECONDS


@pytest.mark.spec("3.3")
@pytest.mark.fault("W8")
def test_a_source_is_pinned_for_the_life_of_the_lease(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "host", 90).lease
    leases.pin(lease.lease_id, "ab" * 32)
    leases.pin(lease.lease_id, "ab" * 32)
    leases.pin("lease-other", "cd" * 32)
    assert [one.pins for one in leases.read().leases] == [("ab" * 32,)]
    machine.now += 90 + GRACE + 1
    leases.reserve("run-b", "host", 90)
    assert [one.pins for one in leases.read().leases] == [()]


def asks(leases: Leases, run_id: str, host_id: str) -> bool:
    """Whether a run gets what it asks for."""
    try:
        leases.reserve(run_id, host_id, 90)
    except RpcError as error:
        if (error.code, error.data) != (Code.BUSY, {"retry_after_seconds": RETRY_AFTER_SECONDS}):
            raise
        return False
    return True


def gives_back(leases: Leases, run_id: str) -> None:
    lease = next(one for one in leases.read().leases if one.run_id == run_id)
    leases.release(lease.lease_id, lease.fence)


@pytest.mark.spec("3.4")
def test_two_hosts_take_turns_however_fast_one_of_them_asks_again(machine: Machine) -> None:
    leases = machine.leases()
    queues = {"a": [f"run-a{n}" for n in range(5)], "b": [f"run-b{n}" for n in range(2)]}
    asked = {"a": 0.0, "b": 0.0}  # the first question of a run comes at once
    running, served = "", ""
    while any(queues.values()):
        if running and machine.now % 10 == 0:
            gives_back(leases, queues[running].pop(0))
            asked[running], running = 0.0, ""
        for host, pause in (("a", 2), ("b", 30)):
            if queues[host] and host != running and machine.now - asked[host] >= pause:
                asked[host] = machine.now
                if asks(leases, queues[host][0], host):
                    running = host
                    served += host
        machine.now += 2
    assert served == "ababaaa"


@pytest.mark.spec("3.4")
def test_a_slot_is_kept_for_one_that_does_not_come_back_for_a_bounded_time(machine: Machine) -> None:
    leases = machine.leases()
    assert asks(leases, "run-a0", "a")
    assert not asks(leases, "run-b0", "b")
    gives_back(leases, "run-a0")
    machine.now += PATIENCE_SECONDS - 1
    assert not asks(leases, "run-a1", "a")
    machine.now += 1
    assert asks(leases, "run-a1", "a")


@pytest.mark.spec("3.4")
def test_a_host_does_not_wait_for_itself_nor_for_one_that_asked_later(machine: Machine) -> None:
    leases = machine.leases()
    assert asks(leases, "run-a0", "a")
    assert not asks(leases, "run-b0", "b")
    assert not asks(leases, "run-b1", "b")
    assert not asks(leases, "run-c0", "c")
    gives_back(leases, "run-a0")
    assert not asks(leases, "run-c0", "c")
    assert asks(leases, "run-b1", "b")
    gives_back(leases, "run-b1")
    assert not asks(leases, "run-c0", "c")
    assert asks(leases, "run-b0", "b")


@pytest.mark.spec("3.4")
def test_what_is_free_beyond_those_who_wait_goes_to_whoever_comes(machine: Machine) -> None:
    leases = machine.leases(slots=2)
    assert asks(leases, "run-a0", "a")
    assert asks(leases, "run-a1", "a")
    assert not asks(leases, "run-b0", "b")
    gives_back(leases, "run-a0")
    assert not asks(leases, "run-c0", "c")
    gives_back(leases, "run-a1")
    assert not asks(leases, "run-d0", "d")  # both are kept, for b and c
    assert asks(leases, "run-c0", "c")
    assert asks(leases, "run-b0", "b")


@pytest.mark.spec("3.4")
@pytest.mark.fault("W4")
def test_a_revival_waits_for_nobodys_turn(machine: Machine) -> None:
    leases = machine.leases()
    lease = leases.reserve("run-a", "a", 90).lease
    assert not asks(leases, "run-b", "b")
    machine.now += 60
    assert asks(leases, "run-a", "a")  # it lives
    machine.now += 80
    assert not asks(leases, "run-b", "b")
    machine.now += 11
    revived = leases.reserve("run-a", "a", 90).lease
    assert (revived.lease_id, revived.fence) == (lease.lease_id, lease.fence + 1)


@pytest.mark.fault("W3")
def test_who_waited_before_a_boot_waits_no_more(machine: Machine) -> None:
    leases = machine.leases()
    assert asks(leases, "run-a", "a")
    assert not asks(leases, "run-b", "b")
    machine.boot = "boot-2"
    assert asks(machine.leases(), "run-c", "c")


@pytest.mark.spec("3.3")
def test_many_hosts_at_once_never_get_more_than_there_is(machine: Machine) -> None:
    granted, refused = [], []

    def ask(number: int) -> None:
        try:
            granted.append(machine.leases(slots=3).reserve(f"run-{number}", "host", 90).lease)
        except RpcError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 3
    assert refused == [Code.BUSY] * 13
    assert sorted(lease.fence for lease in granted) == [1, 2, 3]
