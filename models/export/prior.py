"""The exact prior as ONNX graphs; every tensor is uint8 (and the quality biases int32).

    base16   c32                              -> scale16, x16
    base8a   x16, c16                         -> scale8a, x16m, x8
    base8b   x8, c8a                          -> scale8b, x8m
    plane1   c*, s*, u*, g*, e* of the three levels, x16, x8  -> centre, tilt (flat), y16, y8
    plane2   the same                         -> centre, tilt (flat), y8
    refresh  x8, r16, r8, centre8             -> refreshed8

c: known value in quarters of the present step + 128; s: 128 + 8 min(|v|, 15); u: min(|v|, 2); g: 1 + sign(v), with v
the residual so far; e: plane 0's scale index, or plane 1's centre logit; r: 128 + 64 times what a known trit is above
its expectation. Logits are in 1/16 + 128. Flat outputs hold strides 32, 16, 8. Channels are last everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.export.graph import Graph, Value
from models.hierarchical.codec import Codec
from models.hierarchical.config import CENTRE_MAX, CENTRE_MIN, LOGIT_FRACTION, TILT_MAX
from models.hierarchical.fixed import STREAM, Grid
from models.hierarchical.prior import (
    LOGIT,
    OWN,
    SCALE,
    SIZE,
    TOP_MEAN,
    VALUE,
    BasePrior,
    Head,
    PlanePrior,
    Refresh,
    TritHead,
)
from models.hierarchical.transforms import hat_basis

QUALITIES = 256
"""Quality indices of the bitstream."""

ROW_MIRROR = 1024
"""Added to a row whose tilt is negative: the same row with the trit mirrored."""

TILTS = TILT_MAX + 1
ROWS = (CENTRE_MAX - CENTRE_MIN + 1) * TILTS
assert ROWS < ROW_MIRROR

LEVELS = ("32", "16", "8")
SIGN = Grid(-1, 1, 0)


def quality_basis(knots: int) -> Tensor:
    return hat_basis(torch.linspace(0, 1, QUALITIES), knots)


def top_tables(base: BasePrior, basis: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(256, C) int16 means and uint8 scale indices of stride 32, which depend on quality alone."""
    mean, scale = base.top(basis, True)
    return (
        torch.round(mean[:, :, 0, 0] * 2.0**TOP_MEAN.fraction).numpy().astype(np.int16),
        torch.round(scale[:, :, 0, 0] * 2.0**SCALE.fraction).numpy().astype(np.uint8),
    )


def key_table() -> np.ndarray:
    """(65536,) int16: the row key of logits (centre << 8 | tilt), rounded to quarters, with the mirror flag."""
    centre, tilt = np.meshgrid(np.arange(256) - 128, np.arange(256) - 128, indexing="ij")
    to_quarters = LOGIT_FRACTION / 2.0**LOGIT.fraction
    centre = np.clip(np.rint(centre * to_quarters), CENTRE_MIN, CENTRE_MAX).astype(int)
    tilt = np.clip(np.rint(tilt * to_quarters), -TILT_MAX, TILT_MAX).astype(int)
    key = (centre - CENTRE_MIN) * TILTS + np.abs(tilt) + ROW_MIRROR * (tilt < 0)
    return key.astype(np.int16).ravel()


def head(g: Graph, module: Head, x: Value, level: str) -> None:
    g.output(g.layer(module.scale, g.layer(module.hidden, x)), f"scale{level}")


