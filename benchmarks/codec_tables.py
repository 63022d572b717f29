"""The sections of BENCHMARKS.md on layercast's own codecs: what was asked of them, and what their layers cost."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks import markdown as md
from benchmarks import results
from benchmarks.speed_tables import timed
from benchmarks.still_tables import (
    AIMED_BPP,
    KODAK,
    Curve,
    compare,
    is_ours,
    prefix_curve,
    psnr_at,
    published_curves,
    whole_curve,
    within,
)

TIMED_AT = ("768x512", 2)
"""Size and threads that the limits of time are stated for."""

CROPS = "docs/img/crops.png"
"""Written by `benchmarks.crops`."""

Asked = tuple[str, str, str, str, bool]
"""Codec, what, the goal, what was found, and whether that is enough."""


def own_results() -> dict[str, dict[str, Any]]:
    """The stored rate-distortion results of layercast's codecs on Kodak, by codec."""
    return {r["codec"]: r for name, r in results.load_all(KODAK).items() if is_ours(name)}


def lost_db(whole: Curve, rate: float, psnr: float) -> float | None:
    """How far a point lies under a curve at its rate; None off its ends."""
    rates, _ = whole
    return psnr_at(whole, rate) - psnr if rates[0] <= rate <= rates[-1] else None


def falls(result: dict[str, Any]) -> float:
    """The largest fall in mean PSNR, dB, that one more layer ever causes; 0 when there is none."""
    rows = sorted(result["rows"], key=lambda row: (row["quality"], row["layers"]))
    pairs = itertools.pairwise(rows)
    return max([0.0, *(a["psnr"] - b["psnr"] for a, b in pairs if a["quality"] == b["quality"])])


def largest_share(result: dict[str, Any]) -> float:
    """Of the bits at the best quality, the part that the largest layer has, in per cent."""
    rates = [0.0, *prefix_curve(result)[0]]
    return 100 * max(np.diff(rates)) / rates[-1]


def section() -> str:
    own = own_results()
    asked = [*_dct(own.get("dct")), *_hierarchical(own.get("hierarchical")), *_exactness(), *_entropy()]
    if not asked:
        return ""
    rows = [[*cells, "yes" if holds else "**no**"] for *cells, holds in asked]
    parts = [
        "## Codecs: asked and measured",
        "The limits that the project set itself, on the 24 Kodak pictures, beside what stands on this page.",
        md.table(["codec", "what", "asked", "measured", "holds"], rows),
    ]
    others = [
        results.load("exactness", "kodak-24"),
        results.load("planes", "kodak-24"),
        results.load("entropy", "coders"),
        timed().get(TIMED_AT),
    ]
    parts.append(md.origin([*own.values(), *(result for result in others if result)]))
    return "\n\n".join(parts)


def _time(codec: str, encode_ms: float, decode_ms: float) -> list[Asked]:
    result = timed().get(TIMED_AT)
    row = next((r for r in (result or {"rows": []})["rows"] if r["codec"] == codec), None)
    if row is None:
        return []
    where = f"{TIMED_AT[0]}, {TIMED_AT[1]} cores"
    return [
        (codec, f"time to {step}, {where}", f"≤ {most:g} ms", f"{row[key]:.0f} ms", row[key] <= most)
        for step, key, most in (("encode", "encode_ms", encode_ms), ("decode", "decode_ms", decode_ms))
    ]


def _never_falls(codec: str, result: dict[str, Any]) -> Asked:
    fall = falls(result)
    told = "never" if fall == 0 else f"by {fall:.2f} dB at most"
    return codec, "mean PSNR falls when a layer is added", "never", told, fall == 0


def _rate(codec: str, against: str, anchor: Curve, curve: Curve, most: float) -> list[Asked]:
    found = compare(anchor, curve)
    if found is None:
        return []
    return [(codec, f"bits against {against}", f"≤ {most:+g} %", str(found), found.percent <= most)]


