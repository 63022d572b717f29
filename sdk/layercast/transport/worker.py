"""One thread that encodes or decodes, so that the event loop keeps answering pings and acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs calls one after another on a thread of its own (codec instances are not shared between
    threads)."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._last: Future[Any] | None = None

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` on the thread and wait for what it returns or raises."""
        job = self._pool.submit(function, *arguments)
        self._last = job
        return await asyncio.wrap_future(job)

    async def aclose(self) -> None:
        """Drop what has not begun, wait for what has, end the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._last is not None:
            await asyncio.gather(asyncio.wrap_future(self._last), return_exceptions=True)
        self._pool.shutdown(wait=True)
