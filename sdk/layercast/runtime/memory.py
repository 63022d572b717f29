"""Keep freed memory in the process, so that the next frame finds its pages mapped.

A frame needs some hundred arrays of 0.5 to 4 MB. glibc hands blocks of that size back to the system when they are
freed, and the kernel then maps and clears every page anew for the next frame: measured, a fifth of the time of a
768x512 picture. Raising two of the allocator's thresholds stops that; what stays mapped is what the largest frame
needed anyway.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""

MAPPED_FROM = 32 << 20
"""Blocks from this size on are still mapped one by one, bytes; glibc takes no more."""

KEPT = 256 << 20
"""Freed memory that stays with the process, at most, bytes."""

OPT_OUT = "LAYERCAST_KEEP_MEMORY"
"""Environment variable; 0 leaves the allocator as it is."""


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed blocks; once per process, harmless elsewhere.

    It holds for the whole process. Whoever has set `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_` or
    `MALLOC_MMAP_MAX_`, or `LAYERCAST_KEEP_MEMORY=0`, keeps their own choice.

    Returns:
        Whether the allocator was told.
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"} & os.environ.keys()
    if not sys.platform.startswith("linux") or chosen or os.environ.get(OPT_OUT) == "0":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(
        mallopt(M_MMAP_THRESHOLD, MAPPED_FROM) and mallopt(M_TRIM_THRESHOLD, KEPT)
    )
