"""Priors: what each symbol's distribution is, given what has been decoded.

`BasePrior` codes plane 0 level by level (stride 8 in two groups). `PlanePrior` gives plane 1's or 2's trits of
all levels at once from what is known when the plane begins, so that the order of worth inside the plane is
decodable and a plane costs one call of its network. Both are made of fixed-point layers (`fixed`). `DirectPrior`
is for training alone: the float prior of the final symbols, coarse to fine and group by group, whose noisy rate
(Balle et al. 2017) is what analysis is trained on, and the yardstick for what planes cost.

A trit's distribution is the exponential family with a centre logit c and a tilt logit d:
P(-1) : P(0) : P(+1) = exp(-d) : exp(c) : exp(d). It covers every distribution on three values, its two numbers
are all a table row needs, and a negative tilt is a mirrored row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hierarchical.config import (
    CENTRE_MAX,
    CENTRE_MIN,
    MEAN_FRACTION,
    SCALE_LOG_STEP,
    SCALE_MIN,
    SCALE_ROWS,
    TILT_MAX,
    Config,
)
from models.hierarchical.fixed import HIDDEN, STREAM, FixedBlock, FixedConv, Grid
from models.hierarchical.transforms import Block, Spline, mixed_precision, up

VALUE = Grid(-128, 127, STREAM.fraction)
"""Known values as context, in quarters of the present plane's step, clipped at 32 steps (context only)."""

SIZE = Grid(0, 15 * 8, STREAM.fraction)
"""Residual magnitudes as context: 8 times the integer, clipped at 15."""

TOP_MEAN = Grid(-128 * MEAN_FRACTION, 128 * MEAN_FRACTION, 4)
"""Plane 0's means at stride 32, which holds DC: a table by quality. Finer levels are coded around zero."""

SCALE = Grid(0, SCALE_ROWS - 1, 3)
"""Plane 0's scale index, 0..63, carried as index / 8."""

LOGIT = Grid(-128, 127, 4)
"""Trit logits in 1/16; rounded to quarters when they become a table row."""

OWN = Grid(0, 2, 0)
"""A symbol's own residual so far, min(|v|, 2), as it enters its logits."""

UP16, UP8 = 32, 40
"""Channels that one level's context hands to the next finer one."""


def context_value(value: Tensor) -> Tensor:
    """A known value in steps -> its quarters, rounded half up, on the context grid."""
    return VALUE.snap(torch.floor(value * 4 + 0.5) / 2.0**VALUE.fraction, False)


class LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lets x grow (Balle et al. 2017)."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def gaussian_bits(distance: Tensor, scale: Tensor) -> Tensor:
    """-log2 of a zero-mean Gaussian's mass on [distance - 1/2, distance + 1/2]."""
    distance = distance.abs()
    root = scale * 2**0.5
    mass = 0.5 * (torch.erfc((distance - 0.5) / root) - torch.erfc((distance + 0.5) / root))
    return -torch.log2(LowerBound.apply(mass, 1e-9))


