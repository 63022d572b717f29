"""The threads that all extension modules share."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from tests.callers import wrong_of_callers

from layercast.codecs.hierarchical import kernels
from layercast.entropy import CdfTables, decode_streams, encode_symbols
from layercast.extensions import extension

TASKS = Path("/proc/self/task")

# Without a compiler there is no pool; that it was not left uncompiled where it could be, .ci/run looks at.
needs_a_pool = pytest.mark.skipif(extension("layercast._pool") is None, reason="nothing is compiled")


def work_of_two_modules() -> list[Callable[[], None]]:
    """Work for two threads, of two extension modules."""
    tables = CdfTables.from_frequencies([[1 << 15, 1 << 15]], [0])
    rows, symbols = np.zeros(100_000, np.int16), np.random.default_rng(5).integers(0, 2, 100_000, np.int32)
    halves = [slice(0, 50_000), slice(50_000, 100_000)]
    streams = [encode_symbols(symbols[half], rows[half], tables) for half in halves]

    def decode() -> None:
        np.testing.assert_array_equal(decode_streams(streams, rows, tables, halves, 2), symbols)

    def scale() -> None:
        np.testing.assert_array_equal(kernels.scaled(rows, 3, 2), 0)

    return [decode, scale]


def _hired(connection: Connection) -> None:
    """Threads in a new process, before and after each module's work."""
    work, counts = work_of_two_modules(), [len(os.listdir(TASKS))]
    for each in work:
        each()
        counts.append(len(os.listdir(TASKS)))
    connection.send(counts)


@needs_a_pool
@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are counted in Linux' /proc")
def test_all_modules_have_the_same_helpers() -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hired, args=(theirs,))
    process.start()
    assert ours.poll(60)
    before, *after = ours.recv()
    process.join(60)
    assert after == [before + 1] * 2


@needs_a_pool
def test_helpers_that_have_nothing_to_do_sleep() -> None:
    for each in work_of_two_modules():
        each()
    time.sleep(0.05)  # by now they have
    begin = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begin < 0.15


@needs_a_pool
def test_two_callers_at_once_both_get_their_work_done() -> None:
    """One has the helpers; the other goes on alone."""
    values = np.arange(-30_000, 30_000, dtype=np.int16)

    def right(step: int) -> bool:
        return np.array_equal(kernels.scaled(values, step, 3), values * np.float32(step))

    assert wrong_of_callers(right, (1, 3, 9), 100) == []
