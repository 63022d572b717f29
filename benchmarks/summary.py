"""The table that opens BENCHMARKS.md: where layercast wins and where it loses, from the stored results alone.

A line whose figures were not measured is left out, and so is a codec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import markdown as md
from benchmarks import results
from benchmarks.still_tables import KODAK, Curve, compare, prefix_curve, published_curves, whole_curve
from benchmarks.stream_tables import clips

EVEN = 2.0
"""Per cent of difference that is called even: about what another set of pictures would change."""

Line = tuple[str, dict[str, str]]
"""What is compared, and each codec's cell."""


def verdict(percent: float) -> str:
    if abs(percent) < EVEN:
        return "even"
    return "wins" if percent < 0 else "loses"


def rate_cell(anchor: Curve, curve: Curve) -> str | None:
    found = compare(anchor, curve)
    return None if found is None else f"{md.percent(found.percent)} bits: {verdict(found.percent)}"


def lines() -> list[Line]:
    return [line for line in [*_still(), *_progressive(), *_speed(), *_video()] if line[1]]


def table() -> str:
    found = lines()
    codecs = sorted({codec for _, cells in found for codec in cells})
    rows = [[about, *(cells.get(codec, md.LEFT_OUT) for codec in codecs)] for about, cells in found]
    return md.table(["", *(f"layercast {codec}" for codec in codecs)], rows) if codecs else ""


def _of_codecs(stored: dict[str, Any], cell: Callable[[dict[str, Any]], str | None]) -> dict[str, str]:
    found = {r["codec"]: cell(r) for r in stored.values() if "codec" in r}
    return {codec: text for codec, text in found.items() if text is not None}


def _still() -> list[Line]:
    stored = results.load_all(KODAK)
    anchors: dict[str, Curve] = {
        f"Kodak, against {stored[name]['title']}": whole_curve(stored[name])
        for name in ("jpeg-420", "webp", "jpegxl", "avif-444")
        if name in stored
    }
    anchors["Kodak, against BPG (published)"] = published_curves()["bpg"]
    found = [
        (about, _of_codecs(stored, lambda r, anchor=anchor: rate_cell(anchor, whole_curve(r))))
        for about, anchor in anchors.items()
    ]

    def cost(result: dict[str, Any]) -> str | None:
        price = compare(whole_curve(result), prefix_curve(result))
        return None if price is None else f"{md.percent(price.percent)} bits"

    about = "cutting one best-quality encoding to any rate, against encoding anew for that rate"
    return [*found, (about, _of_codecs(stored, cost))]


def _progressive() -> list[Line]:
    stored = results.load("progressive", "bundled")
    if stored is None:
        return []
    found = []
    for bpp in ("0.2", "0.5"):
        shown = {row["codec"]: row["mean_psnr_at_bpp"][bpp] for row in stored["rows"]}
        peers = {codec: db for codec, db in shown.items() if not codec.startswith("layercast") and db}
        best = max(peers, key=peers.__getitem__)
        cells = {}
        for codec, db in shown.items():
            if codec.startswith("layercast") and db is not None:
                gap = db - peers[best]
                word = "even" if abs(gap) < 0.1 else "wins" if gap > 0 else "loses"
                cells[codec.removeprefix("layercast ")] = f"{gap:+.1f} dB: {word}"
        about = f"first {bpp} bits per pixel of one file, against the best progressive file ({best})"
        found.append((about, cells))
    return found


def _speed() -> list[Line]:
    stored = results.load("speed", "still")
    if stored is None:
        return []
    one = {r["codec"]: r for r in stored["rows"] if r["size"] == "768x512" and r["threads"] == 1}
    found = []
    for step in ("encode", "decode"):
        key = f"{step}_ms"
        cells = {}
        for codec, row in one.items():
            if codec in stored["settings"]:
                continue
            ratios = [row[key] / one[peer][key] for peer in ("jpeg-420", "avif-420")]
            told = f"{md.ratio(ratios[0])} JPEG's, {md.ratio(ratios[1])} AVIF's"
            cells[codec] = f"{row[key]:.0f} ms: {told}"
        found.append((f"time to {step} 768x512, one thread", cells))
    return found


def _video() -> list[Line]:
    found = []
    for clip, stored in clips().items():
        for name, words in (
            ("x264-superfast-intra", "x264 superfast with key frames only"),
            ("x264-superfast-inter", "x264 superfast with prediction from earlier frames"),
        ):
            if name in stored:
                anchor = whole_curve(stored[name], "kbps")
                cells = _of_codecs(stored, lambda r, anchor=anchor: rate_cell(anchor, whole_curve(r, "kbps")))
                found.append((f"video {clip}, against {words}", cells))
        break
    return found
