"""The promise: a figure that got worse cannot slip in, and one that did not never stops anybody."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.guard import verdicts

from benchmarks import guard, pictures
from layercast import FrameKind, LayerInfo, PictureInfo
from layercast.codecs.base import EncodedFrame

STORED = [
    {"key": "a", "bytes": 10_000, "psnr": 35.0},
    {"key": "b", "bd_rate": -20.0},
]


def changed(**fields: float) -> list[dict]:
    return [{**row, **{k: v for k, v in fields.items() if k in row}} for row in STORED]


def test_equal_figures_pass() -> None:
    assert verdicts(STORED, changed()) == ([], [])


@pytest.mark.parametrize("fields", [{"bytes": 10_021}, {"psnr": 34.98}, {"bd_rate": -19.6}])
def test_one_worse_figure_is_worse(fields: dict[str, float]) -> None:
    worse, better = verdicts(STORED, changed(**fields))
    assert (len(worse), better) == (1, [])


@pytest.mark.parametrize("fields", [{"bytes": 10_019}, {"psnr": 34.995}, {"bd_rate": -19.8}])
def test_a_rounding_on_another_processor_is_not(fields: dict[str, float]) -> None:
    assert verdicts(STORED, changed(**fields)) == ([], [])


def test_a_better_figure_is_told_and_passes() -> None:
    worse, better = verdicts(STORED, changed(bytes=9_000))
    assert (worse, len(better)) == ([], 1)


def test_a_figure_that_is_gone_is_worse_and_a_new_one_is_not() -> None:
    worse, better = verdicts(STORED, [STORED[0], {"key": "c", "bytes": 1, "psnr": 1.0}])
    assert worse == ["b: no longer measured"]
    assert better == ["c: new"]


class HalvingCodec:
    """Two layers: every other row, then the rest. Just enough of a codec to be measured."""

    name = "halving"
    fingerprint = bytes(16)
    layer_table = (LayerInfo("even", "even rows"), LayerInfo("odd", "odd rows"))

    def __init__(self, waste: int = 0) -> None:
        self.waste = waste

    def encode(self, image: np.ndarray, quality: float = 0.7) -> EncodedFrame:
        step = 2 + round(40 * (1 - quality))
        coarse = (image // step * step + step // 2).clip(0, 255).astype(np.uint8)
        info = PictureInfo(image.shape[1], image.shape[0], 3, round(255 * quality))
        layers = (coarse[::2].tobytes() + bytes(self.waste), coarse[1::2].tobytes())
        return EncodedFrame(layers, info, kind=FrameKind.KEY)

    def start(self, picture: PictureInfo) -> HalvingCodec:
        self.info, self.pushed = picture, []
        return self

    def push(self, layer: bytes) -> None:
        self.pushed.append(layer)

    def picture(self) -> np.ndarray:
        shape = (self.info.height // 2, self.info.width, 3)
        rows = [np.frombuffer(layer[: np.prod(shape)], np.uint8).reshape(shape) for layer in self.pushed]
        return np.stack([rows[0], rows[-1]], axis=1).reshape(self.info.height, self.info.width, 3)


def measured(codec: HalvingCodec) -> list[dict]:
    grey = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3)
    chosen = pictures.PictureSet("one", {"ramp": (grey // 50).astype(np.uint8)}, "digest")
    return guard.measure("halving", codec, chosen, [[1.0, 20.0], [40.0, 60.0]])


def test_every_prefix_that_is_measured_has_its_bytes_and_psnr() -> None:
    rows = measured(HalvingCodec())
    kinds = [key for row in rows for key in row if key != "key"]
    assert kinds.count("bytes") == kinds.count("psnr") == 2 * len(guard.QUALITIES)
    assert kinds.count("bd_rate") == 1


def test_a_codec_that_wastes_bytes_is_caught() -> None:
    worse, better = verdicts(measured(HalvingCodec()), measured(HalvingCodec(waste=200)))
    assert len(worse) == 2 * len(guard.QUALITIES) + 1
    assert better == []


def test_the_stored_figures_are_those_of_the_bundled_pictures() -> None:
    stored = json.loads((guard.results.RESULTS / "guard" / "quick.json").read_text(encoding="utf-8"))
    assert stored["digest"] == pictures.bundled().digest
