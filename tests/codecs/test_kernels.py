"""The compiled array work of a walk and NumPy's give the same integers, and no index leaves its array."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from typing import Any

import numpy as np
import pytest

from layercast.codecs.hierarchical import kernels, parallel
from layercast.codecs.hierarchical.kernels import KEYS
from layercast.codecs.hierarchical.model import Ranking
from layercast.codecs.hierarchical.parallel import pieces

compiled = pytest.mark.skipif(
    kernels._compiled is None, reason="built without a C compiler, or LAYERCAST_PURE is set"
)
N, C, KINDS = 6 * 350, 6, 16


def inputs(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {name: rng.integers(0, 256, N).astype(np.uint8) for name in ("centre", "tilt")}
    found["table"] = rng.integers(0, KEYS, 65536).astype(np.int16)
    found["keys"] = rng.integers(0, KEYS, N).astype(np.int16)
    found["weights"] = rng.integers(0, KINDS, C).astype(np.uint8)
    found["groups"] = rng.integers(0, 5, KINDS * KEYS).astype(np.uint8)
    group = found["groups"][found["keys"] + KEYS * np.resize(found["weights"], N).astype(int)]
    found["counts"] = counts_of(group, 1)
    found["groups of"] = group
    found["at"] = np.flatnonzero(group == 3)
    found["symbols"] = rng.integers(-1, 2, len(found["at"])).astype(np.int32)
    found["values"] = rng.integers(-3, 4, N).astype(np.int16)
    found["bytes"] = rng.integers(0, 256, KINDS * KEYS).astype(np.uint8)
    return found


def counts_of(group: np.ndarray, threads: int) -> np.ndarray:
    """(pieces, 4) symbols of the first four groups; the fifth is no group."""
    return np.array([np.bincount(group[part], minlength=5)[:4] for part in pieces(N, C, threads)])


def everything(i: dict[str, Any], threads: int = 1) -> list[np.ndarray]:
    trits, surprise = np.zeros(N, np.int8), np.full(N, 128, np.uint8)
    keys, moved = i["keys"][i["at"]], i["keys"].copy()
    kernels.learn(i["at"], i["symbols"], keys, i["values"], i["bytes"][: 9 * KEYS], trits, surprise, threads)
    counts = counts_of(i["groups of"], threads)
    return [
        kernels.row_keys(i["centre"], i["tilt"], i["table"], threads),
        kernels.row_keys_at(i["at"], i["centre"], i["tilt"], i["table"], moved, threads),
        moved,
        kernels.histogram(i["keys"], i["weights"], KINDS),
        *kernels.contexts(i["table"] * np.int16(15) - np.int16(15000), threads).values(),
        *kernels.contexts(np.arange(-40, 41, dtype=np.int16), threads).values(),
        *kernels.group(i["keys"], i["weights"], i["groups"], counts, threads),
        trits,
        surprise,
    ]


@compiled
@pytest.mark.parametrize("seed", range(5))
def test_both_give_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(seed)
    fast = everything(given)
    monkeypatch.setattr(kernels, "_compiled", None)
    for a, b in zip(fast, everything(given), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@compiled
@pytest.mark.parametrize("threads", [2, 3, 9])
def test_threads_give_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(7)
    alone = everything(given)
    monkeypatch.setattr(parallel, "SMALL", 0)
    assert len(pieces(N, C, threads)) == min(threads, parallel.MAX_THREADS)
    for a, b in zip(alone, everything(given, threads), strict=True):
        np.testing.assert_array_equal(a, b)


def test_classes_are_the_same_however_many_threads_count(monkeypatch: pytest.MonkeyPatch) -> None:
    given, rng = inputs(8), np.random.default_rng(8)
    order = rng.permutation(KINDS * KEYS)[: KINDS * KEYS // 2]
    coded = np.ones(KEYS, bool)
    ranking = Ranking(coded, order, rng.integers(1, 2000, len(order)), KINDS)
    alone = ranking.classes(given["keys"], given["weights"], 3)
    assert all(len(places) for places in alone)
    monkeypatch.setattr(parallel, "SMALL", 0)
    for a, b in zip(alone, ranking.classes(given["keys"], given["weights"], 3, threads=2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_one_thread_raises_is_raised_when_all_are_done() -> None:
    done = []

    def work(number: int) -> None:
        if number == 0:
            raise ValueError("piece 0")
        done.append(number)

    with pytest.raises(ValueError, match="piece 0"):
        parallel.in_parallel(3, 2, work)
    assert sorted(done) == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own() -> None:
    parallel.in_parallel(2, 2, lambda number: None)
    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python 3.12 warns of threads in the parent: the point
        child = context.Process(target=parallel.in_parallel, args=(2, 2, int))
        child.start()
    child.join(20)
    exit_code = child.exitcode
    child.kill()
    assert exit_code == 0


@compiled
def test_no_index_leaves_its_array() -> None:
    i = inputs(9)
    at, keys = i["at"], i["keys"][i["at"]]
    rest = i["values"], i["bytes"][: 9 * KEYS], np.zeros(N, np.int8), np.zeros(N, np.uint8)
    outside = at.copy()
    outside[-1] = N
    for bad in (
        lambda: kernels.learn(outside, i["symbols"], keys, *rest),
        lambda: kernels.learn(at, i["symbols"] + np.int32(1), keys, *rest),
        lambda: kernels.learn(at, i["symbols"], keys - np.int16(KEYS), *rest),
        lambda: kernels.learn(at[1:], i["symbols"], keys, *rest),
        lambda: kernels.row_keys_at(outside, i["centre"], i["tilt"], i["table"], i["keys"]),
        lambda: kernels.row_keys(i["centre"], i["tilt"][1:], i["table"]),
        lambda: kernels.row_keys(i["centre"], i["tilt"], i["table"][1:]),
        lambda: kernels.histogram(i["keys"], np.full(C, KINDS, np.uint8), KINDS),
        lambda: kernels.histogram(i["keys"], i["weights"][:0], KINDS),
        lambda: kernels.histogram(i["keys"][1:], i["weights"], KINDS),
        lambda: kernels.group(i["keys"] - np.int16(KEYS), i["weights"], i["groups"], i["counts"]),
        lambda: kernels.group(i["keys"], i["weights"], i["groups"], i["counts"] + 1),
        lambda: kernels.group(i["keys"], i["weights"], i["groups"], i["counts"] - 1),
        lambda: kernels.group(i["keys"], i["weights"], i["groups"], i["counts"] - np.array([[3, -3, 0, 0]])),
    ):
        with pytest.raises(ValueError):
            bad()
