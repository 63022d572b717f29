"""The whole codec as it is trained: transforms, priors, planes and random cuts in one forward pass."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.hierarchical.config import COARSE_MEANS, Config
from models.hierarchical.direct import DirectPrior
from models.hierarchical.fixed import set_exact
from models.hierarchical.prior import (
    LOGIT,
    SCALE,
    BasePrior,
    Known,
    Level,
    PlanePrior,
    base_width,
)
from models.hierarchical.transforms import Analysis, Synthesis, hat_basis

BITS = 1 / math.log(2)
"""Bits in a natural unit of information."""


@dataclass
class Cut:
    """Where each sample's stream is cut, (B,) each.

    Attributes:
        levels: parts of plane 0 that arrive, of (z32, z16, z8's groups).
        plane: 0: planes 1 and 2 are missing; 1 or 2: that plane is the one cut inside.
        share: 0..1, share of the cut plane's bits at stride 8, in order of worth, that arrive; strides 32 and 16
            arrive when it is above 0.
    """

    levels: Tensor
    plane: Tensor
    share: Tensor

    @classmethod
    def none(cls, batch: int, parts: int, device: torch.device | None = None) -> Cut:
        full = torch.full((batch,), parts, device=device)
        return cls(full, torch.full_like(full, 2), torch.ones(batch, device=device))


@dataclass
class Result:
    """Picture (B, 3, H, W); bits per sample of the direct prior (`full`,), of plane 0 (B,), of planes 1 and 2
    (`refined`,); bits that stride 8 would take in these two if nothing were learned within a plane (`refined`,)."""

    picture: Tensor
    direct: Tensor
    planes: list[Tensor]
    start: list[Tensor]


@dataclass
class Plane:
    """One refinement plane, per level.

    Attributes:
        coded: (3, B, C, H, W) log-probabilities that trits are coded with.
        start: those of stride 8 when the plane begins, which order its trits.
        mean: (B, C, H, W) expected trits when the plane begins.
        place: (B, C, H, W) 0..1, where in the plane a trit arrives: 0 at strides 32 and 16, at stride 8 in order of
            worth, counted in bits.
    """

    coded: list[Tensor]
    start: Tensor
    mean: list[Tensor]
    place: list[Tensor]


class Codec(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.exact = config, False
        self.analysis, self.synthesis = Analysis(config), Synthesis(config)
        self.gain = nn.ParameterList([nn.Parameter(torch.zeros(1, n, 1, 1)) for n in config.latents])
        self.direct = DirectPrior(config)
        self.base = BasePrior(config)
        _, w16, w8 = config.prior
        self.plane1 = PlanePrior(config, 1, (w16, base_width(config)), SCALE)
        self.plane2 = PlanePrior(config, 2, (w16, w8), LOGIT)

    def set_exact(self, exact: bool) -> None:
        """Run the exact prior on its integer grids (quantisation-aware) or in floats."""
        self.exact = exact
        set_exact(self, exact)

    @classmethod
    def of_checkpoint(cls, path: str | Path) -> tuple[Codec, dict[str, Any]]:
        """The codec with a training run's averaged weights, on the CPU, and all that the run's file holds."""
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        model = cls(Config.from_json(json.loads(state["config"])))
        model.load_state_dict(state["average"])
        return model, state

    def log_gain(self, q: Tensor) -> Tensor:
        low, high = self.config.log_gain(0.0), self.config.log_gain(1.0)
        return (low + q * (high - low))[:, None, None, None]

    def planes(
        self, scaled: list[Tensor], q: Tensor, keep: Tensor, refined: int
    ) -> tuple[list[Level], list[Plane]]:
        """Symbols of every plane and what the exact prior says of them, teacher-forced.

        Args:
            scaled: latents in final steps.
            q: (B,) quality.
            keep: (B, parts) parts of plane 0 that arrive.
            refined: planes 1 and 2 are computed for so many samples at the end.

        Returns:
            Plane 0's levels of all samples, and planes 1 and 2 of the refined ones.
        """
        basis = hat_basis(q, self.config.knots)
        every, context = self.base([y.detach() / 9 for y in scaled], basis, keep, self.exact)
        unit, late = 2.0**SCALE.fraction, slice(len(q) - refined, None)
        levels = [Level(*(t[late] for t in vars(level).values())) for level in every]
        context, basis = [c[late] for c in context], basis[late]
        known = [Known(v.value.detach(), v.symbol, v.index / unit) for v in levels]
        digits, planes = [level.trits() for level in levels], []
        for number, module in enumerate((self.plane1, self.plane2)):
            trits = [d[number] for d in digits]
            now = [Known(3 * k.value + t, 3 * k.size + t, k.own) for k, t in zip(known, trits, strict=True)]
            coarse, x16 = module.coarse(known[:2], context[0], basis)
            fine, context = module.fine(now[:2], known[2], (x16, context[1]), basis)
            logs = [t.log_probabilities() for t in (*coarse, fine)]
            place = [*(torch.zeros_like(t) for t in trits[:2]), places(logs[2].detach())]
            last = module.followed(context[1], fine, logs[2], place[2], trits[2], known[2].size)
            planes.append(Plane([*logs[:2], last], logs[2], [mean_of(x.detach()) for x in logs], place))
            known = [Known(n.value, n.size, t.centre) for n, t in zip(now, (*coarse, fine), strict=True)]
        return every, planes

    def scaled(self, x: Tensor, q: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Logarithmic gains of the levels, and latents of x in final steps."""
        gains = [g + self.log_gain(q) for g in self.gain]
        return gains, [y.float() * torch.exp(g) for y, g in zip(self.analysis(x), gains, strict=True)]

    def whole(self, x: Tensor, q: Tensor, hard: bool = False) -> tuple[Tensor, Tensor]:
        """Encode and decode complete frames without planes and the exact prior.

        Args:
            x: (B, 3, H, W) in [0, 1], H and W multiples of 32.
            q: (B,) quality.
            hard: bits of rounded symbols instead of noisy ones.

        Returns:
            Pictures like x, and bits of the direct prior (B,).
        """
        gains, scaled = self.scaled(x, q)
        with torch.no_grad():
            mean, _ = self.base.top(hat_basis(q, self.config.knots), self.exact)
            means = [9 * mean, 0, 0]
        rounded = [y + ((y - m).round() + m - y).detach() for y, m in zip(scaled, means, strict=True)]
        latents = tuple(z * torch.exp(-g) for z, g in zip(rounded, gains, strict=True))
        picture = self.synthesis(latents, q[:, None].expand(-1, 3))
        return picture, self.direct(scaled, rounded, q, hard)

    def hard_bits(self, scaled: list[Tensor], q: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Bits per sample (B,) of each plane's rounded symbols, of whole streams, and as `Result.start`; latents in
        final steps."""
        keep = torch.ones(len(q), self.config.parts, device=q.device)
        levels, planes = self.planes(scaled, q, keep, len(q))
        base = sum(level.bits(y, None).sum((1, 2, 3)) for level, y in zip(levels, scaled, strict=True))
        bits, start = refined_bits([level.trits() for level in levels], planes)
        return [base, *bits], start

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        cut: Cut,
        full: int,
        hard: bool = False,
        refined: int | None = None,
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
        """
        refined = len(x) if refined is None else max(refined, len(x) - full)
        early, late = len(x) - refined, slice(len(x) - refined, None)
        gains, scaled = self.scaled(x, q)
        keep = (cut.levels[:, None] > torch.arange(self.config.parts, device=x.device)).float()
        levels, planes = self.planes(scaled, q, keep, refined)

        bits0, rounded, latents, precision = 0, [], [], []
        whole = cut.levels == self.config.parts
        ends = Cut(*(t[full:] for t in vars(cut).values()))
        for i, (y, level) in enumerate(zip(scaled, levels, strict=True)):
            noise = None if hard else torch.rand_like(y) - 0.5
            bits0 = bits0 + level.bits(y.detach() / 9, noise).sum((1, 2, 3))
            z = 9 * level.mean.detach() + level.final
            rounded.append(y + (z - y).detach())
            known, missing = [rounded[i][:full]], [torch.zeros(full, device=x.device)]
            if full < len(x):
                with torch.no_grad():
                    end = Level(*(t[full:] for t in vars(level).values()))
                    kept = keep_of(i, keep[full:], self.config)
                    means, order = zip(
                        *((p.mean[i][full - early :], p.place[i][full - early :]) for p in planes),
                        strict=True,
                    )
                    part, absent = cut_level(end, means, order, ends, kept, whole[full:], fine=i == 2)
                    known.append(part)
                    missing.append(absent)
            latents.append(torch.cat(known) * torch.exp(-gains[i]))
            precision.append(q - self.config.plane_quality * torch.cat(missing))
        picture = self.synthesis(tuple(latents), torch.stack(precision, 1))
        direct = torch.zeros(full, device=x.device)
        if not self.training or next(self.direct.parameters()).requires_grad:
            direct = self.direct([y[:full] for y in scaled], [z[:full] for z in rounded], q[:full], hard)
        trits = [tuple(t[late] for t in level.trits()) for level in levels]
        bits, start = ([b * whole[late] for b in of] for of in refined_bits(trits, planes))
        return Result(picture, direct, [bits0 * whole, *bits], start)


def keep_of(i: int, keep: Tensor, config: Config) -> Tensor:
    """(B, C, 1, 1) whether each channel of level i arrives in plane 0."""
    if i < 2:
        return keep[:, i, None, None, None].expand(-1, config.latents[i], 1, 1)
    return keep[:, 2:].repeat_interleave(torch.tensor(config.groups, device=keep.device), 1)[:, :, None, None]


def trit_bits(log_p: Tensor, trit: Tensor) -> Tensor:
    """Bits per sample of `trit` (values -1, 0, 1) under log_p (3, B, C, H, W)."""
    chosen = torch.gather(log_p, 0, (trit + 1).long().clamp(0, 2)[None])[0]
    return chosen.sum((1, 2, 3)) * -BITS


def refined_bits(
    trits: list[tuple[Tensor, Tensor]], planes: list[Plane]
) -> tuple[list[Tensor], list[Tensor]]:
    """Bits per sample (B,) of planes 1 and 2, and as `Result.start`; trits of both planes by level."""
    bits, start = [], []
    for plane, digits in zip(planes, zip(*trits, strict=True), strict=True):
        bits.append(sum(trit_bits(log, digit) for log, digit in zip(plane.coded, digits, strict=True)))
        start.append(trit_bits(plane.start, digits[2]))
    return bits, start


def entropy(log_p: Tensor) -> Tensor:
    """Of trits, in bits, for natural logarithms (3, ...)."""
    return -(log_p.exp() * log_p).sum(0) * BITS


def mean_of(log_p: Tensor) -> Tensor:
    """Expected trit, for natural logarithms (3, ...)."""
    p = log_p.exp()
    return p[2] - p[0]


def places(log_p: Tensor) -> Tensor:
    """Each trit's place in its sample's order of worth, (B, C, H, W) in (0, 1], counted in expected bits.

    Args:
        log_p: (3, B, C, H, W).
    """
    p, bits = log_p.exp(), entropy(log_p)
    worth = (p[0] + p[2] - mean_of(log_p) ** 2) / bits.clamp_min(1e-4)
    order = torch.argsort(worth.flatten(1), 1, descending=True)
    total = torch.cumsum(torch.gather(bits.flatten(1), 1, order).double(), 1)
    share = (total / total[:, -1:]).clamp(1e-6, 1).to(bits.dtype)
    return torch.empty_like(share).scatter_(1, order, share).view_as(bits)


def cut_level(
    level: Level,
    means: tuple[Tensor, Tensor],
    places: tuple[Tensor, Tensor],
    cut: Cut,
    keep: Tensor,
    whole: Tensor,
    *,
    fine: bool,
) -> tuple[Tensor, Tensor]:
    """(what a receiver knows of one level's latents in final steps, planes 1 and 2 missing per sample on average).

    A symbol that a plane has not reached stands at its mean, once the network that tells it has run: that of strides
    32 and 16 when the plane before is complete, that of stride 8 when theirs are known.

    Args:
        level: the symbols; means, places: of planes 1 and 2, see `Plane`.
        cut: where the stream ends.
        keep: (B, C, 1, 1) whether a channel arrives in plane 0; whole: (B,) whether all of that plane does.
        fine: whether this is stride 8.
    """
    in1, in2 = (taken(place, cut, plane) for plane, place in enumerate(places, 1))
    first = whole
    second = first & ((cut.plane > 1) | ((cut.plane == 1) & (cut.share >= 1)))
    if fine:
        first = first & ((cut.plane > 1) | ((cut.plane == 1) & (cut.share > 0)))
        second = second & (cut.plane > 1) & (cut.share > 0)
    told1, told2 = (t.float()[:, None, None, None] for t in (first, second))
    if not fine:
        means = COARSE_MEANS * means[0], COARSE_MEANS * means[1]
    known = torch.where(
        in1 > 0, 9 * level.mean + 3 * level.thirds + means[1] * told2, 9 * level.value + 3 * means[0] * told1
    )
    known = torch.where(in2 > 0, 9 * level.mean + level.final, known)
    return known, (2 - keep * (in1 + in2)).mean((1, 2, 3))


def taken(place: Tensor, cut: Cut, plane: int) -> Tensor:
    """Which symbols of `plane` arrive, by their place in it: (B, C, H, W) of 0 and 1."""
    share = torch.where(cut.plane == plane, cut.share, (cut.plane > plane).float())[:, None, None, None]
    return ((place <= share) & (share > 0)).to(place.dtype)
