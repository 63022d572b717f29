"""How long a thread may run before another's turn comes, where the kernel lets a process say so.

Linux 6.12 and later take a slice with each ordinary thread (sched(7), "custom slices" of the EEVDF scheduler): a thread
with a longer one gets the same share of a processor, later and in one piece, and interrupts others less when it wakes.
Priorities are no substitute: at nice 19 that thread starves under load, and half of the frames with it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""`struct sched_attr`: size, policy, flags, nice, priority, then three times in ns, the first of them the slice."""

_POLICY, _SLICE = 1, 5
_ORDINARY = 0
"""SCHED_OTHER."""

_GET_SET = {"x86_64": (315, 314), "aarch64": (275, 274), "riscv64": (275, 274)}
"""Numbers of the system calls sched_getattr and sched_setattr, which Python does not have, by machine."""


def set_slice(thread_id: int, slice_s: float) -> bool:
    """Give a thread of this process a slice; its policy and its nice value stay.

    Args:
        thread_id: the kernel's, `threading.Thread.native_id`.
        slice_s: seconds, 0.0001 to 0.1.

    Returns:
        Whether the thread has it now. False where there are no such slices (other systems, Linux before 6.12) or they
        are not allowed: nothing is lost by it but time.
    """
    calls = _calls()
    if calls is None:
        return False
    present = _attributes(thread_id, calls[0])
    if present is None or present[_POLICY] != _ORDINARY:
        return False
    present[0], present[_SLICE] = _ATTRIBUTES.size, round(slice_s * 1e9)
    if ctypes.CDLL(None).syscall(calls[1], thread_id, _ATTRIBUTES.pack(*present), 0) != 0:
        return False
    return slice_of(thread_id) == present[_SLICE] / 1e9


def slice_of(thread_id: int) -> float | None:
    """The slice that a thread has, seconds; None where that is not known."""
    calls = _calls()
    found = None if calls is None else _attributes(thread_id, calls[0])
    return None if found is None else found[_SLICE] / 1e9


def _calls() -> tuple[int, int] | None:
    return _GET_SET.get(platform.machine()) if sys.platform.startswith("linux") else None


def _attributes(thread_id: int, call: int) -> list[int] | None:
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if ctypes.CDLL(None).syscall(call, thread_id, buffer, len(buffer), 0) != 0:
        return None
    return list(_ATTRIBUTES.unpack(buffer.raw))
