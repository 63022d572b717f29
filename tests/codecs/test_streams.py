"""A layer of many symbols is several streams: which, how they are joined, and what damage to them does."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.codecs.hierarchical import streams
from layercast.codecs.hierarchical.streams import FOUR_FROM, TWO_FROM, StreamCoder, bounds, join, split
from layercast.entropy import CdfTables
from layercast.errors import CorruptError

TABLES = CdfTables.gaussian([0.3, 2.0, 9.0])


def symbols(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    rows = rng.integers(0, 3, count).astype(np.int16)
    return np.rint(rng.normal(0, np.array([0.3, 2.0, 9.0])[rows])).astype(np.int32), rows


def test_every_symbol_is_in_one_stream_in_its_order() -> None:
    counts = {0: 1, 1: 1, TWO_FROM - 1: 1, TWO_FROM: 2, TWO_FROM + 1: 2, FOUR_FROM - 1: 2, FOUR_FROM + 3: 4}
    for count, number in counts.items():
        parts = bounds(count)
        assert len(parts) == number
        assert [i for p in parts for i in (p.start, p.stop)][1:-1:2] == [p.start for p in parts[1:]]
        assert (parts[0].start, parts[-1].stop) == (0, count)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_what_was_joined_is_split_again(parts: list[bytes]) -> None:
    assert split(join(parts), len(parts)) == parts


@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_are_streams_or_corrupt(layer: bytes, count: int) -> None:
    try:
        parts = split(layer, count)
    except CorruptError:
        return
    assert len(parts) == count
    assert sum(map(len, parts)) <= len(layer)


@pytest.mark.parametrize(
    "layer", [b"", b"\x80", b"\x05abcd", b"\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff\x7f"]
)
def test_a_length_beyond_the_layer_is_corrupt(layer: bytes) -> None:
    with pytest.raises(CorruptError):
        split(layer, 2)


@pytest.mark.parametrize("count", [0, 5, TWO_FROM + 1, FOUR_FROM + 7])
def test_alone_and_with_help_the_bytes_are_the_same_and_decode(count: int) -> None:
    alone, helped = StreamCoder(1), StreamCoder(2)
    values, rows = symbols(count)
    layer = alone.encode(values, rows, TABLES).layer()
    assert helped.encode(values, rows, TABLES).layer() == layer
    for coder in (alone, helped):
        np.testing.assert_array_equal(coder.decode(layer, rows, TABLES), values)


def test_a_busy_helper_is_not_waited_for() -> None:
    coder = StreamCoder(2)
    values, rows = symbols(TWO_FROM)
    expected = coder.encode(values, rows, TABLES).layer()
    free = threading.Event()
    assert coder._helper is not None
    busy = coder._helper.submit(lambda: free.wait(60))
    try:
        assert coder.encode(values, rows, TABLES).layer() == expected
        assert not busy.done()
    finally:
        free.set()


def test_damage_that_another_thread_finds_is_raised() -> None:
    values, rows = symbols(TWO_FROM)
    layer = StreamCoder(1).encode(values, rows, TABLES).layer()
    first, second = split(layer, 2)
    for damaged in (join([first, b"\xff" * len(second)]), join([b"\xff" * len(first), second])):
        for threads in (1, 2):
            try:
                found = StreamCoder(threads).decode(damaged, rows, TABLES)
            except CorruptError:
                continue
            assert not np.array_equal(found, values)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_a_helper_of_its_own() -> None:
    coder = StreamCoder(2)
    values, rows = symbols(TWO_FROM)
    layer = coder.encode(values, rows, TABLES).layer()
    np.testing.assert_array_equal(coder.decode(layer, rows, TABLES), values)
    child = os.fork()
    if not child:
        same = coder.encode(values, rows, TABLES).layer() == layer
        os._exit(0 if same and np.array_equal(coder.decode(layer, rows, TABLES), values) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_streams_format_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    from layercast.codecs.hierarchical import model

    before = model.Model().fingerprint
    monkeypatch.setattr(model, "STREAMS_VERSION", streams.VERSION + 1)
    assert model.Model().fingerprint != before
