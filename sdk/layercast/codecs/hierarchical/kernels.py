"""The array work of a walk, in C where `_kernels` could be built, else in NumPy; both give the same integers.

The compiled ones pass once over their arrays where NumPy passes three or four times, and those that take longest share
the work with up to `threads` threads. All arrays are flat and contiguous; a symbol's channel is its position modulo the
number of channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from layercast.extensions import extension

MIRROR_BIT = 10
ROW_MIRROR = 1 << MIRROR_BIT
"""Flag on a row key: the trit is mirrored."""

KEYS = 2 * ROW_MIRROR
"""Row keys are below this."""

SKIP = 255
"""Class of a trit that is not coded."""

ZERO = 128
"""What a signed zero is in the networks' uint8 tensors."""

Part = tuple[int, int, int]
"""Some channels: the first one, how many, and how many there are."""

_compiled = extension("layercast.codecs.hierarchical._kernels")


def row_keys(
    centre: NDArray[np.uint8], tilt: NDArray[np.uint8], table: NDArray[np.int16], threads: int = 1
) -> NDArray[np.int16]:
    """Row keys of trits with these logits, (N,); table (512,): what each centre contributes, then each tilt."""
    if _compiled:
        out = np.empty(len(centre), np.int16)
        _compiled.row_keys(centre, tilt, table, out, threads)
        return out
    keys: NDArray[np.int16] = table[:256].take(centre) + table[256:].take(tilt)
    return keys


def row_keys_at(
    at: NDArray[np.int32],
    centre: NDArray[np.uint8],
    tilt: NDArray[np.uint8],
    table: NDArray[np.int16],
    threads: int = 1,
) -> NDArray[np.int16]:
    """`row_keys` of the symbols at some positions (M,)."""
    if _compiled:
        out = np.empty(len(at), np.int16)
        _compiled.row_keys_at(at, centre, tilt, table, out, threads)
        return out
    return row_keys(centre.take(at), tilt.take(at), table)


def shifted(
    values: NDArray[np.uint8], shifts: NDArray[np.int16], most: int, threads: int = 1
) -> NDArray[np.uint8]:
    """Values (N,), and what is added to each channel's, (C,), clipped to 0..most."""
    if _compiled:
        out = np.empty(len(values), np.uint8)
        _compiled.shifted(values, shifts, out, most, threads)
        return out
    moved = values.reshape(-1, len(shifts)) + shifts
    clipped: NDArray[np.uint8] = np.clip(moved, 0, most).astype(np.uint8).ravel()
    return clipped


SCALES = 64
"""Scale indices of plane 0."""

FARTHEST = 4
"""Shifts of a scale index that `shift_costs` weighs, up and down."""

SHIFTS = 2 * FARTHEST + 1

SILENT = 2
"""Zeros of scale indices below this, where no offset is, count for nothing."""


@dataclass(frozen=True)
class Costs:
    """What the symbols of plane 0's table rows cost, int32: bits of each entry (entries,), in 1/256, the escape's last;
    where each row's entries begin (rows + 1,), and its first symbol (rows,)."""

    bits: NDArray[np.int32]
    starts: NDArray[np.int32]
    first: NDArray[np.int32]

    @property
    def offsets(self) -> int:
        """Rows of each scale index."""
        return len(self.first) // SCALES

    @cached_property
    def nothing(self) -> NDArray[np.int32]:
        """Of zeros where no offset is, by scale index and shift, (SCALES, SHIFTS)."""
        moved = np.arange(SCALES)[:, None] + np.arange(-FARTHEST, FARTHEST + 1)
        rows = moved.clip(0, SCALES - 1) * self.offsets
        found: NDArray[np.int32] = self.bits[self.starts[rows] - self.first[rows]]
        return found


