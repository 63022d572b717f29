"""Time and memory of encoding and decoding one picture, beside the peers, with one thread and with two.

A child process pinned to as many cores as it may use threads measures all codecs in turn, round after
round, so that whatever slows the machine slows all of them; the median counts. Memory is the peak of a
process that does nothing else, less that of one that only loads the picture. Each size and thread count is
a file of its own, so that one can be measured again by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import mbt2018, ours, pictures, results
from benchmarks.peers import AVIF_FAST, JPEG2000, JPEG_420, JPEGXL, WEBP, Peer, library_versions
from benchmarks.pictures import Picture
from layercast import Codec
from layercast.bench.metrics import psnr
from layercast.codecs.base import Timed

Size = tuple[int, int]
SIZES = ((768, 512), (1280, 720), (1920, 1080))
THREADS = (1, 2)
PEERS: tuple[Peer, ...] = (JPEG_420, WEBP, JPEG2000, AVIF_FAST, JPEGXL)
WITH_MBT2018 = ((768, 512), 2)
"""Size and threads at which it is timed too; it takes seconds a picture."""

TARGET_DB = 37.0
"""PSNR at which layercast is timed, since a file of more bits takes longer; the peers' settings give about it."""

ROUNDS = 5


def subject(size: Size) -> Picture:
    """Kodak pictures at their own resolution, side by side where one is too small."""
    return pictures.mosaic(list(pictures.bundled().pictures.values()), *size)


def actions(
    name: str, picture: Picture, threads: int
) -> tuple[Codec | None, Callable[[], Any], Callable[[Any], Picture]]:
    """The codec if it is layercast's, encode to bytes, and decode everything that encode returned."""
    peer = {peer.name: peer for peer in PEERS}.get(name)
    if peer is not None:
        return None, lambda: peer.encode(picture, peer.speed_quality), peer.decode
    if name == mbt2018.NAME:
        return None, *mbt2018.actions(picture, threads)
    codec = ours.with_threads(name, threads)
    quality = quality_for(codec, picture)
    return (
        codec,
        lambda: codec.encode(picture, quality),
        lambda frame: codec.decode(frame.layers, frame.picture),
    )


def quality_for(codec: Codec, picture: Picture) -> float:
    """The quality that gives `TARGET_DB`, to 1/64, or the best when none does."""
    low, high = 0.0, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        frame = codec.encode(picture, middle)
        if psnr(picture, codec.decode(frame.layers, frame.picture)) < TARGET_DB:
            low = middle
        else:
            high = middle
    return high


def measure(names: list[str], size: Size, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Runs in the pinned child: one row a codec, of layercast's with the median of each stage."""
    picture = subject(size)
    work = {name: actions(name, picture, threads) for name in names}
    series: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    rows: dict[str, dict[str, Any]] = {}

    def note(name: str, codec: Codec | None, step: str, spent_s: float) -> None:
        stages = dict(codec.stage_times) if isinstance(codec, Timed) else {}
        for key, seconds in {step: spent_s, **{f"{step}: {k}": v for k, v in stages.items()}}.items():
            series[name].setdefault(key, []).append(1000 * seconds)

    for turn in range(rounds + 1):
        for name, (codec, encode, decode) in work.items():
            start = time.perf_counter()
            coded = encode()
            middle = time.perf_counter()
            if turn:
                note(name, codec, "encode", middle - start)
            middle = time.perf_counter()
            decoded = decode(coded)
            stop = time.perf_counter()
            if turn:
                note(name, codec, "decode", stop - middle)
            elif name != mbt2018.NAME:  # the first turn warms caches, and says what was bought with the time
                data = coded if isinstance(coded, bytes) else ours.unit_of(coded)
                bpp = 8 * len(data) / (size[0] * size[1])
                rows[name] = {"bpp": round(bpp, 4), "psnr": round(psnr(picture, decoded), 3)}
    found = []
    for name in names:
        times = {key: round(median(values), 2) for key, values in series[name].items()}
        row = {
            "codec": name,
            **rows.get(name, {}),
            "encode_ms": times["encode"],
            "decode_ms": times["decode"],
        }
        stages = {key: ms for key, ms in times.items() if ":" in key}
        found.append({**row, "stages": stages} if stages else row)
    return found


def peak_mib(name: str, size: Size) -> float:
    """Runs in a child of its own: the most memory it ever held, MiB; with the name "nothing", the base."""
    picture = subject(size)
    if name != "nothing":
        _, encode, decode = actions(name, picture, threads=1)
        for _ in range(3):
            decode(encode())
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # Not ru_maxrss: on Linux a child starts with what its parent held.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def child(threads: int, function: str, *arguments: Any) -> Any:
    """Call a function of this module in a fresh process on the first `threads` cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed",
        "--child",
        json.dumps([threads, function, arguments]),
    ]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, check=True, cwd=results.REPOSITORY
    )
    return json.loads(done.stdout.splitlines()[-1])


def _run_child(call: str) -> None:
    threads, function, arguments = json.loads(call)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    print(json.dumps(globals()[function](*arguments)))


def time_one(own: list[str], size: Size, threads: int, rounds: int) -> None:
    """Measure and store one size with one number of threads."""
    label = f"{size[0]}x{size[1]}"
    names = own + [peer.name for peer in PEERS]
    settings = {peer.name: f"{peer.settings}; quality {peer.speed_quality:g}" for peer in PEERS}
    libraries = library_versions()
    if (size, threads) == WITH_MBT2018:
        if found := mbt2018.versions():
            names.append(mbt2018.NAME)
            settings[mbt2018.NAME] = mbt2018.SETTINGS
            libraries |= found
        else:
            print(f"{mbt2018.NAME}: left out: it needs torch, scipy and compressai")
    print(f"{label}, threads {threads}", flush=True)
    rows = child(threads, "measure", names, size, threads, rounds)
    for row in rows:
        print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
    facts = {"size": label, "threads": threads, "rounds": rounds, "target_db": TARGET_DB}
    results.save("speed", f"{label}-{threads}", rows, **facts, settings=settings, libraries=libraries)


def weigh(own: list[str], sizes: list[Size]) -> None:
    """Measure and store peak memory."""
    rows = []
    for size in sizes:
        print(f"{size[0]}x{size[1]}, memory", flush=True)
        base = child(1, "peak_mib", "nothing", size)
        names = own + [peer.name for peer in PEERS]
        peaks = {name: round(child(1, "peak_mib", name, size) - base, 1) for name in names}
        rows.append({"size": f"{size[0]}x{size[1]}", "base_mib": round(base, 1), "above_base_mib": peaks})
    results.save("speed", "memory", rows, libraries=library_versions())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.split("\n")[0])
    labels = {f"{width}x{height}": (width, height) for width, height in SIZES}
    parser.add_argument("--size", choices=labels, help="default: all of them")
    parser.add_argument("--threads", type=int, choices=THREADS, help="default: both")
    parser.add_argument("--only", choices=("time", "memory"), help="default: both")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return _run_child(args.child)
    own = list(ours.available(ours.every()))
    sizes = [labels[args.size]] if args.size else list(SIZES)
    if args.only != "memory":
        for size in sizes:
            for threads in [args.threads] if args.threads else THREADS:
                time_one(own, size, threads, args.rounds)
    if args.only != "time":
        weigh(own, list(SIZES))


if __name__ == "__main__":
    main()
