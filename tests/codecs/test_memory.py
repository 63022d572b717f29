"""Freed memory stays mapped between frames, unless the user has their own wishes for the allocator."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from layercast.runtime import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's allocator only")

COUNT_FAULTS = """
import resource
import numpy as np
from layercast.codecs.hierarchical.codec import HierarchicalCodec
codec = HierarchicalCodec(threads=1)
image = np.random.default_rng(1).integers(0, 256, (512, 768, 3), np.uint8)
faults = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    codec.decode(codec.encode(image, 0.5).layers, codec.encode(image, 0.5).picture)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[3:]))
"""


def faults_of_later_frames(**environment: str) -> int:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@glibc
def test_later_frames_find_their_memory_mapped() -> None:
    left_alone = faults_of_later_frames(LAYERCAST_KEEP_MEMORY="0")
    assert left_alone > 1000
    assert faults_of_later_frames() < left_alone / 5


@pytest.mark.parametrize("name", ["LAYERCAST_KEEP_MEMORY", "MALLOC_MMAP_THRESHOLD_"])
def test_the_users_own_choice_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0")
    assert not keep_freed_memory.__wrapped__()
