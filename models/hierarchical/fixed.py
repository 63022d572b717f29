"""Fixed-point layers of the exact prior.

Every activation is an 8-bit integer times 2**-fraction, every weight an integer |w| <= 64 times a power of two per
output channel. A layer computes integer accumulators, shifts them with round-half-even and clips:

    y = clip(round((sum(w * x) + b) * 2**-(fx + fw - fy)), low, high)

which is ONNX's QLinearConv with power-of-two scales. It is the same integer on any hardware because
- |w| <= 64 keeps the sum of two products below 2**15, so that the saturating 16-bit steps of CPUs without
  VNNI never saturate (with 8-bit weights they give wrong integers);
- a filter's weights add up to no more than 128, so that all its products together stay there (`FILTER_MAX`);
- every accumulator is below 2**24 (`integers` proves it per channel), so that int32, float32 and any order of
  summation agree, and its conversion to float32 and the multiplication by a power of two are exact.

In training the same layer runs in floats; with `exact = True` it rounds weights and activations to their grids,
gradients passing straight through, and its output then equals the exported integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

ACCUMULATOR_BITS = 24
"""float32 holds every integer up to 2**24 exactly."""

WEIGHT_MAX = 64
"""2 * 255 * 64 < 2**15: no pair of products saturates 16 bits."""

FILTER_MAX = 128
"""255 * 128 < 2**15: a filter of a single channel sums all its products in 16 bits, twice as many at once as in 32.
The coarser weights cost 0.01 % of the bits without training for them."""

MAX_WEIGHT_SHIFT = 14
"""Largest power of two in a weight's grid; smaller weights gain nothing from a finer one."""


