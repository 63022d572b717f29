"""Arbitrary tables and symbols for property-based tests."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from layercast.entropy import CdfTables

# The same examples on every run and every machine.
deterministic = settings(derandomize=True, deadline=None)

INT32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def tables(draw, max_rows=6, max_size=40):
    """1..max_rows rows: certain ones, skewed and flat ones, with and without escape, anywhere in int32."""
    weights, offsets, escaped = [], [], []
    for _ in range(draw(st.integers(1, max_rows))):
        escape = draw(st.booleans())
        size = draw(st.integers(1, max_size)) + escape
        weights.append(np.array(draw(st.lists(st.floats(1e-9, 1.0), min_size=size, max_size=size))))
        offsets.append(draw(st.integers(-50, 50) | st.integers(-(2**31), 2**31 - 2 - size)))
        escaped.append(escape)
    return CdfTables.from_probabilities(weights, offsets, escaped)


@st.composite
def portions(draw, made, max_symbols=80):
    """(symbols, rows) that the tables can code; escaped rows get any int32 now and then."""
    rows = np.array(draw(st.lists(st.integers(0, len(made) - 1), max_size=max_symbols)), np.int64)
    symbols = np.empty(len(rows), np.int32)
    for i, row in enumerate(rows):
        inside = st.integers(int(made.offsets[row]), int(made.limits[row]) - 1)
        symbols[i] = draw(inside | INT32 if made.escaped[row] else inside)
    return symbols, rows


def drawn(made, rows, seed):
    """Symbols drawn from their rows, escapes replaced by symbols up to 1000 beyond."""
    rng = np.random.default_rng(seed)
    symbols = np.empty(len(rows), np.int32)
    for row in np.unique(rows):
        at = np.flatnonzero(rows == row)
        entries = np.searchsorted(np.cumsum(made.row(row)), rng.integers(0, 1 << 16, len(at)), side="right")
        symbols[at] = made.offsets[row] + entries
        if made.escaped[row]:
            out = at[symbols[at] == made.limits[row]]
            beyond = np.where(rng.random(len(out)) < 0.5, made.limits[row], made.offsets[row] - 1001)
            symbols[out] = beyond + rng.integers(0, 1000, len(out))
    return symbols
