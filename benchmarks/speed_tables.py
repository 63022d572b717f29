"""The section of BENCHMARKS.md on time and memory."""

from __future__ import annotations

from typing import Any

from benchmarks import markdown as md
from benchmarks import mbt2018, results

ANCHORS = ("jpeg-420", "avif-420")
RATIOS = ("× JPEG", "× AVIF")

INTRO = (
    "Milliseconds a picture, pixels to bytes and back, everything counted: layercast at the quality that gives "
    "{target:g} dB (or at its best, when that gives less), the peers at settings that give about as much (both are "
    "shown: no time is worth much without what it bought). Medians of interleaved runs, pinned to as many cores "
    "as threads. “× JPEG” and “× AVIF”: in times of those codecs' time. {name} has random weights, so its "
    "bits and dB mean nothing; it is timed at one size only."
)

MEMORY = (
    "Peak memory in MiB of a process that encodes and decodes one picture on one thread, above that of one that "
    "only loads it ({base:.0f} MiB for the smallest):"
)


def timed() -> dict[tuple[str, int], dict[str, Any]]:
    """The stored result of each (size, threads), small first."""
    found = results.load_all("speed")
    found.pop("memory", None)
    ordered = sorted(found.values(), key=lambda r: (int(r["size"].split("x")[0]), r["threads"]))
    return {(r["size"], r["threads"]): r for r in ordered}


def ratio_cells(result: dict[str, Any], row: dict[str, Any], step: str) -> list[str]:
    """Milliseconds, and how many times the anchors' they are."""
    by_codec = {r["codec"]: r for r in result["rows"]}
    ratios = (md.ratio(row[step] / by_codec[anchor][step]) for anchor in ANCHORS)
    return [md.number(row[step], 1), *ratios]


def section() -> str:
    stored = timed()
    if not stored:
        return ""
    rows = []
    for (size, threads), result in stored.items():
        for row in result["rows"]:
            bought = [md.number(row["bpp"]), md.number(row["psnr"], 1)] if "bpp" in row else ["", ""]
            cells = [cell for step in ("encode_ms", "decode_ms") for cell in ratio_cells(result, row, step)]
            rows.append([size, threads, row["codec"], *bought, *cells])
    head = ["size", "threads", "codec", "bpp", "dB", "encode", *RATIOS, "decode", *RATIOS]
    target = next(iter(stored.values()))["target_db"]
    parts = [
        "## Time and memory",
        INTRO.format(target=target, name=mbt2018.NAME),
        md.table(head, rows),
        _stages(stored),
    ]
    memory = results.load("speed", "memory")
    if memory:
        weighed = [[row["size"], *row["above_base_mib"].values()] for row in memory["rows"]]
        parts.append(MEMORY.format(base=memory["rows"][0]["base_mib"]))
        parts.append(md.table(["size", *memory["rows"][0]["above_base_mib"]], weighed))
    settings = {name: text for result in stored.values() for name, text in result["settings"].items()}
    libraries = {name: text for result in stored.values() for name, text in result["libraries"].items()}
    parts.append("Settings of the peers here:")
    parts.append(md.table(["codec", "settings"], settings.items()))
    parts.append("Libraries: " + ", ".join(f"{name} {version}" for name, version in libraries.items()) + ".")
    parts.append(md.origin([*stored.values(), *([memory] if memory else [])]))
    return "\n\n".join(parts)


def _stages(stored: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Of each layercast codec and step, milliseconds by stage: one column a size and thread count."""
    parts = []
    for step in ("encode", "decode"):
        by_codec: dict[str, dict[str, list[str]]] = {}
        for column, result in enumerate(stored.values()):
            for row in result["rows"]:
                for key, ms in row.get("stages", {}).items():
                    if key.startswith(step):
                        lines = by_codec.setdefault(row["codec"], {})
                        lines.setdefault(key.removeprefix(f"{step}: "), [""] * len(stored))[column] = (
                            f"{ms:.1f}"
                        )
        rows = [[codec, stage, *cells] for codec, lines in by_codec.items() for stage, cells in lines.items()]
        if rows:
            head = ["codec", "stage", *(f"{size}, {threads} thr." for size, threads in stored)]
            parts.append(
                f"Where the time to {step} goes, ms (`layercast.codecs.stages` says what each stage is):"
            )
            parts.append(md.table(head, rows))
    return "\n\n".join(parts)
