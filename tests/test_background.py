"""Work that no caller can stop: begun once for all who ask, and finished whatever becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import loopback_auth
from loopback_auth import background
from loopback_auth.background import settled, shared


class Work:
    """What is shared: it goes on until it is let go, and counts what becomes of it. `stubborn`: not to be cancelled."""

    def __init__(self, *, stubborn: bool = False, error: Exception | None = None) -> None:
        self.begun = self.cancelled = self.finished = 0
        self._stubborn, self._error = stubborn, error
        self._go = threading.Event()

    def let_go(self) -> None:
        self._go.set()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        while not self._go.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self._stubborn:
                    raise
        self.finished += 1
        if self._error is not None:
            raise self._error
        return number


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.let_go()
    asyncio.run(settled())


@pytest.fixture
def stubborn() -> Iterator[Work]:
    work = Work(stubborn=True)
    yield work
    work.let_go()
    asyncio.run(settled())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (it is other threads that change it)
            await asyncio.sleep(0.002)


async def asking(work: Work, key: str = "key", callers: int = 1) -> list[asyncio.Task[tuple[int, bool]]]:
    """Return callers that wait for work that has begun."""
    begun = work.begun
    tasks = [asyncio.create_task(shared(key, work)) for _ in range(callers)]
    await until(lambda: work.begun > begun)
    return tasks


# --- once for all ---


async def test_callers_of_one_loop_share(work: Work) -> None:
    """Twenty tasks: begun once, by one of them, and all get its result; who comes later begins anew."""
    tasks = await asking(work, callers=20)
    work.let_go()
    results = await asyncio.gather(*tasks)
    assert [number for number, _ in results] == [1] * 20
    assert [begun for _, begun in results].count(True) == 1
    assert await shared("key", work) == (2, True)


async def test_who_comes_while_it_is_under_way_joins(work: Work) -> None:
    """Nothing is begun for a second caller, whatever it would have begun."""

    async def other() -> int:
        raise AssertionError

    first = await asking(work)
    second = asyncio.create_task(shared("key", other))
    await asyncio.sleep(0.02)
    work.let_go()
    assert await first[0] == (1, True)
    assert await second == (1, False)


def test_who_comes_after_its_end_begins_anew(work: Work) -> None:
    """Though a caller, whose event loop is busy, has not yet taken the result of what has ended."""
    busy, free = threading.Event(), threading.Event()

    async def caller() -> tuple[int, bool]:
        (task,) = await asking(work)
        busy.set()
        free.wait(10)
        return await task

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(asyncio.run, caller())
        assert busy.wait(10)
        work.let_go()
        asyncio.run(settled())
        assert asyncio.run(shared("key", work)) == (2, True)
        free.set()
        assert first.result(10) == (1, True)


async def test_other_keys_are_other_work(work: Work) -> None:
    """Two keys, two pieces of work, at the same time."""
    tasks = [*await asking(work, "one"), *await asking(work, "two")]
    work.let_go()
    assert await asyncio.gather(*tasks) == [(1, True), (2, True)]


def test_callers_of_several_threads_share(work: Work) -> None:
    """Five threads, each with an event loop of its own and two callers in it: begun once."""
    ready = threading.Barrier(6)

    async def two() -> list[tuple[int, bool]]:
        ready.wait(10)
        return list(await asyncio.gather(shared("key", work), shared("key", work)))

    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(asyncio.run, two()) for _ in range(5)]
        ready.wait(10)
        time.sleep(0.1)
        work.let_go()
        results = [result for one in running for result in one.result(10)]
    assert [number for number, _ in results] == [1] * 10
    assert [begun for _, begun in results].count(True) == 1


async def test_an_exception_reaches_all(work: Work) -> None:
    """Whoever waits is told what went wrong; who comes later begins anew."""
    failing = Work(error=ValueError("no disk"))
    tasks = await asking(failing, callers=5)
    failing.let_go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [(type(result), str(result)) for result in results] == [(ValueError, "no disk")] * 5
    work.let_go()
    assert await shared("key", work) == (1, True)


# --- who is cancelled ---


@pytest.mark.parametrize("which", [0, 1, 4])
async def test_a_cancelled_caller_leaves_the_others(work: Work, which: int) -> None:
    """The one that began it or another: free at once, and the rest get the result."""
    tasks = await asking(work, callers=5)
    tasks[which].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks.pop(which)
    assert not any(task.done() for task in tasks)
    work.let_go()
    assert {number for number, _ in await asyncio.gather(*tasks)} == {1}
    assert (work.begun, work.cancelled, work.finished) == (1, 0, 1)


async def test_when_nobody_waits_any_more_it_is_asked_to_stop(work: Work) -> None:
    """The last caller is cancelled: so is the work, where it can be; a newcomer begins anew, and is not cancelled."""
    tasks = await asking(work, callers=3)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.wait(tasks[:2])
    await asyncio.sleep(0.02)
    assert work.cancelled == 0
    tasks[2].cancel()
    await asyncio.wait(tasks)
    newcomer = asyncio.create_task(shared("key", work))
    await until(lambda: work.begun == 2 and work.cancelled == 1)
    await asyncio.sleep(0.02)
    work.let_go()
    assert await newcomer == (2, True)
    assert (work.cancelled, work.finished) == (1, 1)


async def test_work_that_cannot_stop_goes_on(stubborn: Work) -> None:
    """Something was sent: all callers are gone, it is finished all the same, and a newcomer does not get its result."""
    (task,) = await asking(stubborn)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: stubborn.cancelled == 1)
    (newcomer,) = await asking(stubborn)
    stubborn.let_go()
    assert await newcomer == (2, True)
    await settled()
    assert stubborn.finished == 2


async def test_the_end_of_what_was_left_alone_is_no_end_of_what_follows(stubborn: Work, work: Work) -> None:
    """Work that could not stop ends while a newcomer's goes on: who comes then joins the newcomer's."""

    async def third() -> int:
        raise AssertionError

    (task,) = await asking(stubborn)
    task.cancel()
    await asyncio.wait({task})
    (newcomer,) = await asking(work)
    stubborn.let_go()
    await until(lambda: len(background._under_way) == 1)
    last = asyncio.create_task(shared("key", third))
    await asyncio.sleep(0)
    work.let_go()
    assert await newcomer == (1, True)
    assert await last == (1, False)


async def test_cancelled_before_it_has_begun() -> None:
    """A caller that is cancelled at once, however far the work has come by then: it does not come to its end."""
    ends = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        ends.append(1)

    for turn in range(50):
        task = asyncio.create_task(shared("key", work))
        await asyncio.sleep(0 if turn % 2 else 0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await settled()
    assert ends == []


async def test_a_deadline_is_the_caller_s_own(work: Work) -> None:
    """`wait_for` ends one caller's wait; another, without a deadline, gets the result."""
    tasks = await asking(work)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shared("key", work), 0.02)
    work.let_go()
    assert await tasks[0] == (1, True)