def shift_costs(
    values: NDArray[np.int16],
    scale: NDArray[np.uint8],
    offset: NDArray[np.uint8] | None,
    part: Part,
    costs: Costs,
    every: int,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Bits of plane 0's symbols under scale indices that are shifted by -FARTHEST to FARTHEST, by channel, (width,
    SHIFTS), in 1/256; of every so manieth position.

    Args:
        values: symbols of all channels, flat.
        scale, offset: as `base_keys` gets them.
        part: the channels that they are of.
    """
    begin, width, channels = part
    if _compiled:
        sums = np.zeros(width * (SHIFTS + SCALES))
        given = (b"" if offset is None else offset, costs.bits, costs.starts, costs.first)
        _compiled.shift_costs(values, scale, *given, sums, begin, width, channels, every, threads)
        told, quiet = np.split(sums, [width * SHIFTS])
        found: NDArray[np.float64] = (
            told.reshape(width, SHIFTS) + quiet.reshape(width, SCALES) @ costs.nothing
        )
        return found
    symbols = values.reshape(-1, channels)[::every, begin : begin + width].astype(np.int32)
    at = scale.reshape(-1, width)[::every].astype(np.int32)
    off = np.zeros_like(symbols)
    if offset is not None:
        signed = offset.reshape(len(values) // channels, -1)[::every].astype(np.int32) - ZERO
        off[:, : signed.shape[1]] = signed
    symbols, off = np.where(off < 0, -symbols, symbols), np.abs(off)
    found = np.empty((width, SHIFTS))
    for k in range(SHIFTS):
        rows = np.clip(at + (k - FARTHEST), 0, SCALES - 1) * costs.offsets + off
        entry, size = symbols - costs.first[rows], costs.starts[rows + 1] - costs.starts[rows]
        entry = np.where((entry < 0) | (entry >= size), size - 1, entry)
        bits = costs.bits[costs.starts[rows] + entry] * ((at >= SILENT) | (symbols != 0) | (off != 0))
        found[:, k] = bits.sum(0, np.float64)
    return found


def deviations(
    logits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    table: NDArray[np.int16],
    chances: NDArray[np.uint64],
    trits: NDArray[np.int8],
    channels: int,
    threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """How many trits of each channel are not 0, how many are expected not to be, and the variance of that, (channels,)
    each; of every second position, times two.

    Args:
        logits: centre and tilt of every trit, (N,) each.
        table: see `row_keys`.
        chances: (KEYS,) of not being 0, and from bit 24 on that times the rest, in 1/65536.
        trits: (N,).
    """
    if _compiled:
        sums = np.zeros(channels), np.zeros(channels), np.zeros(channels)
        _compiled.deviations(*logits, table, chances, trits, *sums, threads)
    else:
        centre, tilt = (x.reshape(-1, channels)[::2].ravel() for x in logits)
        known = trits.reshape(-1, channels)[::2]
        found = chances[row_keys(centre, tilt, table)].reshape(known.shape)
        each = (found & np.uint64(0xFFFFFF), found >> np.uint64(24))
        sums = np.count_nonzero(known, 0).astype(np.float64), *(x.sum(0, np.float64) for x in each)
    nonzero, expected, variance = sums
    return 2 * nonzero, expected / 32768, variance / 32768


def coded_symbols(
    keys: NDArray[np.int16], coded: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """Positions (M,) of the symbols whose keys (N,) are coded, ascending, and these keys (M,); coded (KEYS,)."""
    if _compiled:
        at, chosen = np.empty(len(keys) + 1, np.int32), np.empty(len(keys) + 1, np.int16)
        count = _compiled.coded_symbols(keys, coded, at, chosen)
        return at[:count], chosen[:count]
    at = np.flatnonzero(coded.take(keys)).astype(np.int32)
    return at, keys.take(at)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A class of worth: the positions (M,) of its symbols, ascending, their row keys (M,), and the sum of their
    `values` (see `rank`)."""

    at: NDArray[np.int32]
    keys: NDArray[np.int16]
    total: float


