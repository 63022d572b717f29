"""A progress bar for long work, on stderr, and only where a person is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

WIDTH = 30
"""Characters of the bar itself."""

INTERVAL_S = 0.1
"""Seconds between redraws: faster than this nobody reads."""


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The same items, with a bar drawn while they pass, if stderr is a terminal.

    Args:
        total: how many there will be; None draws a counter.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    started_s = time.monotonic()
    drawn_s = 0.0
    count = 0
    try:
        for count, item in enumerate(items, 1):
            yield item
            now_s = time.monotonic()
            if now_s - drawn_s >= INTERVAL_S:
                drawn_s = now_s
                sys.stderr.write("\r" + bar(label, count, total, now_s - started_s) + "\x1b[K")
                sys.stderr.flush()
    finally:
        if count:
            sys.stderr.write("\r" + bar(label, count, total, time.monotonic() - started_s) + "\x1b[K\n")


def bar(label: str, count: int, total: int | None, elapsed_s: float) -> str:
    """One line: label, bar, count, rate and the time that is left."""
    rate = count / elapsed_s if elapsed_s > 0 else 0.0
    if not total:
        return f"{label} {count} ({rate:.1f}/s)"
    filled = min(WIDTH, WIDTH * count // total)
    left_s = (total - count) / rate if rate else 0.0
    drawn = "#" * filled + "." * (WIDTH - filled)
    return f"{label} [{drawn}] {count}/{total} ({rate:.1f}/s, {left_s:.0f} s left)"