# --- what ends around it ---


def test_it_outlives_the_caller_s_event_loop(stubborn: Work) -> None:
    """`asyncio.run` is over, by a deadline: the work is not, and the next event loop can wait for it."""
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(shared("key", stubborn), 0.1))
    assert (stubborn.begun, stubborn.finished) == (1, 0)
    stubborn.let_go()
    asyncio.run(settled())
    assert stubborn.finished == 1


LEAVING = """
import asyncio, os, signal, sys, threading
from loopback_auth.background import shared

how, path = sys.argv[1:]
begun = threading.Event()

async def send():
    begun.set()
    await asyncio.sleep(0.4)
    with open(path, "x") as file:
        file.write("committed")

async def work():
    sending = asyncio.create_task(send())
    while not sending.done():
        try:
            await asyncio.wait({sending})
        except asyncio.CancelledError:
            pass

async def main():
    if how == "deadline":
        await asyncio.wait_for(shared("key", work), 0.1)
    asking = asyncio.create_task(shared("key", work))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    if how == "exit":
        sys.exit(7)
    if how == "ctrl-c":
        signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(10 if how == "ctrl-c" else 0)

asyncio.run(main())
"""


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("deadline", 1), ("exit", 7), ("ctrl-c", -signal.SIGINT)])
def test_it_outlives_the_interpreter(tmp_path: Path, how: str, status: int) -> None:
    """The main thread returns, fails, exits or gets Ctrl-C: the process stays until the work's effect is on disk."""
    process = run(LEAVING, how, str(tmp_path / "effect"))
    assert process.returncode == status
    assert (tmp_path / "effect").read_text() == "committed"


