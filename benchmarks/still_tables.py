"""The sections of BENCHMARKS.md on still pictures: rate-distortion, proof, progressive curve, speed."""

from __future__ import annotations

from typing import Any

from benchmarks import markdown as md
from benchmarks import plots, published, results
from benchmarks.plots import Line
from layercast.bench.metrics import BdRate, bd_rate
from layercast.errors import ConfigError

KODAK = "rd/kodak-24"
FOR_PROOF = ("jpeg-plain", "jpeg-libjpeg9")
"""Measured for the proof only."""

ANCHORS = ("jpeg-420", "webp", "jpegxl", "avif-444")
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
"""Rates and PSNRs."""


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


def compare(anchor: Curve, curve: Curve) -> BdRate | None:
    try:
        return bd_rate(*anchor, *curve)
    except ConfigError:
        return None


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
    curves |= {f"{name} (published)": curve for name, curve in published_curves().items()}
    anchors = [(peers[name]["title"], whole_curve(peers[name])) for name in ANCHORS if name in peers]
    anchors.append(("BPG 4:4:4 (published)", published_curves()["bpg"]))
    rows = []
    for label, curve in curves.items():
        cells = [compare(anchor, curve) if anchor != curve else None for _, anchor in anchors]
        rows.append([label, *(md.LEFT_OUT if cell is None else str(cell) for cell in cells)])
    lines = {
        label.replace("*", ""): Line(*curve, ours="**" in label, published="published" in label)
        for label, curve in curves.items()
        if "published" not in label or label.removesuffix(" (published)") in DRAWN
    }
    picture = plots.draw("rd_kodak", lines, "24 Kodak pictures", "bits per pixel", (0, 2.5), (24, 44))
    settings = [[r["title"], r["library"], r["settings"]] for r in peers.values()]
    return "\n\n".join(
        [
            "## Rate-distortion on still pictures",
            "Bits at equal PSNR (BD-rate: mean difference of the rate over the range of PSNR that "
            "both curves "
            "cover; below 0, the row needs fewer bits than the column). Curves are means over the 24 Kodak "
            "pictures. “–”: the same curve, or less than 1 dB in common. *Published* curves were "
            "read from their "
            "authors' repositories (`benchmarks/data/kodak_published.csv` names each), not measured here.",
            md.table(["", *(f"against {title}" for title, _ in anchors)], rows),
            picture,
            _points(own) if own else "",
            "Settings of the peers:",
            md.table(["codec", "library", "settings"], settings),
            md.origin(stored.values()),
        ]
    )


def _points(own: dict[str, dict[str, Any]]) -> str:
    """Of each layercast codec, every quality with all layers: bpp, PSNR, MS-SSIM."""
    parts = []
    for result in own.values():
        most = max(row["layers"] for row in result["rows"])
        shown = [r for r in result["rows"] if r["layers"] == most]
        cells = [
            [f"{r['quality']:g}", md.number(r["bpp"], 3), md.number(r["psnr"]), md.number(r["ms_ssim"], 4)]
            for r in shown
        ]
        parts.append(f"{result['title']}, all {most} layers:")
        parts.append(md.table(["quality", "bpp", "PSNR, dB", "MS-SSIM"], cells))
        best = max(row["quality"] for row in result["rows"])
        cut = sorted((r for r in result["rows"] if r["quality"] == best), key=lambda r: r["layers"])
        names = result["layer_names"]
        cells = [
            [
                f"{r['layers']} (+ {names[r['layers'] - 1]})",
                md.number(r["bpp"], 3),
                md.number(r["psnr"]),
                md.number(r["ms_ssim"], 4),
            ]
            for r in cut
        ]
        parts.append(f"{result['title']}, quality {best:g}, cut to its first layers:")
        parts.append(md.table(["layers", "bpp", "PSNR, dB", "MS-SSIM"], cells))
    return "\n\n".join(parts)


def proof() -> str:
    stored = results.load("proof", "kodak")
    if stored is None:
        return ""
    rows = [
        [
            row["published"],
            row["measured"],
            row["source"],
            row["points"],
            f"{row['worst_db']:.4f} dB",
            f"{row['worst_bpp_percent']:.3f} %",
            md.LEFT_OUT if row["worst_ms_ssim"] is None else f"{row['worst_ms_ssim']:.6f}",
            "yes" if row["holds"] else "no",
        ]
        for row in stored["rows"]
    ]
    head = [
        "curve",
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
            "The AVIF points were measured elsewhere, with another version of the library.",
            md.table(head, rows),
            md.origin([stored]),
        ]
    )


def progressive() -> str:
    stored = results.load("progressive", "bundled")
    if stored is None:
        return ""
    head = ["bits per pixel received", *next(iter(stored["rows"]))["mean_psnr_at_bpp"]]
    rows = [
        [row["codec"], *(md.number(db) for db in row["mean_psnr_at_bpp"].values())] for row in stored["rows"]
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
            "refined AC (distance 1), cut anywhere. “–”: nothing to show yet.",
            md.table(head, rows),
            plots.draw("progressive", lines, title, "kilobytes received", y_range=(15, 42)),
            md.origin([stored]),
        ]
    )


def speed() -> str:
    stored = results.load("speed", "still")
    if stored is None:
        return ""
    parts = [
        "## Time and memory",
        "Milliseconds a picture, pixels to bytes and back: layercast at the quality that gives "
        f"{stored['target_db']:g} dB, the peers at settings that give about as much (both are shown: no "
        "time is worth much without what it bought). Medians of interleaved runs, pinned to as many cores "
        "as threads. “× JPEG” and “× AVIF”: in times of those codecs' time.",
    ]
    by_key = {(row["size"], row["threads"], row["codec"]): row for row in stored["rows"]}
    rows = []
    for (size, threads, codec), row in by_key.items():
        cells = [size, threads, codec, md.number(row["bpp"]), md.number(row["psnr"], 1)]
        for step in ("encode_ms", "decode_ms"):
            cells.append(md.number(row[step], 1))
            for anchor in ("jpeg-420", "avif-420"):
                cells.append(md.ratio(row[step] / by_key[size, threads, anchor][step]))
        rows.append(cells)
    timed = ["× JPEG", "× AVIF"]
    head = ["size", "threads", "codec", "bpp", "dB", "encode", *timed, "decode", *timed]
    parts.append(md.table(head, rows))
    for codec, stages in stored["stages"].items():
        parts.append(f"Where layercast {codec} spends its time, 768x512, one thread:")
        parts.append(md.table(["stage", "ms"], stages.items()))
    head = ["size", *stored["memory"][0]["above_base_mib"]]
    parts.append(
        "Peak memory in MiB of a process that encodes and decodes one picture, above that of one "
        "that only loads "
        f"it ({stored['memory'][0]['base_mib']:.0f} MiB for the smallest):"
    )
    parts.append(md.table(head, [[m["size"], *m["above_base_mib"].values()] for m in stored["memory"]]))
    parts.append(md.origin([stored]))
    return "\n\n".join(parts)
