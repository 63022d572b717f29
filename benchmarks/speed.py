"""Time and memory of encoding and decoding one picture, beside the peers, with one thread and with two.

A child process pinned to as many cores as it may use threads measures all codecs in turn, round after
round, so that whatever slows the machine slows all of them; the median counts. Memory is the peak of a
process that does nothing else, less that of one that only loads the picture.
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
from statistics import median
from typing import Any

from benchmarks import ours, pictures, results
from benchmarks.peers import AVIF_420, JPEG_420, JPEGXL, WEBP, Peer, library_versions
from benchmarks.pictures import Picture
from layercast import Codec
from layercast.bench.metrics import psnr

SIZES = ((768, 512), (1280, 720), (1920, 1080))
PEERS: tuple[Peer, ...] = (JPEG_420, WEBP, AVIF_420, JPEGXL)
TARGET_DB = 37.0
"""PSNR at which layercast is timed, since a file of more bits takes longer; the peers' settings "
"give about it."""

ROUNDS = 7


def subject(size: tuple[int, int]) -> Picture:
    """Kodak pictures at their own resolution, side by side where one is too small."""
    return pictures.mosaic(list(pictures.bundled().pictures.values()), *size)


def actions(name: str, picture: Picture, threads: int) -> tuple[Callable[[], Any], Callable[[Any], Picture]]:
    """Encode to bytes, and decode everything that encode returned."""
    peer = {peer.name: peer for peer in PEERS}.get(name)
    if peer is not None:
        return lambda: peer.encode(picture, peer.speed_quality), peer.decode
    codec = ours.with_threads(name, threads)
    quality = quality_for(codec, picture)
    return (
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


def measure(names: list[str], size: tuple[int, int], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Runs in the pinned child."""
    picture = subject(size)
    work = {name: actions(name, picture, threads) for name in names}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    rows = {}
    for turn in range(rounds + 1):
        for name, (encode, decode) in work.items():
            start = time.perf_counter()
            coded = encode()
            middle = time.perf_counter()
            decoded = decode(coded)
            stop = time.perf_counter()
            if turn == 0:  # warms caches, and says what was bought with the time
                data = coded if isinstance(coded, bytes) else ours.unit_of(coded)
                bpp = 8 * len(data) / (size[0] * size[1])
                rows[name] = {"bpp": round(bpp, 4), "psnr": round(psnr(picture, decoded), 3)}
                continue
            times[name][0].append(middle - start)
            times[name][1].append(stop - middle)
    found = []
    for name in names:
        encode_ms, decode_ms = (round(1000 * median(series), 2) for series in times[name])
        row = {"codec": name, "size": f"{size[0]}x{size[1]}", "threads": threads, "rounds": rounds}
        found.append({**row, **rows[name], "encode_ms": encode_ms, "decode_ms": decode_ms})
    return found


def peak_mib(name: str, size: tuple[int, int]) -> float:
    """Runs in a child of its own: the most memory it ever held, MiB; with the name "nothing", the base."""
    picture = subject(size)
    if name != "nothing":
        encode, decode = actions(name, picture, threads=1)
        for _ in range(3):
            decode(encode())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stages(name: str, size: tuple[int, int]) -> dict[str, float] | None:
    """Milliseconds of each stage, of a codec that keeps `stage_times` (seconds by name), else None."""
    codec = ours.with_threads(name, 1)
    if not hasattr(codec, "stage_times"):
        return None
    picture = subject(size)
    quality = quality_for(codec, picture)
    series: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        frame = codec.encode(picture, quality)
        spent = {f"encode: {key}": value for key, value in dict(codec.stage_times).items()}
        codec.decode(frame.layers, frame.picture)
        spent |= {f"decode: {key}": value for key, value in dict(codec.stage_times).items()}
        for key, value in spent.items():
            series.setdefault(key, []).append(value)
    return {key: round(1000 * median(values), 2) for key, values in series.items()}


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.split("\n")[0])
    parser.add_argument("--codec", action="append", metavar="NAME", help="default: all that are registered")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="768x512 only")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return _run_child(args.child)
    own = list(ours.available(args.codec))
    names = own + [peer.name for peer in PEERS]
    sizes = SIZES[:1] if args.quick else SIZES
    rows = []
    for size in sizes:
        for threads in (1, 2):
            print(f"{size[0]}x{size[1]}, threads {threads}", flush=True)
            rows += child(threads, "measure", names, size, threads, args.rounds)
    memory = []
    for size in sizes:
        base = child(1, "peak_mib", "nothing", size)
        peaks = {name: round(child(1, "peak_mib", name, size) - base, 1) for name in names}
        memory.append({"size": f"{size[0]}x{size[1]}", "base_mib": round(base, 1), "above_base_mib": peaks})
    spent = {name: child(1, "stages", name, sizes[0]) for name in own}
    settings = {peer.name: f"{peer.settings}; quality {peer.speed_quality:g}" for peer in PEERS}
    results.save(
        "speed",
        "still",
        rows,
        target_db=TARGET_DB,
        settings=settings,
        libraries=library_versions(),
        memory=memory,
        stages={name: found for name, found in spent.items() if found},
    )


if __name__ == "__main__":
    main()
