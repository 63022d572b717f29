"""Rate-distortion points on the 24 Kodak pictures that others published, as they published them."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from benchmarks.results import ROOT

FILE = ROOT / "data" / "kodak_published.csv"
"""codec, bpp, psnr_rgb (dB), ms_ssim (empty when not stated), source (repository:path, or how it was made).

Of the two OHMQ curves (480 points each) every 16th point was kept."""


@dataclass(frozen=True)
class Curve:
    """Points of one codec, small files first; `ms_ssim` is empty when the source does not state it."""

    source: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    ms_ssim: tuple[float, ...]


def curves() -> dict[str, Curve]:
    rows: dict[str, list[dict[str, str]]] = {}
    with FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["codec"], []).append(row)
    found = {}
    for codec, points in rows.items():
        points.sort(key=lambda row: float(row["bpp"]))
        found[codec] = Curve(
            points[0]["source"],
            tuple(float(row["bpp"]) for row in points),
            tuple(float(row["psnr_rgb"]) for row in points),
            tuple(float(row["ms_ssim"]) for row in points if row["ms_ssim"]),
        )
    return found
