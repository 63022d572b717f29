"""Priors: what each symbol's distribution is, given what has been decoded.

`BasePrior` codes plane 0 level by level (stride 8 in groups of channels). A `PlanePrior` codes plane
1's or 2's trits: those of strides 32 and 16 first; from them and from what is known when the plane begins it gives all
of stride 8's, which sets their order of worth; and before some classes of worth a `Follow` corrects those to come by
those that have come. All are made of fixed-point layers (`fixed`).

A trit's distribution is the exponential family with a centre logit c and a tilt logit d:
P(-1) : P(0) : P(+1) = exp(-d) : exp(c) : exp(d). It covers every distribution on three values, its two numbers
are all a table row needs, and a negative tilt is a mirrored row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hierarchical.config import (
    CENTRE_MAX,
    CENTRE_MIN,
    MEAN_FRACTION,
    OFFSET_FRACTION,
    OFFSETS,
    SCALE_LOG_STEP,
    SCALE_MIN,
    SCALE_ROWS,
    TILT_MAX,
    Config,
)
from models.hierarchical.fixed import HIDDEN, STREAM, FixedBlock, FixedConv, Grid
from models.hierarchical.transforms import Spline

VALUE = Grid(-128, 127, STREAM.fraction)
"""Known values as context, in quarters of the present plane's step, clipped at 32 steps (context only)."""

SIZE = Grid(0, 15 * 8, STREAM.fraction)
"""Residual magnitudes as context: 8 times the integer, clipped at 15."""

TOP_MEAN = Grid(-128 * MEAN_FRACTION, 128 * MEAN_FRACTION, 4)
"""Plane 0's means at stride 32, which holds DC: a table by quality. Finer levels are coded around zero."""

SCALE = Grid(0, SCALE_ROWS - 1, 3)
"""Plane 0's scale index, 0..63, carried as index / 8."""

OFFSET = Grid(1 - OFFSETS, OFFSETS - 1, round(math.log2(OFFSET_FRACTION)))
"""How far plane 0's distributions lie off 0, in standard deviations."""

LOGIT = Grid(-128, 127, 4)
"""Trit logits in 1/16; rounded to quarters when they become a table row."""

OWN = Grid(0, 2, 0)
"""A symbol's own residual so far, min(|v|, 2), as it enters its logits."""

SURPRISE = 64
"""A known trit enters `Follow` as SURPRISE times what it is above its expectation, rounded, on STREAM's integers."""

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
    """One level of plane 0. All tensors (B, C, H, W); `mean`, `value` in units of plane 0's step.

    Symbols count from `mean`, and are distributed around `offset` (in standard deviations).
    """

    mean: Tensor
    index: Tensor
    offset: Tensor
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
        return gaussian_bits(residual - self.offset * scale, scale)


