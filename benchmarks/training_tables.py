"""The section of BENCHMARKS.md on what training bought: the runs behind the shipped weights, and the slope."""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

from benchmarks import markdown as md
from benchmarks.codec_tables import own_results
from benchmarks.still_tables import compare, published_curves, whole_curve
from layercast.codecs.hierarchical.model import DEFAULT_ENTRY

MEASURED = "kodak_bd_rate_vtm"
"""Key of a run whose weights were exported and measured: per cent of bits over VTM, headers counted."""


def ledger() -> list[dict[str, Any]]:
    """The runs behind the shipped weights, in order; the last one carries today's figure."""
    path = resources.files("layercast.zoo") / DEFAULT_ENTRY / "manifest.json"
    runs: list[dict[str, Any]] = json.loads(path.read_bytes())["ledger"]
    stored = own_results().get("hierarchical")
    found = stored and compare(published_curves()["vtm"], whole_curve(stored))
    return [*runs[:-1], {**runs[-1], MEASURED: found.percent}] if found else runs


def section() -> str:
    rows, seen, points = [], 0.0, []
    for run in ledger():
        seen += run["gigapixels"]
        measured = run.get(MEASURED)
        if measured is not None:
            points.append((seen, measured))
        minutes = run["minutes"] if "minutes" in run else run["seconds"] / 60
        rows.append(
            [
                run["run"],
                run["device"],
                run["steps"],
                f"{minutes:.0f}",
                f"{seen:.1f}",
                "" if measured is None else f"{measured:+.1f} %",
            ]
        )
    head = ["run", "device", "steps", "minutes", "gigapixels so far", "bits against VTM, Kodak"]
    parts = [
        "### Training so far",
        f"The ledger of `{DEFAULT_ENTRY}`, as its manifest carries it.",
        md.table(head, rows),
    ]
    if len(points) > 1:
        (first, before), (last, after) = points[0], points[-1]
        per_doubling = 100 * (math.log((100 + after) / (100 + before)) / math.log2(last / first))
        parts.append(
            f"From {first:.1f} to {last:.1f} gigapixels the bits changed by {per_doubling:+.1f} % per doubling of the "
            "pixels seen, each over the PSNR range that it reaches, changes of the networks between the runs included: "
            "what a longer run may be expected to bring."
        )
    return "\n\n".join(parts)
