"""The fitted numbers of the `dct` codec: context weights, integer tables, reconstruction offsets.

They are fitted offline (`models/dct/fit.py`) and ship as one file beside this module.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast import entropy
from layercast.codecs.dct_layout import FINE, STAGES, Stage
from layercast.codecs.dct_quantiser import DEAD_ZONE, PLANES
from layercast.codecs.dct_work import Floats
from layercast.entropy import CdfTables
from layercast.errors import ModelError

FORMAT = 1
"""Grows with every change of this codec's bitstream that is not in the fitted numbers."""

CONTEXT_LEVELS = 44
"""Context levels, four per octave of the expected magnitude, from 1/32 to 64 steps."""

KINDS = 4
"""Kinds of a coefficient in planes 1 and 2: zero so far, magnitude 1, 2, 3 or more."""

WEIGHT_ONE = 1024
"""The integer that stands for a context weight of 1."""

MAX_FEATURE = 100
"""Magnitudes enter the contexts clipped to this, which bounds every weighted sum."""

OFFSET_ONE = 64
"""The integer that stands for an offset of one step."""

OFFSET_COLUMNS = 7
"""Columns of `DctModel.signed_offsets`: symbols -3 to 3, and beyond."""

_MAX_OFFSET = 42
"""Largest offset in planes 0 and 1: the next plane counts it three times, in int8."""

BUCKETS = 8
"""Ranges of quality with a context bias of their own."""

_AROUND_TOTAL = 16
"""Sum of the weights in a neighbour sum."""

_EXACT = 1 << 24
"""Integers below this are exact in float32."""

_LAMBDA = 0.13
"""Squared error (in squared steps) that one bit is worth when the encoder zeroes a coefficient; chosen on
validation pictures."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Context weights of one stage, non-negative integers held in float32.

    Attributes:
        own: (C, f, F), magnitudes in the same block; F as `sources` says.
        around: (C, f, F), neighbour sums.
        others: (C, 2, f), the same frequency in luma and the other chroma channel; zero for luma.
        bias: (BUCKETS, C, f).
        both: (C, f, 2 * F), `own` and `around` of each frequency in turn.
    """

    own: Floats
    around: Floats
    others: Floats
    bias: Floats
    both: Floats = field(init=False)

    def __post_init__(self) -> None:
        both = np.stack((self.own, self.around), axis=3).reshape(*self.own.shape[:2], -1)
        object.__setattr__(self, "both", both)


def stage_key(stage: Stage) -> str:
    """Name of a stage's weights in the file."""
    worth = "all" if stage.worth is None else stage.worth
    return f"{stage.plane}.{stage.level}.{stage.part}.{stage.first}.{worth}"


def sources(stage: Stage) -> int:
    """How many frequencies of a block the context of a stage sees: in plane 0, those before it."""
    return stage.first if stage.plane == 0 else (64 if stage.level == FINE else 16)


