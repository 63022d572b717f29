"""The plots of BENCHMARKS.md, small enough to live in the repository."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from PIL import Image

from benchmarks.results import REPOSITORY

FOLDER = REPOSITORY / "docs" / "img"

COLOURS = 128
"""Of the palette that a plot is stored with: a third of the bytes of true colour."""


@dataclass(frozen=True)
class Line:
    """One curve; layercast's are thick, published ones dashed."""

    x: list[float]
    y: list[float]
    ours: bool = False
    published: bool = False
    steps: bool = False


def draw(
    name: str,
    lines: Mapping[str, Line],
    title: str,
    x_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_x: bool = False,
) -> str:
    """Draw docs/img/NAME.png and give the Markdown that shows it."""
    figure, axes = plt.subplots(figsize=(7.5, 5), dpi=90)
    colours = plt.get_cmap("tab20").colors
    for index, (label, line) in enumerate(lines.items()):
        axes.plot(
            line.x,
            line.y,
            label=label,
            color=colours[(2 * index + (2 * index) // 20) % 20],
            linewidth=2.6 if line.ours else 1.2,
            linestyle="--" if line.published else "-",
            marker="o" if line.ours else None,
            markersize=4,
            drawstyle="steps-post" if line.steps else "default",
        )
    axes.set(xlabel=x_label, ylabel="PSNR (RGB), dB", title=title)
    if log_x:
        axes.set_xscale("log")
    if x_range:
        axes.set_xlim(*x_range)
    if y_range:
        axes.set_ylim(*y_range)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    path = FOLDER / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(COLOURS, kmeans=2).save(path, optimize=True)
    return f"![{title}]({path.relative_to(REPOSITORY).as_posix()})"
