"""Quantisation-aware training of synthesis: in training its blocks compute as the exported int8 network will.

What a convolution reads is rounded, what it makes is not: sums of products are int32, and float32 if no other
convolution reads them. Static ranges per tensor, symmetric 7-bit weights per channel (7, so that CPUs without VNNI do
not saturate). Gradients pass where a value was not clipped (Jacob et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hierarchical.fixed import FILTER_MAX

LEVELS = 255
WEIGHT_MAX = 63

CLIPPED = 99.99
"""Per cent of a tensor's values that its int8 range holds. With the whole range (features have long tails) a network
not trained for int8 lost 1.1 dB at quality 1, with 99.999 % 0.59 dB, with 99.99 % 0.40 dB, with 99.9 % 0.65 dB."""

SAMPLE = 20000
"""Values of a tensor that its range is read from."""

EVERY, MOMENTUM = 16, 0.1
"""Steps between two readings, and the weight of a new one."""


class Range(nn.Module):
    """Rounds a tensor to 256 levels of its usual range, when `on`."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.calls = False, 0
        self.register_buffer("ends", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        if not self.on:
            return x
        if self.training and (self.calls % EVERY == 0):
            self._read(x.detach())
        self.calls += 1
        low, high = self.ends.tolist()
        scale = max(high - low, 1e-6) / LEVELS
        return torch.fake_quantize_per_tensor_affine(x, scale, round(-low / scale), 0, LEVELS)

    def _read(self, x: Tensor) -> None:
        values = torch.sort(x.flatten()[:: max(1, x.numel() // SAMPLE)]).values
        out = int(len(values) * (1 - CLIPPED / 100) / 2)
        ends = torch.stack([values[out].clamp_max(0), values[-1 - out].clamp_min(0)])
        first = bool((self.ends == 0).all())
        self.ends.copy_(ends if first else self.ends.lerp(ends, MOMENTUM))


def weight_scale(weight: Tensor) -> Tensor:
    """(outputs,) what one unit of a convolution's int8 weights (outputs, inputs, side, side) is worth."""
    sizes = weight.detach().abs().flatten(1)
    scale = sizes.amax(1) / WEIGHT_MAX
    if weight.shape[1] == 1:  # one filter for each channel; rounding adds at most half a unit to each weight
        scale = torch.maximum(scale, sizes.sum(1) / (FILTER_MAX - sizes.shape[1] / 2))
    return scale.clamp_min(1e-9)


def rounding(conv: nn.Conv2d, given: Range | None) -> Callable[[Tensor], Tensor]:
    """`conv`, with what it reads and its weights on int8 grids when `given` is on."""
    if given is None or not given.on:
        return conv
    scale = weight_scale(conv.weight)
    zero = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
    weight = torch.fake_quantize_per_channel_affine(conv.weight, scale, zero, 0, -WEIGHT_MAX, WEIGHT_MAX)
    return lambda x: F.conv2d(given(x), weight, conv.bias, padding=conv.padding, groups=conv.groups)


def set_int8(module: nn.Module, on: bool) -> None:
    """Switch every `Range` below `module`."""
    for m in module.modules():
        if isinstance(m, Range):
            m.on = on
