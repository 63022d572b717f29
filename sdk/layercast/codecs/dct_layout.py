"""The order in which the `dct` codec codes its coefficients: stages, and the layers they fill.

Precision first: plane 0 goes from coarse levels to fine and from low frequencies to high; planes 1 and 2 refine in
order of *worth* (distortion removed per bit), which both ends read off the context level at the start of the plane.
"""

from __future__ import annotations

from dataclasses import dataclass

from layercast.codecs.base import LayerInfo

COARSE, MIDDLE, FINE = 0, 1, 2
"""Levels: blocks of 128, 32 and 8 pixels."""

LUMA, CHROMA = 0, 1
"""Parts of a level: channel 0; channels 1 and 2."""

CLASS_BOUNDS: tuple[tuple[int, ...], ...] = ((), (21, 15, 10), (21, 16, 12))
"""Per plane, the context levels at which classes of worth begin, best class first; what lies below the last bound
is the last class."""


FRESH_CLASSES: tuple[tuple[int, ...], ...] = ((0, 1), (0,))
"""Per part, the classes that begin with new context levels; the others use those of the class before. Luma is worth
more time than chroma."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Coefficients that are coded together, given everything before them.

    Attributes:
        layer: index of the layer that holds them.
        plane: 0..2.
        level: COARSE, MIDDLE or FINE.
        part: LUMA or CHROMA.
        first, last: range of frequencies, `last` excluded.
        worth: class of worth, or None for all.
    """

    layer: int
    plane: int
    level: int
    part: int
    first: int
    last: int
    worth: int | None = None

    @property
    def fresh(self) -> bool:
        """Whether the stage computes context levels."""
        return self.worth is None or self.worth in FRESH_CLASSES[self.part]

    @property
    def fills(self) -> bool:
        """Whether it does so when it begins, from everything settled; those of class 0 come with the plane."""
        return self.fresh and self.worth != 0


_DIAGONALS = tuple(s * (s + 1) // 2 if s <= 8 else 64 - (15 - s) * (16 - s) // 2 for s in range(16))
"""Index of the first frequency with u + v = s, in `frequency_order(8)`."""


def _plan() -> tuple[tuple[LayerInfo, ...], tuple[Stage, ...]]:
    table: list[LayerInfo] = []
    stages: list[Stage] = []

    def layer(name: str, about: str) -> int:
        table.append(LayerInfo(name, about))
        return len(table) - 1

    def band(number: int, part: int, low: int, high: int) -> None:
        """Frequencies of the fine level with low <= u + v <= high, in plane 0."""
        stages.append(Stage(number, 0, FINE, part, _DIAGONALS[low], _DIAGONALS[high + 1]))

    for part, name in ((LUMA, "y"), (CHROMA, "c")):
        number = layer(f"p0.{name}.dc", f"mean colour of 8x8 blocks, {'luma' if part == LUMA else 'chroma'}")
        stages.append(Stage(number, 0, COARSE, part, 0, 16))
        stages.append(Stage(number, 0, MIDDLE, part, 1, 6))
        stages.append(Stage(number, 0, MIDDLE, part, 6, 16))
    number = layer("p0.y.low", "coarse luma, lowest frequencies")
    band(number, LUMA, 1, 1)
    band(number, LUMA, 2, 2)
    band(layer("p0.c.low", "coarse chroma, lowest frequencies"), CHROMA, 1, 2)
    band(layer("p0.y.mid", "coarse luma, middle frequencies"), LUMA, 3, 4)
    number = layer("p0.high", "coarse luma and chroma, high frequencies")
    band(number, LUMA, 5, 7)
    band(number, CHROMA, 3, 14)
    band(number, LUMA, 8, 14)
    for plane in (1, 2):
        for worth in range(len(CLASS_BOUNDS[plane]) + 1):
            number = layer(f"p{plane}.c{worth + 1}", f"plane {plane}, class {worth + 1} of worth")
            for part in (LUMA, CHROMA):
                if worth == 0:
                    stages.append(Stage(number, plane, COARSE, part, 0, 16))
                    stages.append(Stage(number, plane, MIDDLE, part, 1, 16))
                stages.append(Stage(number, plane, FINE, part, 1, 64, worth))
    return tuple(table), tuple(stages)


LAYER_TABLE, STAGES = _plan()
"""The codec's layers, and its stages in coding order."""

STARTS = {(s.plane, s.part): s for s in STAGES if s.worth == 0}
"""The stage whose context levels, at the start of a plane, also set the classes of worth; by plane and part."""
