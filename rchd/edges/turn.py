"""Few snapshots at a time, one of each tree, in threads; who is stuck loses his turn.

A slow tree holds up its own next snapshot, and nobody else's as long as there is a turn for others. A
mount can die in the middle of a snapshot, and nothing ends the thread that reads it. So a thread shows
with `Token.is_off` that it goes on, which it asks for each folder and each piece of a file anyway. Where it
shows nothing for `STUCK_SECONDS`, it is left behind: its caller is told so and the next one has his turn;
should the thread ever come back, it learns that it is off and keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import anyio

from rch.contract.errors import Failure, Kind

STUCK_SECONDS = 300.0
"""Long beside a sync of gigabytes to a slow disk, which shows nothing either."""
LEAVE_SECONDS = 10.0
"""How long who was called off may take to notice."""
MAX_STUCK = 8
"""Threads that may be left behind at a time."""
AT_ONCE = 3
"""Snapshots at a time, each with buffers and threads of its own: two slow trees leave a turn to others."""
WAIT_SECONDS = 5.0
"""How often who waits for his turn is told so: well within what a client waits without a word."""

T = TypeVar("T")


class Token:
    """What the thread of a turn knows of who waits for it."""

    def __init__(self) -> None:
        self.seen = time.monotonic()
        self._off = self._left = self._keeps = False
        self._lock = threading.Lock()

    def is_off(self) -> bool:
        """Whether it is not to go on reading; asking shows that the thread goes on."""
        self.seen = time.monotonic()
        return self._off

    def call_off(self) -> None:
        """It is not wanted any more; what is read by now may still be kept."""
        self._off = True

    def keep(self) -> None:
        """From here on what the thread does is waited for; `Failure` CANCELLED where it was left behind."""
        with self._lock:
            if self._left:
                raise Failure(Kind.CANCELLED, "cancelled while the source was bundled")
            self._keeps = True

    def leave(self) -> bool:
        """Whether the thread may be left behind: then it keeps nothing, whenever it comes back."""
        with self._lock:
            self._left = not self._keeps
            self._off = self._off or self._left
            return self._left


class _Outcome(Generic[T]):
    """What came of a thread: a value, or what it raised."""

    value: T
    error: BaseException | None = None


class Turn:
    """Runs `AT_ONCE` pieces of work at a time, and one of each key; `left`: one of them was left behind."""

    def __init__(self, left: Callable[[], None] = lambda: None) -> None:
        self._places = anyio.Semaphore(AT_ONCE)
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._left = left
        self._stuck = 0

    async def run(
        self, work: Callable[[Token], T], key: str = "", waits: Callable[[], None] = lambda: None
    ) -> T:
        """What `work` gives. `Failure` BUNDLER / UNREADABLE where it shows no life, or too many do not.

        As long as it waits for its turn `waits` is called now and then.
        A cancelled call ends when the thread has noticed, soon at the latest, with what came of it.
        """
        if self._stuck >= MAX_STUCK:
            raise _stuck(f"{MAX_STUCK} trees before it do not answer")
        async with self._turn(key, waits):
            token, outcome = Token(), _Outcome[T]()
            done = _started(lambda: work(token), outcome)
            try:
                await self._wait(done, token)
            except asyncio.CancelledError:
                token.call_off()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({done}, timeout=LEAVE_SECONDS)
                    if not done.done() and not token.leave():
                        await asyncio.wait({done})
                if not done.done():
                    self._leave(done)
                    raise
        if not done.done():
            raise _stuck(f"it did not answer for {STUCK_SECONDS:g} s")
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    @asynccontextmanager
    async def _turn(self, key: str, waits: Callable[[], None]) -> AsyncIterator[None]:
        """First come first served; who waits for his own tree keeps no place from the others."""
        lock = self._locks.setdefault(key, anyio.Lock())
        with contextlib.ExitStack() as waiting:
            waiting.enter_context(_telling(waits))
            async with lock, self._places:
                waiting.close()
                yield

    async def _wait(self, done: asyncio.Future[None], token: Token) -> None:
        """Until the thread is done, or is left behind."""
        while not done.done():
            left = token.seen + STUCK_SECONDS - time.monotonic()
            if left > 0:
                await asyncio.wait({done}, timeout=left)
            elif token.leave():
                self._leave(done)
                return
            else:
                await asyncio.wait({done})

    def _leave(self, done: asyncio.Future[None]) -> None:
        self._stuck += 1
        done.add_done_callback(self._came_back)
        self._left()

    def _came_back(self, _done: asyncio.Future[None]) -> None:
        self._stuck -= 1


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin `work` in a thread that keeps nobody waiting at the end; what waits for it and gives it."""
    outcome, over = _Outcome[T](), threading.Event()

    def run() -> None:
        _fill(outcome, work)
        over.set()

    def result() -> T:
        over.wait()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    threading.Thread(target=run, daemon=True, name="beside").start()
    return result


def _fill(outcome: _Outcome[T], work: Callable[[], T]) -> None:
    try:
        outcome.value = work()
    except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
        outcome.error = error


def _started(work: Callable[[], T], outcome: _Outcome[T]) -> asyncio.Future[None]:
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    done: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        context.run(_fill, outcome, work)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.set_result, None)

    threading.Thread(target=run, daemon=True, name="snapshot").start()
    return done


@contextmanager
def _telling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` each `WAIT_SECONDS`."""

    async def again() -> None:
        while True:
            await asyncio.sleep(WAIT_SECONDS)
            tell()

    telling = asyncio.get_running_loop().create_task(again())
    try:
        yield
    finally:
        telling.cancel()


def _stuck(why: str) -> Failure:
    message = f"the source cannot be read: {why}"
    return Failure(Kind.BUNDLER, message, subkind="UNREADABLE", hint="see that its disk answers")
