"""Whole logins, from the command to its end: a person at the sandbox, or one who allows everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TypeVar

from tests.walker import Walker, walk

from ..ended import Ended
from .program import Program
from .wire import Answer, arrive, to_redirect

_T = TypeVar("_T")


async def log_in(program: Program, *arguments: str) -> Ended:
    """Run `login`, allow, see the last page."""
    return (await log_in_and_see(program, *arguments))[0]


async def log_in_and_see(program: Program, *arguments: str) -> tuple[Ended, Answer]:
    """Run `login` at a strict server and allow; return how it ended and the last page."""
    async with program.start("login", *arguments) as running:
        page = await arrive(await to_redirect(await running.start_url()))
        return await running.end(), page


async def log_in_at_sandbox(program: Program, *arguments: str, user: str = "cafe-roma") -> Ended:
    """Run `login --server sandbox` with a person who logs in and clicks Allow."""
    async with program.start("login", "--server", "sandbox", "--timeout", "60s", *arguments) as running:
        await visit(await running.start_url(), user=user)
        return await running.end()


PASSWORDS = {"cafe-roma": "espresso", "bistro-lyon": "baguette"}


async def visit(
    start_url: str, *, user: str = "cafe-roma", decision: str = "allow", ca_file: Path | None = None
) -> Walker:
    """Go from the start page through the sandbox's forms to the last page, and return the browser that is there."""
    walker = Walker(ca_file=ca_file)
    person = {"WALKER_USER": user, "WALKER_PASSWORD": PASSWORDS[user], "WALKER_DECISION": decision}
    await asyncio.to_thread(walk, walker, start_url, person)
    return walker


async def few_at_a_time(work: Iterable[Awaitable[_T]], most: int = 4) -> list[_T]:
    """Do all of it, at most so many at once: more would only wait for each other."""
    turn = asyncio.Semaphore(most)

    async def one(piece: Awaitable[_T]) -> _T:
        async with turn:
            return await piece

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(piece)) for piece in work]
    return [task.result() for task in tasks]
