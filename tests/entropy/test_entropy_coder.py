"""The coder gives back what it took, at the ideal size, and bad bytes do nothing worse than raise."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.entropy import (
    CdfTables,
    SymbolDecoder,
    SymbolEncoder,
    coder,
    decode_streams,
    encode_symbols,
    models,
    pieces,
    quiet,
)
from layercast.errors import CodecError, CorruptError

from . import strategies as own

pytestmark = pytest.mark.usefixtures("each_coder")

SCALES = np.geomspace(0.11, 64, 64)


def back(data, rows, tables):
    return SymbolDecoder(data).decode(rows, tables)


@own.settings(own.deterministic, max_examples=300)
@given(st.data())
def test_any_portions_under_any_tables_come_back(data):
    parts = []
    for _ in range(data.draw(st.integers(0, 3))):
        tables = data.draw(own.tables())
        parts.append((*data.draw(own.portions(tables)), tables))
    encoder = SymbolEncoder()
    for symbols, rows, tables in parts:
        encoder.push(symbols, rows, tables)
    decoder = SymbolDecoder(encoder.finish())
    for symbols, rows, tables in parts:
        decoded = decoder.decode(rows, tables)
        assert decoded.dtype == np.int32
        assert np.array_equal(decoded, symbols)


MIXES = {
    "wide and narrow Gaussians": (CdfTables.gaussian(SCALES), None),
    "some certain rows": (CdfTables.gaussian([0, 0.2, 0, 2, 0.5, 0]), None),
    "one binary row": (CdfTables.categorical([[0.97, 0.03]]), None),
    "trits under many rows": (CdfTables.categorical(np.random.default_rng(0).dirichlet([1] * 3, 2000)), None),
    "every size from 2 to 70": (
        CdfTables.from_probabilities(
            [np.arange(1, n + 1) for n in range(2, 71)], range(-35, 34), [n % 2 == 0 for n in range(2, 71)]
        ),
        None,
    ),
    "few busy rows, many rare ones": (
        CdfTables.gaussian(np.geomspace(0.11, 8, 300)),
        1 / np.arange(1, 301) / sum(1 / np.arange(1, 301)),
    ),
    "widest rows": (CdfTables.gaussian([1000.0, 4096.0]), None),
    "mostly calm": (
        CdfTables.from_probabilities(
            [[0, 1e-4, 0.9997, 1e-4, 1e-4], [1], [0.99, 0.01], [0.004, 0.996, 1e-3], [0.1, 0.2, 0.4, 0.3]],
            [-2, 5, 0, -1, -2],
            [True, False, False, True, False],
        ),
        [0.25, 0.1, 0.42, 0.2, 0.03],
    ),
}
NEARLY_CERTAIN = CdfTables.categorical([[0.9975, 0.0025]])


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("count", [1, 23, 2047, 2048, 40_007])
def test_every_mix_of_rows_comes_back(name, count):
    tables, chances = MIXES[name]
    rows = np.random.default_rng(count).choice(len(tables), count, p=chances)
    symbols = own.drawn(tables, rows, seed=count)
    assert np.array_equal(back(encode_symbols(symbols, rows, tables), rows, tables), symbols)


def test_the_mixes_take_every_path_of_the_coder():
    taken = set()
    for tables, chances in [*MIXES.values(), (NEARLY_CERTAIN, None)]:
        for count in (23, 2047, 2048, 40_000):
            rows = np.random.default_rng(count).choice(len(tables), count, p=chances)
            plan = coder.Plan(rows, tables)
            piece = plan.piece
            taken |= {("packed", factor) for _, factor, _ in piece.packed}
            taken |= {("bundle", columns) for columns, *_ in piece.bundles}
            taken |= {"run"} if piece.runs else set()
            taken |= {"as given"} if isinstance(piece.order, slice) else {"sorted"}
            if plan.quiet:
                taken.add("quiet and others" if piece.size else "all quiet")
    assert taken == {("packed", n) for n in (2, 4, 8)} | {("bundle", 2**n) for n in range(1, 7)} | {
        "as given",
        "sorted",
        "run",
        "quiet and others",
        "all quiet",
    }


CALM, CALM_CHANCES = MIXES["mostly calm"]


@pytest.mark.parametrize("seed", range(5))
def test_symbols_that_are_not_calm_come_back_wherever_they_stand(seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(CALM), 40_007, p=CALM_CHANCES)
    symbols = own.drawn(CALM, rows, seed)
    assert coder.Plan(rows, CALM).quiet
    far = rng.choice(np.flatnonzero(CALM.escaped[rows]), 200)
    symbols[far] = rng.integers(-(2**31), 2**31, 200)
    rare = np.flatnonzero(rows == 2)[: 10 * seed]
    symbols[rare] = 1
    assert np.array_equal(back(encode_symbols(symbols, rows, CALM), rows, CALM), symbols)


def test_a_row_whose_likeliest_entry_is_the_escape_is_never_calm():
    tables = CdfTables.from_frequencies([[30, 65506]], [0], escaped=True)
    rows = np.zeros(20_000, np.int64)
    assert coder.Plan(rows, tables).quiet is None
    symbols = np.arange(20_000, dtype=np.int32)
    assert np.array_equal(back(encode_symbols(symbols, rows, tables), rows, tables), symbols)


def test_a_symbol_that_a_calm_row_cannot_code_is_refused():
    rows = np.full(20_000, 2)
    symbols = np.zeros(20_000, np.int32)
    symbols[777] = 2
    with pytest.raises(CodecError, match="not in table row"):
        encode_symbols(symbols, rows, CALM)


def test_certain_symbols_alone_fill_quiet_blocks_at_no_cost():
    rows = np.full(50_000, 1)
    assert len(coder.Plan(rows, CALM).quiet.blocks) == 3125
    assert encode_symbols(np.full(50_000, 5, np.int32), rows, CALM) == b""
    assert np.array_equal(back(b"", rows, CALM), np.full(50_000, 5))


@pytest.mark.parametrize("seed", range(3))
def test_flags_of_blocks_cost_what_the_tables_say(seed):
    rows = np.zeros(200_000, np.int64)
    symbols = own.drawn(NEARLY_CERTAIN, rows, seed)
    ideal = NEARLY_CERTAIN.cost_bits(symbols, rows).sum() / 8
    assert ideal * 0.995 < len(encode_symbols(symbols, rows, NEARLY_CERTAIN)) < ideal * 1.005 + 1
    assert np.array_equal(back(encode_symbols(symbols, rows, NEARLY_CERTAIN), rows, NEARLY_CERTAIN), symbols)


def test_plans_made_before_decode_the_same():
    rows = np.random.default_rng(6).choice(len(CALM), 40_007, p=CALM_CHANCES)
    symbols = own.drawn(CALM, rows, seed=6)
    data = encode_symbols(symbols, rows, CALM)
    equal = CdfTables.from_bytes(CALM.to_bytes())
    assert np.array_equal(SymbolDecoder(data).decode(rows, CALM, coder.plan(rows, equal)), symbols)


def test_long_calls_are_coded_in_portions(monkeypatch):
    tables, _ = MIXES["wide and narrow Gaussians"]
    rows = np.random.default_rng(1).integers(0, len(tables), 10_000)
    symbols = own.drawn(tables, rows, seed=1)
    monkeypatch.setattr(coder, "PORTION", 1000)
    whole = encode_symbols(symbols, rows, tables)
    assert np.array_equal(back(whole, rows, tables), symbols)
    encoder, decoder = SymbolEncoder(), SymbolDecoder(whole)
    for begin in range(0, 10_000, 1000):
        encoder.push(symbols[begin : begin + 1000], rows[begin : begin + 1000], tables)
        decoded = decoder.decode(rows[begin : begin + 1000], tables)
        assert np.array_equal(decoded, symbols[begin : begin + 1000])
    assert encoder.finish() == whole


PARTS = [slice(0, 2500), slice(2500, 2500), slice(2500, 9000), slice(9000, 10_000)]


def some_streams():
    tables, _ = MIXES["wide and narrow Gaussians"]
    rows = np.random.default_rng(2).integers(0, len(tables), 10_000).astype(np.int16)
    symbols = own.drawn(tables, rows, seed=2)
    return [encode_symbols(symbols[p], rows[p], tables) for p in PARTS], rows, tables, symbols


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_streams_side_by_side_give_what_each_gives(threads, monkeypatch):
    monkeypatch.setattr(coder, "PORTION", 1000)
    streams, rows, tables, symbols = some_streams()
    for _ in range(3):
        assert np.array_equal(decode_streams(streams, rows, tables, PARTS, threads), symbols)
    assert len(decode_streams([], rows[:0], tables, [], threads)) == 0


def test_bits_of_a_row_that_do_not_count():
    streams, rows, tables, symbols = some_streams()
    flagged = rows | np.random.default_rng(3).integers(0, 4, len(rows)).astype(np.int16) << 10
    for part, stream in zip(PARTS, streams, strict=True):
        assert encode_symbols(symbols[part], flagged[part], tables, 1023) == stream
    assert np.array_equal(decode_streams(streams, flagged, tables, PARTS, 2, 1023), symbols)
    with pytest.raises(CodecError):
        decode_streams(streams, flagged, tables, PARTS, 2)
    with pytest.raises(CodecError, match="outside"):
        encode_symbols(symbols, flagged, tables)


@pytest.mark.parametrize("threads", [1, 2])
def test_streams_side_by_side_raise_what_one_of_them_raises(threads):
    streams, rows, tables, symbols = some_streams()
    for bad in (0, 2, 3):
        damaged = [b"\xff" * 16 if i == bad else stream for i, stream in enumerate(streams)]
        with pytest.raises(CorruptError):
            decode_streams(damaged, rows, tables, PARTS, threads)
        outside = rows.copy()
        outside[PARTS[bad].stop - 1] = len(tables)
        with pytest.raises(CodecError):
            decode_streams(streams, outside, tables, PARTS, threads)
    with pytest.raises(CodecError):
        decode_streams(streams, rows.astype(float), tables, PARTS, threads)
    assert np.array_equal(decode_streams(streams, rows, tables, PARTS, threads), symbols)


@pytest.mark.parametrize("dtype", [*"bBhHiIlLqQ", ">u2"])
def test_rows_may_be_any_integers(dtype):
    for tables, chances, count in ((*MIXES["wide and narrow Gaussians"], 3000), (CALM, CALM_CHANCES, 30_000)):
        rows = np.random.default_rng(2).choice(len(tables), count, p=chances)
        symbols = own.drawn(tables, rows, seed=2)
        data = encode_symbols(symbols, rows, tables)
        assert encode_symbols(symbols, rows.astype(dtype), tables) == data
        assert np.array_equal(back(data, rows.astype(dtype), tables), symbols)


@pytest.mark.parametrize("count", [10_000, 100_000])
@pytest.mark.parametrize("name", MIXES)
def test_from_ten_thousand_symbols_the_size_is_within_half_a_percent_of_ideal(name, count):
    tables, chances = MIXES[name]
    rows = np.random.default_rng(count + 1).choice(len(tables), count, p=chances)
    symbols = own.drawn(tables, rows, seed=count + 1)
    ideal = tables.cost_bits(symbols, rows).sum() / 8
    assert ideal > 140
    assert len(encode_symbols(symbols, rows, tables)) <= ideal * 1.005


@pytest.mark.parametrize("name", MIXES)
def test_ending_a_stream_costs_half_a_byte_on_average_and_less_than_two(name):
    tables, chances = MIXES[name]
    rng = np.random.default_rng(3)
    excess = []
    for count in rng.integers(1, 400, 60):
        rows = rng.choice(len(tables), count, p=chances)
        symbols = own.drawn(tables, rows, seed=count)
        ideal = tables.cost_bits(symbols, rows).sum() / 8
        excess.append(len(encode_symbols(symbols, rows, tables)) - ideal)
    assert max(excess) < 2
    assert np.mean(excess) < 0.75


def test_nothing_to_code_takes_no_bytes():
    certain = CdfTables.from_frequencies([[1 << 16], [1 << 16]], [7, -3])
    rows = np.array([0, 1, 1, 0] * 1000)
    symbols = np.array([7, -3, -3, 7] * 1000, np.int32)
    assert SymbolEncoder().finish() == b""
    assert encode_symbols(np.zeros(0, np.int32), np.zeros(0, np.int64), certain) == b""
    assert encode_symbols(symbols, rows, certain) == b""
    assert np.array_equal(back(b"", rows, certain), symbols)
    assert back(b"", np.zeros(0, np.int64), certain).shape == (0,)


def test_finishing_does_not_end_the_encoder():
    tables = CdfTables.gaussian([2.0])
    encoder, rows = SymbolEncoder(), np.zeros(50, np.int64)
    first, second = own.drawn(tables, rows, seed=1), own.drawn(tables, rows, seed=2)
    encoder.push(first, rows, tables)
    assert encoder.finish() == encode_symbols(first, rows, tables)
    encoder.push(second, rows, tables)
    decoder = SymbolDecoder(encoder.finish())
    assert np.array_equal(decoder.decode(rows, tables), first)
    assert np.array_equal(decoder.decode(rows, tables), second)


@pytest.mark.parametrize("count", [5, 5000])
def test_symbols_into_memory_that_is_there(count):
    tables, rows = CdfTables.gaussian(SCALES), np.arange(count) % len(SCALES)
    symbols = own.drawn(tables, rows, seed=3)
    data, memory = encode_symbols(symbols, rows, tables), np.full((2, count), 99, np.int32)
    assert SymbolDecoder(data).decode(rows, tables, out=memory[1]).base is memory
    assert np.array_equal(memory[1], symbols)
    assert (memory[0] == 99).all()
    for bad in (memory[0, 1:], memory[0].astype(np.int64), np.zeros(2 * count, np.int32)[::2]):
        with pytest.raises(CodecError, match="as many as rows"):
            SymbolDecoder(data).decode(rows, tables, out=bad)


@pytest.mark.parametrize("count", [5, 5000])
def test_the_ends_of_int32_go_through_the_escape(count):
    tables = CdfTables.from_frequencies(
        [[65535, 1], [65535, 1], [65535, 1]], [0, 2**31 - 2, -(2**31)], escaped=True
    )
    rows = np.arange(count) % 3
    ends = np.array([-(2**31), 2**31 - 1, 0, -1, 1, 2**31 - 2, -(2**31) + 1], np.int32)
    symbols = ends[np.arange(count) % 7]
    assert np.array_equal(back(encode_symbols(symbols, rows, tables), rows, tables), symbols)


def test_what_cannot_be_coded_is_refused():
    tables = CdfTables.categorical([[1, 1], [1, 1]])
    good, rows = np.array([0, 1], np.int32), np.array([0, 1])
    for symbols, some_rows in [
        (np.array([0, 2], np.int32), rows),
        (np.array([-1, 0], np.int32), rows),
        (good.astype(np.int64), rows),
        (good[:1], rows),
        (good.reshape(1, 2), rows.reshape(1, 2)),
        (good, np.array([0, 2])),
        (good, np.array([0, -1])),
        (good, rows.astype(np.float64)),
    ]:
        with pytest.raises(CodecError):
            encode_symbols(symbols, some_rows, tables)
    for bad_rows in (np.array([2]), np.array([-1]), np.array([0.0]), np.zeros((2, 2), np.int64)):
        with pytest.raises(CodecError):
            back(b"", bad_rows, tables)


def test_a_number_that_no_encoder_ends_in_is_told():
    tables = CdfTables.gaussian([2.0])
    with pytest.raises(CorruptError):
        back(b"\xff" * 16, np.zeros(10, np.int64), tables)
    with pytest.raises(CorruptError):
        back(b"\xff" * 16, np.zeros(10_000, np.int64), tables)


@own.settings(own.deterministic, max_examples=300)
@given(st.binary(max_size=200), st.sampled_from(sorted(MIXES)), st.integers(0, 4000))
def test_any_bytes_decode_to_as_many_symbols_of_their_rows_or_raise(data, name, count):
    tables, chances = MIXES[name]
    rows = np.random.default_rng(count).choice(len(tables), count, p=chances)
    try:
        symbols = back(data, rows, tables)
    except CorruptError:
        return
    assert symbols.shape == rows.shape
    assert tables.cost_bits(symbols, rows).shape == rows.shape


@own.settings(own.deterministic, max_examples=200)
@given(st.binary(max_size=400), st.integers(16_384, 30_000))
def test_so_do_any_bytes_in_quiet_blocks(data, count):
    rows = np.random.default_rng(count).choice(len(CALM), count, p=CALM_CHANCES)
    try:
        symbols = back(data, rows, CALM)
    except CorruptError:
        return
    assert CALM.cost_bits(symbols, rows).shape == rows.shape


@own.settings(own.deterministic, max_examples=150)
@given(st.data())
def test_a_damaged_or_cut_stream_decodes_or_raises(data):
    name = data.draw(st.sampled_from(["wide and narrow Gaussians", "every size from 2 to 70", "mostly calm"]))
    tables, chances = MIXES[name]
    rows = np.random.default_rng(5).choice(len(tables), 3000 if chances is None else 30_000, p=chances)
    stream = bytearray(encode_symbols(own.drawn(tables, rows, seed=5), rows, tables))
    for at in data.draw(st.sets(st.integers(0, len(stream) - 1), max_size=3)):
        stream[at] ^= data.draw(st.integers(1, 255))
    del stream[data.draw(st.integers(0, len(stream))) :]
    try:
        symbols = back(bytes(stream), rows, tables)
    except CorruptError:
        return
    assert symbols.shape == rows.shape


def test_the_constants_that_the_bitstream_fixes():
    fixed = {
        coder: {"PORTION": 1 << 18},
        pieces: {"RUN_FROM": 24, "AS_GIVEN_BELOW": 2048},
        models: {
            "NARROW": 16,
            "MAX_BUNDLED": 64,
            "PACK_LIMIT": 8192,
            "PACK_FROM": 128,
            "PACK_LEAST": 128,
            "PACK_SHARE": 2,
            "UNREST_LIMIT": 4095,
        },
        quiet: {"BLOCK": 16, "WORTH_FROM": 1024, "SAMPLED": 64, "WORTH_SHARE": 2},
    }
    for module, constants in fixed.items():
        for name, value in constants.items():
            assert getattr(module, name) == value, f"changing {name} changes the bitstream version"


def test_the_example_in_the_modules_text_runs():
    result = doctest.testmod(coder)
    assert result.attempted == 3
    assert result.failed == 0
