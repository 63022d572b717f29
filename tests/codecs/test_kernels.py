"""The compiled array work of a walk and NumPy's give the same integers, and no index leaves its array."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.kernels import KEYS

compiled = pytest.mark.skipif(
    kernels._compiled is None, reason="built without a C compiler, or LAYERCAST_PURE is set"
)
N, C = 6 * 350, 6


def inputs(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {name: rng.integers(0, 256, N).astype(np.uint8) for name in ("centre", "tilt")}
    for begin in range(0, N, 700):  # runs of symbols that are alike, in a class or in none
        for name in ("centre", "tilt"):
            found[name][begin : begin + 37] = found[name][begin]
    found["table"] = rng.integers(0, KEYS // 2, 512).astype(np.int16)
    found["keys"] = rng.integers(0, KEYS, N).astype(np.int16)
    found["order"] = rng.permutation(KEYS)[: KEYS * 2 // 3]
    found["bits"] = rng.integers(0, 2000, len(found["order"]))
    found["at"] = np.flatnonzero(rng.random(N) < 0.3).astype(np.int32)
    found["symbols"] = rng.integers(-1, 2, len(found["at"])).astype(np.int32)
    found["values"] = rng.integers(-3, 4, N).astype(np.int16)
    latents = np.concatenate(
        [np.arange(-200, 200) / 4, 20 * rng.normal(size=600), [np.inf, -np.inf, np.nan, 1e9]]
    )
    found["latents"] = latents.astype(np.float32)
    found["bytes"] = rng.integers(0, 256, 9 * KEYS).astype(np.uint8)
    return found


def ranked(i: dict[str, Any], **other: Any) -> tuple[np.ndarray, list[kernels.Ranked]]:
    i = {"energy": i["bytes"][:KEYS].astype(np.float32) / 8} | i | other
    logits, order = (i["centre"], i["tilt"]), (i["order"], i["bits"])
    keys = np.empty(len(i["centre"]), np.int16)
    settings = i.get("count", 4), keys, i.get("threads", 1)
    return keys, kernels.rank(logits, i["table"], order, i["energy"], *settings)


def deviations(i: dict[str, Any], threads: int = 1, **other: Any) -> tuple[np.ndarray, ...]:
    chances = np.arange(KEYS, dtype=np.uint64) * np.uint64(32)  # up to 2**16, as they are
    i = {"chances": chances + (chances[::-1] << np.uint64(24))} | i | other
    trits = (i["tilt"] % 3).astype(np.int8) - np.int8(1)
    return kernels.deviations(
        (i["centre"], i["tilt"]), i["table"], i["chances"], trits, i.get("c", C), threads
    )


def costs_of_rows() -> kernels.Costs:
    """Rows of other sizes and begins, 16 of each scale index."""
    rng = np.random.default_rng(9)
    sizes = rng.integers(2, 9, kernels.SCALES * 16)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    first = -rng.integers(0, 4, len(sizes)).astype(np.int32)
    bits = rng.integers(0, 5000, starts[-1]).astype(np.int32)
    # What is counted only where nothing is coded has to be an entry, as it is in every row of a Gaussian.
    return kernels.Costs(bits, starts, np.maximum(first, 2 - sizes.astype(np.int32)))


COSTS = costs_of_rows()


def shift_costs(
    i: dict[str, Any],
    offset: np.ndarray | None,
    part: kernels.Part,
    every: int = 1,
    threads: int = 1,
    scales: int = kernels.SCALES,
    costs: kernels.Costs = COSTS,
) -> np.ndarray:
    scale = i["centre"] % np.uint8(scales)
    if part[1] < part[2]:
        scale = scale[: len(scale) // part[2] * part[1]]
    return kernels.shift_costs(i["values"], scale, offset, part, costs, every, threads)


def base_keys(
    scale: np.ndarray, offset: np.ndarray | None, part: kernels.Part, threads: int = 1, shift: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    scales = np.full(len(scale) // part[1] * part[2], 77, np.uint8)
    shifts = np.arange(part[1], dtype=np.int8) + np.int8(shift)
    return kernels.base_keys(scale % 64, offset, shifts, scales, part, 16, threads), scales


def digits(latents: np.ndarray, limit: int, threads: int = 1) -> kernels.Digits:
    n = len(latents)
    out = np.empty(n, np.int16), np.empty(n, np.int8), np.empty(n, np.int8)
    kernels.digits(latents, limit, out, threads)
    return out


def everything(i: dict[str, Any]) -> list[np.ndarray]:
    (trits, settled), surprise = np.zeros((2, N), np.int8), np.full(N, 128, np.uint8)
    keys = i["keys"][i["at"]]
    kernels.learn(i["at"], i["symbols"], keys, i["values"], i["bytes"], trits, surprise)
    kernels.settle(i["at"], i["symbols"], keys, settled)
    np.testing.assert_array_equal(settled, trits)
    placed, some = i["values"].copy(), N // C * 2
    kernels.place(i["keys"][-some:].astype(np.int32) - 1000, i["keys"][:some], placed, (3, 2, C), 900)
    assert (placed.reshape(-1, C)[:, [0, 1, 2, 5]] == i["values"].reshape(-1, C)[:, [0, 1, 2, 5]]).all()
    large = np.tile(i["values"], 99)
    symbols, marks = (np.tile(i["keys"][:some], 99) for _ in range(2))
    kernels.place(symbols.astype(np.int32) - 1000, marks, large, (1, 2, C), 900, 3)
    summed = i["values"].copy()
    kernels.finer(summed, settled)
    nothing = {name: i[name][:0] for name in ("order", "bits")}
    ranks = [
        ranked(i),
        *(ranked(i, threads=n) for n in (2, 3, 99)),
        ranked(i, count=1),
        *(
            ranked(i, count=9, threads=n) for n in (1, 3)
        ),  # more classes than are placed eight symbols at a time
        ranked(i, bits=np.zeros_like(i["bits"])),
        ranked(i, **nothing),
    ]
    return [
        summed,
        kernels.scaled(i["values"], 3),
        kernels.part_symbols(i["values"], i["keys"][: N // C * 2], (3, 2, C)),
        kernels.part_quarters(i["table"] * np.int16(15) - np.int16(15000), (3, 4, 8)),
        kernels.part_quarters(np.arange(-40, 40, dtype=np.int16), (0, 1, 1)),
        kernels.row_keys(i["centre"], i["tilt"], i["table"]),
        kernels.row_keys_at(i["at"], i["centre"], i["tilt"], i["table"]),
        *(x for keys, classes in ranks for x in (keys, *(y for c in classes for y in (c.at, c.keys)))),
        np.array([[c.total for c in classes] for _, classes in ranks[:4]]),
        *digits(i["latents"], 27000),
        *digits(i["latents"], 40),
        kernels.symbols_at(i["at"], settled, keys),
        *(np.round(x, 3) for x in kernels.squares(i["latents"][:996], 6, 9)),
        *kernels.contexts(i["table"] * np.int16(15) - np.int16(15000), 8, 5, 7).values(),
        *kernels.contexts(np.arange(-40, 41, dtype=np.int16), 81, 81, 81).values(),
        *kernels.contexts(np.arange(-40, 41, dtype=np.int16), 81, 80, 9, counted=False).values(),
        trits,
        surprise,
        kernels.shifted(i["centre"], np.array([-300, -7, 0, 9, 250, 1], np.int16), 200),
        shift_costs(i, None, (0, C, C)),
        shift_costs(i, i["tilt"][: N // C * 2] % np.uint8(31) + np.uint8(113), (0, C, C), 2),
        shift_costs(i, i["tilt"][: N // C] % np.uint8(31) + np.uint8(113), (1, 4, C)),
        *deviations(i),
        *base_keys(i["centre"], None, (0, C, C)),
        *base_keys(i["centre"], None, (0, C, C), 1, -9),
        *base_keys(i["centre"], i["tilt"][: N // C * 2], (0, C, C)),
        *base_keys(i["centre"], i["tilt"][: N // C], (3, C, C + 5)),
        *base_keys(i["centre"][:0], i["tilt"][:0], (0, C, C)),
        *base_keys(np.tile(i["centre"], 99), np.tile(i["tilt"][: N // C * 2], 99), (1, C, C + 1), 3),
        *(kernels.mean_quarters(i["values"], np.roll(i["values"], 7), steps) for steps in (1, 3, 9)),
        placed,
        large,
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


@pytest.mark.parametrize("compiled_too", [pytest.param(True, marks=compiled), False])
def test_classes_hold_the_same_expected_bits_the_worthiest_first(
    compiled_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled_too:
        monkeypatch.setattr(kernels, "_compiled", None)
    given = inputs(3)
    keys, ranking = ranked(given)
    classes = [class_.at for class_ in ranking]
    for class_ in ranking:
        np.testing.assert_array_equal(class_.keys, keys[class_.at])
    worth, bits = np.full(KEYS, -1), np.zeros(KEYS, int)
    worth[given["order"]] = np.arange(len(given["order"]))[::-1]
    bits[given["order"]] = given["bits"]
    total = bits[keys].sum()
    for better, class_, worse in zip([[], *classes], classes, [*classes[1:], []], strict=False):
        assert abs(bits[keys[class_]].sum() - total / 4) < 0.02 * total
        assert (np.diff(class_) > 0).all()
        assert (worth[keys[class_]] >= 0).all()
        if len(worse):
            assert worth[keys[class_]].min() > worth[keys[worse]].max()
        if len(better):
            assert not set(better) & set(class_)
    assert sum(map(len, classes)) == (worth[keys] >= 0).sum()
    energy = given["bytes"] / 8
    np.testing.assert_allclose([c.total for c in ranking], [energy[keys[c.at]].sum() for c in ranking])


def test_digits_are_the_nearest_integers_in_balanced_ternary() -> None:
    latents = np.arange(-400, 400).astype(np.float32) / 7
    nines, threes, ones = digits(latents, 50)
    whole = 9 * nines + 3 * threes + ones
    np.testing.assert_array_equal(whole, np.clip(np.rint(latents), -50, 50))
    assert set(threes) == set(ones) == {-1, 0, 1}
    for step, coarse in ((9, 9 * nines), (3, 9 * nines + 3 * threes)):
        assert (2 * abs(whole - coarse) < step).all()


def test_squares_are_summed_by_channel() -> None:
    values = np.array([[1, 10], [-4, -14], [3, 4.5]], np.float32)
    whole, left, least = kernels.squares(values.ravel(), 2, 9)
    np.testing.assert_allclose(whole, [26, 316.25])
    np.testing.assert_allclose(left, [26, 1 + 16 + 4.5**2])
    np.testing.assert_allclose(least, [0, 0.25])


def many(threads: int) -> list[np.ndarray]:
    """What every kernel that threads share makes of more symbols than one takes at a time."""
    rng, n = np.random.default_rng(9), 150_012
    at = np.flatnonzero(rng.random(n) < 0.8).astype(np.int32)
    symbols = rng.integers(-1, 2, len(at)).astype(np.int32)
    keys = rng.integers(0, KEYS, len(at)).astype(np.int16)
    centre, tilt = rng.integers(0, 256, (2, n)).astype(np.uint8)
    values, latents = rng.integers(-40, 41, n).astype(np.int16), (30 * rng.normal(size=n)).astype(np.float32)
    (trits, settled), surprise = np.zeros((2, n), np.int8), np.zeros(n, np.uint8)
    table = rng.integers(0, 256, 9 * KEYS).astype(np.uint8)
    kernels.learn(at, symbols, keys, values, table, trits, surprise, threads)
    kernels.settle(at, symbols, keys, settled, threads)
    logits = centre, tilt, rng.integers(0, KEYS // 2, 512).astype(np.int16)
    summed = values.copy()
    kernels.finer(summed, trits, threads)
    return [
        *(trits, settled, surprise, summed, kernels.scaled(values, 9, threads)),
        kernels.row_keys_at(at, *logits, threads),
        kernels.row_keys(*logits, threads),
        kernels.part_quarters(values, (3, 4, 12), threads),
        *kernels.contexts(values, 12, 5, 7, threads).values(),
        *digits(latents, 50, threads),
        *kernels.squares(latents, 12, 9, threads),
        *deviations({"centre": centre, "tilt": tilt, "table": logits[2]}, threads, c=12),
        kernels.shifted(centre, np.arange(-6, 6, dtype=np.int16) * 20, 255, threads),
        shift_costs({"values": values, "centre": centre}, None, (0, 12, 12), 3, threads),
        kernels.symbols_at(at, trits, keys, threads),
    ]


@compiled
def test_threads_that_share_the_work_get_what_one_gets() -> None:
    alone = many(1)
    for threads in (2, 5):
        for a, b in zip(many(threads), alone, strict=True):
            np.testing.assert_array_equal(a, b)


@compiled
def test_no_index_leaves_its_array() -> None:
    i = inputs(9)
    at, keys = i["at"], i["keys"][i["at"]]
    rest = i["values"], i["bytes"], np.zeros(N, np.int8), np.zeros(N, np.uint8)
    outside = at.copy()
    outside[-1] = N
    whole = np.zeros(N, np.int32)
    for bad in (
        lambda: kernels.learn(outside, i["symbols"], keys, *rest),
        lambda: kernels.learn(at, i["symbols"] + np.int32(1), keys, *rest),
        lambda: kernels.learn(at, i["symbols"], keys - np.int16(KEYS), *rest),
        lambda: kernels.learn(at[1:], i["symbols"], keys, *rest),
        lambda: kernels.contexts(i["values"][:10], 6, 3, 3),
        lambda: kernels.contexts(i["values"], C, C + 1, 1),
        lambda: kernels.contexts(i["values"], C, 1, -1),
        lambda: kernels.part_quarters(i["values"][:10], (0, 1, 3)),
        lambda: kernels.part_quarters(i["values"], (3, C - 2, C)),
        lambda: kernels.part_quarters(i["values"], (-1, 2, C)),
        lambda: kernels.finer(i["values"], rest[2][1:]),
        lambda: kernels.row_keys(i["centre"], i["tilt"][1:], i["table"]),
        lambda: kernels.row_keys(i["centre"], i["tilt"], i["table"] - np.int16(KEYS)),
        lambda: digits(i["latents"], 40000),
        lambda: kernels.squares(i["latents"][:10], 6, 9),
        lambda: kernels.squares(i["latents"][:10], 0, 9),
        lambda: kernels.symbols_at(outside, rest[2], keys),
        lambda: kernels.symbols_at(at, rest[2], keys[1:]),
        lambda: kernels.settle(outside, i["symbols"], keys, rest[2]),
        lambda: kernels.settle(at, i["symbols"][1:], keys, rest[2]),
        lambda: kernels.row_keys_at(outside, i["centre"], i["tilt"], i["table"]),
        lambda: kernels.row_keys_at(at, i["centre"], i["tilt"][1:], i["table"]),
        lambda: ranked(i, tilt=i["tilt"][1:]),
        lambda: ranked(i, table=i["table"][1:]),
        lambda: ranked(i, table=i["table"] - np.int16(KEYS)),
        lambda: ranked(i, order=i["order"] + KEYS),
        lambda: ranked(i, order=np.concatenate([i["order"][:-1], i["order"][:1]])),
        lambda: ranked(i, bits=i["bits"][1:]),
        lambda: ranked(i, energy=np.zeros(KEYS - 1, np.float32)),
        lambda: ranked(i, bits=i["bits"] - 2000),
        lambda: ranked(i, bits=i["bits"] + (1 << 20)),
        lambda: ranked(i, count=255),
        lambda: ranked(i, count=0),
        lambda: kernels.shifted(i["centre"][1:], np.zeros(C, np.int16), 255),
        lambda: kernels.shifted(i["centre"], np.zeros(0, np.int16), 255),
        lambda: kernels.shifted(i["centre"], np.zeros(C, np.int16), 256),
        lambda: shift_costs(i, None, (1, C, C)),
        lambda: shift_costs(i, i["tilt"][:7], (0, C, C)),
        lambda: shift_costs(i, None, (0, C, C), 0),
        lambda: shift_costs(i | {"centre": i["centre"][1:]}, None, (0, C, C)),
        lambda: shift_costs(i, None, (0, C, C), scales=65),
        lambda: shift_costs(i, np.full(N, 200, np.uint8), (0, C, C)),
        lambda: shift_costs(i, None, (0, C, C), costs=replace(COSTS, starts=COSTS.starts[::-1].copy())),
        lambda: shift_costs(i, None, (0, C, C), costs=replace(COSTS, bits=COSTS.bits[:-1])),
        lambda: shift_costs(i, None, (0, C, C), costs=replace(COSTS, first=COSTS.first[1:])),
        lambda: deviations(i, centre=i["centre"][1:]),
        lambda: deviations(i, c=11),
        lambda: deviations(i, table=i["table"] - np.int16(KEYS)),
        lambda: deviations(i, chances=np.zeros(KEYS, np.int32)),
        lambda: base_keys(i["centre"], np.tile(i["tilt"], 2), (0, C, C)),
        lambda: base_keys(i["centre"], i["tilt"][:7], (0, C, C)),
        lambda: base_keys(i["centre"], None, (1, C, C)),
        lambda: base_keys(i["centre"], None, (-1, C, C)),
        lambda: kernels.base_keys(i["centre"], None, np.zeros(C, np.int8), i["tilt"][1:], (0, C, C), 16),
        lambda: kernels.base_keys(i["centre"], None, np.zeros(C + 1, np.int8), i["tilt"], (0, C, C), 16),
        lambda: kernels.mean_quarters(i["values"], i["values"][1:], 3),
        lambda: kernels.mean_quarters(i["values"], i["values"], 10),
        lambda: kernels.part_symbols(i["values"], i["keys"], (0, C + 1, C)),
        lambda: kernels.part_symbols(i["values"], i["keys"], (0, 2, C)),
        lambda: kernels.part_symbols(i["values"], i["keys"], (-1, 2, C)),
        lambda: kernels.part_symbols(i["values"], i["keys"][:7], (0, 2, C)),
        lambda: kernels.place(whole, i["keys"], i["values"], (0, C + 1, C), 9),
        lambda: kernels.place(whole, i["keys"], i["values"], (1, C, C), 9),
        lambda: kernels.place(whole, i["keys"], i["values"], (-1, 2, C), 9),
        lambda: kernels.place(whole, i["keys"], i["values"], (0, 2, C), 9),
        lambda: kernels.place(whole, i["keys"][1:], i["values"], (0, C, C), 9),
        lambda: kernels.place(whole, i["keys"], i["values"], (0, C, C), 1 << 15),
    ):
        with pytest.raises(ValueError):
            bad()


def moved(i: dict[str, Any], threads: int = 1) -> np.ndarray:
    rng = np.random.default_rng(len(i["at"]))
    trits = rng.integers(-1, 2, N).astype(np.int8)
    costs = rng.exponential(4, (KEYS, 3)).astype(np.float32)
    costs[::7] = np.inf, 0, np.inf  # not coded
    slope, curvature = rng.random((2, C)).astype(np.float32) * 20
    projected = rng.normal(size=N).astype(np.float32)
    before = trits.copy()
    kernels.move_trits(projected, slope, curvature, costs, i["keys"], trits, threads)
    assert np.abs(trits - before).max() == 1
    assert np.abs(trits).max() == 1
    assert not trits[i["keys"] % 7 == 0].any()

    def cost(t: np.ndarray) -> np.ndarray:
        pull, rise = projected * np.tile(slope, N // C), np.tile(curvature, N // C)
        step = t.astype(float) - before
        return step**2 * rise - step * pull + costs[i["keys"], t + 1]

    coded = i["keys"] % 7 != 0
    here = cost(trits)[coded]
    for other in (-1, 0, 1):
        reachable = (np.abs(other - before) <= 1)[coded]
        assert (here <= cost(np.full(N, other))[coded] + 1e-3)[reachable].all()
    return trits


def test_coded_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = inputs(7)["keys"]
    for share in (0, 0.3, 1):
        coded = np.random.default_rng(1).random(KEYS) < share
        at, chosen = kernels.coded_symbols(keys, coded)
        np.testing.assert_array_equal(at, np.flatnonzero(coded[keys]))
        np.testing.assert_array_equal(chosen, keys[at])
        assert (at.dtype, chosen.dtype) == (np.int32, np.int16)
    if kernels._compiled:
        with pytest.raises(ValueError):
            kernels.coded_symbols(np.array([KEYS], np.int16), coded)
        monkeypatch.setattr(kernels, "_compiled", None)
        test_coded_symbols(monkeypatch)


def test_trits_move_where_that_costs_less() -> None:
    moved(inputs(5))


@compiled
def test_moves_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [moved(inputs(6), threads) for threads in (1, 3)]
    monkeypatch.setattr(kernels, "_compiled", None)
    for trits in found:
        np.testing.assert_array_equal(trits, moved(inputs(6)))


@compiled
def test_moves_stay_inside() -> None:
    one = np.zeros(1, np.float32)
    costs = np.zeros((KEYS, 3), np.float32)
    for keys, trits in ((np.array([KEYS], np.int16), 1), (np.zeros(1, np.int16), 2)):
        with pytest.raises(ValueError):
            kernels._compiled.move_trits(one, one, one, costs, keys, np.zeros(trits, np.int8), 1)
