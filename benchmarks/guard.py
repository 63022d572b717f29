"""Fails when layercast got worse and nobody said so: quick figures that are exact, against the stored ones.

On the pictures that ship with the package, every codec's bytes and PSNR at a few qualities and prefixes,
and its BD-rate against a stored JPEG curve. A change that makes one worse must update the stored figures
in the same commit (``--update``), so that whoever reads the change sees what it costs.
"""

from __future__ import annotations

import argparse
import sys
from statistics import fmean
from typing import Any

from benchmarks import ours, pictures, results
from benchmarks.pictures import PictureSet
from layercast import Codec
from layercast.bench.metrics import bd_rate, psnr
from layercast.errors import ConfigError

QUALITIES = (0.2, 0.5, 0.8)

BYTES_TOLERANCE = 0.002
"""Part by which bytes may grow: analysis may round a coefficient otherwise on another processor."""

PSNR_TOLERANCE = 0.01
"""Decibels by which PSNR may fall, for the same reason."""

BD_RATE_TOLERANCE = 0.3
"""Percentage points by which BD-rate may grow: what the two above amount to."""

Row = dict[str, Any]


def jpeg_curve(chosen: PictureSet) -> list[list[float]]:
    """Mean bpp and mean PSNR of JPEG 4:2:0, the anchor; stored, since another libjpeg might move it."""
    from benchmarks.peers import JPEG_420  # needs the bench extra, which the guard does without

    points = []
    for quality in JPEG_420.qualities:
        bpps, dbs = [], []
        for picture in chosen.pictures.values():
            data = JPEG_420.encode(picture, quality)
            bpps.append(8 * len(data) / (picture.shape[0] * picture.shape[1]))
            dbs.append(psnr(picture, JPEG_420.decode(data)))
        points.append([round(fmean(bpps), 6), round(fmean(dbs), 4)])
    return points


def measure(name: str, codec: Codec, chosen: PictureSet, anchor: list[list[float]]) -> list[Row]:
    """Bytes and PSNR of a third, two thirds and all of the layers, and the BD-rate of all."""
    rows, curve = [], []
    layers = len(codec.layer_table)
    kept = sorted({max(1, round(layers / 3)), max(1, round(2 * layers / 3)), layers})
    for quality in QUALITIES:
        bpps, dbs = [], []
        for label, picture in chosen.pictures.items():
            prefixes = list(ours.prefixes(codec, codec.encode(picture, quality)))
            for count in kept:
                prefix = prefixes[count - 1]
                key = f"{name}, {label}, quality {quality}, {count} of {layers} layers"
                rows.append(
                    {"key": key, "bytes": prefix.size, "psnr": round(psnr(picture, prefix.picture), 4)}
                )
            bpps.append(8 * prefixes[-1].size / (picture.shape[0] * picture.shape[1]))
            dbs.append(psnr(picture, prefixes[-1].picture))
        curve.append((fmean(bpps), fmean(dbs)))
    try:
        rate = bd_rate([p[0] for p in anchor], [p[1] for p in anchor], *map(list, zip(*curve, strict=True)))
        rows.append({"key": f"{name}, BD-rate against JPEG 4:2:0", "bd_rate": round(rate.percent, 3)})
    except ConfigError as error:
        print(f"{name}: no BD-rate: {error}")
    return rows


def verdicts(stored: list[Row], found: list[Row]) -> tuple[list[str], list[str]]:
    """What got worse, and what got better, one line each; a figure that is gone is worse."""
    worse, better = [], []
    now = {row["key"]: row for row in found}
    for old in stored:
        new = now.get(old["key"])
        if new is None:
            worse.append(f"{old['key']}: no longer measured")
            continue
        for field, tolerance, sign in (
            ("bytes", BYTES_TOLERANCE * old.get("bytes", 0), 1),
            ("psnr", PSNR_TOLERANCE, -1),
            ("bd_rate", BD_RATE_TOLERANCE, 1),
        ):
            if field not in old:
                continue
            change = sign * (new[field] - old[field])
            line = f"{old['key']}: {field} {old[field]} -> {new[field]}"
            if change > tolerance:
                worse.append(line)
            elif change < -tolerance:
                better.append(line)
    better += [f"{key}: new" for key in now.keys() - {row["key"] for row in stored}]
    return worse, sorted(better)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true", help="store what is measured now")
    args = parser.parse_args()
    chosen = pictures.bundled()
    stored = results.load("guard", "quick")
    if stored is not None and stored["digest"] != chosen.digest:
        if not args.update:
            print("the bundled pictures changed: run with --update")
            return 1
        stored = None
    anchor = jpeg_curve(chosen) if stored is None else stored["jpeg_420"]
    found: list[Row] = []
    for name, codec in ours.available(ours.every()).items():
        found += measure(name, codec, chosen, anchor)
    if args.update or stored is None:
        path = results.save("guard", "quick", found, **chosen.about, jpeg_420=anchor)
        print(f"stored {len(found)} figures in {path.relative_to(results.REPOSITORY)}")
        return 0
    worse, better = verdicts(stored["rows"], found)
    for line in better:
        print(f"better: {line}")
    for line in worse:
        print(f"WORSE: {line}")
    print(f"{len(found)} figures, {len(worse)} worse, {len(better)} better or new")
    if worse:
        print("if that is meant, store it in the same commit: python -m benchmarks.guard --update")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