def _dct(result: dict[str, Any] | None) -> list[Asked]:
    jpeg = results.load(KODAK, "jpeg-420")
    if result is None or jpeg is None:
        return []
    anchor = whole_curve(jpeg)
    return [
        *_rate("dct", jpeg["title"], anchor, whole_curve(result), -35),
        _never_falls("dct", result),
        *_time("dct", 60, 60),
    ]


def _hierarchical(result: dict[str, Any] | None) -> list[Asked]:
    if result is None:
        return []
    name, whole, cut = "hierarchical", whole_curve(result), prefix_curve(result)
    vtm, (low, high) = published_curves()["vtm"], AIMED_BPP
    share = largest_share(result)
    return [
        *_rate(name, f"VTM (published), at {low} to {high} bpp", vtm, within(whole, low, high), 50),
        *_planes(whole),
        *_rate(name, "itself, of one best-quality encoding cut to any rate", whole, cut, 10),
        _never_falls(name, result),
        (name, "largest layer at the best quality", "about 15 % of the bits", f"{share:.1f} %", share < 15.5),
        *_time(name, 60, 45),
    ]


def _planes(whole: Curve) -> list[Asked]:
    stored = results.load("planes", "kodak-24")
    if stored is None:
        return []
    return _rate(
        "hierarchical", "the same training without planes (estimated)", whole_curve(stored), whole, 3
    )


def _exactness() -> list[Asked]:
    stored = results.load("exactness", "kodak-24")
    if stored is None:
        return []
    prefixes = sum(row["prefixes"] for row in stored["rows"])
    different = sum(row["different"] for row in stored["rows"])
    qualities = len(stored["rows"])
    what = f"two unlike ends differ, {stored['pictures']} pictures × {qualities} qualities × every prefix, both ways"
    return [("hierarchical", what, "never", f"{different} of {prefixes} prefixes", different == 0)]


def _entropy() -> list[Asked]:
    stored = results.load("entropy", "coders")
    if stored is None:
        return []
    name, mix = "entropy coder", "mixed scales"
    over = max(100 * row["overhead"] for row in stored["rows"] if row["coder"] == "layercast")
    found: list[Asked] = [(name, "size over the ideal, largest", "≤ 0.5 %", f"{over:.3f} %", over <= 0.5)]
    for row in stored["rows"]:
        if row["mix"] == mix and not row["coder"].startswith("layercast"):
            what = f"decoding, in times of {row['coder']}, {mix}"
            found.append((name, what, "≥ 5×", md.ratio(row["behind"]), row["behind"] >= 5))
    return found


def points() -> str:
    """Of each layercast codec, every quality with all layers, and every prefix of the best: bpp, PSNR, MS-SSIM."""
    own = own_results()
    parts = ["### Points of layercast's codecs"]
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
        whole = whole_curve(result)
        cells = []
        for row, after in zip(cut, [*cut[1:], None], strict=True):
            name = names[row["layers"] - 1]
            ends = after is None or names[after["layers"] - 1].split(".")[0] != name.split(".")[0]
            lost = lost_db(whole, row["bpp"], row["psnr"])
            cells.append(
                [
                    f"{row['layers']} (+ {name})" + (", end of plane" if ends else ""),
                    md.number(row["bpp"], 3),
                    md.number(row["psnr"]),
                    md.number(row["ms_ssim"], 4),
                    f"below {whole[0][0]:.2f} bpp" if lost is None else md.number(lost),
                ]
            )
        parts.append(
            f"{result['title']}, quality {best:g}, cut to its first layers; “lost”: dB under the same codec's "
            "encoding made for that rate, interpolated over the table above:"
        )
        parts.append(md.table(["layers", "bpp", "PSNR, dB", "MS-SSIM", "lost, dB"], cells))
    parts.append(md.origin(own.values()))
    if (results.REPOSITORY / CROPS).exists():
        parts += [
            f"One encoding cut at four places beside AVIF and JPEG at the same bytes:\n\n![crops]({CROPS})"
        ]
        parts += [
            f"<sub>`python -m benchmarks.crops --out {CROPS}`; each tile tells its bytes and PSNR.</sub>"
        ]
    return "\n\n".join(parts) if own else ""
