"""The whole codec as it is trained: transforms, priors, planes and random cuts in one forward pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.hierarchical.config import Config
from models.hierarchical.direct import DirectPrior
from models.hierarchical.fixed import set_exact
from models.hierarchical.prior import (
    LOGIT,
    SCALE,
    BasePrior,
    Level,
    PlanePrior,
    Refresh,
    Trits,
    base_width,
    surprise,
)
from models.hierarchical.transforms import Analysis, Synthesis, hat_basis

BITS = 1 / math.log(2)
"""Bits in a natural unit of information."""


@dataclass
class Cut:
    """Where each sample's stream is cut, (B,) each.

    Attributes:
        levels: parts of plane 0 that arrive, 1..4 of (z32, z16, z8's halves).
        plane: 0: planes 1 and 2 are missing; 1 or 2: that plane is the one cut inside.
        share: 0..1, share of the cut plane's symbols, in order of worth, that arrive.
    """

    levels: Tensor
    plane: Tensor
    share: Tensor

    @classmethod
    def none(cls, batch: int, device: torch.device | None = None) -> Cut:
        full = torch.full((batch,), 4, device=device)
        return cls(full, torch.full_like(full, 2), torch.ones(batch, device=device))


@dataclass
class Result:
    """Picture (B, 3, H, W); bits per sample of the direct prior (`full`,), of plane 0 (B,), of planes 1 and 2
    (`refined`,)."""

    picture: Tensor
    direct: Tensor
    planes: list[Tensor]


@dataclass
class Logs:
    """Log-probabilities (3, B, C, H, W) of one plane's trits, per level: those they are coded with, and those that
    order them (`refresh` changes the first only)."""

    coded: list[Tensor]
    order: list[Tensor]


class Codec(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.exact = config, False
        self.analysis, self.synthesis = Analysis(config), Synthesis(config)
        self.gain = nn.ParameterList([nn.Parameter(torch.zeros(1, n, 1, 1)) for n in config.latents])
        self.direct = DirectPrior(config)
        self.base = BasePrior(config)
        self.plane1 = PlanePrior(config, (config.prior[1], base_width(config)), SCALE)
        self.plane2 = PlanePrior(config, (config.prior[1], config.prior[2]), LOGIT, large=True)
        self.refresh = Refresh(config)

    def set_exact(self, exact: bool) -> None:
        """Run the exact prior on its integer grids (quantisation-aware) or in floats."""
        self.exact = exact
        set_exact(self, exact)

    def log_gain(self, q: Tensor) -> Tensor:
        low, high = self.config.log_gain(0.0), self.config.log_gain(1.0)
        return (low + q * (high - low))[:, None, None, None]

    def places(self, logs: list[Tensor]) -> list[Tensor]:
        """The worth that orders each trit in its plane, per level (B, C, H, W), for a plane's log-probabilities."""
        return [worth(log)[0] * torch.exp(-2 * g) for log, g in zip(logs, self.gain, strict=True)]

    def planes(
        self,
        scaled: list[Tensor],
        q: Tensor,
        keep: Tensor,
        refined: int,
        worths: tuple[float, float] | None = None,
    ) -> tuple[list[Level], list[Logs]]:
        """Symbols of every plane and what the exact prior says of them, teacher-forced.

        Args:
            scaled: latents in final steps.
            q: (B,) quality.
            keep: (B, 4) parts of plane 0 that arrive.
            refined: planes 1 and 2 are computed for so many samples at the end.
            worths: worths from which on plane 2's trits are known when `refresh` runs for the first and for the
                second time; None runs it never.

        Returns:
            Plane 0's levels of all samples, and planes 1 and 2 of the refined ones.
        """
        basis = hat_basis(q, self.config.knots)
        every, context = self.base([y.detach() / 9 for y in scaled], basis, keep, self.exact)
        unit, late = 2.0**SCALE.fraction, slice(len(q) - refined, None)
        levels = [Level(*(t[late] for t in vars(level).values())) for level in every]
        context, basis = [c[late] for c in context], basis[late]
        values = [v.value.detach() for v in levels]
        trits, context = self.plane1(
            values, [v.symbol for v in levels], [v.index / unit for v in levels], context, basis
        )
        first = [t.log_probabilities() for t in trits]
        thirds = [v.thirds for v in levels]
        values = [3 * v.mean.detach() + t for v, t in zip(levels, thirds, strict=True)]
        trits, context = self.plane2(values, thirds, [t.centre for t in trits], context, basis)
        start = [t.log_probabilities() for t in trits]

        second = start
        if worths:
            order = self.places(start)
            digits = [level.trits()[1] for level in levels]
            seen = [torch.zeros_like(t) for t in digits]
            before = [torch.zeros_like(t, dtype=torch.bool) for t in digits]
            for limit in worths:
                known = [o >= limit for o in order]
                for i in (1, 2):
                    new = surprise(digits[i], second[i], thirds[i]) * (known[i] & ~before[i])
                    seen[i] = seen[i] + new
                before = known
                centre = self.refresh(context[1], seen[1], seen[2], trits[2].centre)
                later = Trits(centre, trits[2].tilt, self.exact).log_probabilities()
                second = [*start[:2], torch.where(known[2], second[2], later)]
        return every, [Logs(first, first), Logs(second, start)]

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        cut: Cut,
        full: int,
        hard: bool = False,
        refined: int | None = None,
        worths: tuple[float, float] | None = None,
    ) -> Result:
        """Encode and decode.

        Args:
            x: (B, 3, H, W) in [0, 1], H and W multiples of 32.
            q: (B,) quality.
            cut: where each sample is cut.
            full: the first `full` samples are not cut; only these train analysis and the direct prior.
            hard: bits of rounded symbols instead of noisy ones, of plane 0 and of the direct prior.
            refined: planes 1 and 2 are computed for so many samples at the end, at least those that are cut; None
                for all.
            worths: as for `planes`.
        """
        refined = len(x) if refined is None else max(refined, len(x) - full)
        early, late = len(x) - refined, slice(len(x) - refined, None)
        gains = [g + self.log_gain(q) for g in self.gain]
        scaled = [y.float() * torch.exp(g) for y, g in zip(self.analysis(x), gains, strict=True)]
        keep = (cut.levels[:, None] > torch.arange(4, device=x.device)).float()
        levels, (first, second) = self.planes(scaled, q, keep, refined, worths)

        bits0, bits1, bits2, rounded, latents, precision = 0, 0, 0, [], [], []
        whole = (cut.levels[late] == 4).float()
        ends = Cut(*(t[full:] for t in vars(cut).values()))
        for i, (y, level) in enumerate(zip(scaled, levels, strict=True)):
            noise = None if hard else torch.rand_like(y) - 0.5
            bits0 = bits0 + level.bits(y.detach() / 9, noise).sum((1, 2, 3))
            trit1, trit2 = (t[late] for t in level.trits())
            bits1 = bits1 + trit_bits(first.coded[i], trit1) * whole
            bits2 = bits2 + trit_bits(second.coded[i], trit2) * whole
            z = 9 * level.mean.detach() + level.final
            rounded.append(y + (z - y).detach())
            known, missing = [rounded[i][:full]], [torch.zeros(full, device=x.device)]
            if full < len(x):
                with torch.no_grad():
                    logs = tuple(plane.order[i][:, full - early :] for plane in (first, second))
                    end = Level(*(t[full:] for t in vars(level).values()))
                    kept = keep_of(i, keep[full:], y)
                    part, planes = cut_level(end, logs, ends, kept, self.gain[i].detach())
                    known.append(part)
                    missing.append(planes)
            latents.append(torch.cat(known) * torch.exp(-gains[i]))
            precision.append(q - self.config.plane_quality * torch.cat(missing))
        picture = self.synthesis(tuple(latents), torch.stack(precision, 1))
        direct = torch.zeros(full, device=x.device)
        if not self.training or next(self.direct.parameters()).requires_grad:
            direct = self.direct([y[:full] for y in scaled], [z[:full] for z in rounded], q[:full], hard)
        return Result(picture, direct, [bits0 * (cut.levels == 4), bits1, bits2])


