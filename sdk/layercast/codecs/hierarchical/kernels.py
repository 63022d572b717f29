"""The array work of a walk, in C where `_kernels` could be built, else in NumPy; both give the same integers.

The compiled ones pass once over their arrays where NumPy passes three or four times. All arrays are flat and
contiguous; a symbol's channel is its position modulo the number of channels.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROW_MIRROR = 1024
"""Flag on a row key: the trit is mirrored."""

KEYS = 2 * ROW_MIRROR
"""Row keys are below this."""

ZERO = 128
"""What a signed zero is in the networks' uint8 tensors."""

_compiled: Any = None
if not os.environ.get("LAYERCAST_PURE"):
    with contextlib.suppress(ImportError):  # where there was no compiler when layercast was installed
        _compiled = importlib.import_module("layercast.codecs.hierarchical._kernels")


def row_keys(
    centre: NDArray[np.uint8], tilt: NDArray[np.uint8], table: NDArray[np.int16]
) -> NDArray[np.int16]:
    """Row keys of trits with these logits, (N,); table (65536,) by `centre << 8 | tilt`."""
    if _compiled:
        out = np.empty(len(centre), np.int16)
        _compiled.row_keys(centre, tilt, table, out)
        return out
    logits = centre * np.uint16(256)
    logits |= tilt
    keys: NDArray[np.int16] = table.take(logits)
    return keys


def row_keys_at(
    at: NDArray[np.int64],
    centre: NDArray[np.uint8],
    tilt: NDArray[np.uint8],
    table: NDArray[np.int16],
    keys: NDArray[np.int16],
) -> NDArray[np.int16]:
    """`row_keys` of the symbols at some positions (M,), which also go to their places in `keys` (N,)."""
    if _compiled:
        out = np.empty(len(at), np.int16)
        _compiled.row_keys_at(at, centre, tilt, table, keys, out)
        return out
    keys[at] = new = row_keys(centre.take(at), tilt.take(at), table)
    return new


def histogram(keys: NDArray[np.int16], weights: NDArray[np.uint8], kinds: int) -> NDArray[np.int64]:
    """(kinds * KEYS,) how often each `weight * KEYS + key` occurs; weights (C,) by channel, below `kinds`."""
    if _compiled:
        out = np.zeros(kinds * KEYS, np.int64)
        _compiled.histogram(keys, weights, out)
        return out
    return np.bincount(_index(keys, weights), minlength=kinds * KEYS)


def group(
    keys: NDArray[np.int16], weights: NDArray[np.uint8], table: NDArray[np.uint8], counts: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Positions of the symbols of each group, ascending; a symbol's group is the table's entry at
    `weight * KEYS + key`, and there are `counts` of each."""
    if _compiled:
        out = np.empty(int(counts.sum()), np.int64)
        _compiled.group(keys, weights, table, counts, out)
        return np.split(out, np.cumsum(counts)[:-1])
    groups = table.take(_index(keys, weights))
    return [np.flatnonzero(groups == number) for number in range(len(counts))]


def contexts(values: NDArray[np.int16]) -> dict[str, NDArray[np.uint8]]:
    """Values (N,) in the present plane's steps as the networks see them, (N,) each.

    Returns:
        c: quarters of a step, clipped at 32 steps, and 128; s: 8 min(|v|, 15) and 128; u: min(|v|, 2); g: 1 + sign.
    """
    if _compiled:
        out = {name: np.empty(len(values), np.uint8) for name in "csug"}
        _compiled.contexts(values, *out.values())
        return out
    size = np.abs(np.clip(values, -15, 15)).astype(np.uint8)
    return {
        "c": context_quarters(values),
        "s": size * np.uint8(8) + np.uint8(ZERO),
        "u": np.minimum(size, 2),
        "g": (np.clip(values, -1, 1) + np.int16(1)).astype(np.uint8),
    }


def context_quarters(values: NDArray[np.int16]) -> NDArray[np.uint8]:
    """`c` of `contexts`, of values of any shape."""
    # One step beyond what is clipped below, so that nothing wraps.
    quarters = np.clip(values, -33, 33) * np.int16(4)
    context: NDArray[np.uint8] = np.clip(quarters + np.int16(ZERO), 0, 255).astype(np.uint8)
    return context


def learn(
    at: NDArray[np.int64],
    symbols: NDArray[np.int32],
    keys: NDArray[np.int16],
    values: NDArray[np.int16],
    table: NDArray[np.uint8],
    trits: NDArray[np.int8],
    surprise: NDArray[np.uint8],
) -> None:
    """Put the trits that symbols (M,) at some positions stand for into `trits` (N,), mirrored where their key says so,
    and into `surprise` (N,) the table's entry at `9 key + 3 trit + sign of the value + 4`."""
    if _compiled:
        _compiled.learn(at, symbols, keys, values, table, trits, surprise)
        return
    new = mirror(symbols, keys).astype(np.int8)
    trits[at] = new
    surprise[at] = table.take(keys * np.int16(9) + new * np.int8(3) + np.sign(values.take(at)) + np.int16(4))


def mirror(symbols: NDArray[np.int32], keys: NDArray[np.int16]) -> NDArray[np.int32]:
    """Symbols, mirrored where their key says so (an involution)."""
    flags = -(keys // np.int16(ROW_MIRROR))  # 0 or -1: in two's complement, x ^ -1 is -x - 1
    mirrored: NDArray[np.int32] = (symbols ^ flags) - flags
    return mirrored


def _index(keys: NDArray[np.int16], weights: NDArray[np.uint8]) -> NDArray[Any]:
    by_channel = keys.reshape(-1, len(weights)) + KEYS * weights.astype(np.int64)
    return by_channel.ravel()