def test_it_holds_nobody_up_that_can_stop(tmp_path: Path) -> None:
    """Work that may be cancelled ends with its only caller, and the process with it."""
    program = LEAVING.replace(
        "except asyncio.CancelledError:\n            pass", "finally:\n            sending.cancel()"
    )
    assert program != LEAVING
    assert run(program, "deadline", str(tmp_path / "effect")).returncode == 1
    assert not (tmp_path / "effect").exists()


FORKING = """
import asyncio, os, threading
from loopback_auth import background
from loopback_auth.background import settled, shared

go, begun = threading.Event(), threading.Event()

async def work():
    begun.set()
    while not go.is_set():
        await asyncio.sleep(0.01)
    return os.getpid()

async def own():
    return os.getpid()

result = []
waiting = threading.Thread(target=lambda: result.append(asyncio.run(shared("key", work))))
waiting.start()
begun.wait()
background._guard.acquire()  # as another thread may have at that moment
child = os.fork()
if child:
    background._guard.release()
if not child:
    asyncio.run(settled())
    assert asyncio.run(shared("key", own)) == (os.getpid(), True)
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
go.set()
waiting.join()
assert result == [(os.getpid(), True)]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_work_of_its_own() -> None:
    """The parent's work is not under way in its child: that waits for none, begins its own, and ends."""
    process = run(FORKING)
    assert (process.returncode, process.stderr) == (0, b"")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(loopback_auth.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)


# --- settled ---


async def test_settled_without_any_work() -> None:
    """Nothing is under way: it returns at once."""
    await asyncio.wait_for(settled(), 1)


async def test_settled_waits_for_all(stubborn: Work) -> None:
    """For every key, also for work that nobody waits for any more, and for what is begun meanwhile."""
    tasks = [*await asking(stubborn, "one"), *await asking(stubborn, "two")]
    tasks[0].cancel()
    waiting = asyncio.create_task(settled())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    tasks += await asking(stubborn, "three")
    stubborn.let_go()
    await waiting
    assert stubborn.finished == 3
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_settled_waits_however_often_it_is_cancelled(stubborn: Work) -> None:
    """Ctrl-C again and again: it waits on, and is cancelled when the work is done."""
    (task,) = await asking(stubborn)
    task.cancel()
    waiting = asyncio.create_task(settled())
    for _ in range(3):
        await asyncio.sleep(0.02)
        waiting.cancel()
    await asyncio.sleep(0.02)
    assert not waiting.done()
    assert stubborn.finished == 0
    stubborn.let_go()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert stubborn.finished == 1


FAILING = """
import asyncio, threading
from loopback_auth.background import settled, shared

go = threading.Event()

async def work():
    while not go.is_set():
        await asyncio.sleep(0.01)
    raise ValueError("no disk")

async def main():
    asking = asyncio.create_task(shared("key", work))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(settled())
    await asyncio.sleep(0.05)
    go.set()
    await waiting
    try:
        await asking
    except ValueError as error:
        print(error)

asyncio.run(main())
"""


def test_settled_raises_nothing_of_the_work() -> None:
    """What went wrong is for those who asked; who only waits until it is over hears, and says, nothing of it."""
    process = run(FAILING)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"no disk\n", b"")


def test_nothing_is_left_of_work_that_has_ended(work: Work) -> None:
    """Neither a thread nor an entry: a program that asks for years grows by nothing."""
    work.let_go()
    for key in ("one", "two"):
        asyncio.run(shared(key, work))
    assert not background._shared
    assert not background._under_way
    for thread in threading.enumerate():
        if thread.name == "loopback-auth":  # it has told its result, and is about to end
            thread.join(10)
            assert not thread.is_alive()
