"""The direct prior, for training alone: of the final symbols, in floats, coarse to fine and group by group.

Its noisy rate (Balle et al. 2017) is what analysis is trained on, and the yardstick for what planes cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hierarchical.config import Config
from models.hierarchical.prior import LowerBound, gaussian_bits
from models.hierarchical.transforms import Block, Spline, Up, mixed_precision


class DirectPrior(nn.Module):
    """Prior of the final symbols, with everything coarser and every earlier group known.

    At strides 16 and 8 it predicts scales only. With means, analysis learned latents whose values follow from
    finer symbols than a plane knows when it begins, and planes cost 26 % more than this prior; without them the
    same bits are saved by analysis itself, and planes cost 16 % more (12 minutes of training).
    """

    GROUPS = ((24,), (16, 16), (12, 12, 12, 12, 12, 12, 18, 18))
    """Channels of each level's groups; each knows those before."""

    GIVEN = (2, 1, 1)
    """Numbers for each symbol: mean and scale, or scale."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.mixed = False
        (c32, c16, _), widths, k = c.latents, (64, 96, 96), c.knots
        self.u16, self.u8 = Up(c32, 48), Up(48 + c16, 64)
        self.q = nn.ModuleList([Spline(w, k) for w in widths])
        self.inputs = nn.ModuleList([nn.Conv2d(48, 96, 1), nn.Conv2d(64, 96, 1)])
        self.blocks = nn.ModuleList([nn.ModuleList([Block(96, True), Block(96, True)]) for _ in range(2)])
        self.heads = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(w + sum(sizes[:i]), w, 1), nn.ReLU(), nn.Conv2d(w, given * n, 1))
                for i, n in enumerate(sizes)
            )
            for sizes, w, given in zip(self.GROUPS, widths, self.GIVEN, strict=True)
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
            begin = 0
            for n, head in zip(self.GROUPS[i], self.heads[i], strict=True):
                given = head(torch.cat([h.float(), z[:, :begin]], 1))
                scale = LowerBound.apply(F.softplus(given[:, -n:]), 0.08)
                residual = y[:, begin : begin + n]
                begin += n
                residual = residual if i else residual - given[:, :n]
                residual = residual.round() if hard else residual + torch.rand_like(residual) - 0.5
                bits = bits + gaussian_bits(residual, scale).sum((1, 2, 3))
        return bits
