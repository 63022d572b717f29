"""`layercast bench codec`: rate, distortion and time of a codec at every prefix length, beside Pillow's.

Every byte that a receiver gets is counted: a row's `bytes` is the size of the whole access unit, cut to that
many layers. Times are those of one picture by itself: from pixels to the access unit, and from the unit to
pixels. PSNR and MS-SSIM compare 8-bit pictures.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from layercast.bench.metrics import bd_rate, ms_ssim, psnr
from layercast.bench.peers import JPEG, JPEG_QUALITIES, PEERS, measure_peer
from layercast.bitstream import trim, unpack
from layercast.cli.units import encode_unit
from layercast.codecs.base import Codec, Timed
from layercast.errors import ConfigError, MediaError
from layercast.media.base import Image
from layercast.media.pictures import read_picture
from layercast.media.progress import progress
from layercast.media.sources.folder import picture_files


@dataclass(frozen=True, slots=True)
class Row:
    """One picture at one quality from one number of layers.

    Attributes:
        layers: length of the prefix.
        bytes: size of the access unit with that many layers.
        bpp: 8 x bytes / pixels.
        psnr: dB in RGB; infinite for an exact copy (null in JSON).
        ms_ssim: 0..1.
        encode_ms: the whole picture to its whole access unit.
        decode_ms: this prefix of the access unit to pixels.
    """

    image: str
    codec: str
    quality: float
    layers: int
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float
    encode_ms: float
    decode_ms: float


def measure(
    codec: Codec, name: str, image: Image, quality: float, layers: Iterable[int | str | None]
) -> list[Row]:
    """The rows of one picture.

    Args:
        layers: prefix lengths; "all" is each of them, None the whole; lengths beyond the last are left out.
    """
    started_s = time.perf_counter()
    unit = encode_unit(codec, image, 0, 0, quality)
    encode_ms = (time.perf_counter() - started_s) * 1e3
    total = len(unpack(unit).layers)
    rows = []
    for keep in _prefixes(layers, total):
        cut = trim(unit, keep)
        started_s = time.perf_counter()
        received = unpack(cut)
        decoded = codec.decode(received.layers, received.header.picture)
        decode_ms = (time.perf_counter() - started_s) * 1e3
        rows.append(
            Row(
                image=name,
                codec=codec.name,
                quality=quality,
                layers=keep,
                bytes=len(cut),
                bpp=8 * len(cut) / (image.shape[0] * image.shape[1]),
                psnr=psnr(image, decoded),
                ms_ssim=ms_ssim(image, decoded),
                encode_ms=encode_ms,
                decode_ms=decode_ms,
            )
        )
    return rows


def _prefixes(layers: Iterable[int | str | None], total: int) -> list[int]:
    wanted: set[int] = set()
    for entry in layers:
        if entry == "all":
            wanted.update(range(1, total + 1))
        else:
            wanted.add(total if entry is None else int(entry))
    return sorted(keep for keep in wanted if keep <= total)


def main(
    images: str,
    codec: Codec,
    qualities: Sequence[float],
    layers: Sequence[int | str | None],
    json_path: str | None = None,
    against_jpeg: bool = False,
) -> int:
    """Measure, print the tables, write the rows.

    Raises:
        MediaError: no pictures there, or the rows cannot be written.
        ConfigError: no picture is left by the asked numbers of layers.
    """
    paths = picture_files(images) if Path(images).is_dir() else [Path(images)]
    pictures = [(path.name, read_picture(path)) for path in paths]
    wanted = [*layers, None] if against_jpeg else layers
    measure(codec, "", pictures[0][1], qualities[0], [None])  # caches and tables are not what is measured
    jobs = [(name, image, quality) for quality in qualities for name, image in pictures]
    rows: list[Row] = []
    for name, image, quality in progress(jobs, "measure", len(jobs)):
        rows += measure(codec, name, image, quality, wanted)
    if not rows:
        raise ConfigError(
            f"{codec.name} makes fewer layers than asked for", hint=f"see: layercast codecs {codec.name}"
        )
    if json_path:
        write_rows(json_path, rows)
    print(f"{len(pictures)} pictures from {images}; means of rate and distortion, medians of time")
    print(
        f"{'codec':<28}{'quality':>8}{'layers':>8}{'bpp':>9}{'PSNR':>8}{'MS-SSIM':>10}{'encode':>9}{'decode':>9}"
    )
    for quality in qualities:
        for keep in sorted({row.layers for row in rows}):
            _print_mean(
                codec.name, quality, keep, [r for r in rows if (r.quality, r.layers) == (quality, keep)]
            )
    points = {peer.name: [measure_peer(peer, image, peer.shown) for _, image in pictures] for peer in PEERS}
    for peer in PEERS:
        print(
            f"{peer.name:<28}{peer.shown:>8}{'':>8}{_mean(p.bpp for p in points[peer.name]):>9.3f}"
            f"{_mean(p.psnr for p in points[peer.name]):>8.2f}{'':>10}"
            f"{statistics.median(p.encode_ms for p in points[peer.name]):>6.1f} ms"
            f"{statistics.median(p.decode_ms for p in points[peer.name]):>6.1f} ms"
        )
    _print_stages(codec, *pictures[0], qualities[-1])
    if against_jpeg:
        _print_bd_rates(codec.name, rows, dict(pictures))
    return 0


def write_rows(path: str, rows: Sequence[Row]) -> None:
    """The rows as a JSON list of objects.

    Raises:
        MediaError: the file cannot be written.
    """
    listed = [asdict(row) | ({"psnr": None} if math.isinf(row.psnr) else {}) for row in rows]
    try:
        Path(path).write_text(json.dumps(listed, indent=1) + "\n")
    except OSError as error:
        raise MediaError(
            f"cannot write {path}: {error.strerror}", hint="check the folder and its rights"
        ) from error


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _print_mean(codec: str, quality: float, keep: int, rows: Sequence[Row]) -> None:
    if rows:
        print(
            f"{codec:<28}{quality:>8.2f}{keep:>8}{_mean(r.bpp for r in rows):>9.3f}"
            f"{_mean(r.psnr for r in rows):>8.2f}{_mean(r.ms_ssim for r in rows):>10.4f}"
            f"{statistics.median(r.encode_ms for r in rows):>6.1f} ms"
            f"{statistics.median(r.decode_ms for r in rows):>6.1f} ms"
        )


STAGE_ROUNDS = 5
"""Runs of which a stage's time is the median."""


