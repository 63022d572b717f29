"""The sections of BENCHMARKS.md on still pictures: rate-distortion, proof, progressive curve, speed."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import markdown as md
from benchmarks import plots, published, results
from benchmarks.plots import Line
from layercast.bench.metrics import BdRate, bd_rate
from layercast.errors import ConfigError

KODAK = "rd/kodak-24"
FOR_PROOF = ("jpeg-plain", "jpeg-libjpeg9")
"""Measured for the proof only."""

ANCHORS = ("jpeg-420", "webp", "jpegxl", "avif-444")
PUBLISHED_ANCHORS = (("BPG 4:4:4", "bpg"), ("VTM", "vtm"))
PUBLISHED = (
    "bpg",
    "hm",
    "vtm",
    "mbt2018-mean",
    "cheng2020-attn",
    "ELIC",
    "QARV(variable-rate,1 model)",
    "EVC-L",
    "DPICT(progressive)",
    "OHMQ-OHM-adaptive480",
)
DRAWN = ("bpg", "vtm", "mbt2018-mean", "QARV(variable-rate,1 model)", "DPICT(progressive)")

Curve = tuple[list[float], list[float]]
"""Rates, rising, and PSNRs."""

AIMED_BPP = (0.15, 1.3)
"""Rates of the curve over which the flagship's aim (at most 50 % more bits than VTM) is stated, bits per pixel."""


def is_ours(name: str) -> bool:
    return name.startswith("layercast-")


def whole_curve(stored: dict[str, Any], rate: str = "bpp") -> Curve:
    """All layers, over quality; of a peer, its whole curve."""
    rows = stored["rows"]
    if "layers" in rows[0]:
        most = max(row["layers"] for row in rows)
        rows = [row for row in rows if row["layers"] == most]
    rows = sorted(rows, key=lambda row: row[rate])
    return [row[rate] for row in rows], [row["psnr"] for row in rows]


def prefix_curve(stored: dict[str, Any], rate: str = "bpp") -> Curve:
    """Every prefix of the best quality: what a relay can make of one encoding."""
    best = max(row["quality"] for row in stored["rows"])
    rows = sorted((row for row in stored["rows"] if row["quality"] == best), key=lambda row: row["layers"])
    return [row[rate] for row in rows], [row["psnr"] for row in rows]


def psnr_at(curve: Curve, rate: float) -> float:
    """PSNR at a rate between a curve's ends: straight lines over the log rate."""
    rates, psnrs = curve
    return float(np.interp(np.log(rate), np.log(rates), psnrs))


def within(curve: Curve, low: float, high: float) -> Curve:
    """The part of a curve from one rate to another, or as far as it reaches."""
    low, high = max(low, curve[0][0]), min(high, curve[0][-1])
    inside = [point for point in zip(*curve, strict=True) if low < point[0] < high]
    points = [(low, psnr_at(curve, low)), *inside, (high, psnr_at(curve, high))]
    return [rate for rate, _ in points], [psnr for _, psnr in points]


def compare(anchor: Curve, curve: Curve) -> BdRate | None:
    try:
        return bd_rate(*anchor, *curve)
    except ConfigError:
        return None


def bits(anchor: Curve, curve: Curve) -> str:
    if anchor == curve:
        return "itself"
    found = compare(anchor, curve)
    return "less than 1 dB in common" if found is None else str(found)


def published_curves() -> dict[str, Curve]:
    found = published.curves()
    return {name: (list(found[name].bpp), list(found[name].psnr)) for name in PUBLISHED}


def rate_distortion() -> str:
    stored = results.load_all(KODAK)
    for name in FOR_PROOF:
        stored.pop(name, None)
    if not stored:
        return ""
    own = {name: result for name, result in stored.items() if is_ours(name)}
    peers = {name: result for name, result in stored.items() if not is_ours(name)}
    curves: dict[str, Curve] = {}
    for result in own.values():
        best = max(row["quality"] for row in result["rows"])
        curves[f"**{result['title']}**, all layers"] = whole_curve(result)
        curves[f"**{result['title']}**, prefixes of quality {best:g}"] = prefix_curve(result)
    curves |= {result["title"]: whole_curve(result) for result in peers.values()}
    others = published_curves()
    curves |= {f"{name} (published)": curve for name, curve in others.items()}
    anchors = [(peers[name]["title"], whole_curve(peers[name])) for name in ANCHORS if name in peers]
    anchors += [(f"{title} (published)", others[key]) for title, key in PUBLISHED_ANCHORS]
    rows = []
    for label, curve in curves.items():
        cells = [bits(anchor, curve) for _, anchor in anchors]
        rows.append([label, *cells, bits(others["vtm"], within(curve, *AIMED_BPP))])
    lines = {
        label.replace("*", ""): Line(*curve, ours="**" in label, published="published" in label)
        for label, curve in curves.items()
        if "published" not in label or label.removesuffix(" (published)") in DRAWN
    }
    aimed = f"against VTM (published), the row's {AIMED_BPP[0]} to {AIMED_BPP[1]} bpp"
    picture = plots.draw("rd_kodak", lines, "24 Kodak pictures", "bits per pixel", (0, 2.5), (24, 44))
    settings = [[r["title"], r["library"], r["settings"]] for r in peers.values()]
    return "\n\n".join(
        [
            "## Rate-distortion on still pictures",
            "Bits at equal PSNR (BD-rate: mean difference of the rate over the range of PSNR that "
            "both curves "
            "cover; below 0, the row needs fewer bits than the column). Curves are means over the 24 Kodak "
            "pictures. *Published* curves were "
            "read from their "
            "authors' repositories (`benchmarks/data/kodak_published.csv` names each), not measured here.",
            md.table(["", *(f"against {title}" for title, _ in anchors), aimed], rows),
            picture,
            "Settings of the peers:",
            md.table(["codec", "library", "settings"], settings),
            md.origin(stored.values()),
        ]
    )


