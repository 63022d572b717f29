"""The pictures that are measured on: a folder of them, or the few that ship with the package."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from layercast.demo import assets

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureSet:
    """Named pictures, (H, W, 3) uint8, and a digest of all their pixels."""

    name: str
    pictures: dict[str, Picture]
    digest: str

    @property
    def about(self) -> dict[str, object]:
        return {"set": self.name, "pictures": len(self.pictures), "digest": self.digest}


def load(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def bundled() -> PictureSet:
    """The Kodak pictures of the package: what anybody has who has a clone."""
    return _set("bundled", [assets.path(name) for name in assets.PICTURES])


def folder(path: Path) -> PictureSet:
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in {".png", ".ppm", ".bmp", ".tif", ".tiff"})
    if not files:
        raise SystemExit(f"no lossless pictures in {path}")
    return _set(f"{path.resolve().name}-{len(files)}", files)


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="default: those in the package")


def chosen(args: argparse.Namespace) -> PictureSet:
    return bundled() if args.pictures is None else folder(args.pictures)


def mosaic(pictures: list[Picture], width: int, height: int) -> Picture:
    """Pictures side by side at their own resolution, cut to size: larger, with natural statistics."""
    rows: list[Picture] = []
    at = 0
    while sum(row.shape[0] for row in rows) < height:
        row: list[Picture] = []
        while sum(tile.shape[1] for tile in row) < width:
            row.append(pictures[at % len(pictures)])
            at += 1
        tall = min(tile.shape[0] for tile in row)
        rows.append(np.concatenate([tile[:tall] for tile in row], axis=1)[:, :width])
    return np.ascontiguousarray(np.concatenate(rows)[:height])


def _set(name: str, files: list[Path]) -> PictureSet:
    pictures = {path.stem: load(path) for path in files}
    digest = hashlib.sha256()
    for picture in pictures.values():
        digest.update(repr(picture.shape).encode() + picture.tobytes())
    return PictureSet(name, pictures, digest.hexdigest()[:16])
