"""Threads that call the same thing at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def wrong_of_callers(right: Callable[[T], bool], given: Iterable[T], times: int) -> list[T]:
    """Have a thread for each item ask so many times whether all is right, and list the items of those that were told
    that it is not; fails where one of them does not end."""
    wrong: list[T] = []

    def call(item: T) -> None:
        wrong.extend(item for _ in range(times) if not right(item))

    callers = [threading.Thread(target=call, args=(item,)) for item in given]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    return wrong
