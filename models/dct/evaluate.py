"""Measure the `dct` codec on a folder: BD-rate against JPEG, prefixes, layers' share of bits, milliseconds.

python -m models.dct.evaluate --pictures DIR [--every N]
"""

from __future__ import annotations

import argparse
import io
import pathlib
import time

import numpy as np
from PIL import Image

from layercast.codecs.dct import DctCodec

QUALITIES = (0.0, 0.12, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
JPEG_QUALITIES = range(10, 96, 5)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255.0**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-10))


def pchip(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(x, y)(at)


def bd_rate(anchor: np.ndarray, test: np.ndarray) -> float:
    """Mean difference in rate at equal PSNR over the common range, per cent (piecewise cubic); rows (bpp, dB)."""
    low, high = max(anchor[:, 1].min(), test[:, 1].min()), min(anchor[:, 1].max(), test[:, 1].max())
    at = np.linspace(low, high, 200)
    curves = []
    for rows in (anchor, test):
        rows = rows[np.argsort(rows[:, 1])]
        curves.append(pchip(rows[:, 1], np.log(rows[:, 0]), at))
    return 100 * (np.exp(np.mean(curves[1] - curves[0])) - 1)


def jpeg_curve(image: np.ndarray) -> np.ndarray:
    rows = []
    for quality in JPEG_QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(image).save(
            buffer, "JPEG", quality=quality, optimize=True, progressive=True, subsampling=2
        )
        bpp = 8 * buffer.tell() / image.shape[0] / image.shape[1]
        rows.append((bpp, psnr(np.asarray(Image.open(buffer)), image)))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--prefixes", action="store_true")
    options = parser.parse_args()
    files = sorted(p for p in options.pictures.iterdir() if p.suffix in (".png", ".webp"))[:: options.every]
    images = [np.asarray(Image.open(f).convert("RGB")) for f in files]
    codec, n = DctCodec(), len(DctCodec().layer_table)
    full = np.zeros((len(images), len(QUALITIES), 2))
    prefix = np.zeros((len(images), len(QUALITIES), n, 3))
    times = np.zeros((len(QUALITIES), 2))
    for j, quality in enumerate(QUALITIES):
        for i, image in enumerate(images):
            began = time.perf_counter()
            frame = codec.encode(image, quality)
            middle = time.perf_counter()
            decoded = codec.decode(frame.layers, frame.picture)
            times[j] += np.array([middle - began, time.perf_counter() - middle]) * 1e3 / len(images)
            pixels = image.shape[0] * image.shape[1]
            full[i, j] = 8 * sum(map(len, frame.layers)) / pixels, psnr(decoded, image)
            if options.prefixes:
                decoder = codec.start(frame.picture)
                grey = psnr(decoder.picture(), image)
                for k, layer in enumerate(frame.layers):
                    decoder.push(layer)
                    shown = grey + sum(frame.gains_db[: k + 1])
                    prefix[i, j, k] = (
                        8 * sum(map(len, frame.layers[: k + 1])) / pixels,
                        psnr(decoder.picture(), image),
                        shown,
                    )
        print(
            f"q {quality:.2f}  {full[:, j, 0].mean():.4f} bpp  {full[:, j, 1].mean():.3f} dB  encode {times[j, 0]:.1f} ms  decode {times[j, 1]:.1f} ms",
            flush=True,
        )
    jpeg = np.stack([jpeg_curve(image) for image in images])
    print(
        f"BD-rate of the mean curves {bd_rate(jpeg.mean(0), full.mean(0)):.2f} %, mean over pictures {np.mean([bd_rate(a, b) for a, b in zip(jpeg, full)]):.2f} %"
    )
    if options.prefixes:
        means = prefix.mean(0)
        own = full.mean(0)
        for j, quality in enumerate(QUALITIES):
            print(
                f"quality {quality}; least step {np.diff(means[j, :, 1]).min():.4f} dB, gains_db off by at most {np.abs(prefix[:, j, :, 1] - prefix[:, j, :, 2]).max():.2f} dB"
            )
            for k, info in enumerate(codec.layer_table):
                bpp, db, _ = means[j, k]
                direct = np.interp(np.log(max(bpp, 1e-6)), np.log(own[:, 0]), own[:, 1], left=np.nan)
                share = (bpp - (means[j, k - 1, 0] if k else 0)) / means[j, -1, 0]
                print(
                    f"  {info.name:8s} {100 * share:5.1f} %  {bpp:.4f} bpp  {db:.2f} dB  lost {direct - db:.2f} dB"
                )


if __name__ == "__main__":
    main()
