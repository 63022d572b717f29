"""`layercast bench entropy`: our coder beside two others on the same symbols, interleaved in one run.

Ours is timed twice where it is compiled: also as it codes without that. Integers are drawn from Gaussians of
several scales. Each coder gets numpy arrays and gives numpy arrays: ours with rows of integer tables,
constriction with a float Gaussian per symbol, CompressAI's rANS with the same integer tables as Python lists,
which is how CompressAI calls it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from layercast.entropy import COMPILED, CdfTables, SymbolDecoder, coder, encode_symbols, plain

OURS = "layercast"
PLAIN = "layercast, plain"
"""Our own coder, and the same where nothing was compiled."""

INSTALL_COMPRESSAI = "pip install --no-deps compressai"


@dataclass(frozen=True, slots=True)
class Mix:
    """Symbols to time with: each drawn from a Gaussian whose scale is one of `scales`, all equally often.

    Attributes:
        name: for people.
        scales: how many standard deviations, evenly spaced in their logarithm.
        low: the smallest, in quantiser steps.
        high: the largest.
        count: symbols.
    """

    name: str
    scales: int
    low: float
    high: float
    count: int


MIXES = (
    Mix("mixed scales", 64, 0.11, 64.0, 1_000_000),
    Mix("small scales", 64, 0.11, 1.0, 1_000_000),
    Mix("many rows, few symbols each", 2000, 0.11, 8.0, 100_000),
)
"""The first is the yardstick. Learned codecs code mostly small scales, and the hierarchical one has many
rows."""


@dataclass(frozen=True, slots=True)
class EntropyRow:
    """One coder's result.

    Attributes:
        mix: which symbols.
        coder: what was timed.
        bits: ideal bits per symbol under the integer tables.
        bytes: size of the coded symbols.
        overhead: bytes over the tables' cross-entropy, relative (0.001 is 0.1 %).
        encode: Msymbols/s, the best of the rounds.
        decode: Msymbols/s, the best of the rounds.
        behind: decoding time over ours of the same round, the median of the rounds: how much faster we are.
    """

    mix: str
    coder: str
    bits: float
    bytes: int
    overhead: float
    encode: float
    decode: float
    behind: float


Symbols = NDArray[np.int32]
Coder = tuple[Callable[[Symbols, Symbols], Any], Callable[[Any, Symbols], Symbols], Callable[[Any], int]]
"""encode(symbols, rows), decode(coded, rows), size in bytes."""


def _ours(tables: CdfTables) -> Coder:
    return (
        lambda symbols, rows: encode_symbols(symbols, rows, tables),
        lambda data, rows: SymbolDecoder(data).decode(rows, tables),
        len,
    )


def _plain(tables: CdfTables) -> Coder:
    """Ours without what is compiled."""
    encode, decode, size = _ours(tables)

    def plainly(code: Callable[[Any, Symbols], Any]) -> Callable[[Any, Symbols], Any]:
        def call(given: Any, rows: Symbols) -> Any:
            before, coder.backend = coder.backend, plain
            try:
                return code(given, rows)
            finally:
                coder.backend = before

        return call

    return plainly(encode), plainly(decode), size


def _constriction(deviations: NDArray[np.float64]) -> Coder:
    """A float Gaussian per symbol, with means and standard deviations as arrays that are at hand."""
    family = constriction.stream.model.QuantizedGaussian(-4095, 4095)
    queue = constriction.stream.queue
    means = np.zeros(len(deviations))

    def encode(symbols: Symbols, rows: Symbols) -> Any:
        coder = queue.RangeEncoder()
        coder.encode(symbols, family, means, deviations)
        return coder.get_compressed()

    def decode(words: Any, rows: Symbols) -> Symbols:
        decoded: Symbols = queue.RangeDecoder(words).decode(family, means, deviations)
        return decoded

    return encode, decode, lambda words: 4 * len(words)


def _load_compressai() -> ModuleType | None:
    """CompressAI's compiled coder alone: its package would import torch and a dozen others that are not
    needed."""
    package = importlib.util.find_spec("compressai")
    if package is None or package.submodule_search_locations is None:
        return None
    spec = importlib.machinery.PathFinder.find_spec(
        "compressai.ans", list(package.submodule_search_locations)
    )
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compressai(ans: ModuleType, tables: CdfTables) -> Coder:
    cdfs = [[0, *np.cumsum(tables.row(r)).tolist()] for r in range(len(tables))]
    sizes, offsets = [len(cdf) for cdf in cdfs], tables.offsets.tolist()
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    return (
        lambda symbols, rows: encoder.encode_with_indexes(
            symbols.tolist(), rows.tolist(), cdfs, sizes, offsets
        ),
        lambda data, rows: np.array(
            decoder.decode_with_indexes(data, rows.tolist(), cdfs, sizes, offsets), np.int32
        ),
        len,
    )


def run(mix: Mix = MIXES[0], rounds: int = 9, seed: int = 1) -> list[EntropyRow]:
    """Time every coder that is installed, in turn, `rounds` times; another begins each time, for what one leaves
    behind in caches and heap is the next one's cost. Ours comes first in the result.

    Args:
        mix: the symbols.
        rounds: how often each coder encodes and decodes; the best counts.
        seed: of the symbols.

    Raises:
        AssertionError: a coder did not give the symbols back.
    """
    rng = np.random.default_rng(seed)
    scales = np.geomspace(mix.low, mix.high, mix.scales)
    rows = rng.integers(0, mix.scales, mix.count).astype(np.int32)
    symbols = np.rint(rng.normal(size=mix.count) * scales[rows]).astype(np.int32)
    tables = CdfTables.gaussian(scales)
    ideal = float(tables.cost_bits(symbols, rows).sum())
    coders = {OURS: _ours(tables), **({PLAIN: _plain(tables)} if COMPILED else {})}
    coders["constriction, float Gaussians"] = _constriction(scales[rows])
    if (ans := _load_compressai()) is not None:
        coders["CompressAI rANS from Python"] = _compressai(ans, tables)

    encode_s: dict[str, list[float]] = {name: [] for name in coders}
    decode_s: dict[str, list[float]] = {name: [] for name in coders}
    sizes: dict[str, int] = {}
    names = list(coders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            encode, decode, size = coders[name]
            start = time.perf_counter()
            coded = encode(symbols, rows)
            middle = time.perf_counter()
            decoded = decode(coded, rows)
            end = time.perf_counter()
            encode_s[name].append(middle - start)
            decode_s[name].append(end - middle)
            sizes[name] = size(coded)
            if not np.array_equal(decoded, symbols):
                raise AssertionError(f"{name} did not give the symbols back")
    return [
        EntropyRow(
            mix=mix.name,
            coder=name,
            bits=ideal / mix.count,
            bytes=sizes[name],
            overhead=8 * sizes[name] / ideal - 1,
            encode=mix.count / min(encode_s[name]) / 1e6,
            decode=mix.count / min(decode_s[name]) / 1e6,
            behind=float(np.median(np.divide(decode_s[name], decode_s[OURS]))),
        )
        for name in coders
    ]


def main(rounds: int = 9) -> list[EntropyRow]:
    """Run all mixes; print Msymbols/s, size over the tables' cross-entropy, and how much faster we decode."""
    results: list[EntropyRow] = []
    print(f"layercast codes with its {'compiled' if COMPILED else 'plain'} coder here")
    for mix in MIXES:
        rows = run(mix, rounds)
        results += rows
        print(
            f"\n{mix.name}: {mix.count:,} symbols of {mix.scales} scales {mix.low:g}..{mix.high:g}, "
            f"{rows[0].bits:.2f} bits each; best of {rounds} interleaved rounds, Msymbols/s"
        )
        print(f"{'coder':32}{'encode':>8}{'decode':>8}{'size over ideal':>17}{'we decode':>11}")
        for r in rows:
            factor = f"{r.behind:.1f}x"
            print(f"{r.coder:32}{r.encode:8.1f}{r.decode:8.1f}{r.overhead:17.3%}{factor:>11}")
    if not any("CompressAI" in r.coder for r in results):
        print(f"\nCompressAI is not installed; to compare with it: {INSTALL_COMPRESSAI}")
    return results


if __name__ == "__main__":
    main()
