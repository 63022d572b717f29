"""Integer tables: exact, the same everywhere, and safe to read from anybody."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.entropy import CdfTables
from layercast.entropy.families import to_frequencies
from layercast.entropy.tables import MAX_ENTRIES, MAX_ROWS
from layercast.errors import (
    BitstreamError,
    CodecError,
    ConfigError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)

from . import strategies as own

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=300).filter(lambda w: sum(w) > 1e-3)


@own.deterministic
@given(WEIGHTS)
def test_rounding_gives_every_entry_at_least_one_and_sums_to_the_total(weights):
    frequencies = to_frequencies(weights)
    assert frequencies.min() >= 1
    assert int(frequencies.sum()) == 1 << 16


@own.deterministic
@given(WEIGHTS)
def test_rounding_moves_an_entry_by_less_than_one_beside_what_lifting_others_to_one_takes(weights):
    frequencies = to_frequencies(weights).astype(np.float64)
    share = np.array(weights) / sum(weights) * (1 << 16)
    lifted = len(weights)
    assert (frequencies <= np.maximum(share, 1) + 1).all()
    assert (frequencies >= share * (1 - lifted / (1 << 16)) - 1).all()


def test_rounding_gives_the_remainder_to_the_largest_fraction_and_then_to_the_first():
    assert to_frequencies([1, 1, 1]).tolist() == [21846, 21845, 21845]
    assert to_frequencies([1, 0, 1]).tolist() == [32768, 1, 32767]
    assert to_frequencies([5]).tolist() == [65536]
    assert to_frequencies(np.ones(1 << 16)).tolist() == [1] * (1 << 16)


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [np.nan, 1], [np.inf, 1], [[1, 2]], np.ones(65537)])
def test_weights_that_are_no_distribution_are_refused(weights):
    with pytest.raises(ConfigError):
        to_frequencies(weights)


@pytest.mark.parametrize(
    ("freqs", "offsets", "escaped"),
    [
        ([[65536, 0]], [0], False),
        ([[65535]], [0], False),
        ([[65535, 2]], [0], False),
        ([[65536.0]], [0], False),
        ([[[65536]]], [0], False),
        ([[-1, 65537]], [0], False),
        ([[65536]], [0], True),
        ([[]], [0], False),
        ([[65536]], [0, 1], False),
        ([[65536]], [0], [True, False]),
        ([[65536]], [2**31 - 1], False),
        ([[65536]], [-(2**31) - 1], False),
        ([[65536]], [2**40], False),
    ],
)
def test_frequencies_that_break_a_rule_are_refused(freqs, offsets, escaped):
    with pytest.raises(ConfigError):
        CdfTables.from_frequencies(freqs, offsets, escaped)


def test_a_set_needs_a_row_and_has_a_bounded_number():
    with pytest.raises(LimitError):
        CdfTables.from_frequencies([], [])
    with pytest.raises(LimitError):
        CdfTables.from_frequencies([[1 << 16]] * (MAX_ROWS + 1), [0] * (MAX_ROWS + 1))


@own.settings(own.deterministic, max_examples=50)
@given(own.tables())
def test_bytes_give_the_same_tables_back(made):
    again = CdfTables.from_bytes(made.to_bytes())
    assert again == made
    assert hash(again) == hash(made)
    for name in ("frequencies", "starts", "offsets", "limits", "escaped"):
        assert np.array_equal(getattr(again, name), getattr(made, name))


def test_the_fingerprint_differs_when_anything_differs():
    sets = [
        CdfTables.from_frequencies([[30000, 35536]], [0]),
        CdfTables.from_frequencies([[30001, 35535]], [0]),
        CdfTables.from_frequencies([[30000, 35536]], [1]),
        CdfTables.from_frequencies([[30000, 35536]], [0], True),
        CdfTables.from_frequencies([[30000, 35536], [65536]], [0, 0]),
    ]
    assert len({made.fingerprint for made in sets}) == len(sets)
    assert all(len(made.fingerprint) == 16 for made in sets)


def test_tables_cannot_be_changed():
    made = CdfTables.gaussian([1.0])
    for name in ("frequencies", "starts", "offsets", "limits", "escaped"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        made.row(0)[0] = 2


SAMPLE = CdfTables.gaussian([0, 0.3, 2.0, 9.0]).to_bytes()


@own.deterministic
@given(st.data())
def test_damaged_tables_raise_the_packages_errors_only(data):
    damaged = bytearray(SAMPLE)
    for at in data.draw(st.sets(st.integers(0, len(damaged) - 1), min_size=1, max_size=4)):
        damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        CdfTables.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", range(len(SAMPLE)))
def test_tables_cut_short_are_told_from_damaged_ones(length):
    with pytest.raises(TruncatedError):
        CdfTables.from_bytes(SAMPLE[:length])


def _sealed(rows, entries, body, version=1):
    header = struct.pack("<4sBBHIII", b"LCDF", version, 16, 0, rows, entries, zlib.crc32(body))
    return header + zlib.compress(body)


def test_a_newer_version_is_told():
    with pytest.raises(UnsupportedVersionError):
        CdfTables.from_bytes(_sealed(1, 1, b"", version=2))


@pytest.mark.parametrize(
    ("rows", "entries"), [(0, 0), (2, 1), (MAX_ROWS + 1, MAX_ENTRIES), (1, MAX_ENTRIES + 1)]
)
def test_counts_beyond_the_bounds_are_refused(rows, entries):
    with pytest.raises(LimitError):
        CdfTables.from_bytes(_sealed(rows, entries, b""))


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<IiB2H", 2, 0, 0, 0, 0),  # sums to 2
        struct.pack("<IiB2H", 1, 0, 0, 0, 65534),  # one entry left over
        struct.pack("<IiB2H", 2, 0, 2, 0, 65534),  # a flag that is no flag
        struct.pack("<IiB2H", 2, 2**31 - 1, 0, 0, 65534),  # beyond int32
    ],
)
def test_tables_with_a_good_checksum_that_contradict_themselves_are_refused(body):
    with pytest.raises(CorruptError):
        CdfTables.from_bytes(_sealed(1, 2, body))


def test_a_deflate_bomb_is_not_inflated():
    bomb = _sealed(1, 2, bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError):
            CdfTables.from_bytes(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0, 64.0])
def test_a_gaussian_row_is_symmetric_and_leaves_its_tail_to_the_escape(scale):
    made = CdfTables.gaussian([scale])
    row = made.row(0).astype(np.int64)
    plain, escape = row[:-1], int(row[-1])
    assert made.offsets[0] == -(len(plain) // 2)
    assert abs(plain - plain[::-1]).max() <= 1
    assert escape <= 4 + 1
    symbols = made.offsets[0] + np.arange(len(plain))
    assert (plain * symbols**2).sum() / 65536 == pytest.approx(scale**2 + 1 / 12, rel=0.01, abs=0.09)


@pytest.mark.parametrize(("scale", "mean"), [(0.3, 0.5), (0.3, -0.5), (3.0, 5.6), (24.0, -45.0)])
def test_a_gaussian_row_lies_around_its_mean_and_reaches_as_far_on_both_sides_of_it(scale, mean):
    made = CdfTables.gaussian([scale, scale], means=[mean, -mean])
    row, mirrored = (made.row(i).astype(np.int64) for i in (0, 1))
    assert abs(row[:-1] - mirrored[-2::-1]).max() <= 1
    symbols = made.offsets[0] + np.arange(len(row) - 1)
    assert (row[:-1] * symbols).sum() / 65536 == pytest.approx(mean, rel=0.01, abs=0.06)
    assert row[-1] <= 4 + 1
    assert min(symbols[-1], -symbols[0]) >= 1


def test_as_many_means_as_scales():
    with pytest.raises(ConfigError, match="2 scales and 1 means"):
        CdfTables.gaussian([1.0, 2.0], means=[0.5])


def test_a_scale_of_zero_is_a_certain_row():
    made = CdfTables.gaussian([0.0, 1.0])
    assert made.row(0).tolist() == [65536]
    assert made.escaped.tolist() == [False, True]


@pytest.mark.parametrize(("scale", "tail"), [(-1, 0.01), (1e9, 0.01), (np.nan, 0.01), (1, 0), (1, 0.9)])
def test_gaussians_out_of_range_are_refused(scale, tail):
    with pytest.raises(ConfigError):
        CdfTables.gaussian([scale], tail)


@pytest.mark.parametrize(("scale", "mean"), [(1.0, 17.0), (1.0, np.nan), (0.0, 0.1)])
def test_means_out_of_range_are_refused(scale, mean):
    with pytest.raises(ConfigError):
        CdfTables.gaussian([scale], means=[mean])


@own.settings(own.deterministic, max_examples=50)
@given(own.tables())
def test_ideal_costs_obey_krafts_equality(made):
    for row in range(len(made)):
        symbols = np.arange(made.offsets[row], made.limits[row], dtype=np.int64).astype(np.int32)
        plain = (2.0 ** -made.cost_bits(symbols, np.full(len(symbols), row))).sum()
        escape = int(made.row(row)[-1]) / 65536 if made.escaped[row] else 0.0
        assert plain + escape == pytest.approx(1)


def test_escaped_symbols_cost_what_their_escape_leaves_them():
    made = CdfTables.from_frequencies([[65472, 64]], [0], True)
    beyond = np.setdiff1d(np.arange(-40_000, 40_000), [0]).astype(np.int32)
    share = (2.0 ** -made.cost_bits(beyond, np.zeros(len(beyond), np.int64))).sum() / (64 / 65536)
    assert 0.999 < share < 1


def test_a_symbol_outside_a_row_without_escape_has_no_cost():
    with pytest.raises(CodecError):
        CdfTables.categorical([[1, 1]]).cost_bits(np.array([2], np.int32), np.array([0]))
