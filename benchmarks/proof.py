"""The harness against others' figures: the same codec on the same pictures must give the published curve.

Each stored curve is compared point by point with what `benchmarks.rd` measured here with the same
settings. WebP and JPEG are other people's figures (CompressAI's bench) and prove the harness. That JPEG
curve was made with IJG's libjpeg 9, which older Pillow wheels held; today's hold libjpeg-turbo, which
treats chroma otherwise. So it is measured with such an old Pillow too (`benchmarks/old_jpeg.py` says
how).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import pictures, rd, results
from benchmarks.pictures import PictureSet
from benchmarks.published import curves

PART = "rd/kodak-24"

MAX_DB = 0.01
"""Largest difference in PSNR, in dB, of a reproduced point."""

MAX_BPP = 0.005
"""Largest difference of the rate of a reproduced point, as a part of it."""

MAX_MS_SSIM = 1e-4
"""Largest difference in MS-SSIM of a reproduced point; the points are stored to 1e-6."""


@dataclass(frozen=True)
class Comparison:
    published: str
    measured: str
    must_hold: bool


COMPARISONS = (
    Comparison("webp", "webp", True),
    Comparison("jpeg", "jpeg-libjpeg9", True),
    Comparison("jpeg", "jpeg-plain", False),
    Comparison("jpegxl(libjxl0.11.2,e7)", "jpegxl", False),
    Comparison("avif(libavif1.4,444,speed6)", "avif-444", False),
    Comparison("avif(libavif1.4,420,speed6)", "avif-420", False),
    Comparison("jpeg2000(openjpeg2.5.4,psnr)", "jpeg2000", False),
)


def compare(comparison: Comparison) -> dict[str, Any] | None:
    stored = results.load(PART, comparison.measured)
    if stored is None:
        return None
    curve = curves()[comparison.published]
    rows = sorted(stored["rows"], key=lambda row: row["bpp"])
    if len(rows) != len(curve.bpp):
        raise SystemExit(f"{comparison.measured}: {len(rows)} points measured, {len(curve.bpp)} published")
    worst_db = max(abs(row["psnr"] - db) for row, db in zip(rows, curve.psnr, strict=True))
    worst_bpp = max(abs(row["bpp"] / bpp - 1) for row, bpp in zip(rows, curve.bpp, strict=True))
    worst_ssim = None
    if curve.ms_ssim:
        worst_ssim = max(abs(row["ms_ssim"] - s) for row, s in zip(rows, curve.ms_ssim, strict=True))
    return {
        "published": comparison.published,
        "measured": comparison.measured,
        "source": curve.source.split(" (")[0],
        "points": len(rows),
        "worst_db": round(worst_db, 5),
        "worst_bpp_percent": round(100 * worst_bpp, 4),
        "worst_ms_ssim": None if worst_ssim is None else round(worst_ssim, 7),
        "must_hold": comparison.must_hold,
        "holds": worst_db <= MAX_DB and worst_bpp <= MAX_BPP and (worst_ssim or 0.0) <= MAX_MS_SSIM,
    }


def measure_old_jpeg(made: Path, chosen: PictureSet) -> None:
    """Measure what `old_jpeg.py` made of the same pictures, as `benchmarks.rd` measures a peer."""
    about = json.loads((made / "about.json").read_text())
    rows = []
    for quality, sizes in about["sizes"].items():
        points = [
            rd.point(original, pictures.load(made / f"{name}-{quality}.png"), sizes[name])
            for name, original in chosen.pictures.items()
        ]
        rows.append({"setting": float(quality), **rd.mean(points)})
    title = "JPEG, Pillow's defaults, libjpeg 9"
    results.save(PART, "jpeg-libjpeg9", rows, title=title, library=about["library"], **chosen.about)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__.split("\n")[0])
    pictures.add_argument(parser)
    parser.add_argument("--old-jpeg", type=Path, metavar="OUT", help="folder that old_jpeg.py wrote")
    args = parser.parse_args()
    if args.old_jpeg:
        measure_old_jpeg(args.old_jpeg, pictures.chosen(args))
    rows = [row for row in map(compare, COMPARISONS) if row is not None]
    for row in rows:
        print(row)
    results.save("proof", "kodak", rows)
    return 0 if all(row["holds"] for row in rows if row["must_hold"]) else 1


if __name__ == "__main__":
    sys.exit(main())
