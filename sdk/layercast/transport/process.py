"""A process that does nothing but relay."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any

import grpc.aio

from layercast.transport.slices import set_slice

YOUNG_OBJECTS = 20_000
"""Objects made, less those gone, that have Python look for cycles. One frame for some hundred subscribers makes more
than the 700 of the default, all of which go by themselves: searching them took a tenth of a relay's time. What a flood
of refused calls leaves behind stays below some megabytes."""

POLLER_SLICE_S = 0.01
"""Slice of gRPC's thread that tells the event loop of each write's end, seconds. With the scheduler's own (some 3 ms)
it interrupts the loop 1.4 times for each frame that the loop writes: a seventh of a relay's time, a fifth of a plain
fan-out's. It has so little to do that its turn comes all the same when the loop waits, or after so long: a third of a
frame's interval."""


def run_relay(work: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, with garbage collector and threads set for this process: not for programs that embed a relay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    asyncio.run(_undisturbed(work))


async def _undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """`work` on an event loop that gRPC's thread lets finish what it is at."""
    grpc.aio.init_grpc_aio()  # type: ignore[attr-defined]  # starts the thread; the stubs lack it
    try:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.native_id is not None:
                set_slice(thread.native_id, POLLER_SLICE_S)
        await work
    finally:
        grpc.aio.shutdown_grpc_aio()  # type: ignore[attr-defined]