def keep_of(i: int, keep: Tensor, y: Tensor) -> Tensor:
    """(B, C, 1, 1) whether each channel of level i arrives in plane 0."""
    if i < 2:
        return keep[:, i, None, None, None].expand(-1, y.shape[1], 1, 1)
    return keep[:, 2:].repeat_interleave(y.shape[1] // 2, 1)[:, :, None, None]


def trit_bits(log_p: Tensor, trit: Tensor) -> Tensor:
    """Bits per sample of `trit` (values -1, 0, 1) under log_p (3, B, C, H, W)."""
    chosen = torch.gather(log_p, 0, (trit + 1).long().clamp(0, 2)[None])[0]
    return chosen.sum((1, 2, 3)) * -BITS


def entropy(log_p: Tensor) -> Tensor:
    """Of trits, in bits, for natural logarithms (3, ...)."""
    return -(log_p.exp() * log_p).sum(0) * BITS


def worth(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """(variance of the trit / its entropy in bits, mean of the trit)."""
    p = log_p.exp()
    mean = p[2] - p[0]
    return (p[0] + p[2] - mean**2) / entropy(log_p).clamp_min(1e-4), mean


def cut_level(
    level: Level, logs: tuple[Tensor, Tensor], cut: Cut, keep: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor]:
    """(what a receiver knows of one level's latents in final steps, planes missing per sample on average)."""
    (worth1, mean1), (worth2, mean2) = worth(logs[0]), worth(logs[1])
    weight = torch.exp(-2 * gain)
    in1, in2 = taken(worth1 * weight, cut, 1), taken(worth2 * weight, cut, 2)
    base, third = 9 * level.value, 9 * level.mean + 3 * level.thirds
    whole1 = (in1.flatten(1).amin(1) > 0)[:, None, None, None]
    known = torch.where(in1 > 0, third + mean2 * whole1, base + 3 * mean1 * keep)
    known = torch.where(in2 > 0, 9 * level.mean + level.final, known)
    missing = 3 - keep * (1 + in1 + in2)
    return known, missing.mean((1, 2, 3))


def taken(value: Tensor, cut: Cut, plane: int) -> Tensor:
    """Which symbols of `plane` arrive, by threshold on their worth: (B, C, H, W) of 0 and 1."""
    flat = value.flatten(1)
    sample = flat[:, :: max(1, flat.shape[1] // 2000)]
    order = torch.sort(sample, 1).values
    at = ((1 - cut.share) * (order.shape[1] - 1)).long().clamp(0, order.shape[1] - 1)
    threshold = torch.gather(order, 1, at[:, None])
    share = torch.where(cut.plane == plane, cut.share, (cut.plane > plane).float())
    inside = (flat >= threshold).float()
    inside = torch.where((share <= 0)[:, None], 0.0, torch.where((share >= 1)[:, None], 1.0, inside))
    return inside.view_as(value)
