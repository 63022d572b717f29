"""Estimated rate and real distortion of a checkpoint over a folder, with real rounding, at every quality and cut."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from models.hierarchical.codec import Codec, Cut
from models.training.data import picture_files, read_picture

QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def evaluate(
    model: Codec, folder: str | Path, qualities: tuple[float, ...] = QUALITIES, crop: int | None = None
) -> list[dict[str, float]]:
    """One row per quality: bpp of the direct prior, of each plane, PSNR (RGB, 8 bit), the training loss."""
    device = next(model.parameters()).device
    rows = []
    files = picture_files(folder)
    for quality in qualities:
        total = torch.zeros(6, dtype=torch.float64)
        for path in files:
            x = to_tensor(path, crop).to(device)
            q = torch.full((1,), quality, device=device)
            result = model(x, q, Cut.none(1, model.config.parts, x.device), full=1, hard=True)
            pixels = x.shape[2] * x.shape[3]
            mse = ((result.picture.clamp(0, 1) * 255).round() - x * 255).pow(2).mean()
            bits = [result.direct.item(), *(p.item() for p in result.planes)]
            lam = torch.tensor(model.config.log_lambda_at(quality)).exp()
            loss = (sum(bits[1:]) / pixels + lam * mse.cpu()) / lam.sqrt() / 255 * 3
            psnr = 10 * torch.log10(255**2 / mse)
            total += torch.tensor([*(b / pixels for b in bits), psnr.item(), loss.item()]).double() / len(
                files
            )
        names = ("direct", "plane0", "plane1", "plane2", "psnr", "loss")
        row = {"quality": quality, **{n: round(v.item(), 4) for n, v in zip(names, total, strict=True)}}
        row["bpp"] = round(row["plane0"] + row["plane1"] + row["plane2"], 4)
        rows.append(row)
    return rows


def to_tensor(path: Path, crop: int | None) -> Tensor:
    """(1, 3, H, W) in [0, 1]; centre crop, or cropped to multiples of 32."""
    array = read_picture(path)
    h, w = array.shape[:2]
    th, tw = (min(crop or h, h) // 32 * 32, min(crop or w, w) // 32 * 32)
    top, left = (h - th) // 2, (w - tw) // 2
    patch = array[top : top + th, left : left + tw].copy()
    return torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255
