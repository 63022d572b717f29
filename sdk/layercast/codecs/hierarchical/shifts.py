"""What a frame says of its own picture: how each channel differs from what the prior expects.

The prior has been trained on pictures in general. In any one of them some channels hold more than it expects, others
less, nearly everywhere; a number for each channel says so, and costs less than it saves. In planes 1 and 2 it is added
to the centre logits of stride 8's trits, in whole quarters, which are table rows; in plane 0 to scale indices. Both
ends go on in integers.

An encoder takes the shift of plane 0 under which its symbols cost least, and of the others that under which as many
zeros are expected as there are. Their log odds move by it, but where the prior is almost sure of zeros it is the
others' number that matters, so the step is that of their logarithm: a step of Newton's alone goes several times too far
where there are three times as many as expected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layercast.entropy import CdfTables, SymbolDecoder, encode_symbols

LIMIT = 7
"""Largest |shift|, in quarters or scale indices: few enough that the entropy coder need not sort them."""

QUARTER = 4
"""Units of a logit, which is in 1/16."""

ZEROS = (32768, 45875, 55706, 62259)
"""Of 65536: how often a shift is 0, in each of the tables that a frame may choose."""

KIND = len(ZEROS)
"""Row of the table that the choice is coded with."""

USUAL = 1
"""The table whose costs plane 0's shifts are weighed with."""

DOUBT = 2.0
"""Symbols that are taken for both expected and found: few say little."""

WORTH = 5.0
"""Bits that a channel's shift has to save by itself."""

ENDS = 10.0
"""Bits that the choice and the end of the stream cost."""

FAR = 1.5
"""A shift's worth is counted up to this far, in natural units: farther away its square is too much."""


def _tables() -> CdfTables:
    """Shifts -LIMIT..LIMIT, 0.7 times as often for each quarter more, in integers alone: any machine makes the same."""
    weights = [0 if s == 0 else 7 ** abs(s) * 10 ** (LIMIT - abs(s)) for s in range(-LIMIT, LIMIT + 1)]
    rows = []
    for zeros in ZEROS:
        row = [max(1, (65536 - zeros) * w // sum(weights)) if w else 0 for w in weights]
        row[LIMIT] = 65536 - sum(row)
        rows.append(row)
    return CdfTables.from_frequencies([*rows, [65536 // KIND] * KIND], [*[-LIMIT] * KIND, 0])


TABLES = _tables()

_BITS = -np.log2(TABLES.frequencies[: KIND * (2 * LIMIT + 1)].reshape(KIND, -1) / 65536)
"""(KIND, 2 LIMIT + 1) of each shift in each table that may be chosen."""


def cheapest(costs: NDArray[np.float64]) -> NDArray[np.int8]:
    """Shifts of plane 0's channels, (C,), from what their symbols cost under each, (C, shifts), the middle one 0; all 0
    where they would not save what they cost."""
    reach = costs.shape[1] // 2
    steps = np.arange(-reach, reach + 1)
    chosen: NDArray[np.int8] = steps[(costs + _BITS[USUAL, steps + LIMIT]).argmin(1)].astype(np.int8)
    return _if_worth(chosen, costs[:, reach] - costs[np.arange(len(costs)), chosen + reach])


def fitted(
    nonzero: NDArray[np.float64], expected: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Shifts of a plane's channels, (C,); all 0 where they would not save what they cost.

    Args:
        nonzero: (C,) how many trits are not 0.
        expected: (C,) how many the prior expects.
        variance: (C,) of their number, by the prior.
    """
    step = np.log((expected + DOUBT) / (nonzero + DOUBT)) * expected / np.maximum(variance, 1e-6)
    saved = 0.5 * np.minimum(np.abs(step), FAR) ** 2 * variance / np.log(2)
    quarters = np.clip(np.rint(4 * step), -LIMIT, LIMIT).astype(np.int8)
    quarters[saved < WORTH] = 0
    return _if_worth(quarters, saved)


def _if_worth(shifts: NDArray[np.int8], saved: NDArray[np.float64]) -> NDArray[np.int8]:
    """Shifts, or none if the bits that those that are not 0 save, (C,), are fewer than all of them cost."""
    return shifts if saved[shifts != 0].sum() >= _costs(shifts).min() else np.zeros_like(shifts)


def _costs(shifts: NDArray[np.int8]) -> NDArray[np.float64]:
    """Bits of all of them, (KIND,), by the table that is chosen."""
    costs: NDArray[np.float64] = _BITS[:, shifts + LIMIT].sum(1) + ENDS
    return costs


def encoded(shifts: NDArray[np.int8]) -> bytes:
    """Shifts (C,) as bytes, none where all are 0."""
    if not shifts.any():
        return b""
    kind = int(_costs(shifts).argmin())
    symbols = np.concatenate([[kind], shifts]).astype(np.int32)
    rows = np.full(len(symbols), kind)
    rows[0] = KIND
    return encode_symbols(symbols, rows, TABLES)


def decoded(data: bytes, channels: int) -> NDArray[np.int8]:
    """What `encoded` was given.

    Raises:
        CorruptError: the bytes cannot come from it.
    """
    if not data:
        return np.zeros(channels, np.int8)
    decoder = SymbolDecoder(data)
    kind = int(decoder.decode(np.array([KIND]), TABLES)[0])
    return decoder.decode(np.full(channels, kind), TABLES).astype(np.int8)
