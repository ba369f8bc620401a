from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rch.files.locks import FileLock, is_free

HOLD = """
import sys, pathlib
from rch.files.locks import FileLock
lock = FileLock(pathlib.Path(sys.argv[1]), "runs job 7")
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.read()
"""

# A parent that takes the lock, hands it to a child, and ends; the child says when it has it.
HAND_OVER = """
import subprocess, sys, pathlib
from rch.files.locks import FileLock
lock = FileLock(pathlib.Path(sys.argv[1]))
assert lock.try_acquire()
subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1], str(lock.fd)],
                 pass_fds=[lock.fd], start_new_session=True)
lock.release()
"""

ADOPT = """
import os, subprocess, sys, pathlib
from rch.files.locks import FileLock
lock = FileLock.adopt(int(sys.argv[2]), pathlib.Path(sys.argv[1]))
lock.describe("supervises")
grandchild = subprocess.Popen(["sleep", "600"], close_fds=False, stdin=-3, stdout=-3)
print(os.getpid(), grandchild.pid, flush=True)
sys.stdin.read()
"""


def _start(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "locks" / "a.lock"


@pytest.fixture(name="holder")
def fixture_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    child = _start(path)
    yield child
    _end(child)


@pytest.mark.fault("H6")
def test_one_process_at_a_time_has_the_lock(path: Path, holder: subprocess.Popen[str]) -> None:
    lock = FileLock(path)
    assert not lock.try_acquire()
    assert not lock.held
    assert not is_free(path)
    assert lock.holder() == f"pid {holder.pid} runs job 7"


@pytest.mark.fault("H6")
def test_a_stopped_holder_still_holds(path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    assert not FileLock(path).try_acquire()
    os.kill(holder.pid, signal.SIGCONT)


@pytest.mark.fault("H6")
def test_a_killed_holder_holds_no_more_whatever_the_file_says(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    _end(holder)
    lock = FileLock(path)
    assert is_free(path)
    assert lock.holder() is None
    assert lock.try_acquire()
    assert lock.holder() == f"pid {os.getpid()}"
    lock.release()


@pytest.mark.fault("H6")
def test_a_pid_in_the_file_decides_nothing(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(f"pid {os.getppid()} alive and well\n")
    lock = FileLock(path)
    assert lock.try_acquire()
    lock.release()


@pytest.mark.fault("H6")
def test_a_path_through_a_link_is_the_same_lock(
    tmp_path: Path, path: Path, holder: subprocess.Popen[str]
) -> None:
    (tmp_path / "folder").symlink_to(path.parent)
    (tmp_path / "file.lock").symlink_to(path)
    assert not FileLock(tmp_path / "folder" / path.name).try_acquire()
    assert not FileLock(tmp_path / "file.lock").try_acquire()
    _end(holder)
    assert is_free(tmp_path / "file.lock")


def test_two_locks_in_one_process_exclude_one_another(path: Path) -> None:
    with FileLock(path) as first:
        assert first.try_acquire()
        assert not FileLock(path).try_acquire()
    assert FileLock(path).holder() is None
    assert is_free(path)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_a_child_that_was_handed_the_lock_keeps_it_and_hands_it_on_to_no_one(path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(path), ADOPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child, grandchild = map(int, parent.stdout.readline().split())
    try:
        assert parent.wait() == 0
        assert not is_free(path)
        assert FileLock(path).holder() == f"pid {child} supervises"
        os.kill(child, signal.SIGKILL)
        FileLock(path).acquire(10)  # though the grandchild lives on
        os.kill(grandchild, 0)
    finally:
        os.kill(grandchild, signal.SIGKILL)
        parent.communicate()


def test_a_descriptor_that_is_no_such_lock_is_not_adopted(path: Path, tmp_path: Path) -> None:
    with FileLock(path) as lock, (tmp_path / "other").open("w") as other:
        with pytest.raises(ValueError, match="is not the lock file"):
            FileLock.adopt(other.fileno(), path)
        with path.open() as second, pytest.raises(ValueError, match="does not hold"):
            FileLock.adopt(second.fileno(), path)
        assert lock.held


def test_release_does_not_unlock_what_was_handed_over(path: Path) -> None:
    lock = FileLock(path)
    lock.acquire(1)
    copy = os.dup(lock.fd)
    lock.release()
    lock.release()
    assert not is_free(path)
    os.close(copy)
    assert is_free(path)


def test_waiting_ends_when_the_holder_does(path: Path, holder: subprocess.Popen[str]) -> None:
    taken = threading.Event()
    lock = FileLock(path)

    def wait() -> None:
        lock.acquire(30)
        taken.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not taken.is_set()
    _end(holder)
    waiter.join(30)
    assert taken.is_set()
    lock.release()


def test_waiting_in_vain_names_the_holder(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(TimeoutError, match=f"a.lock is held by pid {holder.pid} runs job 7"):
        FileLock(path).acquire(0.02)


def test_a_lock_that_is_not_held_has_no_descriptor(path: Path) -> None:
    with pytest.raises(ValueError, match="not held"):
        _ = FileLock(path).fd


def test_asking_whether_it_is_free_never_makes_a_taker_fail(path: Path) -> None:
    """The asker locks for an instant; the taker must not take that for a holder."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            is_free(path)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(300):
            lock = FileLock(path)
            assert lock.try_acquire()
            lock.release()
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def test_a_lock_file_that_was_replaced_while_taken_is_not_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rch.files import locks

    real = locks._take
    seen: list[int] = []

    def take(fd: int) -> bool:
        if not seen:
            path.unlink()
            path.touch()
        seen.append(fd)
        return real(fd)

    monkeypatch.setattr(locks, "_take", take)
    lock = FileLock(path)
    assert lock.try_acquire()
    assert len(seen) == 2
    assert not is_free(path)
    lock.release()


def test_what_the_holder_wrote_is_one_short_printable_line(path: Path) -> None:
    with FileLock(path, "a\x1b[31m\nb" + "c" * 1000) as lock:
        text = lock.holder()
    assert text is not None
    assert text.isprintable()
    assert len(text) <= 200
