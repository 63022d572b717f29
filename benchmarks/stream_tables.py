"""The sections of BENCHMARKS.md on video and entropy coding."""

from __future__ import annotations

from typing import Any

from benchmarks import markdown as md
from benchmarks import plots, results
from benchmarks.plots import Line
from benchmarks.still_tables import bits, is_ours, prefix_curve, whole_curve

CLIPS = ("car-detection", "dashcam-highway", "cars")
"""In this order; the last ships with the package, the others come from the project's data."""


def clips() -> dict[str, dict[str, dict[str, Any]]]:
    found = {clip: results.load_all(f"video/{clip}") for clip in CLIPS}
    return {clip: stored for clip, stored in found.items() if stored}


def label(stored: dict[str, Any]) -> str:
    if "codec" in stored:
        return f"**{stored['title']}**, every frame a key frame"
    if stored["key_interval"] == 1:
        return f"{stored['title']}, every frame a key frame"
    return f"{stored['title']}, a key frame every {stored['key_interval']} frames"


def video() -> str:
    parts = []
    for clip, stored in clips().items():
        own = {name: result for name, result in stored.items() if is_ours(name)}
        peers = {name: result for name, result in stored.items() if not is_ours(name)}
        ordered = [*own.values(), *sorted(peers.values(), key=lambda r: (r["key_interval"], r["title"]))]
        anchors = [(label(r).replace("*", ""), r) for r in own.values()]
        rows = []
        for result in ordered:
            curve = whole_curve(result, "kbps")
            cells = []
            for _, anchor in anchors:
                cells.append(bits(whole_curve(anchor, "kbps"), curve))
            middle = sorted(result["rows"], key=lambda row: row["kbps"])[len(result["rows"]) // 2]
            point = [md.number(middle["kbps"], 0), md.number(middle["psnr"]), md.number(middle["ms_ssim"], 4)]
            cpu = [row["cpu_ms"] for row in result["rows"]]
            rows.append([label(result), *cells, *point, f"{min(cpu):.1f}–{max(cpu):.1f}"])
        lines = {
            label(r).replace("*", ""): Line(
                *whole_curve(r, "kbps"), ours=is_ours(name), published=r["key_interval"] > 1
            )
            for name, r in [*own.items(), *peers.items()]
        }
        for result in own.values():
            best = max(row["quality"] for row in result["rows"])
            name = f"{result['title']}, prefixes of quality {best:g}"
            lines[name] = Line(*prefix_curve(result, "kbps"), ours=True)
        first = ordered[0]
        title = f"{clip}: {first['size']}, {first['frames']} frames at {first['rate']:g}/s"
        head = ["encoder", *(f"bits against {name}" for name, _ in anchors)]
        head += ["kbit/s", "PSNR, dB", "MS-SSIM", "CPU ms a frame"]
        parts += [
            f"### {title}",
            md.table(head, rows),
            plots.draw(f"video_{clip}", lines, title, "kbit/s", log_x=True),
            md.origin(stored.values()),
        ]
    if not parts:
        return ""
    intro = (
        "Bits at equal PSNR (BD-rate; below 0, the row needs fewer bits), and one point from the "
        "middle of each "
        "curve. The video encoders run without delay (zerolatency, low-delay prediction), one "
        "thread, tuned for "
        "PSNR, with the clip's own 4:2:0 planes; PSNR and MS-SSIM are in RGB. layercast codes every frame by "
        "itself today, so the fair row is “every frame a key frame”; the other rows show what "
        "prediction from "
        "earlier frames is worth, and that we do not have it yet."
    )
    settings = {
        r["title"]: r["settings"] for stored in clips().values() for r in stored.values() if "settings" in r
    }
    return "\n\n".join(
        ["## Video", intro, *parts, "Settings:", md.table(["encoder", "settings"], settings.items())]
    )


def entropy() -> str:
    stored = results.load("entropy", "coders")
    if stored is None:
        return ""
    rows = [
        [
            r["mix"],
            r["coder"],
            md.number(r["encode"], 1),
            md.number(r["decode"], 1),
            f"{100 * r['overhead']:.3f} %",
            md.ratio(r["behind"]),
        ]
        for r in stored["rows"]
    ]
    head = ["symbols", "coder", "encode, M/s", "decode, M/s", "size over ideal", "we decode faster by"]
    return "\n\n".join(
        [
            "## Entropy coding",
            "Million symbols a second on one thread, best of interleaved rounds, the same symbols for all. “layercast, "
            "plain” is layercast where its compiled coder was not built: the same bytes.",
            md.table(head, rows),
            md.origin([stored]),
        ]
    )
