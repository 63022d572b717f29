"""Rate-distortion over a folder of pictures: every codec, every quality, and of layercast every prefix.

Bits per pixel are real bytes over pixels; bits per pixel, PSNR (RGB) and MS-SSIM (RGB) are each averaged
over the pictures, as the published Kodak curves are. A peer is measured once and kept until its settings,
its library or the pictures change; layercast is measured every time, a process on each core.
"""

from __future__ import annotations

import argparse
from concurrent.futures import Executor
from functools import cache
from statistics import fmean
from typing import Any

from benchmarks import ours, pictures, results
from benchmarks.peers import JPEG_PLAIN, PEERS, Peer, library_versions
from benchmarks.pictures import Picture, PictureSet
from layercast import Codec
from layercast.bench.metrics import ms_ssim, psnr


def point(original: Picture, decoded: Picture, size: int) -> dict[str, float]:
    height, width = original.shape[:2]
    return {
        "bpp": 8 * size / (width * height),
        "psnr": psnr(original, decoded),
        "ms_ssim": ms_ssim(original, decoded),
    }


def mean(points: list[dict[str, float]]) -> dict[str, float]:
    digits = {"bpp": 6, "psnr": 4, "ms_ssim": 6}
    return {key: round(fmean(p[key] for p in points), digits[key]) for key in points[0]}


def peer_point(name: str, quality: float, original: Picture) -> dict[str, float]:
    """Runs in a worker."""
    peer = next(peer for peer in (*PEERS, JPEG_PLAIN) if peer.name == name)
    data = peer.encode(original, quality)
    return point(original, peer.decode(data), len(data))


def measure_peer(workers: Executor, peer: Peer, chosen: PictureSet) -> list[dict[str, Any]]:
    jobs = {
        quality: [workers.submit(peer_point, peer.name, quality, p) for p in chosen.pictures.values()]
        for quality in peer.qualities
    }
    return [
        {"setting": quality, **mean([job.result() for job in waiting])} for quality, waiting in jobs.items()
    ]


def prefix_points(name: str, quality: float, original: Picture) -> list[dict[str, float]]:
    """One picture at one quality: the point of every prefix, shortest first; runs in a worker."""
    codec = _codec(name)
    return [point(original, p.picture, p.size) for p in ours.prefixes(codec, codec.encode(original, quality))]


@cache
def _codec(name: str) -> Codec:
    return ours.with_threads(name, 1)


def measure_codec(workers: Executor, name: str, chosen: PictureSet) -> list[dict[str, Any]]:
    jobs = {
        quality: [
            workers.submit(prefix_points, name, quality, original) for original in chosen.pictures.values()
        ]
        for quality in ours.QUALITIES
    }
    rows = []
    for quality, waiting in jobs.items():
        by_prefix = zip(*(job.result() for job in waiting), strict=True)
        rows += [
            {"quality": quality, "layers": count, **mean(list(points))}
            for count, points in enumerate(by_prefix, start=1)
        ]
    return rows


def measure_peers(workers: Executor, chosen: PictureSet, part: str, again: bool) -> None:
    """Measure and store the peers whose settings, library or pictures are not those of the stored result."""
    for peer in (*PEERS, JPEG_PLAIN):
        library = f"{peer.library} {library_versions()[peer.library]}"
        facts = {"title": peer.title, "settings": peer.settings, "library": library, **chosen.about}
        old = results.load(part, peer.name)
        fresh = old is not None and all(old.get(key) == value for key, value in facts.items())
        if fresh and not again and [row["setting"] for row in old["rows"]] == list(peer.qualities):
            continue
        print(f"measuring {peer.name}", flush=True)
        results.save(part, peer.name, measure_peer(workers, peer, chosen), **facts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd", description=__doc__.split("\n")[0])
    pictures.add_argument(parser)
    parser.add_argument(
        "--codec",
        action="append",
        metavar="NAME",
        help='default: all that are registered, and "hierarchical effort 1"',
    )
    parser.add_argument("--peers", choices=("stored", "again", "only"), default="stored")
    args = parser.parse_args()
    chosen = pictures.chosen(args)
    part = f"rd/{chosen.name}"
    with ours.workers() as workers:
        measure_peers(workers, chosen, part, again=args.peers == "again")
        for name, codec in ours.available(args.codec or ours.every()).items() if args.peers != "only" else ():
            print(f"measuring layercast {name}", flush=True)
            results.save(
                part,
                f"layercast-{name.replace(' ', '-')}",
                measure_codec(workers, name, chosen),
                codec=name,
                title=f"layercast {name}",
                fingerprint=codec.fingerprint.hex(),
                layer_names=[layer.name for layer in codec.layer_table],
                **chosen.about,
            )


if __name__ == "__main__":
    main()
