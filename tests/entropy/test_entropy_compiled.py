"""The compiled coder is the other one, only faster: the same bytes, the same symbols, the same errors."""

import importlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.entropy import CdfTables, coder, models, pieces, plain, quiet
from layercast.errors import CodecError, CorruptError
from layercast.extensions import PURE

from . import strategies as own
from .test_entropy_coder import CALM, CALM_CHANCES, MIXES

_range = pytest.importorskip(
    "layercast.entropy._range", reason="it was not built: no C compiler at installation"
)
compiled = importlib.import_module("layercast.entropy.compiled")


def encoded(backend, parts):
    encoder = backend.Encoder()
    for symbols, rows, tables in parts:
        encoder.push(tables, rows, symbols)
    return encoder.finish()


def decoded(backend, data, parts):
    """Symbols of all parts, or the type of the error."""
    decoder, found = backend.Decoder(data), []
    for _, rows, tables in parts:
        symbols = np.empty(len(rows), np.int32)
        try:
            decoder.decode(tables, rows, symbols, None)
        except CorruptError:
            return CorruptError
        found.append(symbols.tolist())
    return found


def agree(data, parts):
    return decoded(compiled, data, parts) == decoded(plain, data, parts)


@st.composite
def mixtures(draw):
    """A few calls under different tables: hand-picked mixes of any length, and small calls under any tables."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            tables = draw(own.tables())
            parts.append((*draw(own.portions(tables)), tables))
            continue
        tables, chances = MIXES[draw(st.sampled_from(sorted(MIXES)))]
        count, seed = draw(st.sampled_from([1, 100, 2047, 2048, 9000, 30_011])), draw(st.integers(0, 1000))
        rows = np.random.default_rng(seed).choice(len(tables), count, p=chances)
        symbols = own.drawn(tables, rows, seed)
        far = np.flatnonzero(tables.escaped[rows])[: draw(st.integers(0, 40))]
        symbols[far] = np.random.default_rng(seed).integers(-(2**31), 2**31, len(far))
        parts.append((symbols, rows, tables))
    return parts


@own.settings(own.deterministic, max_examples=150)
@given(mixtures(), st.data())
def test_both_write_the_same_bytes_and_read_the_same_from_them_and_from_damaged_ones(parts, data):
    stream = encoded(compiled, parts)
    assert stream == encoded(plain, parts)
    assert decoded(compiled, stream, parts) == [symbols.tolist() for symbols, *_ in parts]
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3)) if stream else 0):
        damaged[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    assert agree(bytes(damaged), parts)
    assert agree(stream[: data.draw(st.integers(0, len(stream)))], parts)


@own.settings(own.deterministic, max_examples=100)
@given(st.binary(max_size=300), st.sampled_from(sorted(MIXES)), st.sampled_from([300, 3000, 20_000]))
def test_both_read_the_same_from_any_bytes(data, name, count):
    tables, chances = MIXES[name]
    rows = np.random.default_rng(count).choice(len(tables), count, p=chances)
    assert agree(data, [(None, rows, tables)])


@pytest.mark.parametrize("name", MIXES)
def test_both_code_a_whole_portion_alike(name):
    tables, chances = MIXES[name]
    rows = np.random.default_rng(8).choice(len(tables), coder.PORTION, p=chances)
    parts = [(own.drawn(tables, rows, seed=8), rows, tables)]
    stream = encoded(compiled, parts)
    assert stream == encoded(plain, parts)
    assert decoded(compiled, stream, parts) == [parts[0][0].tolist()]


@pytest.mark.parametrize("seed", range(7))
def test_both_carry_into_words_that_were_put_out_long_before(seed):
    """As long as an interval has 0x80000... inside, it is open whether the words before end in 7fff... or 8000...:
    constriction holds them back, the compiled coder goes back and changes them."""
    rng = np.random.default_rng(seed)
    tables = CdfTables.categorical(rng.dirichlet([1, 1, 1], 7))
    rows = rng.integers(0, 7, 2000)
    inside = np.empty(2000, np.int32)
    compiled.Decoder(bytes(5 * seed) + b"\x80").decode(tables, rows, inside, None)
    for count in range(1, 400, 3):
        some = inside[:count], rows[:count], tables
        aside = np.full(20, seed % 3, np.int32), rows[-20:], tables
        for parts in ([some], [some, aside], [some, aside, some]):
            assert encoded(compiled, parts) == encoded(plain, parts)


def test_a_distance_that_leads_beyond_int32_is_damage_for_both():
    low, high = (CdfTables.from_frequencies([[65000, 536]], [at], escaped=True) for at in (0, 2**31 - 9))
    for count in (10, 3000):
        rows = np.zeros(count, np.int64)
        stream = encoded(plain, [(np.full(count, 2**31 - 1, np.int32), rows, low)])
        assert encoded(compiled, [(np.full(count, 2**31 - 1, np.int32), rows, low)]) == stream
        for backend in (plain, compiled):
            assert decoded(backend, stream, [(None, rows, high)]) is CorruptError


def test_both_have_the_same_constants():
    fixed = {
        coder: ["PORTION"],
        pieces: ["RUN_FROM", "AS_GIVEN_BELOW"],
        models: [
            "NARROW",
            "MAX_BUNDLED",
            "PACK_LIMIT",
            "PACK_FROM",
            "PACK_LEAST",
            "PACK_SHARE",
            "UNREST_LIMIT",
        ],
        quiet: ["BLOCK", "WORTH_FROM", "SAMPLED", "WORTH_SHARE"],
    }
    for module, names in fixed.items():
        for name in names:
            assert getattr(module, name) == getattr(_range, "MAX_SYMBOLS" if name == "PORTION" else name), (
                name
            )


def test_models_beyond_what_is_kept_code_the_same():
    rows, size = 4000, 600  # 10 KB each: more than the 32 MB that are kept
    flat = np.full(size, 109, np.uint32)
    flat[0] += 65536 - 109 * size
    tables = CdfTables(
        np.tile(flat, rows), np.full(rows, size), np.arange(rows, dtype=np.int64), np.zeros(rows, np.bool_)
    )
    every = np.tile(np.arange(rows), 2)
    parts = [((every + every % size).astype(np.int32), every, tables)] * 2
    stream = encoded(compiled, parts)
    assert decoded(compiled, stream, parts) == [symbols.tolist() for symbols, *_ in parts]
    assert decoded(plain, stream, parts[:1]) == [parts[0][0].tolist()]


TWO_ROWS = {
    "frequencies": np.array([1 << 15, 1 << 15, 65000, 536], np.uint32),
    "sizes": np.array([2, 2], np.uint32),
    "offsets": np.array([0, -1], np.int32),
    "escaped": np.array([False, True]),
    "unrest": np.array([4095, 135], np.uint16),
}


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("frequencies", [1 << 15, 1 << 15, 65000, 535]),
        ("frequencies", [1 << 15, 1 << 15, 65000, 537]),
        ("frequencies", [0, 1 << 16, 65000, 536]),
        ("frequencies", [1 << 15, 1 << 15, 65000, 2**32 - 1]),
        ("frequencies", [1 << 15, 1 << 15, 65000]),
        ("frequencies", [1 << 15, 1 << 15, 65000, 536, 1]),
        ("frequencies", []),
        ("sizes", [2, 3]),
        ("sizes", [2, 0]),
        ("sizes", [2, 2**32 - 2]),
        ("sizes", [4]),
        ("sizes", [2, 2, 2]),
        ("offsets", [0]),
        ("escaped", []),
        ("unrest", [4095, 133]),
        ("unrest", [4096, 135]),
        ("unrest", [4095]),
    ],
)
def test_tables_that_contradict_themselves_are_refused(name, broken):
    assert _range.Tables(*TWO_ROWS.values())
    arrays = {**TWO_ROWS, name: np.array(broken, TWO_ROWS[name].dtype)}
    with pytest.raises(ValueError, match=r"."):
        _range.Tables(*arrays.values())


def test_flags_that_do_not_fit_are_refused():
    flags = _range.Tables(*TWO_ROWS.values())
    assert _range.Tables(*TWO_ROWS.values(), flags, np.ones(4095, np.uint8))
    for rows in ([], [np.full(4095, 2, np.uint8)], [np.ones(4094, np.uint8)], [b""]):
        with pytest.raises(ValueError, match=r"."):
            _range.Tables(*TWO_ROWS.values(), flags, *rows)
    with pytest.raises(TypeError):
        _range.Tables(*TWO_ROWS.values(), None, np.ones(4095, np.uint8))


def test_arrays_that_do_not_fit_are_refused():
    tables, decoder = _range.Tables(*TWO_ROWS.values()), _range.Decoder(b"")
    rows, symbols = np.zeros(8, np.int64), np.zeros(8, np.int32)
    decoder.decode(tables, rows, symbols)
    raw = bytearray(40)
    frozen = symbols.copy()
    frozen.setflags(write=False)
    for error, some_rows, some_symbols in [
        (ValueError, rows, symbols[:7]),
        (ValueError, rows[:7], symbols),
        (ValueError, np.zeros((1 << 18) + 1, np.uint8), np.zeros((1 << 18) + 1, np.int32)),
        (ValueError, rows, np.frombuffer(raw, np.int32, 8, offset=1)),
        (TypeError, rows.astype(np.float32), symbols),
        (TypeError, rows.astype(">i4"), symbols),
        (TypeError, rows.astype(np.bool_), symbols),
        (IndexError, rows - 1, symbols),
        (IndexError, rows + 2, symbols),
        (IndexError, rows.astype(np.uint64) + np.uint64(2**63), symbols),
        (ValueError, np.zeros(16, np.int64)[::2], symbols),
        (ValueError, rows, frozen),
        (TypeError, None, symbols),
        (TypeError, rows, None),
    ]:
        with pytest.raises((error, BufferError)):
            decoder.decode(tables, some_rows, some_symbols)
    with pytest.raises(TypeError):
        decoder.decode(None, rows, symbols)


@pytest.mark.parametrize("change", [lambda rows: np.repeat(rows, 2)[::2], lambda rows: rows.astype(">i2")])
def test_rows_with_gaps_or_of_another_machine_are_copied(change):
    rows = np.random.default_rng(2).choice(len(CALM), 5000, p=CALM_CHANCES)
    symbols = own.drawn(CALM, rows, seed=2)
    spread = np.repeat(symbols, 2)[::2]
    assert encoded(compiled, [(spread, change(rows), CALM)]) == encoded(plain, [(symbols, rows, CALM)])


def test_a_symbol_that_its_row_cannot_code_is_named():
    for count in (10, 5000, 20_000):
        rows, symbols = np.full(count, 2), np.zeros(count, np.int32)
        symbols[7] = 2
        with pytest.raises(CodecError, match="symbol 2 is not in table row 2"):
            compiled.Encoder().push(CALM, rows, symbols)


def test_threads_may_share_tables_from_the_first_use_on():
    made, chances = MIXES["few busy rows, many rare ones"]
    rows = np.random.default_rng(9).choice(len(made), 100_000, p=chances)
    symbols = own.drawn(made, rows, seed=9)
    stream = encoded(plain, [(symbols, rows, made)])
    for _ in range(5):
        tables, found, start = CdfTables.from_bytes(made.to_bytes()), [], threading.Barrier(4)
        tables.compiled = compiled._tables(tables)

        def decode(tables=tables, found=found, start=start):
            start.wait()
            found.append(decoded(compiled, stream, [(None, rows, tables)]) == [symbols.tolist()])

        threads = [threading.Thread(target=decode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 4


@pytest.mark.parametrize(("value", "expected"), [("1", "False"), ("", "True")])
def test_an_environment_variable_leaves_the_compiled_coder_alone(value, expected):
    environment = {**os.environ, PURE: value}
    code = "from layercast import entropy; print(entropy.COMPILED)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == expected