class Head(nn.Module):
    """Hidden layer, then scale indices of `n` channels and offsets of the first `signed` ones."""

    def __init__(self, width: int, hidden: int, n: int, signed: int) -> None:
        super().__init__()
        self.hidden = FixedConv(width, hidden, STREAM, HIDDEN)
        self.scale = FixedConv(hidden, n, HIDDEN, SCALE)
        self.offset = FixedConv(hidden, signed, HIDDEN, OFFSET) if signed else None
        with torch.no_grad():
            self.scale.conv.bias.fill_(2.5)
        if self.offset is not None:
            nn.init.zeros_(self.offset.conv.weight)
            nn.init.zeros_(self.offset.conv.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(x)
        scale = self.scale(h)
        if self.offset is None:
            return scale, torch.zeros_like(scale)
        offset = self.offset(h)
        return scale, F.pad(offset, (0, 0, 0, 0, 0, scale.shape[1] - offset.shape[1]))


class BasePrior(nn.Module):
    """Plane 0: scale index and offset of every symbol, and stride 32's means.

    A mean for strides 16 and 8, predicted from coarser levels known to 9 final steps, cost more than it gained: a
    grid that is off zero by a part of a step cannot say "nothing here". An offset moves the distribution, not the grid.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        (c32, c16, _), (w32, w16, _), k = c.latents, c.prior, c.knots
        self.groups = c.groups
        self.top_mean, self.top_scale = Spline(c32, k), Spline(c32, k)
        self.top_scale.t.data.fill_(5.0)
        self.v32 = FixedConv(c32, w32, VALUE, STREAM, knots=k)
        self.b32 = FixedBlock(w32, c.units("base.b32", w32))
        self.up16 = FixedConv(w32, 4 * UP16, STREAM, HIDDEN)
        self.in16 = FixedConv(UP16, w16, HIDDEN, STREAM, knots=k)
        self.b16 = FixedBlock(w16, c.units("base.b16", 2 * w16))
        self.head16 = Head(w16, c.units("base.head16", w16), c16, c16)
        self.v16, self.m16 = FixedConv(c16, w16, VALUE, STREAM), FixedBlock(w16, c.units("base.m16", w16))
        self.up8 = FixedConv(w16, 4 * UP8, STREAM, HIDDEN)
        w = base_width(c)
        self.in8 = FixedConv(UP8, w, HIDDEN, STREAM, knots=k)
        self.b8 = FixedBlock(w, c.units("base.b8", 2 * w))
        self.head8, begin = nn.ModuleList(), 0
        for i, n in enumerate(c.groups):
            signed = min(max(c.signed - begin, 0), n)
            self.head8.append(Head(w, c.units(f"base.head8.{i}", w), n, signed))
            begin += n
        self.v8 = nn.ModuleList([FixedConv(n, w, VALUE, STREAM) for n in c.groups[:-1]])
        self.m8 = nn.ModuleList([FixedBlock(w, c.units(f"base.m8.{i}", w)) for i in range(len(c.groups) - 1)])

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
            keep: (B, parts) in {0, 1}: whether z32, z16 and z8's groups arrive; what does not is its mean.
            exact: round means and indices to their grids.

        Returns:
            Three levels, and the contexts at strides 16 and 8 that plane 1 goes on from.
        """

        def level(u: Tensor, shape: tuple[Tensor, Tensor], kept: Tensor, mean: Tensor | None = None) -> Level:
            mean = torch.zeros_like(u) if mean is None else mean
            final = torch.round((u - mean) * 9).detach() * kept[:, None, None, None]
            scale, offset = shape
            return Level(mean, scale * 2.0**SCALE.fraction, offset, final, torch.round(final / 9))

        def seen(part: Level) -> Tensor:
            return context_value(part.value.detach())

        z32, z16, z8 = latents
        mean, scale = self.top(basis, exact)
        top = level(z32, (scale.expand_as(z32), torch.zeros_like(z32)), keep[:, 0], mean.expand_as(z32))
        x = self.b32(self.v32(seen(top), basis))
        x = self.b16(self.in16(F.pixel_shuffle(self.up16(x), 2), basis))
        middle = level(z16, self.head16(x), keep[:, 1])
        x16 = self.m16(STREAM.snap(x + self.v16(seen(middle)), False))
        x = self.b8(self.in8(F.pixel_shuffle(self.up8(x16), 2), basis))
        groups: list[Level] = []
        for i, z in enumerate(torch.split(z8, list(self.groups), 1)):
            if i:
                x = self.m8[i - 1](STREAM.snap(x + self.v8[i - 1](seen(groups[-1])), False))
            groups.append(level(z, self.head8[i](x), keep[:, 2 + i]))
        fine = Level(*(torch.cat(of, 1) for of in zip(*(vars(g).values() for g in groups), strict=True)))
        return [top, middle, fine], [x16, x]


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
    previous plane's steps, u = min(|v|, 2), and e its previous scale index / 8 or centre logit; c, h and g come from
    a hidden layer. Only the first `signed` channels have h and g.
    """

    HIDDEN = 6 / 5
    """Hidden channels for each channel of context, at first."""

    def __init__(self, width: int, hidden: int, n: int, previous: Grid, signed: int) -> None:
        super().__init__()
        outputs = (n, signed, signed)
        self.hidden = FixedConv(width, hidden, STREAM, HIDDEN)
        self.centre, self.tilt, self.gate = (FixedConv(hidden, m, HIDDEN, LOGIT) for m in outputs)
        self.own = nn.ModuleList([FixedConv(n, n, OWN, LOGIT, depthwise=True) for _ in range(2)])
        self.earlier = nn.ModuleList([FixedConv(n, n, previous, LOGIT, depthwise=True) for _ in range(2)])
        for conv in (self.centre, self.tilt, self.gate, *self.own, *self.earlier):
            conv.conv.weight.data.mul_(0.3 if conv.depthwise is False else 0.0)
            conv.conv.bias.data.zero_()

    def forward(self, x: Tensor, v: Tensor, e: Tensor) -> Trits:
        u, h = v.abs().clamp_max(2), self.hidden(x)
        own, earlier = (add(a(u), b(e)) for a, b in zip(self.own, self.earlier, strict=True))
        centre, tilt, gate = self.centre(h), self.tilt(h), self.gate(h)
        first = tilt.shape[1]
        gated = signed(v, torch.cat([add(gate, earlier[:, :first]), earlier[:, first:]], 1))
        tilt = torch.cat([add(tilt, gated[:, :first]), gated[:, first:]], 1)
        return Trits(add(centre, own), tilt, self.centre.exact)


def add(a: Tensor, b: Tensor) -> Tensor:
    """Saturating sum of logits."""
    return LOGIT.snap(a + b, False)


def signed(v: Tensor, gate: Tensor) -> Tensor:
    """sign(v) times logits, saturating: -128 has no opposite."""
    return LOGIT.snap(v.sign() * gate, False)


class Follow(nn.Module):
    """New centre logits of stride 8's trits of a plane that are still to come, once worthier ones are known.

    They see how much larger than expected (`surprise`) the known ones of the first channels turned out, there and
    around. Signs tell nothing there: correcting tilts as well was worth 0.02 to 0.06 % of the bits, and seeing the
    finest channels nothing.
    """

    HIDDEN = 64
    """Hidden channels, at first."""

    def __init__(self, width: int, hidden: int, n: int, surprising: int) -> None:
        super().__init__()
        self.around = FixedConv(surprising, surprising, STREAM, STREAM, depthwise=True, size=5)
        self.hidden = FixedConv(width + surprising, hidden, STREAM, HIDDEN)
        self.centre = FixedConv(hidden, n, HIDDEN, LOGIT)
        for conv in (self.around, self.centre):
            nn.init.zeros_(conv.conv.weight)
            nn.init.zeros_(conv.conv.bias)
        self.around.conv.weight.data[:, :, 2, 2] = 1

    def forward(self, x: Tensor, known: Tensor, start: Trits) -> Trits:
        """x: the plane's context; known: surprises, 0 where not known; start: as the plane gave them."""
        h = self.hidden(torch.cat([x, self.around(known[:, : self.around.conv.in_channels])], 1))
        return Trits(add(start.centre, self.centre(h)), start.tilt, start.exact)


@dataclass
class Known:
    """What is known of one level's symbols: all tensors (B, C, H, W).

    Attributes:
        value: in the last complete plane's steps, with the mean.
        size: residual in those steps, integers.
        own: plane 0's scale index / 8, or plane 1's centre logit.
    """

    value: Tensor
    size: Tensor
    own: Tensor

    def context(self, signed: int | None = None, sized: int | None = None) -> list[Tensor]:
        """Values, of the first `signed` channels or all, and magnitudes, of the first `sized` or all."""
        return [context_value(self.value[:, :signed]), SIZE.snap(self.size[:, :sized].abs() / 2, False)]


class PlanePrior(nn.Module):
    """One refinement plane's trits, from everything the earlier planes say.

    Stride 8, where nine tenths of the bits are, has a second block, `wider`, and in plane 2 (more than half of them) a
    hidden layer within the first mixing and a third block.

    Args:
        plane: 1 or 2.
        context: channels that the previous plane hands on, at strides 16 and 8.
        previous: grid of what it expected of each symbol, see `Known.own`.
    """

    UP = (24, 16)
    """Channels that strides 32 and 16 hand to the next finer level."""

    MIXED = 2
    """Hidden channels within the first mixing, times the width, at first."""

    def __init__(self, c: Config, plane: int, context: tuple[int, int], previous: Grid) -> None:
        super().__init__()
        (n32, n16, n8), (w32, w16, w8), k = c.latents, c.prior, c.knots
        self.mix, self.block, self.head = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        name = f"plane{plane}"
        self.wider = FixedBlock(w8, c.units(f"{name}.wider", w8 * 3 // 2))
        self.classes, self.known = c.classes[plane - 1], c.follow[plane - 1]
        self.large, self.signed, self.sized = plane == 2, c.signed, c.sized[plane - 1]
        if self.large:
            mixed = c.units(f"{name}.mixed", self.MIXED * w8)
            self.joined = FixedConv(mixed, w8, HIDDEN, STREAM, knots=k)
            self.third = FixedBlock(w8, c.units(f"{name}.third", w8 * 3))
        self.up = nn.ModuleList(
            [FixedConv(w32, 4 * self.UP[0], STREAM, STREAM), FixedConv(w16, 4 * self.UP[1], STREAM, STREAM)]
        )
        seen = ((n32, n32), (n16, n16), (self.signed, self.sized))
        for i, (n, (signed, sized), w) in enumerate(zip(c.latents, seen, c.prior, strict=True)):
            inputs = signed + sized + (context[i - 1] + self.UP[i - 1] if i else 0)
            outputs, grid = (mixed, HIDDEN) if self.large and i == 2 else (w, STREAM)
            self.mix.append(FixedConv(inputs, outputs, STREAM, grid, knots=k))
            self.block.append(FixedBlock(w, c.units(f"{name}.block.{i}", w if i == 0 else w * 3 // 2)))
            hidden = c.units(f"{name}.head.{i}", int(w * TritHead.HIDDEN))
            self.head.append(TritHead(w, hidden, n, previous, signed))
        self.up32 = FixedConv(2 * n32, 4 * self.UP[0], STREAM, STREAM)
        self.wider16 = FixedBlock(w16, c.units(f"{name}.wider16", 2 * w16))
        self.learn = FixedConv(w16 + 2 * n16 + self.UP[0], w16, STREAM, STREAM)
        self.learned = FixedBlock(w16, c.units(f"{name}.learned", w16))
        self.follow = nn.ModuleList(
            [
                Follow(w8, c.units(f"{name}.follow.{i}", Follow.HIDDEN), n8, c.surprising)
                for i in range(len(self.known))
            ]
        )

    def coarse(
        self, known: list[Known], context16: Tensor, basis: Tensor
    ) -> tuple[tuple[Trits, Trits], Tensor]:
        """Trits of strides 32 and 16, and the context at stride 16.

        Args:
            known: of strides 32 and 16.
            context16: from the previous plane, at stride 16.
            basis: (B, knots) spline basis of the quality.
        """
        top, middle = known
        x = self.block[0](self.mix[0](torch.cat(top.context(), 1), basis))
        up = F.pixel_shuffle(self.up[0](x), 2)
        y = self.wider16(self.block[1](self.mix[1](torch.cat([*middle.context(), context16, up], 1), basis)))
        return (self.head[0](x, top.size, top.own), self.head[1](y, middle.size, middle.own)), y

    def fine(
        self, now: list[Known], known: Known, context: tuple[Tensor, Tensor], basis: Tensor
    ) -> tuple[Trits, list[Tensor]]:
        """Trits of stride 8, and the contexts at strides 16 and 8.

        Args:
            now: of strides 32 and 16, with this plane's trits.
            known: of stride 8.
            context: at stride 16 as `coarse` gave it, at stride 8 from the previous plane.
            basis: (B, knots) spline basis of the quality.
        """
        x16, x8 = context
        up = F.pixel_shuffle(self.up32(torch.cat(now[0].context(), 1)), 2)
        y16 = self.learned(self.learn(torch.cat([x16, *now[1].context(), up], 1)))
        up = F.pixel_shuffle(self.up[1](y16), 2)
        given = torch.cat([*known.context(self.signed, self.sized), x8, up], 1)
        x = self.mix[2](given, basis)
        if self.large:
            x = self.joined(x, basis)
        x = self.wider(self.block[2](x))
        if self.large:
            x = self.third(x)
        return self.head[2](x, known.size, known.own), [y16, x]

    def followed(
        self, x: Tensor, start: Trits, logs: Tensor, place: Tensor, digit: Tensor, size: Tensor
    ) -> Tensor:
        """Log-probabilities (3, B, C, H, W) that stride 8's trits are coded with.

        What the plane gave is not changed by how its corrections fare: it sets the order and the means, so it has to
        be right by itself.

        Args:
            x: context at stride 8.
            start: as `fine` gave them; logs: their log-probabilities.
            place: 0..1, each trit's place in the order of worth, in bits.
            digit: the trits; size: residuals before the plane.
        """
        number = (place * self.classes).ceil() - 1
        known, start = torch.zeros_like(digit), Trits(start.centre.detach(), start.tilt.detach(), start.exact)
        for i in range(self.classes - 1):
            known = known + surprise(digit, logs, size) * (number == i)
            if i + 1 in self.known:
                follow = self.follow[self.known.index(i + 1)]
                later = follow(x, known, start).log_probabilities()
                logs = torch.where(number > i, later, logs)
        return logs


def surprise(trit: Tensor, log_p: Tensor, value: Tensor) -> Tensor:
    """How much larger a symbol turned out than expected, on STREAM's grid.

    Args:
        trit: (B, C, H, W) in {-1, 0, 1}.
        log_p: (3, B, C, H, W) what its distribution was.
        value: the symbol's residual before this plane; its magnitude grows by trit * sign(value), or |trit| at 0.
    """
    p = log_p.detach().exp()
    grown = torch.where(value == 0, trit.abs() - p[0] - p[2], value.sign() * (trit - p[2] + p[0]))
    return STREAM.snap(torch.round(grown * SURPRISE) / 2.0**STREAM.fraction, False)
