"""Pictures side by side, each with a line of text under it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from layercast.media import Image, write_picture

LINE_HEIGHT = 20
"""Pixels per line of text."""

GAP = 4
"""Pixels between pictures."""


def write_sheet(path: Path, rows: Sequence[Sequence[tuple[Image, str]]]) -> None:
    """One PNG of rows of (picture, text); "\\n" in a text begins its second line.

    Raises:
        MediaError: it cannot be written.
    """
    text_height = LINE_HEIGHT * max(text.count("\n") + 1 for row in rows for _, text in row)
    height = max(image.shape[0] for row in rows for image, _ in row)
    width = max(image.shape[1] for row in rows for image, _ in row)
    columns = max(len(row) for row in rows)
    sheet = PillowImage.new(
        "RGB", (columns * (width + GAP) - GAP, len(rows) * (height + text_height + GAP) - GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for row_number, row in enumerate(rows):
        for column, (image, text) in enumerate(row):
            left, top = column * (width + GAP), row_number * (height + text_height + GAP)
            sheet.paste(PillowImage.fromarray(image), (left, top))
            draw.multiline_text((left + 2, top + height + 1), text, "black", font)
    write_picture(path, np.asarray(sheet))


def half_size(image: Image) -> Image:
    """The mean of every 2x2 pixels."""
    return np.asarray(PillowImage.fromarray(image).reduce(2))
