"""The exact prior as ONNX graphs; every tensor is uint8 (and the quality biases int32).

    base16   c32                              -> scale16, offset16, x16
    base8a   x16, c16                         -> scale8, offset8, x16m, x8n
    base8b   x8, c8 of the group before       -> scale8, offset8, x8n; likewise base8c and so on

(offsets only of the group's `signed` channels, none where it has none)

and for each plane p of 1 and 2:
    coarse{p}     c*, s*, u*, g*, e* of strides 32 and 16, x16           -> centre, tilt (flat), y16
    fine{p}       x16, c* and s* of strides 32 and 16 with plane p, c8, s8, u8, g8, e8, x8 -> centre8, tilt8, y16, y8
    follow{p}_{k} x8, r8, centre8                                        -> centre8n, once k classes are known

c: known value in quarters of the present step + 128 (at stride 8 of the `signed` channels in plane 1 and 2); s: 128 +
8 min(|v|, 15) (at stride 8 of the plane's `sized` channels); u: min(|v|, 2); g: 1 + sign(v), with v the residual so
far; e: plane 0's scale index, or plane 1's centre logit; r: 128 + 64 times what a known trit is above its expectation.
Offsets are in eighths of a standard deviation + 128, logits in 1/16 + 128. Flat outputs hold strides 32 and 16.
Channels are last everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from layercast.codecs.hierarchical import walk
from layercast.codecs.hierarchical.kernels import ROW_MIRROR
from layercast.codecs.hierarchical.model import GROUP_LETTERS
from models.export.graph import Graph, Value
from models.hierarchical.codec import Codec
from models.hierarchical.config import (
    CENTRE_MAX,
    CENTRE_MIN,
    LOGIT_FRACTION,
    OFFSETS,
    SCALE_ROWS,
    TILT_MAX,
)
from models.hierarchical.fixed import STREAM, Grid
from models.hierarchical.prior import (
    LOGIT,
    OWN,
    SCALE,
    SIZE,
    TOP_MEAN,
    VALUE,
    BasePrior,
    Follow,
    Head,
    PlanePrior,
    TritHead,
)
from models.hierarchical.transforms import hat_basis

QUALITIES = 256
"""Quality indices of the bitstream."""

TILTS = TILT_MAX + 1
ROWS = (CENTRE_MAX - CENTRE_MIN + 1) * TILTS
assert ROWS < ROW_MIRROR
assert SCALE_ROWS * OFFSETS <= ROW_MIRROR
assert OFFSETS == walk.OFFSETS

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
    h = g.layer(module.hidden, x)
    g.output(g.layer(module.scale, h), f"scale{level}")
    if module.offset is not None:
        g.output(g.layer(module.offset, h), f"offset{level}")


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
    head(h, base.head8[0], x, "8")
    h.output(x16, "x16m")
    h.output(x, "x8n")
    graphs = [g, h]
    for i, (learn, block) in enumerate(zip(base.v8, base.m8, strict=True)):
        k = Graph(f"base8{GROUP_LETTERS[i + 1]}", basis)
        x = k.input("x8", learn.conv.out_channels, STREAM)
        x = k.block(block, k.add(x, k.layer(learn, k.input("c8", base.groups[i], VALUE))))
        head(k, base.head8[i + 1], x, "8")
        k.output(x, "x8n")
        graphs.append(k)
    return {graph.name: graph for graph in graphs}


def logits(g: Graph, module: TritHead, x: Value, u: Value, sign: Value, e: Value) -> tuple[Value, Value]:
    """(centre, tilt) of one level."""
    own, earlier = (
        g.add(g.layer(a, u), g.layer(b, e)) for a, b in zip(module.own, module.earlier, strict=True)
    )
    h = g.layer(module.hidden, x)
    centre, tilt, gate = (g.layer(layer, h) for layer in (module.centre, module.tilt, module.gate))
    n, signed = (conv.conv.out_channels for conv in (module.centre, module.tilt))
    if signed == n:
        return g.add(centre, own), g.add(tilt, g.multiply(sign, g.add(gate, earlier)))
    gate = g.concat([g.add(gate, g.channels(earlier, 0, signed)), g.channels(earlier, signed, n)])
    gated = g.multiply(sign, gate)
    tilt = g.concat([g.add(tilt, g.channels(gated, 0, signed)), g.channels(gated, signed, n)])
    return g.add(centre, own), tilt


class PlaneGraphs:
    """The graphs of one refinement plane."""

    def __init__(self, module: PlanePrior, plane: int, latents: tuple[int, int, int], basis: Tensor) -> None:
        self.module, self.plane, self.basis = module, plane, basis
        self.earlier = SCALE if plane == 1 else LOGIT
        self.latents = dict(zip(("32", "16", "8"), latents, strict=True))
        self.signed = {**self.latents, "8": module.signed}
        self.sized = {**self.latents, "8": module.sized}

    def context(self, g: Graph, level: str) -> list[Value]:
        values = g.input(f"c{level}", self.signed[level], VALUE)
        return [values, g.input(f"s{level}", self.sized[level], SIZE, zero=128)]

    def head(self, g: Graph, i: int, x: Value, level: str) -> tuple[Value, Value]:
        n = self.latents[level]
        u, sign = g.input(f"u{level}", n, OWN), g.input(f"g{level}", n, SIGN, zero=1)
        return logits(g, self.module.head[i], x, u, sign, g.input(f"e{level}", n, self.earlier))

    def coarse(self) -> Graph:
        m, g = self.module, Graph(f"coarse{self.plane}", self.basis)
        x = g.block(m.block[0], g.layer(m.mix[0], g.concat(self.context(g, "32"))))
        top = self.head(g, 0, x, "32")
        given = self.context(g, "16")
        channels = m.mix[1].conv.in_channels - 2 * self.latents["16"] - m.UP[0]
        given += [g.input("x16", channels, STREAM), g.shuffled(m.up[0], x)]
        x = g.block(m.wider16, g.block(m.block[1], g.layer(m.mix[1], g.concat(given))))
        for name, pair in zip(
            ("centre", "tilt"), zip(top, self.head(g, 1, x, "16"), strict=True), strict=True
        ):
            g.output(g.flat(list(pair)), name, rank=1)
        g.output(x, "y16")
        return g

    def fine(self) -> Graph:
        m, g = self.module, Graph(f"fine{self.plane}", self.basis)
        up = g.shuffled(m.up32, g.concat(self.context(g, "32")))
        x = g.input("x16", m.mix[1].conv.out_channels, STREAM)
        y16 = g.block(m.learned, g.layer(m.learn, g.concat([x, *self.context(g, "16"), up])))
        channels = m.mix[2].conv.in_channels - self.signed["8"] - self.sized["8"] - m.UP[1]
        given = g.concat([*self.context(g, "8"), g.input("x8", channels, STREAM), g.shuffled(m.up[1], y16)])
        x = g.layer(m.mix[2], given)
        x = g.layer(m.joined, x) if m.large else x
        x = g.block(m.wider, g.block(m.block[2], x))
        x = g.block(m.third, x) if m.large else x
        for name, value in zip(("centre8", "tilt8"), self.head(g, 2, x, "8"), strict=True):
            g.output(value, name)
        g.output(y16, "y16")
        g.output(x, "y8")
        return g

    def follow(self, number: int) -> Graph:
        m: Follow = self.module.follow[self.module.known.index(number)]
        g, n = Graph(f"follow{self.plane}_{number}", self.basis), self.latents["8"]
        seen = m.around.conv.in_channels
        x = g.input("x8", m.hidden.conv.in_channels - seen, STREAM)
        around = g.layer(m.around, g.channels(g.input("r8", n, STREAM), 0, seen))
        h = g.layer(m.hidden, g.concat([x, around]))
        g.output(g.add(g.input("centre8", n, LOGIT), g.layer(m.centre, h)), "centre8n")
        return g


def prior_graphs(model: Codec) -> dict[str, Graph]:
    """Every graph of the exact prior; raises ValueError where an accumulator bound cannot be proved."""
    c = model.config
    basis = quality_basis(c.knots)
    graphs = base_graphs(model.base, c.latents, basis)
    for plane, module in enumerate((model.plane1, model.plane2), 1):
        maker = PlaneGraphs(module, plane, c.latents, basis)
        made = [maker.coarse(), maker.fine(), *(maker.follow(k) for k in module.known)]
        graphs |= {g.name: g for g in made}
    return graphs
