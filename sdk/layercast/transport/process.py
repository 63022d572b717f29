"""A process that does nothing but relay."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

YOUNG_OBJECTS = 20_000
"""Objects made, less those gone, that have Python look for cycles. One frame for some hundred subscribers makes more
than the 700 of the default, all of which go by themselves: searching them took a tenth of a relay's time. What a flood
of refused calls leaves behind stays below some megabytes."""


def run_relay(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, with the garbage collector set for this process: not for programs that embed a relay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    asyncio.run(work)
