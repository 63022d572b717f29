"""Clips as camera streams: layercast's codecs beside video encoders, at the same frame rate.

Every encoder gets the clip's own 4:2:0 planes; layercast gets the RGB pictures made of them. PSNR is the
mean over all frames, MS-SSIM over every fifth, both in RGB, against those pictures. The peers are
measured with every frame a key frame, as layercast's codecs code today, and with a key frame every two
seconds, as cameras are usually set up. CPU time is that of encoding, on one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import av

from benchmarks import ours, results
from benchmarks.peers import library_versions
from benchmarks.pictures import Picture
from benchmarks.video_peers import VIDEO_PEERS, Planes, VideoPeer, code
from layercast.bench.metrics import ms_ssim, psnr
from layercast.demo import assets

QUALITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
MS_SSIM_EVERY = 5
KEY_SECONDS = 2
FRAMES = 100


@dataclass(frozen=True)
class Clip:
    name: str
    rate: Fraction
    planes: list[Planes]
    pictures: list[Picture]
    digest: str

    def kbps(self, size: int) -> float:
        return round(size * 8 * float(self.rate) / len(self.planes) / 1000, 2)

    @property
    def about(self) -> dict[str, Any]:
        height, width = self.pictures[0].shape[:2]
        frames = len(self.planes)
        return {
            "clip": self.name,
            "size": f"{width}x{height}",
            "frames": frames,
            "rate": float(self.rate),
            "digest": self.digest,
        }


def to_rgb(planes: Planes) -> Picture:
    return av.VideoFrame.from_ndarray(planes, format="yuv420p").to_ndarray(format="rgb24")


def load(path: Path, most: int) -> Clip:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        decoded = itertools.islice(container.decode(video=0), most)
        planes = [frame.to_ndarray(format="yuv420p") for frame in decoded]
    digest = hashlib.sha256(b"".join(p.tobytes() for p in planes)).hexdigest()[:16]
    return Clip(path.stem, rate, planes, [to_rgb(p) for p in planes], digest)


def quality_of(clip: Clip, decoded: list[Picture]) -> dict[str, float]:
    pairs = list(zip(clip.pictures, decoded, strict=True))
    return {
        "psnr": round(fmean(psnr(a, b) for a, b in pairs), 4),
        "ms_ssim": round(fmean(ms_ssim(a, b) for a, b in pairs[::MS_SSIM_EVERY]), 6),
    }


def measure_peer(peer: VideoPeer, clip: Clip, key_interval: int) -> list[dict[str, Any]]:
    rows = []
    for crf in peer.crfs:
        coded = code(peer, clip.planes, clip.rate, crf, key_interval)
        cpu_ms = round(1000 * coded.cpu_seconds / len(clip.planes), 2)
        decoded = [to_rgb(planes) for planes in coded.frames]
        rows.append(
            {"crf": crf, "kbps": clip.kbps(coded.size), **quality_of(clip, decoded), "cpu_ms": cpu_ms}
        )
    return rows


def measure_codec(name: str, path: Path, most: int) -> list[dict[str, Any]]:
    """Every quality with all its layers, and the best quality cut to each of its prefixes; runs in a worker."""
    codec, clip = ours.with_threads(name, 1), load(path, most)
    codec.encode(clip.pictures[0])  # tables and caches are not what is timed
    rows = []
    for quality in QUALITIES:
        started = time.process_time()
        frames = [codec.encode(picture, quality) for picture in clip.pictures]
        cpu_ms = round(1000 * (time.process_time() - started) / len(frames), 2)
        every = [list(ours.prefixes(codec, frame)) for frame in frames] if quality == QUALITIES[-1] else None
        whole = [codec.decode(frame.layers, frame.picture) for frame in frames]
        size = sum(len(ours.unit_of(frame)) for frame in frames)
        layers = len(codec.layer_table)
        facts = {"quality": quality, "cpu_ms": cpu_ms}
        for kept in range(1, layers) if every else ():
            cut = [prefixes[kept - 1] for prefixes in every or ()]
            kbps = clip.kbps(sum(prefix.size for prefix in cut))
            decoded = [prefix.picture for prefix in cut]
            rows.append({**facts, "layers": kept, "kbps": kbps, **quality_of(clip, decoded)})
        rows.append({**facts, "layers": layers, "kbps": clip.kbps(size), **quality_of(clip, whole)})
    return rows


def measure_peers(clip: Clip, again: bool) -> None:
    """Measure and store the video encoders whose settings, library or clip are not those of the stored result."""
    part = f"video/{clip.name}"
    for peer, interval in itertools.product(VIDEO_PEERS, (1, round(KEY_SECONDS * clip.rate))):
        name = f"{peer.name}-{'intra' if interval == 1 else 'inter'}"
        facts = {"title": peer.title, "settings": peer.settings(), "key_interval": interval, **clip.about}
        facts["library"] = f"ffmpeg {library_versions()['ffmpeg']}"
        old = results.load(part, name)
        fresh = old is not None and all(old.get(key) == value for key, value in facts.items())
        if fresh and not again:
            continue
        print(f"{clip.name}: measuring {name}", flush=True)
        results.save(part, name, measure_peer(peer, clip, interval), **facts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path, nargs="*", help="default: the clip that ships with layercast")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"the first so many; default {FRAMES}")
    parser.add_argument("--codec", action="append", metavar="NAME", help="default: all that are registered")
    parser.add_argument("--peers", choices=("stored", "again", "only"), default="stored")
    args = parser.parse_args()
    clips = {path: load(path, args.frames) for path in args.clips or [assets.path(assets.CLIP)]}
    for clip in clips.values():
        measure_peers(clip, again=args.peers == "again")
    if args.peers == "only":
        return
    with ours.workers() as workers:
        names = list(ours.available(args.codec))
        print(f"measuring layercast {', '.join(names)} on {len(clips)} clips", flush=True)
        jobs = {
            (clip.name, name): (clip, workers.submit(measure_codec, name, path, args.frames))
            for path, clip in clips.items()
            for name in names
        }
        for (clip_name, name), (clip, job) in jobs.items():
            facts = {"title": f"layercast {name}", "codec": name, "key_interval": 1, **clip.about}
            results.save(f"video/{clip_name}", f"layercast-{name}", job.result(), **facts)


if __name__ == "__main__":
    main()
