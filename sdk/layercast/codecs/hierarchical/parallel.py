"""Passes over large arrays, shared among threads.

The compiled kernels release Python's lock, so the halves of a pass run at once. One pool serves the process: its
threads sleep between passes, and a frame's passes take a millisecond or less each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

MAX_THREADS = 4
"""Passes are bound by memory beyond this."""

SMALL = 1 << 15
"""Items for which waking a thread (some 50 us) takes longer than the work."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS - 1, "layercast-walk")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def in_parallel(count: int, threads: int, work: Callable[[int], None]) -> None:
    """`work(0)` to `work(count - 1)`, the last on this thread, the others on the pool's where more than one is allowed.

    Returns, or raises the first error, when all are done.
    """
    if threads < 2 or count < 2:
        for number in range(count):
            work(number)
        return
    others = [_pool().submit(work, number) for number in range(count - 1)]
    try:
        work(count - 1)
    finally:
        errors = [error for error in (other.exception() for other in others) if error]
    if errors:
        raise errors[0]


def pieces(items: int, unit: int, threads: int) -> list[slice]:
    """As many slices of `items` as threads should share, each a multiple of `unit` long; one when it is little work."""
    count = 1 if items < SMALL else max(1, min(threads, MAX_THREADS))
    begins = [items // unit * number // count * unit for number in range(count)]
    # The last reaches to the end of whatever is sliced: arrays that are too long by mistake are noticed.
    return [slice(begin, end) for begin, end in zip(begins, [*begins[1:], None], strict=True)]


def share(items: int, threads: int, work: Callable[[slice], None]) -> None:
    """`work` over `pieces` of single items, in parallel."""
    parts = pieces(items, 1, threads)
    in_parallel(len(parts), threads, lambda number: work(parts[number]))
