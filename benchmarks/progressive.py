"""What one encoded picture shows while its bytes arrive: each codec's own progressive file, cut short.

layercast counts whole layers of an access unit; JPEG, the bytes of a progressive file (all of whose scans
so far are shown); JPEG 2000, whole packets of ten quality layers; JPEG XL, the bytes of a file with
refined AC. PSNR at some number of bytes is that of the last picture that could be shown by then.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from benchmarks import jpeg2000_cut, jpegxl_cut, ours, pictures, results
from benchmarks.peers import library_versions, pillow_decode
from benchmarks.pictures import Picture
from layercast import Codec
from layercast.bench.metrics import psnr

CUTS = 40
"""Places at which a file is cut, evenly over its bytes."""

MAX_BPP = 2.0
"""Bits per pixel that layercast's encoding may have here; the peers' settings come out a little under it."""

AT_BPP = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5)
"""Bits per pixel received at which the table gives the PSNR."""

Curve = list[tuple[int, float]]
"""Bytes received, and PSNR in dB of what is shown then."""


def jpeg(original: Picture) -> Curve:
    out = io.BytesIO()
    Image.fromarray(original).save(
        out, "JPEG", quality=90, subsampling="4:2:0", progressive=True, optimize=True
    )
    data = out.getvalue()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        return [
            (size, psnr(original, pillow_decode(data[:size]))) for size in _sizes(len(data), len(data) // 50)
        ]
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def jpeg2000(original: Picture) -> Curve:
    stream = jpeg2000_cut.encode(original, layers=10)
    counts = sorted({round(c) for c in np.linspace(1, len(stream.packets), CUTS)})
    return [(stream.size(c), psnr(original, pillow_decode(stream.cut(c)))) for c in counts]


def jpegxl(original: Picture) -> Curve:
    library = jpegxl_cut.library()
    if library is None:
        return []
    data = jpegxl_cut.encode(library, original, distance=1.0)
    shown = ((size, jpegxl_cut.decode(library, data[:size])) for size in _sizes(len(data), len(data) // 50))
    return [(size, psnr(original, picture)) for size, picture in shown if picture is not None]


def layered(codec: Codec) -> Callable[[Picture], Curve]:
    def curve(original: Picture) -> Curve:
        limit = MAX_BPP * original.shape[0] * original.shape[1] / 8
        for quality in reversed(ours.QUALITIES):
            frame = codec.encode(original, quality)
            if len(ours.unit_of(frame)) <= limit:
                break
        return [(p.size, psnr(original, p.picture)) for p in ours.prefixes(codec, frame)]

    return curve


def at(curve: Curve, size: float) -> float | None:
    """PSNR of the best picture shown before `size` bytes have passed."""
    return max((db for received, db in curve if received <= size), default=None)


def risen(curve: Curve) -> Curve:
    """Only the points that beat all before them: a receiver goes on showing the best it had."""
    best: Curve = []
    for size, db in curve:
        if not best or db > best[-1][1]:
            best.append((size, db))
    return best


def _sizes(total: int, first: int) -> Iterator[int]:
    yield from (round(size) for size in np.linspace(first, total, CUTS))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.progressive", description=__doc__.split("\n")[0]
    )
    pictures.add_argument(parser)
    parser.add_argument("--codec", action="append", metavar="NAME", help="default: all that are registered")
    args = parser.parse_args()
    chosen = pictures.chosen(args)
    makers: dict[str, Callable[[Picture], Curve]] = {
        f"layercast {name}": layered(codec) for name, codec in ours.available(args.codec).items()
    }
    makers |= {"JPEG progressive": jpeg, "JPEG 2000": jpeg2000, "JPEG XL progressive": jpegxl}
    rows: list[dict[str, Any]] = []
    for name, maker in makers.items():
        curves = {label: maker(picture) for label, picture in chosen.pictures.items()}
        if not all(curves.values()):
            print(f"{name}: left out: its library is not here")
            continue
        means = {}
        for bpp in AT_BPP:
            found = [
                at(curves[label], bpp * picture.shape[0] * picture.shape[1] / 8)
                for label, picture in chosen.pictures.items()
            ]
            shown = [db for db in found if db is not None]
            means[str(bpp)] = round(fmean(shown), 2) if len(shown) == len(found) else None
        first = next(iter(curves))
        curve = [[size, round(db, 3)] for size, db in risen(curves[first])]
        rows.append({"codec": name, "mean_psnr_at_bpp": means, "picture": first, "curve": curve})
    libraries = {name: library_versions()[name] for name in ("libjpeg_turbo", "jpg_2000", "libjxl")}
    results.save("progressive", chosen.name, rows, libraries=libraries, **chosen.about)


if __name__ == "__main__":
    main()