def round_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had happened."""
    return x + (x.round() - x).detach()


class Clip(torch.autograd.Function):
    """clamp whose gradient still reaches clipped values when it would bring them back.

    With an ordinary clamp, units that saturate never learn again, and at Muon's rates most of them do. Where the
    clip is a ReLU (`rectify`) its lower end lets nothing back: a gradient that passes only upwards drives units on
    until they are never off, and the network is a linear one.
    """

    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float, rectify: bool) -> Tensor:
        y = x.clamp(low, high)
        ctx.save_for_backward(x - y)
        ctx.rectify = rectify
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        (over,) = ctx.saved_tensors  # a step against the gradient brings x back where both have one sign
        passes = over * grad >= 0
        return grad * (passes & (over >= 0) if ctx.rectify else passes), None, None, None


class Grid:
    """An activation format: integers low..high, in units of 2**-fraction; `rectify`: clipping to it is a ReLU."""

    def __init__(self, low: int, high: int, fraction: int, rectify: bool = False) -> None:
        self.low, self.high, self.fraction, self.rectify = low, high, fraction, rectify

    @property
    def peak(self) -> int:
        return max(abs(self.low), abs(self.high))

    def snap(self, x: Tensor, exact: bool) -> Tensor:
        unit = 2.0**self.fraction
        if exact:
            x = round_through(x * unit) / unit
        return Clip.apply(x, self.low / unit, self.high / unit, self.rectify)


STREAM = Grid(-128, 127, 4)
"""Residual streams: -8..8 in steps of 1/16."""

HIDDEN = Grid(0, 255, 5, rectify=True)
"""After a ReLU: 0..8 in steps of 1/32."""


class FixedConv(nn.Module):
    """A pointwise or depthwise convolution from one grid to another.

    Args:
        cin, cout: channels; equal when `depthwise`.
        source: the grid of the input.
        target: the grid of the output; clipping to it is the non-linearity.
        depthwise: one filter per channel; else every input channel feeds every output.
        size: side of the filter, odd, zero padded; larger than 1 only when depthwise.
        knots: when given, the bias is a spline over quality with that many knots.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        source: Grid,
        target: Grid,
        *,
        depthwise: bool = False,
        size: int = 1,
        knots: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.target, self.depthwise, self.exact = source, target, depthwise, False
        self.conv = nn.Conv2d(cin, cout, size, padding=size // 2, groups=cin if depthwise else 1)
        self.quality = nn.Parameter(torch.zeros(knots, cout)) if knots else None

    def biases(self, basis: Tensor | None) -> Tensor:
        """(B or 1, cout) biases for spline basis (B, knots)."""
        bias = self.conv.bias[None]
        return bias if self.quality is None or basis is None else bias + basis @ self.quality

    def shifts(self) -> Tensor:
        """(cout,) fw: weights are integers times 2**-fw; the largest that keeps the accumulator bound."""
        w = self.conv.weight.detach().abs().flatten(1)
        bias = self.conv.bias.detach().abs()
        if self.quality is not None:
            bias = bias + self.quality.detach().abs().amax(0)
        by_weight = WEIGHT_MAX / w.amax(1).clamp_min(1e-9)
        # Rounding may add 1/2 to each weight and to the bias; the bound is on the rounded ones.
        room = 2.0**ACCUMULATOR_BITS - 1 - (0.5 * w.shape[1] + 1) * self.source.peak
        reach = w.sum(1) * self.source.peak + bias * 2.0**self.source.fraction
        shift = torch.floor(torch.log2(torch.minimum(by_weight, room / reach.clamp_min(1e-9))))
        if self.depthwise and w.shape[1] > 1:
            shift = torch.minimum(shift, torch.floor(torch.log2(FILTER_MAX / w.sum(1).clamp_min(1e-9))))
            rounded = torch.round(w * 2.0 ** shift[:, None]).sum(1)
            shift = shift - (rounded > FILTER_MAX).to(shift.dtype)
        return shift.clamp(-8, MAX_WEIGHT_SHIFT)

    def forward(self, x: Tensor, basis: Tensor | None = None) -> Tensor:
        weight, bias = self.conv.weight, self.biases(basis)
        if self.exact:
            scale = 2.0 ** self.shifts()
            weight = round_through(weight * scale[:, None, None, None]) / scale[:, None, None, None]
            unit = scale * 2.0**self.source.fraction
            bias = round_through(bias * unit) / unit
        if self.depthwise and weight.shape[-1] == 1:  # PyTorch would loop over the channels
            y = x * weight.view(1, -1, 1, 1)
        else:
            y = nn.functional.conv2d(x, weight, None, padding=self.conv.padding, groups=self.conv.groups)
        return self.target.snap(y + bias[:, :, None, None], self.exact)


class FixedBlock(nn.Module):
    """Residual block of fixed-point layers: depthwise 5x5, expand, project, add, clip."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.dw = FixedConv(channels, channels, STREAM, STREAM, depthwise=True, size=5)
        self.a = FixedConv(channels, hidden, STREAM, HIDDEN)
        self.b = FixedConv(hidden, channels, HIDDEN, STREAM)
        nn.init.zeros_(self.b.conv.bias)
        self.b.conv.weight.data *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        return STREAM.snap(x + self.b(self.a(self.dw(x))), False)


def set_exact(module: nn.Module, exact: bool) -> None:
    """Switch every fixed-point layer below `module` between floats and its integer grid."""
    for m in module.modules():
        if isinstance(m, FixedConv):
            m.exact = exact


@dataclass(frozen=True)
class Integers:
    """A fixed-point layer as integers.

    Attributes:
        weight: (cout, cin or 1, size, size) int64.
        bias: (qualities, cout) int64, one row per quality index when the bias depends on quality, else one row.
        scale: (cout,) float64 powers of two: what one unit of each channel's weights is worth.
        bound: (cout,) int64, proved largest magnitude of the accumulator.
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    bound: np.ndarray


def integers(layer: FixedConv, basis: Tensor) -> Integers:
    """The layer's integers, with the accumulator bound proved for every channel.

    Args:
        basis: (qualities, knots) spline basis of every quality index.

    Raises:
        ValueError: some accumulator could reach 2**24; the message names the channel and the bound.
    """
    with torch.no_grad():
        scale = 2.0 ** layer.shifts()
        weight = torch.round(layer.conv.weight * scale[:, None, None, None]).numpy().astype(np.int64)
        unit = scale * 2.0**layer.source.fraction
        values = layer.biases(basis if layer.quality is not None else None)
        bias = torch.round(values.double() * unit.double()).numpy().astype(np.int64)
    bound = np.abs(weight).sum((1, 2, 3)) * layer.source.peak + np.abs(bias).max(0)
    if np.abs(weight).max() > WEIGHT_MAX:
        raise ValueError(f"a weight of {np.abs(weight).max()} exceeds {WEIGHT_MAX}")
    if layer.depthwise and (total := np.abs(weight).sum((1, 2, 3)).max()) > FILTER_MAX:
        raise ValueError(f"a filter's weights add up to {total}, {FILTER_MAX} is the limit")
    if bound.max() >= 2**ACCUMULATOR_BITS:
        channel = int(bound.argmax())
        raise ValueError(f"channel {channel}: the accumulator can reach {bound.max()}, 2**24 is the limit")
    return Integers(weight, bias, 2.0 ** -layer.shifts().double().numpy(), bound)
