"""Ending tasks without losing a cancellation, and waiting with a limit without swallowing one.

`asyncio.wait_for` of Python 3.10 and 3.11 returns normally when it is cancelled in the moment in which its work is
done; a reconnecting loop then goes on for ever, and whoever cancelled it waits for ever. `limited` does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from layercast.errors import LayercastError
from layercast.transport.limits import CLOSE_TIMEOUT_S

T = TypeVar("T")


async def limited(work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    """What `work` returns or raises.

    Raises:
        asyncio.TimeoutError: it took longer than `timeout_s` and was cancelled; None: no limit.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.done():
            await cancel_and_wait(task)


async def cancel_and_wait(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have ended; their errors are dropped.

    One that has not ended after CLOSE_TIMEOUT_S is cancelled again: some library may have swallowed the first.
    """
    running = {task for task in tasks if task is not None}
    for task in running:
        task.add_done_callback(_see)
    running = {task for task in running if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)


def _see(task: asyncio.Task[Any]) -> None:
    """Have asyncio not complain that nobody looked at the error."""
    if not task.cancelled():
        task.exception()


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of `work` until the first of them ends, cancel the others, and raise what the ended one raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait(*tasks)
    for task in tasks:
        if task in done and not task.cancelled():
            task.result()


async def raise_when(ended: asyncio.Future[LayercastError]) -> None:
    """Raise what `ended` is set to, once it is; for `first_of`."""
    raise await asyncio.shield(ended)


async def result_of(future: asyncio.Future[None]) -> None:
    """Wait for `future`, which somebody else ends, and raise what it was given; for `first_of`."""
    await asyncio.shield(future)
