"""The table that opens BENCHMARKS.md: where layercast wins and where it loses, from the stored results alone.

A line whose figures were not measured is left out, and so is a codec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import markdown as md
from benchmarks import relay_tables, results
from benchmarks.codec_tables import TIMED_AT
from benchmarks.speed_tables import timed
from benchmarks.still_tables import KODAK, Curve, compare, prefix_curve, published_curves, whole_curve
from benchmarks.stream_tables import clips

CLIP = "cars"
"""Ships with the package, so that anybody can measure it."""

FIRST_BPP = "0.3"
"""Of `benchmarks.progressive.AT_BPP`: by then every progressive format shows something."""

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
    if not codecs:
        return ""
    rows = [[about, *(cells.get(codec, "not measured") for codec in codecs)] for about, cells in found]
    relay = relay_cell()
    if relay:
        rows.append(["the relay, whatever the codec", relay, *["the same"] * (len(codecs) - 1)])
    return md.table(["", *(f"layercast {codec}" for codec in codecs)], rows)


def relay_cell() -> str:
    """CPU per frame beside a plain fan-out, and what is used of a shaped link, of the stored relay benches."""
    told = []
    used = [row["used"] for row in relay_tables.links() if "turns_per_minute" in row]
    if used:
        word = "holds" if min(used) >= 0.92 else "misses"
        told.append(
            f"uses {100 * min(used):.0f} to {100 * max(used):.0f} % of a shaped link (92 asked): {word}"
        )
    ratios = relay_tables.cpu_ratios()
    if ratios:
        word = "loses" if max(ratios) > 1.15 else "even"
        told.append(f"{max(ratios):.1f}× a plain gRPC fan-out's CPU per frame: {word}")
    return "; ".join(told)


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
    anchors["Kodak, against VTM (published)"] = published_curves()["vtm"]
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
    shown = {row["codec"]: row["mean_psnr_at_bpp"][FIRST_BPP] for row in stored["rows"]}
    peers = {codec: db for codec, db in shown.items() if not codec.startswith("layercast") and db}
    best = max(peers, key=peers.__getitem__)
    cells = {}
    for codec, db in shown.items():
        if codec.startswith("layercast") and db is not None:
            gap = db - peers[best]
            word = "even" if abs(gap) < 0.1 else "wins" if gap > 0 else "loses"
            cells[codec.removeprefix("layercast ")] = f"{gap:+.1f} dB: {word}"
    return [
        (f"first {FIRST_BPP} bits per pixel of one file, against the best progressive file ({best})", cells)
    ]


def _speed() -> list[Line]:
    size, threads = TIMED_AT
    stored = timed().get(TIMED_AT)
    if stored is None:
        return []
    rows = {row["codec"]: row for row in stored["rows"]}
    peers = [rows[name] for name in ("jpeg-420", "avif-420")]
    cells = {}
    for codec, row in rows.items():
        if "stages" in row:
            told = []
            for step in ("encode", "decode"):
                ratios = [md.ratio(row[f"{step}_ms"] / peer[f"{step}_ms"]) for peer in peers]
                told.append(f"{row[f'{step}_ms']:.0f} ms ({ratios[0]} JPEG's, {ratios[1]} AVIF's)")
            cells[codec] = ", ".join(told)
    return [(f"time to encode, to decode {size} on {threads} cores", cells)]


def _video() -> list[Line]:
    stored = clips().get(CLIP)
    if stored is None:
        return []
    cells: dict[str, str] = {}
    for result in stored.values():
        told = []
        for name, words in (
            ("x264-superfast-intra", "key frames only"),
            ("x264-superfast-inter", "with prediction"),
        ):
            found = (
                rate_cell(whole_curve(stored[name], "kbps"), whole_curve(result, "kbps"))
                if name in stored
                else None
            )
            if "codec" in result and found:
                told.append(f"{words} {found}")
        if told:
            cells[result["codec"]] = "; ".join(told)
    return [(f"video (the bundled clip, {CLIP}), against x264 superfast", cells)]
