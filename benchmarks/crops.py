"""One picture's crop at four prefixes beside JPEG and AVIF at the same bytes: what the figures look like.

    python -m benchmarks.crops --codec hierarchical --picture kodim23.png --out docs/img/crops.png

Every tile is labelled with the bytes of the whole picture and its PSNR. Peers get the best quality that needs no
more bytes; where even the smallest file is larger, the tile says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.ours import Prefix, prefixes
from benchmarks.peers import AVIF_444, JPEG_420, Peer
from benchmarks.pictures import Picture, load
from layercast import get_codec
from layercast.bench.metrics import psnr
from layercast.demo import assets

LABEL_HEIGHT = 18
"""Pixels above each tile for its label."""

PEER_QUALITIES = range(1, 96)


def best_within(peer: Peer, picture: Picture, size: int) -> tuple[int, Picture]:
    """(bytes, decoded picture) of the largest file of at most `size` bytes, or of the smallest there is."""
    smallest = peer.encode(picture, PEER_QUALITIES[0])
    low, high, best = PEER_QUALITIES[0], PEER_QUALITIES[-1], smallest
    while low <= high:
        middle = (low + high) // 2
        data = peer.encode(picture, middle)
        if len(data) <= size:
            best, low = data, middle + 1
        else:
            high = middle - 1
    return len(best), peer.decode(best)


def tile(label: str, picture: Picture, box: tuple[int, int, int, int]) -> Image.Image:
    left, top, right, bottom = box
    image = Image.new("RGB", (right - left, bottom - top + LABEL_HEIGHT), "white")
    image.paste(Image.fromarray(picture[top:bottom, left:right]), (0, LABEL_HEIGHT))
    ImageDraw.Draw(image).text((3, 3), label, fill="black")
    return image


def chosen_prefixes(made: list[Prefix], count: int) -> list[Prefix]:
    """`count` prefixes spread evenly over the logarithm of their bytes, from the first that shows detail."""
    usable = made[2:]
    targets = np.geomspace(usable[0].size, usable[-1].size, count)
    return [min(usable, key=lambda p: abs(np.log(p.size / t))) for t in targets]


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--codec", default="hierarchical")
    ap.add_argument("--picture", default="kodim23.png", help="a bundled picture, or a path")
    ap.add_argument("--box", type=int, nargs=4, default=(90, 150, 330, 390), metavar=("L", "T", "R", "B"))
    ap.add_argument("--out", type=Path, required=True)
    args = ap.parse_args()
    path = Path(args.picture)
    original = load(path if path.exists() else assets.path(args.picture))
    codec = get_codec(args.codec)
    made = list(prefixes(codec, codec.encode(original, 1.0)))
    rows = []
    for prefix in chosen_prefixes(made, 4):
        row = [(f"{args.codec}, {prefix.layers} layers", prefix.size, prefix.picture)]
        for peer in (AVIF_444, JPEG_420):
            row.append((peer.title, *best_within(peer, original, prefix.size)))
        rows.append(row)
    box = tuple(args.box)
    tiles = [
        [
            tile(f"{name}: {size} B, {psnr(original, picture):.1f} dB", picture, box)
            for name, size, picture in row
        ]
        for row in rows
    ]
    width, height = tiles[0][0].size
    sheet = Image.new("RGB", (len(tiles[0]) * (width + 4), len(tiles) * (height + 4)), "white")
    for y, row in enumerate(tiles):
        for x, image in enumerate(row):
            sheet.paste(image, (x * (width + 4), y * (height + 4)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
