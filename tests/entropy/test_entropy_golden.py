"""Coded bytes stay what they are: a change that breaks this bumps the bitstream version.

The files are written anew by `python tests/entropy/test_entropy_golden.py`, on purpose and never by a test.
"""

from pathlib import Path

import numpy as np
import pytest

from layercast.entropy import CdfTables, SymbolDecoder, SymbolEncoder

pytestmark = pytest.mark.usefixtures("each_coder")

GOLDEN = Path(__file__).parents[1] / "golden" / "entropy"
TABLES = GOLDEN / "tables.bin"
STREAM = GOLDEN / "stream.bin"
FINGERPRINT = "385f31667897fc27c33df50543781bd8"


def numbers(count, below, seed):
    """A linear congruential generator (Knuth's MMIX constants), so that no library can change the symbols."""
    state, drawn = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        drawn.append((state >> 33) % below)
    return np.array(drawn)


def symbols_of(tables, rows, seed):
    """Symbols in about their rows' proportions; every escape stands for one of four far ones."""
    places = numbers(len(rows), 1 << 16, seed)
    symbols = np.empty(len(rows), np.int32)
    for i, (row, place) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
        entry = int(np.searchsorted(np.cumsum(tables.row(row)), place, side="right"))
        symbols[i] = tables.offsets[row] + entry
        if tables.escaped[row] and symbols[i] == tables.limits[row]:
            symbols[i] = [tables.limits[row], tables.offsets[row] - 77, -(2**31), 2**31 - 1][i % 4]
    return symbols


def portions():
    """(rows, seed of the symbols): busy rows, rare rows, few symbols, quiet blocks, wide rows."""
    skewed = numbers(12_000, 1000, 1)
    yield np.where(skewed < 600, skewed % 3, skewed % 40), 2
    yield numbers(700, 40, 3), 4
    yield numbers(9, 40, 5), 6
    calm = numbers(30_011, 1000, 7)
    yield np.where(calm < 985, 1 + calm % 4, calm % 40), 8
    yield 22 + numbers(2000, 9, 9), 10


def test_the_golden_stream_decodes_to_the_same_symbols():
    tables = CdfTables.from_bytes(TABLES.read_bytes())
    decoder = SymbolDecoder(STREAM.read_bytes())
    for rows, seed in portions():
        assert np.array_equal(decoder.decode(rows, tables), symbols_of(tables, rows, seed))


def test_the_same_symbols_encode_to_the_golden_stream():
    tables = CdfTables.from_bytes(TABLES.read_bytes())
    encoder = SymbolEncoder()
    for rows, seed in portions():
        encoder.push(symbols_of(tables, rows, seed), rows, tables)
    assert encoder.finish() == STREAM.read_bytes()


def test_the_golden_tables_keep_their_fingerprint():
    assert CdfTables.from_bytes(TABLES.read_bytes()).fingerprint.hex() == FINGERPRINT


def write():
    """Rows 0..30 Gaussian with frequent escapes, 31..39 small alphabets without escape."""
    gaussian = CdfTables.gaussian([0.3, 0, *np.geomspace(0.11, 30, 29)], tail=2.0**-9)
    small = CdfTables.from_probabilities([1 + numbers(2 + n % 5, 20, n) for n in range(9)], range(-4, 5))
    tables = CdfTables.from_frequencies(
        [made.row(row) for made in (gaussian, small) for row in range(len(made))],
        [*gaussian.offsets, *small.offsets],
        [*gaussian.escaped, *small.escaped],
    )
    encoder = SymbolEncoder()
    for rows, seed in portions():
        encoder.push(symbols_of(tables, rows, seed), rows, tables)
    TABLES.write_bytes(tables.to_bytes())
    STREAM.write_bytes(encoder.finish())
    print(tables.fingerprint.hex(), len(TABLES.read_bytes()), len(STREAM.read_bytes()))


if __name__ == "__main__":
    write()