class DctModel:
    """Fitted numbers, checked.

    Attributes:
        tables: the integer tables; rows as `first_row` says.
        offsets: (rows, 3) float32; what to add to a bin number to get its reconstruction, in steps of the plane.
        signed_offsets: (rows * OFFSET_COLUMNS,) int8; the same per symbol, signed, in 1 / OFFSET_ONE.
        thresholds: (rows,) float32; a coefficient below this magnitude (in final steps) is better zeroed by the
            encoder in the last plane.
        fingerprint: 16 bytes over all of it.

    Raises:
        ModelError: the arrays are incomplete or break a bound.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        try:
            self.tables = CdfTables.from_bytes(arrays["tables"].tobytes())
            self.offsets: Floats = arrays["offsets"].astype(np.float32) / np.float32(OFFSET_ONE)
            self._certain: NDArray[np.int64] = arrays["certain"].astype(np.int64)
            self._weights = {stage_key(s): _weights(arrays, s) for s in STAGES if s.fresh}
        except KeyError as error:
            raise ModelError(f"the dct tables lack {error}", hint="install layercast again") from error
        if self.offsets.shape != (ROWS, 3) or len(self.tables) != ROWS or self._certain.shape != (len(SETS),):
            raise ModelError("the dct tables have the wrong shape", hint="install layercast again")
        self.signed_offsets = signed_offsets(self.offsets)
        self.thresholds: Floats = self._thresholds()
        digest = hashlib.sha256(f"layercast dct {FORMAT} {DEAD_ZONE} {entropy.VERSION}".encode())
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        self.fingerprint = digest.digest()[:16]

    @staticmethod
    def bucket(quality_index: int) -> int:
        """Which context bias a quality uses."""
        return quality_index * BUCKETS // 256

    @staticmethod
    def first_row(plane: int, level: int, part: int) -> int:
        """Table row of context level 0 and kind 0."""
        return int(FIRST_ROWS[(plane, level == FINE, part)])

    def certain(self, plane: int, level: int, part: int) -> int:
        """Context level below which a coefficient that is zero stays zero, uncoded."""
        return int(self._certain[SETS.index((plane, level == FINE, part))])

    def weights(self, stage: Stage) -> Weights:
        return self._weights[stage_key(stage)]

    def _thresholds(self) -> Floats:
        """Zero where D(0) <= D(1) + lambda (R(1) - R(0)): x <= (r^2 + lambda dR) / 2r with r the reconstruction."""
        thresholds = np.zeros(ROWS, np.float32)
        for part in (0, 1):
            for fine in (False, True):
                first = FIRST_ROWS[(PLANES - 1, fine, part)]
                for row in range(first, first + CONTEXT_LEVELS):
                    zero, one = self.tables.row(row)[1:3].astype(np.float64)
                    value = 1 + float(self.offsets[row, 2])
                    thresholds[row] = (value**2 + _LAMBDA * np.log2(zero / one)) / (2 * value)
        return thresholds


SETS = [(plane, fine, part) for plane in range(PLANES) for fine in (False, True) for part in (0, 1)]
"""Sets of table rows: plane, whether of the fine level or of the pyramid above it, part."""

_SIZES = [CONTEXT_LEVELS * (KINDS if plane else 1) for plane, _, _ in SETS]

ROWS = sum(_SIZES)
"""Table rows of all sets."""

FIRST_ROWS = dict(zip(SETS, np.cumsum([0, *_SIZES]).tolist(), strict=False))
"""First table row of each set; kinds and, within them, context levels follow."""


def signed_offsets(offsets: Floats) -> NDArray[np.int8]:
    """`DctModel.signed_offsets` from `DctModel.offsets`.

    Raises:
        ModelError: an offset is out of bounds.
    """
    whole = np.rint(offsets * OFFSET_ONE)
    table = np.zeros((ROWS, OFFSET_COLUMNS), np.int8)
    half = OFFSET_COLUMNS // 2
    for (plane, _, _), first, size in zip(SETS, FIRST_ROWS.values(), _SIZES, strict=True):
        rows = slice(first, first + size)
        if np.abs(whole[rows]).max() > (_MAX_OFFSET if plane < PLANES - 1 else np.iinfo(np.int8).max):
            raise ModelError("the dct offsets are out of bounds", hint="install layercast again")
        fresh = slice(first, first + CONTEXT_LEVELS)
        for symbol in range(1, half + 1):
            table[fresh, half + symbol] = whole[fresh, symbol - 1 if plane == 0 else 2]
            table[fresh, half - symbol] = -table[fresh, half + symbol]
        trits = slice(fresh.stop, rows.stop)
        table[trits, half - 1 : half + 2] = whole[trits]
    return table.reshape(-1)


def _weights(arrays: dict[str, NDArray[Any]], stage: Stage) -> Weights:
    key = stage_key(stage)
    own, around, others, bias = (
        np.ascontiguousarray(arrays[f"{key}.{name}"].astype(np.float32))
        for name in ("own", "around", "others", "bias")
    )
    largest = MAX_FEATURE * (own.sum(2) + _AROUND_TOTAL * around.sum(2) + others.sum(1)) + bias.max(0)
    if min(w.min(initial=0) for w in (own, around, others)) < 0 or bias.min() < 1 or largest.max() >= _EXACT:
        raise ModelError(f"context weights {key} are out of bounds", hint="install layercast again")
    return Weights(own, around, others, bias)


@cache
def load_model() -> DctModel:
    """The model that ships with this package, loaded once.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        data = (resources.files("layercast.codecs") / "dct_tables.npz").read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return DctModel({name: archive[name] for name in archive.files})
    except (OSError, ValueError) as error:
        raise ModelError("the dct tables cannot be read", hint="install layercast again") from error
