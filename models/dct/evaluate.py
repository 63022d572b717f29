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
from scipy.interpolate import PchipInterpolator

from layercast.codecs.base import EncodedFrame
from layercast.codecs.dct import DctCodec

QUALITIES = (0.0, 0.12, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
JPEG_QUALITIES = range(10, 96, 5)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255.0**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-10))


def bd_rate(anchor: np.ndarray, test: np.ndarray) -> float:
    """Mean difference in rate at equal PSNR over the common range, per cent (piecewise cubic); rows (bpp, dB)."""
    low, high = max(anchor[:, 1].min(), test[:, 1].min()), min(anchor[:, 1].max(), test[:, 1].max())
    at = np.linspace(low, high, 200)
    curves = []
    for rows in (anchor, test):
        rows = rows[np.argsort(rows[:, 1])]
        curves.append(PchipInterpolator(rows[:, 1], np.log(rows[:, 0]))(at))
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


def prefixes(codec: DctCodec, frame: EncodedFrame, image: np.ndarray) -> list[tuple[float, float, float]]:
    """(bpp, dB, dB by the stated gains) after each layer."""
    decoder, rows, size = codec.start(frame.picture), [], 0
    stated = psnr(decoder.picture(), image)
    for layer, gain in zip(frame.layers, frame.gains_db, strict=True):
        decoder.push(layer)
        size, stated = size + len(layer), stated + gain
        rows.append((8 * size / (image.shape[0] * image.shape[1]), psnr(decoder.picture(), image), stated))
    return rows


def show_prefixes(codec: DctCodec, quality: float, prefix: np.ndarray, own: np.ndarray) -> None:
    """Per layer: share of the bits, and what the prefix loses against the codec's own lower qualities.

    Args:
        prefix: (pictures, layers, 3) as `prefixes` gives them.
        own: the codec's curve, (qualities, 2), bpp and dB.
    """
    means = prefix.mean(0)
    off = np.abs(prefix[..., 1] - prefix[..., 2]).max()
    print(
        f"quality {quality}: least gain {np.diff(means[:, 1]).min():.4f} dB, gains off by {off:.2f} dB at most"
    )
    shares = np.diff(means[:, 0], prepend=0) / means[-1, 0]
    for info, share, (bpp, db, _) in zip(codec.layer_table, shares, means, strict=True):
        direct = np.interp(np.log(max(bpp, 1e-6)), np.log(own[:, 0]), own[:, 1], left=np.nan)
        print(f"  {info.name:8s} {share:6.1%}  {bpp:.4f} bpp  {db:.2f} dB  lost {direct - db:.2f} dB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every Nth picture")
    parser.add_argument("--prefixes", action="store_true", help="also measure every prefix")
    options = parser.parse_args()
    files = sorted(p for p in options.pictures.iterdir() if p.suffix in (".png", ".webp"))[:: options.every]
    images = [np.asarray(Image.open(f).convert("RGB")) for f in files]
    codec = DctCodec()
    full = np.zeros((len(images), len(QUALITIES), 2))
    cuts = np.zeros((len(images), len(QUALITIES), len(codec.layer_table), 3))
    for j, quality in enumerate(QUALITIES):
        times = np.zeros((len(images), 2))
        for i, image in enumerate(images):
            began = time.perf_counter()
            frame = codec.encode(image, quality)
            middle = time.perf_counter()
            decoded = codec.decode(frame.layers, frame.picture)
            times[i] = middle - began, time.perf_counter() - middle
            size = sum(map(len, frame.layers))
            full[i, j] = 8 * size / (image.shape[0] * image.shape[1]), psnr(decoded, image)
            if options.prefixes:
                cuts[i, j] = prefixes(codec, frame, image)
        bpp, db = full[:, j].mean(0)
        encode_ms, decode_ms = 1e3 * np.median(times, axis=0)
        print(
            f"q {quality:.2f}  {bpp:.4f} bpp  {db:.3f} dB  encode {encode_ms:.1f} ms  decode {decode_ms:.1f} ms"
        )
    jpeg = np.stack([jpeg_curve(image) for image in images])
    each = [bd_rate(anchor, test) for anchor, test in zip(jpeg, full, strict=True)]
    print(f"BD-rate: mean curves {bd_rate(jpeg.mean(0), full.mean(0)):.2f} %, pictures {np.mean(each):.2f} %")
    if options.prefixes:
        for j, quality in enumerate(QUALITIES):
            show_prefixes(codec, quality, cuts[:, j], full.mean(0))


if __name__ == "__main__":
    main()
