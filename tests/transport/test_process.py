"""What a process that does nothing but relay is set to."""

from __future__ import annotations

import gc
import os
import platform
import sys
import threading

import pytest

from layercast.transport.process import POLLER_SLICE_S, YOUNG_OBJECTS, run_relay
from layercast.transport.relay import Relay
from layercast.transport.slices import set_slice, slice_of


def run_as_relay(work):
    """`run_relay`, and this process as before."""
    before = gc.get_threshold()
    try:
        run_relay(work)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_a_process_that_only_relays_seldom_looks_for_cycles():
    seen = []

    async def work():
        seen.append((gc.get_threshold()[0], gc.get_freeze_count() > 0))

    run_as_relay(work())
    assert seen == [(YOUNG_OBJECTS, True)]


def test_in_a_process_that_only_relays_grpcs_thread_lets_the_loop_finish():
    seen = {}

    async def work():
        async with Relay():
            for thread in threading.enumerate():
                seen[thread is threading.main_thread()] = slice_of(thread.native_id)

    with_slices = set_slice(threading.get_native_id(), usual := slice_of(threading.get_native_id()) or 0.003)
    run_as_relay(work())
    assert set(seen) == {True, False}, "gRPC had no thread of its own: nothing was tested"
    if with_slices:
        assert seen == {True: usual, False: POLLER_SLICE_S}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have slices on Linux only")
def test_a_slice_changes_nothing_else_and_a_thread_that_is_gone_has_none():
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        taken = set_slice(thread.native_id, 0.02)
        assert slice_of(thread.native_id) == (0.02 if taken else slice_of(threading.get_native_id()))
        assert (
            os.sched_getscheduler(thread.native_id),
            os.getpriority(os.PRIO_PROCESS, thread.native_id),
        ) == before
    finally:
        done.set()
        thread.join()
    assert not set_slice(2**22 + 1, 0.02)  # more than the kernel's largest thread id
    assert slice_of(2**22 + 1) is None


def test_other_machines_have_no_slices(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert not set_slice(threading.get_native_id(), 0.02)
    assert slice_of(threading.get_native_id()) is None