def base_graphs(base: BasePrior, latents: tuple[int, int, int], basis: Tensor) -> dict[str, Graph]:
    c32, c16, _ = latents
    g = Graph("base16", basis)
    x = g.block(base.b32, g.layer(base.v32, g.input("c32", c32, VALUE)))
    x = g.block(base.b16, g.layer(base.in16, g.shuffled(base.up16, x)))
    head(g, base.head16, x, "16")
    g.output(x, "x16")

    h = Graph("base8a", basis)
    x = h.input("x16", base.v16.conv.out_channels, STREAM)
    x16 = h.block(base.m16, h.add(x, h.layer(base.v16, h.input("c16", c16, VALUE))))
    x = h.block(base.b8, h.layer(base.in8, h.shuffled(base.up8, x16)))
    head(h, base.head8a, x, "8a")
    h.output(x16, "x16m")
    h.output(x, "x8")

    k = Graph("base8b", basis)
    x = k.input("x8", base.v8.conv.out_channels, STREAM)
    x = k.add(x, k.layer(base.v8, k.input("c8a", base.half, VALUE)))
    head(k, base.head8b, x, "8b")
    k.output(x, "x8m")
    return {"base16": g, "base8a": h, "base8b": k}


def logits(g: Graph, module: TritHead, x: Value, u: Value, sign: Value, e: Value) -> tuple[Value, Value]:
    """(centre, tilt) of one level."""
    own, gate = (g.add(g.layer(a, u), g.layer(b, e)) for a, b in zip(module.own, module.earlier, strict=True))
    centre = g.add(g.layer(module.centre, x), own)
    gated = g.multiply(sign, g.add(g.layer(module.gate, x), gate))
    return centre, g.add(g.layer(module.tilt, x), gated)


def plane_graph(module: PlanePrior, plane: int, latents: tuple[int, int, int], basis: Tensor) -> Graph:
    g = Graph(f"plane{plane}", basis)
    earlier = SCALE if plane == 1 else LOGIT
    centres, tilts = [], []
    x: Value | None = None
    for i, (level, n) in enumerate(zip(LEVELS, latents, strict=True)):
        known = [g.input(f"c{level}", n, VALUE), g.input(f"s{level}", n, SIZE, zero=128)]
        u, sign = g.input(f"u{level}", n, OWN), g.input(f"g{level}", n, SIGN, zero=1)
        e = g.input(f"e{level}", n, earlier)
        if x is not None:
            channels = module.mix[i].conv.in_channels - 2 * n - module.UP[i - 1]
            known += [g.input(f"x{level}", channels, STREAM), g.shuffled(module.up[i - 1], x)]
        given = g.concat(known)
        x = g.layer(module.mix[i], given)
        if i == 2 and module.large:
            x = g.add(x, g.layer(module.joined, g.layer(module.apart, given)))
        x = g.block(module.block[i], x)
        if i == 2:
            x = g.block(module.wider, x)
            x = g.block(module.third, x) if module.large else x
        centre, tilt = logits(g, module.head[i], x, u, sign, e)
        centres.append(centre)
        tilts.append(tilt)
        if i == 2 or (plane == 1 and i):
            g.output(x, f"y{level}")
    g.output(g.flat(centres), "centre", rank=1)
    g.output(g.flat(tilts), "tilt", rank=1)
    return g


def refresh_graph(module: Refresh, latents: tuple[int, int, int], basis: Tensor) -> Graph:
    g = Graph("refresh", basis)
    _, n16, n8 = latents
    context = module.mix.conv.in_channels - n8 - module.UP
    known = [g.input("x8", context, STREAM), g.input("r8", n8, STREAM)]
    known.append(g.shuffled(module.up, g.input("r16", n16, STREAM)))
    x = g.block(module.block, g.layer(module.mix, g.concat(known)))
    g.output(g.add(g.input("centre8", n8, LOGIT), g.layer(module.head, x)), "refreshed8")
    return g


def prior_graphs(model: Codec) -> dict[str, Graph]:
    """Every graph of the exact prior; raises ValueError where an accumulator bound cannot be proved."""
    c = model.config
    basis = quality_basis(c.knots)
    graphs = base_graphs(model.base, c.latents, basis)
    graphs["plane1"] = plane_graph(model.plane1, 1, c.latents, basis)
    graphs["plane2"] = plane_graph(model.plane2, 2, c.latents, basis)
    graphs["refresh"] = refresh_graph(model.refresh, c.latents, basis)
    return graphs