def stage_times(codec: Codec, image: Image, quality: float) -> dict[str, dict[str, float]]:
    """Milliseconds by stage under "encode" and "decode", medians; both empty if the codec is not `Timed`."""
    spent: dict[str, dict[str, list[float]]] = {"encode": {}, "decode": {}}
    if isinstance(codec, Timed):
        for _ in range(STAGE_ROUNDS):
            frame = codec.encode(image, quality)
            for name, seconds in codec.stage_times.items():
                spent["encode"].setdefault(name, []).append(seconds * 1e3)
            codec.decode(frame.layers, frame.picture)
            for name, seconds in codec.stage_times.items():
                spent["decode"].setdefault(name, []).append(seconds * 1e3)
    return {
        step: {name: statistics.median(series) for name, series in stages.items()}
        for step, stages in spent.items()
    }


def _print_stages(codec: Codec, name: str, image: Image, quality: float) -> None:
    for step, stages in stage_times(codec, image, quality).items():
        if stages:
            told = ", ".join(f"{stage} {spent_ms:.1f}" for stage, spent_ms in stages.items())
            print(f"{step} {name} at {quality:g}, all layers, ms by stage: {told}")


Curve = list[tuple[float, float]]
"""Points of (bits per pixel, PSNR in dB) of one picture."""


def _print_bd_rates(codec: str, rows: Sequence[Row], images: Mapping[str, Image]) -> None:
    sweeps: dict[str, list[Curve]] = {}
    for peer in PEERS:
        sweeps[peer.name] = []
        for image in progress(images.values(), f"sweep {peer.name}", len(images)):
            points = [measure_peer(peer, image, step) for step in peer.steps]
            sweeps[peer.name].append([(point.bpp, point.psnr) for point in points])
    anchor = sweeps.pop(JPEG.name)
    last = max(row.layers for row in rows)
    curves = {f"{codec}, all layers": _curves([r for r in rows if r.layers == last], images)}
    for quality in sorted({row.quality for row in rows}):
        prefixes = [r for r in rows if r.quality == quality]
        if len({r.layers for r in prefixes}) > 2:
            curves[f"{codec}, prefixes of quality {quality:g}"] = _curves(prefixes, images)
    print(f"\nBD-rate (PSNR, RGB) against {JPEG.name}, quality {JPEG_QUALITIES[0]}..{JPEG_QUALITIES[-1]}")
    print(f"  {'':<32}{'of the mean curves':<34}mean over pictures")
    for name, curve in {**curves, **sweeps}.items():
        try:
            of_means = str(bd_rate(*_columns(_mean_curve(anchor)), *_columns(_mean_curve(curve))))
            each = [bd_rate(*_columns(a), *_columns(c)).percent for a, c in zip(anchor, curve, strict=True)]
            print(f"  {name:<32}{of_means:<34}{_mean(each):+.1f} %")
        except ConfigError as error:
            print(f"  {name:<32}{error}")


def _curves(rows: Sequence[Row], images: Iterable[str]) -> list[Curve]:
    return [[(row.bpp, row.psnr) for row in rows if row.image == name] for name in images]


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    return [
        (_mean(bpp for bpp, _ in points), _mean(psnr for _, psnr in points))
        for points in zip(*curves, strict=True)
    ]


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [bpp for bpp, _ in curve], [psnr for _, psnr in curve]
