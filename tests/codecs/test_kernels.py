"""The compiled array work of a walk and NumPy's give the same integers, and no index leaves its array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.kernels import KEYS

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
    found["counts"] = np.bincount(group, minlength=5)[:4]
    found["at"] = np.flatnonzero(group == 3)
    found["symbols"] = rng.integers(-1, 2, len(found["at"])).astype(np.int32)
    found["values"] = rng.integers(-3, 4, N).astype(np.int16)
    found["bytes"] = rng.integers(0, 256, KINDS * KEYS).astype(np.uint8)
    return found


def everything(i: dict[str, Any]) -> list[np.ndarray]:
    trits, surprise = np.zeros(N, np.int8), np.full(N, 128, np.uint8)
    keys, moved = i["keys"][i["at"]], i["keys"].copy()
    kernels.learn(i["at"], i["symbols"], keys, i["values"], i["bytes"][: 9 * KEYS], trits, surprise)
    return [
        kernels.row_keys(i["centre"], i["tilt"], i["table"]),
        kernels.row_keys_at(i["at"], i["centre"], i["tilt"], i["table"], moved),
        moved,
        kernels.histogram(i["keys"], i["weights"], KINDS),
        *kernels.contexts(i["table"] * np.int16(15) - np.int16(15000)).values(),
        *kernels.contexts(np.arange(-40, 41, dtype=np.int16)).values(),
        *kernels.group(i["keys"], i["weights"], i["groups"], i["counts"]),
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
        lambda: kernels.group(i["keys"], i["weights"], i["groups"], i["counts"] - np.array([3, -3, 0, 0])),
    ):
        with pytest.raises(ValueError):
            bad()
