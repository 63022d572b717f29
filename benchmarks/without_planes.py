"""What a training without planes gives: the curve of a `--transforms` run by itself, to hold the shipped one against.

    python -m benchmarks.without_planes --pictures DIR --checkpoint transforms.pt

Bits are the direct prior's estimate for really rounded symbols, in floats, without a header; pictures are those of the
run's own synthesis, in 8 bits. The shipped codec goes on from the same run. It needs PyTorch.
"""

from __future__ import annotations

import argparse

import torch
from models.hierarchical.codec import Codec

from benchmarks import ours, pictures, results
from layercast.bench.metrics import psnr


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_argument(ap)
    ap.add_argument("--checkpoint", required=True, help="of a `--transforms` run")
    args = ap.parse_args()
    chosen = pictures.chosen(args)
    model, _ = Codec.of_checkpoint(args.checkpoint)
    model.eval().requires_grad_(False)
    rows = []
    for quality in ours.QUALITIES:
        found = [measure(model, image, quality) for image in chosen.pictures.values()]
        bpp, psnr = (sum(values) / len(found) for values in zip(*found, strict=True))
        rows.append({"quality": quality, "bpp": bpp, "psnr": psnr})
        print(rows[-1], flush=True)
    results.save("planes", chosen.name, rows, **chosen.about)


def measure(model: Codec, image: pictures.Picture, quality: float) -> tuple[float, float]:
    """Bits per pixel and PSNR (dB, RGB); the picture's sides must be multiples of 32."""
    x = torch.tensor(image).permute(2, 0, 1)[None].float() / 255
    picture, bits = model.whole(x, torch.full((1,), quality), hard=True)
    shown = (picture[0].clamp(0, 1) * 255).round().permute(1, 2, 0).to(torch.uint8).numpy()
    return bits.item() / (image.shape[0] * image.shape[1]), psnr(image, shown)


if __name__ == "__main__":
    main()
