"""Photographs held in memory as bytes; random crops with flips, rescaling and mild camera noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CHUNK = 8
"""Crops whose latents are computed at once."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def picture_files(folder: str | Path) -> list[Path]:
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}")
    return files


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def crops(data: str, count: int, side: int, seed: int) -> list[np.ndarray]:
    """`count` crops of (side, side, 3) from different pictures of a folder."""
    rng = np.random.default_rng(seed)
    out = []
    for path in rng.permutation(np.array(picture_files(data)))[:count]:
        image = read_picture(path)
        top, left = (rng.integers(n - side + 1) for n in image.shape[:2])
        out.append(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return out


class Photographs:
    """Random crops from a folder; pictures are drawn with probability growing as the root of their area.

    Args:
        folder: pictures (any format Pillow reads).
        crop: side of a crop in pixels, a multiple of 32.
        seed: of the crops' sequence.
        device: where batches go.
    """

    def __init__(self, folder: str | Path, crop: int, seed: int, device: str = "cpu") -> None:
        self.crop, self.device, self.rng = crop, device, np.random.default_rng(seed)
        self.pictures: list[Tensor] = []
        self.seen: set[Path] = set()
        self.folder = Path(folder)
        self.refresh()

    def refresh(self) -> None:
        """Take in files that have arrived since (pictures may travel to a training machine in parts)."""
        for path in picture_files(self.folder):
            if path not in self.seen:
                array = read_picture(path)
                if min(array.shape[:2]) >= self.crop:
                    self.pictures.append(torch.from_numpy(array.copy()).to(self.device))
                self.seen.add(path)
        often = np.array([p.shape[0] * p.shape[1] for p in self.pictures]) ** 0.5
        self.weights = often / often.sum()

    def batch(self, size: int) -> Tensor:
        """(size, 3, crop, crop) float32 in [0, 1], channels last."""
        out = []
        for picture in self.rng.choice(len(self.pictures), size=size, p=self.weights):
            image = self.pictures[picture]
            h, w = image.shape[:2]
            zoom = 1.0 if self.rng.random() < 0.6 else self.rng.uniform(1.0, 1.6)
            side = min(round(self.crop * zoom), h, w)
            top, left = self.rng.integers(h - side + 1), self.rng.integers(w - side + 1)
            patch = image[top : top + side, left : left + side].permute(2, 0, 1)[None].float() / 255
            if side != self.crop:
                patch = F.interpolate(patch, (self.crop, self.crop), mode="bilinear", antialias=True)
            if self.rng.random() < 0.5:
                patch = patch.flip(3)
            if self.rng.random() < 0.15:
                patch = patch * self.rng.uniform(0.6, 1.1) + torch.randn_like(patch) * self.rng.uniform(
                    0, 0.01
                )
            out.append(patch.clamp(0, 1))
        return torch.cat(out).contiguous(memory_format=torch.channels_last)


class Latents:
    """Latents of random crops, computed once: what an exact prior is trained on when analysis stands still.

    Args:
        photographs: where crops come from.
        latents: crops (B, 3, H, W) -> latents of every level, (B, C, H, W) each.
        count: crops that are held, as float16.
    """

    def __init__(
        self, photographs: Photographs, latents: Callable[[Tensor], list[Tensor]], count: int
    ) -> None:
        self.photographs, self.latents, self.count = photographs, latents, count
        self.held: list[list[Tensor]] = []
        self.refresh()

    def refresh(self) -> None:
        """Replace the oldest quarter."""
        del self.held[: max(len(self.held) // 4, 1)]
        while len(self.held) * CHUNK < self.count:
            self.held.append([y.half() for y in self.latents(self.photographs.batch(CHUNK))])
        self.levels = [torch.cat(level) for level in zip(*self.held, strict=True)]

    def batch(self, size: int) -> list[Tensor]:
        chosen = torch.randint(len(self.levels[0]), (size,))
        return [level[chosen].float() for level in self.levels]
