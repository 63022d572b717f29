"""Start from the prototype's checkpoint: the same transforms and direct prior under this package's names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from models.hierarchical.codec import Codec
from models.hierarchical.transforms import PRECISION_KNOTS

ANALYSIS_QUALITY = 0.8
"""The prototype's analysis blocks carry quality splines, always read at this point; they fold into the filters."""

RENAMES = (
    (r"^(l8|ldc|l16|l32|y)\b", r"analysis.\1"),
    (r"^(e8|e16|e32)\.m\.", r"analysis.\1."),
    (r"^d32\.m\.0\.", "synthesis.i32."),
    (r"^d32\.m\.2\.", "synthesis.u16."),
    (r"^d16\.m\.2\.", "synthesis.u8."),
    (r"^d32\.m\.1\.", "synthesis.d32.0."),
    (r"^(d16|d8)\.m\.", r"synthesis.\1."),
    (r"^d4\.m\.0\.", "synthesis.d4."),
    (r"^o4\.", "synthesis.u4."),
    (r"^(s8|sdc|s16|s32|shrink|i16|i8|lin4|out)\b", r"synthesis.\1"),
    (r"^(u16|u8)\.", r"direct.\1."),
    (r"^prior\.(\d)\.q\.", r"direct.q.\1."),
    (r"^prior\.(\d)\.heads\.", r"direct.heads.\1."),
)


def convert(sketch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prototype's state dict under this package's names."""
    out: dict[str, Tensor] = {}
    for key, value in sketch.items():
        if key.endswith("scale.t") and key[0] == "e":
            continue
        name = key
        context = re.match(r"^prior\.(\d)\.ctx\.m\.(\d)\.(.*)$", key)
        if context:
            level, module, rest = int(context[1]) - 1, int(context[2]), context[3]
            name = (
                f"direct.inputs.{level}.{rest}"
                if module == 0
                else f"direct.blocks.{level}.{module - 1}.{rest}"
            )
        for pattern, replacement in RENAMES:
            name, n = re.subn(pattern, replacement, name)
            if n:
                break
        if key[0] == "e" and key.endswith("dw.weight"):
            t = sketch[key.replace("dw.weight", "scale.t")]
            knot = ANALYSIS_QUALITY * (len(t) - 1)
            value = value * (1 + t[round(knot)])[:, None, None, None]
        if key.endswith(("scale.t",)) or key.startswith("shrink"):
            pad = PRECISION_KNOTS - len(value)
            value = torch.cat([value[:1].expand(pad, -1), value])
        if re.match(
            r"direct\.heads\.[12]\.\d\.2\.", name
        ):  # means, which this package's direct prior has not
            value = value[len(value) // 2 :]
        out[name] = value
    return out


def load_sketch(model: Codec, path: str) -> None:
    """Load the prototype's transforms and direct prior; the exact priors keep their initialisation."""
    state = convert(torch.load(path, weights_only=True))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(m.startswith(("base.", "plane1.", "plane2.")) for m in missing), missing
