"""The compiled part, `_programs.c`, and what both sides must agree on."""

from __future__ import annotations

from collections.abc import Mapping

from layercast.extensions import extension

compiled = extension("layercast.runtime._programs")

INSTRUCTIONS: Mapping[str, int] = compiled.SETS if compiled else {}
"""Sets of instructions that this processor has, the quickest first."""

DOT_PRODUCTS = ("avx512vnni",)
"""Sets that sum products in int32 at once; the others are quicker when some are summed in int16 first."""

KINDS = (
    *("pointwise", "depthwise", "scale", "add", "multiply", "clip", "copy", "shuffle"),
    *("matmul", "filter", "weigh", "quantise", "to_bytes", "to_floats", "copy_floats", "pointwise_floats"),
)
"""Operations, in the order of `native/operation.h`."""

ARRAYS = ("weights", "bias", "scale", "steps", "passes")
"""Addresses in an operation, in that order."""

SOURCES, ADDITIONS = 2, 2
"""Most that an operation reads, and that are added to what it makes of that."""

LANES = 16
"""Channels that are computed together; tensors of a program are filled up to a multiple of it."""

REACH = 2
"""Of a 5x5 filter, on each side."""

SLACK = 64
"""Bytes behind a tensor that may be read, though nothing depends on them."""

MAX_WEIGHT = 64
"""Two products of a byte and such a weight sum to less than 2**15."""

MAX_FILTER = 128
"""Sum of the weights of a 5x5 filter: with bytes, all its products together sum to less than 2**15."""