AVIF_DOES_NOT_REPRODUCE = (
    "**The stored AVIF points do not reproduce.** They name libavif 1.4, speed 6 and one thread, but not the AV1 "
    "encoder inside it, its version, or the tiles. Measured here on one thread without tiles, which comes "
    "nearest (tiles cost about half a per cent of the bits). Tables on this page use what was measured here; the "
    "stored points are used nowhere else."
)
AVIF_CURVES = (("avif-444", "avif(libavif1.4,444,speed6)"), ("avif-420", "avif(libavif1.4,420,speed6)"))


def _avif_points() -> str:
    """Both numbers of each point: stored, and measured here."""
    rows = []
    for name, known in AVIF_CURVES:
        stored = results.load(KODAK, name)
        if stored is None:
            continue
        curve = published.curves()[known]
        for row, bpp, db in zip(stored["rows"], curve.bpp, curve.psnr, strict=True):
            cells = [stored["title"], f"{row['setting']:g}", f"{bpp:.4f}", f"{row['bpp']:.4f}"]
            cells += [md.percent(100 * (row["bpp"] / bpp - 1)), f"{db:.3f}", f"{row['psnr']:.3f}"]
            rows.append([*cells, f"{row['psnr'] - db:+.3f}", stored["library"]])
    head = ["", "quality", "bpp, stored", "bpp, here", "", "dB, stored", "dB, here", "", "library here"]
    return md.table(head, rows) if rows else ""


def proof() -> str:
    stored = results.load("proof", "kodak")
    if stored is None:
        return ""
    rows = [
        [
            f"{row['published']} / {row['measured']}",
            row["source"],
            row["points"],
            f"{row['worst_db']:.4f} dB",
            f"{row['worst_bpp_percent']:.3f} %",
            "not published" if row["worst_ms_ssim"] is None else f"{row['worst_ms_ssim']:.6f}",
            "yes" if row["holds"] else "no",
        ]
        for row in stored["rows"]
    ]
    head = [
        "published / measured here",
        "source",
        "points",
        "largest PSNR gap",
        "largest rate gap",
        "largest MS-SSIM gap",
        "same",
    ]
    return "\n\n".join(
        [
            "## Does the harness measure right?",
            "The same codec on the same pictures must give the curve that others published. “Same” means "
            "within 0.01 dB, 0.5 % of the rate and 0.0001 of MS-SSIM at every point. For the first two it is "
            "required; that published JPEG curve was made with IJG's libjpeg 9, which old Pillow wheels hold "
            "(`benchmarks/old_jpeg.py`), while today's hold libjpeg-turbo, whose chroma is a little better. "
            "“measured locally”: by this project, earlier, on another machine.",
            md.table(head, rows),
            AVIF_DOES_NOT_REPRODUCE,
            _avif_points(),
            md.origin([stored]),
        ]
    )


def progressive() -> str:
    stored = results.load("progressive", "bundled")
    if stored is None:
        return ""
    head = ["bits per pixel received", *next(iter(stored["rows"]))["mean_psnr_at_bpp"]]
    rows = [
        [
            row["codec"],
            *("nothing yet" if db is None else md.number(db) for db in row["mean_psnr_at_bpp"].values()),
        ]
        for row in stored["rows"]
    ]
    lines = {
        row["codec"]: Line(
            [size / 1000 for size, _ in row["curve"]],
            [db for _, db in row["curve"]],
            ours=row["codec"].startswith("layercast"),
            steps=True,
        )
        for row in stored["rows"]
    }
    title = f"{stored['rows'][0]['picture']} while it arrives"
    return "\n\n".join(
        [
            "## While the bytes arrive",
            "PSNR in dB of what can be shown after so many bits per pixel of *one* encoding have "
            "arrived, mean of "
            f"the {stored['pictures']} bundled Kodak pictures. layercast shows whole layers; JPEG "
            f"is progressive "
            "4:2:0, quality 90, cut anywhere; JPEG 2000 has ten quality layers, cut at any packet; "
            "JPEG XL has "
            "refined AC (distance 1), cut anywhere. A file that has arrived whole shows the same from then on.",
            md.table(head, rows),
            plots.draw("progressive", lines, title, "kilobytes received", y_range=(15, 42)),
            "Libraries: "
            + ", ".join(f"{name} {version}" for name, version in stored["libraries"].items())
            + ".",
            md.origin([stored]),
        ]
    )
