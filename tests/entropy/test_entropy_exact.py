"""What the coder really uses is read back from its state, and must be the tables' integers."""

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.entropy import CdfTables, escapes
from layercast.entropy.models import BITS, BUNDLE, exact_model, pack, pack_factor, squared, unpacking

from . import strategies as own

UNIT = ((1 << 64) - 1) >> BITS
"""A fresh range coder's interval is 2**64 - 1 wide, so coding one symbol moves its lower end by UNIT per
unit of cumulative frequency, and leaves a width of UNIT per unit of frequency."""


def induced(size, *model):
    """(left cumulative, frequency) that the coder uses for each symbol 0..size-1 of a model, (size, 2)."""
    used = []
    for symbol in range(size):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(np.array([symbol], np.int32), *model)
        _, (lower, width) = encoder.pos()
        assert lower % UNIT == 0
        assert width % UNIT == 0
        used.append((lower // UNIT, width // UNIT))
    return np.array(used, np.int64)


def expected(frequencies):
    frequencies = np.asarray(frequencies, np.int64)
    return np.stack([np.cumsum(frequencies) - frequencies, frequencies], axis=1)


@own.settings(own.deterministic, max_examples=50)
@given(own.tables(max_rows=3, max_size=60))
def test_a_run_uses_exactly_the_rows_integers(tables):
    for row in range(len(tables)):
        if len(tables.row(row)) > 1:
            used = induced(len(tables.row(row)), tables.models.run(row))
            assert np.array_equal(used, expected(tables.row(row)) * 256)


def test_so_does_the_widest_row_there_can_be():
    tables = CdfTables.from_frequencies([np.ones(1 << 16, np.int64)], [0])
    sample = np.array([0, 1, 2, 32767, 32768, 65534, 65535], np.int32)
    for symbol in sample.tolist():
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(np.array([symbol], np.int32), tables.models.run(0))
        assert encoder.pos()[1] == (symbol * 256 * UNIT, 256 * UNIT)


@own.settings(own.deterministic, max_examples=50)
@given(own.tables(max_rows=4, max_size=60), st.sampled_from([2, 4, 8, 16, 32, 64]))
def test_a_bundle_uses_the_rows_integers_less_what_empty_columns_take(tables, width):
    for row in range(len(tables)):
        size = len(tables.row(row))
        if 1 < size <= width:
            frequencies = tables.row(row).astype(np.int64) * 256
            frequencies[np.argmax(frequencies)] -= width - size
            padded = np.concatenate([frequencies, np.ones(width - size, np.int64)])
            used = induced(width, BUNDLE, tables.models.bundle(width, np.array([row])))
            assert np.array_equal(used, expected(padded))


@own.settings(own.deterministic, max_examples=50)
@given(st.lists(st.floats(1e-9, 1), min_size=2, max_size=6))
def test_packed_symbols_use_the_squared_integers(weights):
    tables = CdfTables.categorical([weights])
    size, factor = len(weights), int(tables.models.factors[0])
    joint = tables.row(0).astype(object) * 256
    for _ in range(factor.bit_length() - 1):  # the rule again, in Python's integers
        joint = [max(int(a) * int(b) >> BITS, 1) for a in joint for b in joint]
        joint[joint.index(max(joint))] += (1 << BITS) - sum(joint)
    assert sum(joint) == 1 << BITS
    assert min(joint) >= 1
    model, _ = tables.models.packed(0)
    assert np.array_equal(induced(size**factor, model), expected(joint))


@pytest.mark.parametrize("size", range(2, 40))
def test_packing_and_unpacking_are_inverse(size):
    factor = pack_factor(size)
    entries = np.random.default_rng(size).integers(0, size, 16 * factor).astype(np.int32)
    packed = pack(entries, size, factor)
    assert packed.dtype == np.int32
    assert len(packed) == 16
    if factor > 1:
        assert np.array_equal(unpacking(size, factor)[packed].view(np.uint8), entries)


def test_small_alphabets_are_packed_up_to_1024_together():
    assert [pack_factor(size) for size in (2, 3, 4, 5, 6, 32, 33, 500)] == [8, 4, 4, 4, 2, 2, 1, 1]


def test_squaring_a_nearly_certain_row_keeps_every_pair_possible():
    assert squared(np.array([(1 << 24) - 1, 1])).tolist() == [(1 << 24) - 3, 1, 1, 1]


def test_the_lengths_of_escapes_use_their_published_integers():
    frequencies = [32752, *(32768 >> k for k in range(1, 16)), *[1] * 17]
    assert sum(frequencies) == 1 << 16
    assert np.array_equal(induced(33, escapes._LENGTH_MODEL), expected(frequencies) * 256)


@pytest.mark.parametrize("bits", range(1, 17))
def test_uniform_bits_are_exactly_uniform(bits):
    size = 1 << bits
    for symbol in {0, 1, size // 2, size - 1}:
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(np.array([symbol], np.int32), escapes._UNIFORM, np.array([size], np.int32))
        share = 1 << BITS - bits
        assert encoder.pos()[1] == (symbol * share * UNIT, share * UNIT)


def test_float32_and_float64_weights_make_the_same_model():
    frequencies = np.diff(np.sort(np.random.default_rng(7).choice((1 << 24) - 1, 63, replace=False) + 1))
    frequencies = np.concatenate([frequencies, [(1 << 24) - frequencies.sum()]])
    rows = (frequencies - 1).astype(np.float32).reshape(1, -1)
    used = induced(len(frequencies), exact_model(frequencies))
    assert np.array_equal(used, expected(frequencies))
    assert np.array_equal(used, induced(len(frequencies), BUNDLE, rows))