def rank(
    logits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    table: NDArray[np.int16],
    order: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: NDArray[np.float32],
    count: int,
    keys: NDArray[np.int16],
    threads: int,
) -> list[Ranked]:
    """Row keys of trits, and their classes of worth, the worthiest first; every class holds the same expected bits.

    Args:
        logits: centre and tilt of every trit, (N,) each.
        table: see `row_keys`.
        order: (entries,) each: keys in descending order of worth, and the expected bits of a trit of each, in integers
            up to 2**20. What is not in it is in no class.
        values: (KEYS,) what is summed over the trits of each class, by key.
        count: of classes.
        keys: (N,), where the keys go.
        threads: that may share the work.
    """
    if _compiled:
        size = len(logits[0])
        room = size + _compiled.MAX_PARTS  # for what each thread leaves out
        at, by_class = np.empty(room, np.int32), np.empty(room, np.int16)
        found = _compiled.rank(*logits, table, *order, values, count, keys, at, by_class, threads)
        ranked, begin = [], 0
        for members, total in found:
            some = slice(begin, begin + members)
            ranked.append(Ranked(at[some], by_class[some], total))
            begin = some.stop
        return ranked
    keys[:] = row_keys(*logits, table)
    entries, bits = order
    spent = np.cumsum(np.bincount(keys, minlength=KEYS).take(entries) * bits)
    classes = np.full(KEYS, SKIP, np.uint8)
    if len(spent) and spent[-1]:
        classes[entries] = np.maximum(spent * count - 1, 0) // spent[-1]
    found = classes.take(keys)
    places = [np.flatnonzero(found == number).astype(np.int32) for number in range(count)]
    return [Ranked(at, keys[at], float(values.take(keys[at]).sum(dtype=np.float64))) for at in places]


def contexts(
    values: NDArray[np.int16], channels: int, signed: int, sized: int, threads: int = 1, counted: bool = True
) -> dict[str, NDArray[np.uint8]]:
    """Values (N,) in the present plane's steps as the networks see them.

    Args:
        channels: of a position; signed, sized: the first ones, of which `c` and `s` are wanted.
        counted: whether `u` and `g` are.

    Returns:
        c (N / channels * signed,): quarters of a step, clipped at 32 steps, and 128; s (N / channels * sized,): 8
        min(|v|, 15) and 128; u (N,): min(|v|, 2); g (N,): 1 + sign.
    """
    if _compiled:
        positions = len(values) // channels
        rest = len(values) if counted else 0
        sizes = {"c": positions * signed, "s": positions * sized, "u": rest, "g": rest}
        out = {name: np.empty(size, np.uint8) for name, size in sizes.items()}
        _compiled.contexts(values, channels, signed, sized, *out.values(), threads)
        return out if counted else {name: out[name] for name in "cs"}
    by_position = values.reshape(-1, channels)
    size = np.abs(np.clip(values, -15, 15)).astype(np.uint8)
    found = {
        "c": context_quarters(by_position[:, :signed]).ravel(),
        "s": (size.reshape(-1, channels)[:, :sized] * np.uint8(8) + np.uint8(ZERO)).ravel(),
    }
    if counted:
        found["u"] = np.minimum(size, 2)
        found["g"] = (np.clip(values, -1, 1) + np.int16(1)).astype(np.uint8)
    return found


def context_quarters(values: NDArray[np.int16]) -> NDArray[np.uint8]:
    """`c` of `contexts`, of values of any shape."""
    # One step beyond what is clipped below, so that nothing wraps.
    quarters = np.clip(values, -33, 33) * np.int16(4)
    context: NDArray[np.uint8] = np.clip(quarters + np.int16(ZERO), 0, 255).astype(np.uint8)
    return context


def mean_quarters(values: NDArray[np.int16], mean: NDArray[np.int16], steps: int) -> NDArray[np.uint8]:
    """`context_quarters` where a mean adds to the values; rounded half up.

    Args:
        values: (N,) in the present plane's steps.
        mean: (N,) in 1/16 of plane 0's step.
        steps: how many of the present plane's steps make one of plane 0's, 1 to 9.
    """
    if _compiled:
        out = np.empty(len(values), np.uint8)
        _compiled.mean_quarters(values, mean, steps, out)
        return out
    quarters = (mean.astype(np.int32) * steps + values.astype(np.int32) * 16 + 2) >> 2
    context: NDArray[np.uint8] = np.clip(quarters + np.int32(ZERO), 0, 255).astype(np.uint8)
    return context


