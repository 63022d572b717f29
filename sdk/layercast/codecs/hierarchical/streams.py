"""A layer's bytes: its symbols as one stream, or as two or four where they are many, so that two threads can code them.

Every stream but the last has its length before it, as a variable-length integer (seven bits a byte, the lowest first,
the top bit set on all bytes but the last). How many there are follows from the number of symbols, which both ends know.
Where a layer has shifts of its channels (`Walk.shifted`), they (`shifts.py`) come before them, as one stream more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.helper import Helper
from layercast.codecs.hierarchical.kernels import ROW_MIRROR
from layercast.entropy import CdfTables, decode_streams, encode_symbols
from layercast.errors import CorruptError

VERSION = 3
"""Of what is above, how many streams there are, and of shifts; part of the fingerprint."""

TWO_FROM, FOUR_FROM = 1 << 15, 1 << 18
"""Symbols of a layer from which it is two streams, and four: a stream costs three bytes. Four of them are shared better
by two threads of which one is slower."""

MAX_LENGTH_BYTES = 5

ROW_BITS = ROW_MIRROR - 1
"""Of a row key: its table row."""


def bounds(count: int) -> list[slice]:
    """The symbols of each stream of a layer of `count` symbols."""
    streams = 1 if count < TWO_FROM else 2 if count < FOUR_FROM else 4
    ends = [count * i // streams for i in range(streams + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def join(streams: list[bytes]) -> bytes:
    """Streams as a layer's bytes."""
    out = bytearray()
    for stream in streams[:-1]:
        length = len(stream)
        while length > 0x7F:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += stream
    return bytes(out + streams[-1])


def split(layer: bytes, count: int) -> list[bytes]:
    """The `count` streams of a layer.

    Raises:
        CorruptError: the lengths do not fit the layer.
    """
    streams, at = [], 0
    for _ in range(count - 1):
        length = 0
        for i in range(MAX_LENGTH_BYTES):
            byte = layer[at + i] if at + i < len(layer) else 0x80
            length |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                break
        else:
            raise CorruptError("a layer ends within a stream's length", hint="use the layers before it")
        at += i + 1 + length
        if at > len(layer):
            raise CorruptError("a layer's stream is longer than the layer", hint="use the layers before it")
        streams.append(layer[at - length : at])
    return [*streams, layer[at:]]


@dataclass
class Pending:
    """A layer that is being encoded."""

    tasks: list[tuple[Callable[[], bytes], Future[bytes] | None]]
    before: list[bytes]

    def layer(self) -> bytes:
        """Its bytes, when they are there; what no thread has begun is done here."""
        streams = []
        for task, future in reversed(self.tasks):
            streams.append(task() if future is None or future.cancel() else future.result())
        return join(self.before + streams[::-1])


class StreamCoder:
    """Encodes and decodes layers, with other threads' help; any number of threads may call it.

    Args:
        threads: that may share the work, the caller's among them.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._helper = None if threads < 2 else Helper("hierarchical")

    def encode(
        self,
        symbols: NDArray[np.int32],
        keys: NDArray[np.int16],
        tables: CdfTables,
        before: Sequence[bytes] = (),
    ) -> Pending:
        """Begin to encode a layer; neither symbols nor row keys (N,) may change until it is there; before: streams that
        come first."""
        tasks: list[tuple[Callable[[], bytes], Future[bytes] | None]] = []
        for some in bounds(len(symbols)):

            def task(some: slice = some) -> bytes:
                return encode_symbols(symbols[some], keys[some], tables, ROW_BITS)

            tasks.append((task, self._helper.submit(task) if self._helper else None))
        return Pending(tasks, list(before))

    def decode(self, layer: bytes, keys: NDArray[np.int16], tables: CdfTables) -> NDArray[np.int32]:
        """A layer's symbols, (N,) int32, by their row keys (N,).

        Raises:
            CorruptError: the bytes are no layer of so many symbols.
        """
        parts = bounds(len(keys))
        return decode_streams(split(layer, len(parts)), keys, tables, parts, self._threads, ROW_BITS)
