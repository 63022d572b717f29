"""What the coder really uses is read back from its state, and must be the tables' integers."""

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.entropy import CdfTables, escapes, quiet
from layercast.entropy.models import (
    BITS,
    BUNDLE,
    MODELS_KEPT,
    NARROW,
    UNREST_LIMIT,
    exact_model,
    pack,
    pack_factors,
    squared,
    unpack,
)

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


def factor_of(size, count):
    return int(pack_factors(np.array([size]), np.array([count]))[0])


@own.settings(own.deterministic, max_examples=50)
@given(st.lists(st.floats(1e-9, 1), min_size=2, max_size=6))
def test_packed_symbols_use_the_squared_integers(weights):
    tables = CdfTables.categorical([weights])
    size, factor = len(weights), factor_of(len(weights), 2000)
    joint = tables.row(0).astype(object) * 256
    for _ in range(factor.bit_length() - 1):  # the rule again, in Python's integers
        joint = [max(int(a) * int(b) >> BITS, 1) for a in joint for b in joint]
        joint[joint.index(max(joint))] += (1 << BITS) - sum(joint)
    assert sum(joint) == 1 << BITS
    assert min(joint) >= 1
    assert np.array_equal(induced(size**factor, tables.models.packed(0, factor)), expected(joint))


@pytest.mark.parametrize("size", range(2, 91))
def test_packing_and_unpacking_are_inverse(size):
    factor = factor_of(size, 20_000)
    entries = np.random.default_rng(size).integers(0, size, 16 * factor).astype(np.int32)
    packed = pack(entries, size, factor)
    assert packed.dtype == np.int32
    assert len(packed) == 16
    assert np.array_equal(unpack(packed, size, factor), entries)


def test_small_alphabets_are_packed_up_to_128_together_and_more_in_long_runs():
    sizes = (2, 3, 4, 5, 9, 10, 11, 12, 90, 91, 65536)
    assert [factor_of(size, 128) for size in sizes] == [4, 4, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    assert [factor_of(size, 2000) for size in sizes] == [8, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1]
    assert [factor_of(size, 1 << 18) for size in sizes] == [8, 8, 4, 4, 4, 2, 2, 2, 2, 1, 1]
    assert [factor_of(2, 127), factor_of(1, 1 << 18)] == [1, 1]


def test_models_of_packed_symbols_take_a_bounded_amount_of_memory():
    tables = CdfTables.categorical(np.random.default_rng(0).dirichlet([1] * 9, 2 * MODELS_KEPT // 9**4))
    for row in range(len(tables)):
        tables.models.packed(row, 4)
        assert tables.models._kept == 9**4 * len(tables.models._packed) <= MODELS_KEPT
    again = induced(9**4, tables.models.packed(0, 4))[:, 1]
    assert np.array_equal(again, squared(squared(tables.models.row(0))))


@own.settings(own.deterministic, max_examples=100)
@given(own.tables(max_rows=6, max_size=20))
def test_unrest_is_the_calm_entrys_information_in_units_of_two_to_the_minus_14_nats(tables):
    models = tables.models
    for row in range(len(tables)):
        frequencies = tables.row(row).tolist()
        calm = frequencies.index(max(frequencies))
        assert models.calm[row] == calm
        assert models.events[row] == 65536 - max(frequencies)
        nats = -np.log(max(frequencies) / 65536) * 2**14
        may_be_quiet = len(frequencies) <= NARROW and not (
            tables.escaped[row] and calm == len(frequencies) - 1
        )
        if may_be_quiet and models.unrest[row] < UNREST_LIMIT:
            assert nats * 0.99 - 0.5 <= models.unrest[row] <= nats + 1
        elif may_be_quiet:
            assert nats > UNREST_LIMIT * 0.99
        assert may_be_quiet or models.unrest[row] == UNREST_LIMIT


def test_flags_have_44_distributions_that_follow_from_their_blocks_unrest():
    tables, row_of = quiet.flag_tables()
    assert len(tables) == 44
    assert row_of[[0, 1, 7, 8, 9, 10, 16, 4094]].tolist() == [0, 1, 7, 8, 8, 9, 12, 43]
    assert [tables.row(row).tolist() for row in (0, 1, 43)] == [[65536], [65532, 4], [51839, 13697]]
    for row in range(1, len(tables)):
        middle = np.flatnonzero(row_of == row).mean()
        assert tables.row(row)[1] == pytest.approx(65536 * -np.expm1(-middle / 2**14), rel=0.01, abs=4)


def weights_by_the_rule(weights):
    total, free = sum(weights), (1 << BITS) - len(weights)
    frequencies = [1 + w * free // total for w in weights]
    frequencies[frequencies.index(max(frequencies))] += (1 << BITS) - sum(frequencies)
    return frequencies


@own.settings(own.deterministic, max_examples=50)
@given(st.integers(0, 2**32))
def test_the_place_of_the_first_event_uses_its_published_integers(seed):
    frequencies = [[65536], [65535, 1], [65500, 36], [64000, 1536], [60000, 5536]]
    tables = CdfTables.from_frequencies(frequencies, [0] * 5)
    rows = np.random.default_rng(seed).choice(5, 16, p=[0.3, 0.3, 0.2, 0.15, 0.05])
    rows[seed % 16] = 2
    events, calm_so_far, weights = [65536 - frequencies[row][0] for row in rows], 65536, []
    for event in events:
        weights.append(event * calm_so_far)
        calm_so_far -= event
    used = induced(16, BUNDLE, quiet._places(rows[None], tables.models))
    assert np.array_equal(used, expected(weights_by_the_rule(weights)))


def test_an_event_uses_its_row_without_the_calm_entry():
    tables = CdfTables.from_frequencies([[65536], [200, 65000, 300, 36], [65530, 6]], [0] * 3)
    for row, rest in ((1, [200, 0, 300, 36]), (2, [0, 6])):
        used = induced(16, BUNDLE, tables.models.events_bundle(np.array([row])))
        assert np.array_equal(used, expected(weights_by_the_rule(rest + [0] * (16 - len(rest)))))


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