def part_quarters(values: NDArray[np.int16], part: Part, threads: int = 1) -> NDArray[np.uint8]:
    """`context_quarters` of some channels of values (N,), flat."""
    begin, width, channels = part
    if _compiled:
        out = np.empty(len(values) // channels * width, np.uint8)
        _compiled.part_quarters(values, out, begin, width, channels, threads)
        return out
    return context_quarters(values.reshape(-1, channels)[:, begin : begin + width]).ravel()


def scaled(values: NDArray[np.int16], step: int, threads: int = 1) -> NDArray[np.float32]:
    """Values (N,) times `step`."""
    if _compiled:
        out = np.empty(len(values), np.float32)
        _compiled.scaled(values, step, out, threads)
        return out
    return values * np.float32(step)


def finer(values: NDArray[np.int16], trits: NDArray[np.int8], threads: int = 1) -> None:
    """Values (N,) in a plane's steps, and the next plane's trits (N,): values in that one's steps."""
    if _compiled:
        _compiled.finer(values, trits, threads)
        return
    values *= 3
    values += trits


Digits = tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.int8]]
"""Integers in balanced ternary, (N,) each: how many nines, and the trits of the threes and the ones."""


def digits(latents: NDArray[np.float32], limit: int, out: Digits, threads: int = 1) -> None:
    """Nearest integers of latents (N,), clipped to -limit..limit. What is no number is -limit."""
    if _compiled:
        _compiled.digits(latents, limit, *out, threads)
        return
    whole = np.clip(np.rint(np.nan_to_num(latents, nan=-limit)), -limit, limit).astype(np.int32)
    thirds, ninths = ((2 * whole + step) // (2 * step) for step in (3, 9))
    out[0][:], out[1][:], out[2][:] = ninths, thirds - 3 * ninths, whole - 3 * thirds


def move_trits(
    projected: NDArray[np.float32],
    slope: NDArray[np.float32],
    curvature: NDArray[np.float32],
    costs: NDArray[np.float32],
    keys: NDArray[np.int16],
    trits: NDArray[np.int8],
    threads: int = 1,
) -> None:
    """Move each trit (N,) by 1, where one that is -1, 0 or 1 then costs less: curvature - slope * projected for +1,
    curvature + slope * projected for -1, and what its key's row asks for more.

    Args:
        projected: (N,); slope, curvature: (channels,).
        costs: (KEYS, 3) of trits -1, 0, +1.
        keys: (N,).
    """
    if _compiled:
        _compiled.move_trits(projected, slope, curvature, costs, keys, trits, threads)
        return
    pull = (projected.reshape(-1, len(slope)) * slope).ravel()
    rise = np.tile(curvature, len(pull) // len(curvature))
    now, moves = costs[keys, trits + np.int8(1)], np.zeros_like(trits)
    least = np.zeros_like(pull)
    for move in (1, -1):
        ahead = np.clip(trits + np.int8(move), -1, 1)
        with np.errstate(invalid="ignore"):  # what is not coded
            change = (rise - move * pull) + (costs[keys, ahead + np.int8(1)] - now)
        better = (ahead != trits) & (change < least)
        least[better], moves[better] = change[better], move
    trits += moves


def squares(
    values: NDArray[np.float32], channels: int, step: int, threads: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums of squares by channel, (channels,) each: of values (N,), of what is left when they are rounded to multiples
    of `step`, and of what is left when they are rounded to integers."""
    if _compiled:
        sums = np.zeros(channels), np.zeros(channels), np.zeros(channels)
        _compiled.squares(values, step, *sums, threads)
        return sums
    left = values - np.rint(values * np.float32(1 / step)) * np.float32(step)
    whole, coarse, fine = (
        np.square(x.reshape(-1, channels)).sum(0, np.float64)
        for x in (values, left, values - np.rint(values))
    )
    return whole, coarse, fine


def symbols_at(
    at: NDArray[np.int32], trits: NDArray[np.int8], keys: NDArray[np.int16], threads: int = 1
) -> NDArray[np.int32]:
    """Symbols of the trits (N,) at some positions (M,), mirrored where their key says so."""
    if _compiled:
        out = np.empty(len(at), np.int32)
        _compiled.symbols_at(at, trits, keys, out, threads)
        return out
    return mirror(trits.take(at).astype(np.int32), keys)


def settle(
    at: NDArray[np.int32],
    symbols: NDArray[np.int32],
    keys: NDArray[np.int16],
    trits: NDArray[np.int8],
    threads: int = 1,
) -> None:
    """Put the trits that symbols (M,) at some positions stand for into `trits` (N,), mirrored where a key says so."""
    if _compiled:
        _compiled.settle(at, symbols, keys, trits, threads)
        return
    trits[at] = mirror(symbols, keys)


def learn(
    at: NDArray[np.int32],
    symbols: NDArray[np.int32],
    keys: NDArray[np.int16],
    values: NDArray[np.int16],
    table: NDArray[np.uint8],
    trits: NDArray[np.int8],
    surprise: NDArray[np.uint8],
    threads: int = 1,
) -> None:
    """`settle`, and into `surprise` (N,) the table's entry at `9 key + 3 trit + sign of the value + 4`."""
    if _compiled:
        _compiled.learn(at, symbols, keys, values, table, trits, surprise, threads)
        return
    settle(at, symbols, keys, trits)
    new = trits.take(at)
    surprise[at] = table.take(keys * np.int16(9) + new * np.int8(3) + np.sign(values.take(at)) + np.int16(4))


def mirror(symbols: NDArray[np.int32], keys: NDArray[np.int16]) -> NDArray[np.int32]:
    """Symbols, mirrored where their key says so (an involution)."""
    flags = -(keys >> np.int16(MIRROR_BIT))  # 0 or -1: in two's complement, x ^ -1 is -x - 1
    mirrored: NDArray[np.int32] = (symbols ^ flags) - flags
    return mirrored


def base_keys(
    scale: NDArray[np.uint8],
    offset: NDArray[np.uint8] | None,
    shifts: NDArray[np.int8],
    scales: NDArray[np.uint8],
    part: Part,
    rows: int,
    threads: int = 1,
) -> NDArray[np.int16]:
    """Row keys of plane 0's symbols, (N,).

    Args:
        scale: (N,) scale indices, which also go to their places, shifted.
        offset: of each position's first channels as the networks give them, flat; the others have none.
        shifts: (width,) what is added to each channel's scale indices.
        scales: places, of all channels, flat.
        part: the channels that the symbols are of.
        rows: of each scale index.
    """
    begin, width, channels = part
    if _compiled:
        out = np.empty(len(scale), np.int16)
        given = (b"" if offset is None else offset, scales, out, shifts.astype(np.int16))
        _compiled.base_keys(scale, *given, begin, width, channels, rows, threads)
        return out
    scale = shifted(scale, shifts.astype(np.int16), SCALES - 1)
    scales.reshape(-1, channels)[:, begin : begin + width] = scale.reshape(-1, width)
    keys: NDArray[np.int16] = np.multiply(scale, rows, dtype=np.int16)
    if offset is not None and len(keys):
        positions = keys.reshape(-1, width)
        signed = offset.astype(np.int16).reshape(len(positions), -1) - np.int16(ZERO)
        positions[:, : signed.shape[1]] += np.abs(signed) + np.int16(ROW_MIRROR) * (signed < 0)
    return keys


def part_symbols(values: NDArray[np.int16], keys: NDArray[np.int16], part: Part) -> NDArray[np.int32]:
    """Plane 0's symbols that some channels of values, flat, stand for, mirrored where their key (N,) says so."""
    begin, width, channels = part
    if _compiled:
        out = np.empty(len(keys), np.int32)
        _compiled.part_symbols(values, keys, out, begin, width, channels)
        return out
    return mirror(values.reshape(-1, channels)[:, begin : begin + width].ravel().astype(np.int32), keys)


def place(
    symbols: NDArray[np.int32],
    keys: NDArray[np.int16],
    values: NDArray[np.int16],
    part: Part,
    limit: int,
    threads: int = 1,
) -> None:
    """Put plane 0's symbols (N,), mirrored where their key says so and clipped to -limit..limit, into `values`.

    Args:
        values: of all channels, flat.
        part: the channels that the symbols are of.
    """
    begin, width, channels = part
    if _compiled:
        _compiled.place(symbols, keys, values, begin, width, channels, limit, threads)
        return
    clipped = mirror(np.clip(symbols, -limit, limit), keys)
    values.reshape(-1, channels)[:, begin : begin + width] = clipped.reshape(-1, width)
