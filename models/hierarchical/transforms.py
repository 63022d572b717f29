"""Analysis and synthesis: a linear pyramid that is a codec by itself, and networks that only correct it.

The pyramid is an orthonormal colour transform, an 8x8 DCT at stride 8 and 2x2 DCTs of the DC planes at strides
16 and 32 (and its inverse); the networks' last layers start at zero, so training starts from a linear codec
and never from noise. Blocks are depthwise 5x5, expand, ReLU, project, residual (ConvNeXt without its norm,
Liu et al. 2022), which int8 runs well. Synthesis blocks know how precisely each level is known through a
first-order spline of per-channel scales (Duan et al. 2023; NTC section 5).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.hierarchical.config import Config
from models.hierarchical.int8 import Range, rounding

PRECISION_MIN = -1.25
"""Left end of the precision axis: 1 is quality 1 with every plane; quality 0 with plane 0 alone stands at -0.81. The
knots below are from when plane 0 could be missing too, and unused."""

PRECISION_KNOTS = 15
"""Knots on [PRECISION_MIN, 1], 0.16 apart."""


def hat_basis(x: Tensor, knots: int, low: float = 0.0) -> Tensor:
    """Hat functions over [low, 1] at x (B,): (B, knots), in each row at most two non-zero values, which sum to 1."""
    position = ((x - low) / (1 - low)).clamp(0, 1) * (knots - 1)
    return (1 - (position[:, None] - torch.arange(knots, device=x.device)).abs()).clamp_min(0)


class Spline(nn.Module):
    """First-order spline of `channels` values over [low, 1]; input (B,), output (B, channels, 1, 1)."""

    def __init__(self, channels: int, knots: int, low: float = 0.0) -> None:
        super().__init__()
        self.low, self.knots = low, knots
        self.t = nn.Parameter(torch.zeros(knots, channels))

    def forward(self, x: Tensor) -> Tensor:
        return (hat_basis(x, self.knots, self.low) @ self.t)[:, :, None, None]


class Block(nn.Module):
    """Residual block.

    Args:
        conditioned: with `precision`, its input is scaled per channel by a spline.
        rounded: it can be trained for int8, which rounds what its convolutions read.
        hidden: units, twice the channels if it is 0.
    """

    def __init__(self, channels: int, conditioned: bool, rounded: bool = False, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or 2 * channels
        self.ranges = nn.ModuleList([Range() for _ in range(3)]) if rounded else (None,) * 3
        self.scale = Spline(channels, PRECISION_KNOTS, PRECISION_MIN) if conditioned else None
        self.dw = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.a = nn.Conv2d(channels, hidden, 1)
        self.b = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.b.bias)
        self.b.weight.data *= 0.3

    def forward(self, x: Tensor, precision: Tensor | None = None) -> Tensor:
        scaled = x if self.scale is None or precision is None else x * (1 + self.scale(precision))
        pairs = zip((self.dw, self.a, self.b), self.ranges, strict=True)
        dw, a, b = (rounding(conv, given) for conv, given in pairs)
        return x + b(F.relu(a(dw(scaled))))


def stage(
    c: Config, name: str, width: int, depth: int, begin: int = 0, conditioned: bool = False
) -> list[Block]:
    """Blocks of a stage, named `name` and counted from `begin`; those of synthesis are conditioned."""
    return [
        Block(width, conditioned, conditioned, c.units(f"{name}.{begin + i}", 2 * width))
        for i in range(depth)
    ]


class Up(nn.Sequential):
    """From `a` channels to `b` at half the stride; `rounded`: it can be trained for int8."""

    def __init__(self, a: int, b: int, rounded: bool = False) -> None:
        super().__init__(nn.Conv2d(a, 4 * b, 1), nn.PixelShuffle(2))
        self.range = Range() if rounded else None

    def forward(self, x: Tensor) -> Tensor:
        mix, shuffle = self[0], self[1]
        return shuffle(rounding(mix, self.range)(x))


def zeroed(m: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(m.weight)
    nn.init.zeros_(m.bias)
    return m


def pyramid_filters(detail: int) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal filters: (detail, 3, 8, 8) AC functions, (3, 3, 8, 8) DC, (12, 1, 2, 2) 2x2 DCT.

    AC functions are ordered by zigzag frequency, chroma 2.2 times later, so that channels run coarse to fine.
    """

    def dct(n: int) -> np.ndarray:
        k, x = np.arange(n)[:, None], np.arange(n)[None]
        m = np.cos(np.pi * (2 * x + 1) * k / (2 * n)) * (2 / n) ** 0.5
        m[0] /= 2**0.5
        return m

    d8, d2 = dct(8), dct(2)
    colour = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    ranked = sorted(
        ((u + v) * (1 if k == 0 else 2.2) + (0 if k == 0 else 0.5), k, u, v)
        for k in range(3)
        for u in range(8)
        for v in range(8)
        if u + v
    )

    def filt(k: int, u: int, v: int) -> np.ndarray:
        return colour[k][:, None, None] * np.outer(d8[u], d8[v])

    return tuple(
        torch.tensor(np.array(a), dtype=torch.float32)
        for a in (
            [filt(k, u, v) for _, k, u, v in ranked[:detail]],
            [filt(k, 0, 0) for k in range(3)],
            np.array([np.outer(d2[i // 2], d2[i % 2]) for i in range(4)] * 3)[:, None],
        )
    )


def fixed_filter(cls: type, weight: Tensor, *args: int, **kwargs: int) -> nn.Module:
    m = cls(*args, bias=False, **kwargs)
    m.weight.data = weight.clone()
    return m


def mixed_precision(x: Tensor, enabled: bool) -> torch.autocast:
    """bfloat16 for the networks that correct the linear pyramid; the pyramid itself stays in float32."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=enabled)


class Analysis(nn.Module):
    """Picture (B, 3, H, W) in [0, 1], H and W multiples of 32 -> latents at strides 32, 16, 8, in pixel units.

    It does not know the quality: a quality is only a step on these latents, which makes all qualities one
    nested family.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.mixed = False
        (w32, w16, w8), (n32, n16, n8) = c.widths, c.depths
        b8, bdc, haar = pyramid_filters(c.latents[2])
        self.l8 = fixed_filter(nn.Conv2d, b8, 3, c.latents[2], 8, 8)
        self.ldc = fixed_filter(nn.Conv2d, bdc, 3, 3, 8, 8)
        self.l16 = fixed_filter(nn.Conv2d, haar, 3, 12, 2, 2, groups=3)
        self.l32 = fixed_filter(nn.Conv2d, haar, 3, 12, 2, 2, groups=3)
        self.e8 = nn.Sequential(nn.Conv2d(3, w8, 8, 8), *stage(c, "analysis.e8", w8, n8, 1))
        self.e16 = nn.Sequential(nn.Conv2d(w8, w16, 2, 2), *stage(c, "analysis.e16", w16, n16, 1))
        self.e32 = nn.Sequential(nn.Conv2d(w16, w32, 2, 2), *stage(c, "analysis.e32", w32, n32, 1))
        self.y = nn.ModuleList([zeroed(nn.Conv2d(w, n, 1)) for w, n in zip(c.widths, c.latents, strict=True)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x - 0.5
        bands = self.l16(self.ldc(x))
        b, _, h, w = bands.shape
        bands = bands.view(b, 3, 4, h, w)
        a32, a16 = self.l32(bands[:, :, 0]), bands[:, :, 1:].reshape(b, 9, h, w)
        with mixed_precision(x, self.mixed):
            f8 = self.e8(x)
            f16 = self.e16(f8)
            y32, y16, y8 = self.y[0](self.e32(f16)), self.y[1](f16), self.y[2](f8)
        return pad_channels(a32, y32.float()), pad_channels(a16, y16.float()), self.l8(x) + y8.float()


def pad_channels(linear: Tensor, correction: Tensor) -> Tensor:
    """correction + linear, where linear covers only the first channels."""
    n = linear.shape[1]
    return torch.cat([correction[:, :n] + linear, correction[:, n:]], 1)


class Synthesis(nn.Module):
    """Latents in pixel units and how precisely each level is known -> picture (B, 3, H, W), nominally [0, 1]."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.mixed = False
        (w32, w16, w8), (n32, n16, n8), (c32, c16, c8) = c.widths, c.depths, c.latents
        b8, bdc, haar = pyramid_filters(c8)
        self.s8 = fixed_filter(nn.ConvTranspose2d, b8, c8, 3, 8, 8)
        self.sdc = fixed_filter(nn.ConvTranspose2d, bdc, 3, 3, 8, 8)
        self.s16 = fixed_filter(nn.ConvTranspose2d, haar, 12, 3, 2, 2, groups=3)
        self.s32 = fixed_filter(nn.ConvTranspose2d, haar, 12, 3, 2, 2, groups=3)
        self.shrink = nn.ModuleList([Spline(n, PRECISION_KNOTS, PRECISION_MIN) for n in c.latents])
        self.i32, self.i16, self.i8 = nn.Conv2d(c32, w32, 1), nn.Conv2d(c16, w16, 1), nn.Conv2d(c8, w8, 1)
        self.d32 = nn.ModuleList(stage(c, "synthesis.d32", w32, n32, conditioned=True))
        self.d16 = nn.ModuleList(stage(c, "synthesis.d16", w16, n16, conditioned=True))
        self.d8 = nn.ModuleList(stage(c, "synthesis.d8", w8, n8, conditioned=True))
        self.u16 = Up(w32, w16)
        self.u8, self.u4 = Up(w16, w8, rounded=True), Up(w8, c.width4, rounded=True)
        self.lin4 = nn.Conv2d(3, c.width4, 4, 4)
        self.d4 = Block(c.width4, True, hidden=c.units("synthesis.d4", 2 * c.width4))
        self.out = zeroed(nn.Conv2d(c.width4, 48, 1))
        self.shuffle = nn.PixelShuffle(4)

    def forward(self, latents: tuple[Tensor, Tensor, Tensor], precision: Tensor) -> Tensor:
        """precision (B, 3): `quality - plane_quality * planes missing`, averaged over each level's symbols."""
        p32, p16, p8 = precision.unbind(1)
        t32, t16, t8 = (
            z * torch.exp(s(p)) for z, s, p in zip(latents, self.shrink, (p32, p16, p8), strict=True)
        )
        dc = self.s32(t32[:, :12])
        b, _, h, w = dc.shape
        bands = torch.cat([dc[:, :, None], t16[:, :9].reshape(b, 3, 3, h, w)], 2).reshape(b, 12, h, w)
        linear = self.pyramid(t8, self.s16(bands))
        with mixed_precision(t8, self.mixed):
            d = self.i32(t32)
            for block in self.d32:
                d = block(d, p32)
            d = self.u16(d) + self.i16(t16)
            for block in self.d16:
                d = block(d, p16)
            d = self.u8(d) + self.i8(t8)
            for block in self.d8:
                d = block(d, p8)
            d = self.d4(self.u4(d) + self.lin4(linear), p8)
            correction = self.out(d)
        return self.corrected(linear, correction.float())

    def pyramid(self, t8: Tensor, dc: Tensor) -> Tensor:
        """The linear picture from stride 8's latents and DC."""
        return self.s8(t8) + self.sdc(dc)

    def corrected(self, linear: Tensor, correction: Tensor) -> Tensor:
        """Linear picture and correction (48 channels at stride 4) -> picture."""
        return linear + self.shuffle(correction) + 0.5
