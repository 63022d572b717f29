"""The compiled part, `_exact.c`, and what both sides must agree on."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from typing import Any

compiled: Any = None
"""The extension module; None where there was no compiler when layercast was installed, or LAYERCAST_PURE is set."""
if not os.environ.get("LAYERCAST_PURE"):
    with contextlib.suppress(ImportError):
        compiled = importlib.import_module("layercast.runtime._exact")

INSTRUCTIONS: Mapping[str, int] = compiled.SETS if compiled else {}
"""Sets of instructions that this processor has, the quickest first."""

DOT_PRODUCTS = ("avx512vnni",)
"""Sets that sum products in int32 at once; the others are quicker when some are summed in int16 first."""

KINDS = ("pointwise", "depthwise", "scale", "add", "multiply", "clip", "copy", "shuffle")
"""Operations, in the order of `native/operation.h`."""

ARRAYS = ("weights", "bias", "scale", "steps", "groups")
"""Addresses in an operation, in that order."""

LANES = 16
"""Channels that are computed together; tensors of a program are filled up to a multiple of it."""

REACH = 2
"""Of a 5x5 filter, on each side."""

SLACK = 64
"""Bytes behind a tensor that may be read, though nothing depends on them."""

MAX_WEIGHT = 64
"""Two products of a byte and such a weight sum to less than 2**15."""
