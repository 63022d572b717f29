"""CompressAI's mbt2018-mean with random weights: the right architecture for time, and no compression at all.

It needs torch and ``pip install --no-deps compressai`` (with scipy); without them it is left out. Its package imports
data sets and point-cloud models, which need much more; only the modules of this one model are loaded.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.pictures import Picture

NAME = "mbt2018-mean"

N, M = 192, 320
"""Channels of the published models of quality 5 to 8, the ones that reach 37 dB on Kodak."""

SETTINGS = f"CompressAI, N={N}, M={M}, float32, random weights, rANS included; bpp and dB mean nothing"


def versions() -> dict[str, str]:
    """Of what does the work; empty when it is not installed."""
    try:
        return {name: importlib.metadata.version(name) for name in ("compressai", "torch", "scipy")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def actions(picture: Picture, threads: int) -> tuple[Callable[[], Any], Callable[[Any], Picture]]:
    """Encode to strings, and decode them; pixels to pixels.

    Raises:
        ImportError: torch or compressai is not here.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = _models().MeanScaleHyperprior(N, M).eval()
    model.update()

    def encode() -> Any:
        with torch.inference_mode():
            planes = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / 255)
            return model.compress(planes[None])

    def decode(coded: Any) -> Picture:
        with torch.inference_mode():
            planes = model.decompress(coded["strings"], coded["shape"])["x_hat"][0]
            return (planes * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()

    return encode, decode


def _models() -> Any:
    if "compressai" not in sys.modules:
        found = importlib.util.find_spec("compressai")
        if found is None or found.submodule_search_locations is None:
            raise ImportError("compressai is not installed")
        root = next(iter(found.submodule_search_locations))
        stand_ins: dict[str, dict[str, Any]] = {
            "compressai": {
                "__path__": [root],
                "__spec__": found,
                "get_entropy_coder": lambda: "ans",
                "available_entropy_coders": lambda: ["ans"],
            },
            "compressai.models": {"__path__": [f"{root}/models"]},
            "compressai.registry": {
                "register_model": lambda _: lambda made: made,
                "register_module": lambda _: lambda made: made,
            },
        }
        for name, contents in stand_ins.items():
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__dict__.update(contents)
    return importlib.import_module("compressai.models.google")