@dataclass
class Level:
    """One level of plane 0. All tensors (B, C, H, W); `mean`, `value` in units of plane 0's step."""

    mean: Tensor
    index: Tensor
    final: Tensor
    symbol: Tensor

    @property
    def value(self) -> Tensor:
        return self.mean + self.symbol

    @property
    def thirds(self) -> Tensor:
        """What plane 1 makes of the residual, in its steps."""
        return torch.round(self.final / 3)

    def trits(self) -> tuple[Tensor, Tensor]:
        """Of planes 1 and 2."""
        thirds = self.thirds
        return thirds - 3 * self.symbol, self.final - 3 * thirds

    def bits(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """Bits per symbol of plane 0, of the noisy residual, or of the rounded one when `noise` is None."""
        scale = SCALE_MIN * torch.exp(self.index * SCALE_LOG_STEP)
        residual = self.symbol.detach() if noise is None else latent - self.mean + noise
        return gaussian_bits(residual, scale)


class Head(nn.Module):
    """Hidden layer, then scale indices of `n` channels."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.hidden = FixedConv(width, width, STREAM, HIDDEN)
        self.scale = FixedConv(width, n, HIDDEN, SCALE)
        with torch.no_grad():
            self.scale.conv.bias.fill_(2.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.hidden(x))


class BasePrior(nn.Module):
    """Plane 0: scale index of every symbol, and stride 32's means.

    A mean for strides 16 and 8, predicted from coarser levels known to 9 final steps, cost more than it gained: a
    grid that is off zero by a part of a step cannot say "nothing here".
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        (c32, c16, c8), (w32, w16, _), k = c.latents, c.prior, c.knots
        self.half = c8 // 2
        self.top_mean, self.top_scale = Spline(c32, k), Spline(c32, k)
        self.top_scale.t.data.fill_(5.0)
        self.v32, self.b32 = FixedConv(c32, w32, VALUE, STREAM, knots=k), FixedBlock(w32, w32)
        self.up16 = FixedConv(w32, 4 * UP16, STREAM, HIDDEN)
        self.in16, self.b16 = FixedConv(UP16, w16, HIDDEN, STREAM, knots=k), FixedBlock(w16, 2 * w16)
        self.head16, self.v16, self.m16 = (
            Head(w16, c16),
            FixedConv(c16, w16, VALUE, STREAM),
            FixedBlock(w16, w16),
        )
        self.up8 = FixedConv(w16, 4 * UP8, STREAM, HIDDEN)
        w = base_width(c)
        self.in8, self.b8 = FixedConv(UP8, w, HIDDEN, STREAM, knots=k), FixedBlock(w, w)
        self.head8a, self.v8, self.head8b = (
            Head(w, self.half),
            FixedConv(self.half, w, VALUE, STREAM),
            Head(w, self.half),
        )

    def top(self, basis: Tensor, exact: bool) -> tuple[Tensor, Tensor]:
        mean, scale = basis @ self.top_mean.t, basis @ self.top_scale.t
        return TOP_MEAN.snap(mean, exact)[:, :, None, None], SCALE.snap(scale, exact)[:, :, None, None]

    def forward(
        self, latents: list[Tensor], basis: Tensor, keep: Tensor, exact: bool
    ) -> tuple[list[Level], list[Tensor]]:
        """Teacher-forced pass.

        Args:
            latents: per level (B, C, H, W), units of plane 0's step.
            basis: (B, knots) spline basis of the quality.
            keep: (B, 4) in {0, 1}: whether z32, z16, z8's first and second half arrive; what does not is its mean.
            exact: round means and indices to their grids.

        Returns:
            Three levels, and the contexts at strides 16 and 8 that plane 1 goes on from.
        """

        def level(u: Tensor, scale: Tensor, kept: Tensor, mean: Tensor | None = None) -> Level:
            mean = torch.zeros_like(u) if mean is None else mean
            final = torch.round((u - mean) * 9).detach() * kept[:, None, None, None]
            return Level(mean, scale * 2.0**SCALE.fraction, final, torch.round(final / 9))

        def seen(part: Level) -> Tensor:
            return context_value(part.value.detach())

        z32, z16, z8 = latents
        mean, scale = self.top(basis, exact)
        top = level(z32, scale.expand_as(z32), keep[:, 0], mean.expand_as(z32))
        x = self.b32(self.v32(seen(top), basis))
        x = self.b16(self.in16(F.pixel_shuffle(self.up16(x), 2), basis))
        middle = level(z16, self.head16(x), keep[:, 1])
        x16 = self.m16(STREAM.snap(x + self.v16(seen(middle)), False))
        x = self.b8(self.in8(F.pixel_shuffle(self.up8(x16), 2), basis))
        first = level(z8[:, : self.half], self.head8a(x), keep[:, 2])
        x8 = STREAM.snap(x + self.v8(seen(first)), False)
        second = level(z8[:, self.half :], self.head8b(x8), keep[:, 3])
        fine = Level(
            *(torch.cat(pair, 1) for pair in zip(vars(first).values(), vars(second).values(), strict=True))
        )
        return [top, middle, fine], [x16, x8]


def base_width(c: Config) -> int:
    """Plane 0 holds a tenth of the bits: its stride-8 context is narrower than the refinement planes'."""
    return c.prior[2] * 4 // 5


@dataclass
class Trits:
    """Distribution of one level's trits in one plane, (B, C, H, W) each, logits in natural units."""

    centre: Tensor
    tilt: Tensor
    exact: bool

    def log_probabilities(self) -> Tensor:
        """(3, B, C, H, W), natural logarithm, of trits -1, 0, +1."""
        centre = Grid(CENTRE_MIN, CENTRE_MAX, 2).snap(self.centre, self.exact)
        tilt = Grid(-TILT_MAX, TILT_MAX, 2).snap(self.tilt, self.exact)
        return torch.log_softmax(torch.stack([-tilt, centre, tilt]), 0)


class TritHead(nn.Module):
    """Context -> trit logits, adding what a symbol's own earlier planes say by per-channel coefficients.

    centre = c + a1 u + a2 e;  tilt = h + sign(v) (g + b1 u + b2 e), where v is the symbol's residual so far in the
    previous plane's steps, u = min(|v|, 2), and e its previous scale index / 8 or centre logit.
    """

    def __init__(self, width: int, n: int, previous: Grid) -> None:
        super().__init__()
        self.centre, self.tilt, self.gate = (FixedConv(width, n, STREAM, LOGIT) for _ in range(3))
        self.own = nn.ModuleList([FixedConv(n, n, OWN, LOGIT, depthwise=True) for _ in range(2)])
        self.earlier = nn.ModuleList([FixedConv(n, n, previous, LOGIT, depthwise=True) for _ in range(2)])
        for conv in (self.centre, self.tilt, self.gate, *self.own, *self.earlier):
            conv.conv.weight.data.mul_(0.3 if conv.depthwise is False else 0.0)
            conv.conv.bias.data.zero_()

    def forward(self, x: Tensor, v: Tensor, e: Tensor) -> Trits:
        exact = self.centre.exact
        u = v.abs().clamp_max(2)

        def add(a: Tensor, b: Tensor) -> Tensor:
            return LOGIT.snap(a + b, False)

        own, gate = (add(a(u), b(e)) for a, b in zip(self.own, self.earlier, strict=True))
        centre = add(self.centre(x), own)
        tilt = add(self.tilt(x), v.sign() * add(self.gate(x), gate))
        return Trits(centre, tilt, exact)


class PlanePrior(nn.Module):
    """One refinement plane's trits of all levels, from everything the earlier planes say.

    `wider` is a second block at stride 8, where nine tenths of the bits are: it sees 9x9 positions.
    """

    UP = (24, 16)
    """Channels that strides 32 and 16 hand to the next finer level."""

    def __init__(self, c: Config, context: tuple[int, int], previous: Grid) -> None:
        super().__init__()
        (w32, w16, _), k = c.prior, c.knots
        self.mix, self.block, self.head = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.wider = FixedBlock(c.prior[2], c.prior[2] * 3 // 2)
        nn.init.zeros_(self.wider.b.conv.weight)
        self.up = nn.ModuleList(
            [FixedConv(w32, 4 * self.UP[0], STREAM, STREAM), FixedConv(w16, 4 * self.UP[1], STREAM, STREAM)]
        )
        for i, (n, w) in enumerate(zip(c.latents, c.prior, strict=True)):
            inputs = 2 * n + (context[i - 1] + self.UP[i - 1] if i else 0)
            self.mix.append(FixedConv(inputs, w, STREAM, STREAM, knots=k))
            self.block.append(FixedBlock(w, w if i == 0 else w * 3 // 2))
            self.head.append(TritHead(w, n, previous))

    def forward(
        self,
        values: list[Tensor],
        sizes: list[Tensor],
        own: list[Tensor],
        context: list[Tensor],
        basis: Tensor,
    ) -> tuple[list[Trits], list[Tensor]]:
        """values: known values in the previous plane's steps; sizes: residuals so far in those steps (integers);
        own: previous scale index / 8 or centre logit; context: at strides 16 and 8 from the previous plane."""
        trits, contexts = [], []
        for i in range(3):
            known = [context_value(values[i]), SIZE.snap(sizes[i].abs() / 2, False)]
            if i:
                known += [context[i - 1], F.pixel_shuffle(self.up[i - 1](contexts[-1]), 2)]
            x = self.block[i](self.mix[i](torch.cat(known, 1), basis))
            contexts.append(self.wider(x) if i == 2 else x)
            trits.append(self.head[i](contexts[-1], sizes[i], own[i]))
        return trits, contexts[1:]


class DirectPrior(nn.Module):
    """Training only: float prior of the final symbols, with everything coarser and every earlier group known.

    At strides 16 and 8 it predicts scales only. With means, analysis learned latents whose values follow from
    finer symbols than a plane knows when it begins, and planes cost 26 % more than this prior; without them the
    same bits are saved by analysis itself, and planes cost 16 % more (12 minutes of training).
    """

    GROUPS = (1, 2, 6)
    GIVEN = (2, 1, 1)
    """Numbers for each symbol: mean and scale, or scale."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.mixed = False
        (c32, c16, _), widths, k = c.latents, (64, 96, 96), c.knots
        self.u16, self.u8 = up(c32, 48), up(48 + c16, 64)
        self.q = nn.ModuleList([Spline(w, k) for w in widths])
        self.inputs = nn.ModuleList([nn.Conv2d(48, 96, 1), nn.Conv2d(64, 96, 1)])
        self.blocks = nn.ModuleList([nn.ModuleList([Block(96, True), Block(96, True)]) for _ in range(2)])
        self.heads = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(w + i * (n // g), w, 1), nn.ReLU(), nn.Conv2d(w, given * (n // g), 1))
                for i in range(g)
            )
            for n, g, w, given in zip(c.latents, self.GROUPS, widths, self.GIVEN, strict=True)
        )

    def forward(self, latents: list[Tensor], rounded: list[Tensor], q: Tensor, hard: bool) -> Tensor:
        """Bits per sample (B,). Latents and their rounded values in units of the final step."""
        bits, coarse = 0, None
        for i, (y, z) in enumerate(zip(latents, rounded, strict=True)):
            with mixed_precision(y, self.mixed):
                h = self.q[i](q).expand(-1, -1, *y.shape[-2:])
                if i:
                    coarse = self.u16(rounded[0]) if i == 1 else self.u8(torch.cat([coarse, rounded[1]], 1))
                    x = self.inputs[i - 1](coarse)
                    for block in self.blocks[i - 1]:
                        x = block(x, q)
                    h = h + x
            n = y.shape[1] // self.GROUPS[i]
            for j, head in enumerate(self.heads[i]):
                given = head(torch.cat([h.float(), z[:, : j * n]], 1))
                scale = LowerBound.apply(F.softplus(given[:, -n:]), 0.08)
                residual = y[:, j * n : (j + 1) * n]
                residual = residual if i else residual - given[:, :n]
                residual = residual.round() if hard else residual + torch.rand_like(residual) - 0.5
                bits = bits + gaussian_bits(residual, scale).sum((1, 2, 3))
        return bits
