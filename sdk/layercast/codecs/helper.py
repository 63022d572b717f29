"""One thread beside the caller's."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Helper:
    """A thread that begins with its first task; a forked process gets one of its own.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def submit(self, task: Callable[[], Result]) -> Future[Result]:
        """Have it run a task, after those that it has."""
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(1, self._name), os.getpid()
        return self._pool.submit(task)

    def beside(self, here: Callable[[], None], there: Callable[[], None]) -> None:
        """Run `here` in this thread and `there` in the helper, or only `here` if the helper was busy all the time."""
        other = self.submit(there)
        try:
            here()
        finally:
            if not other.cancel():
                other.result()
