"""Make a zoo entry from a checkpoint.

    python -m models.export.export --checkpoint run.pt --data TRAIN --out models/zoo/hierarchical-1

The tables are counted on training pictures by running the very encoder that ships (`layercast.codecs.hierarchical`),
first with a provisional entry, so that they fit the integers it makes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

from layercast.codecs.hierarchical.codec import HierarchicalCodec, grid_of, picture_info
from layercast.codecs.hierarchical.digits import Digits
from layercast.codecs.hierarchical.kernels import KEYS, ROW_MIRROR
from layercast.codecs.hierarchical.model import FORMAT, TRANSFORMS, known_answer
from layercast.codecs.hierarchical.walk import Walk
from layercast.entropy import CdfTables
from layercast.entropy.families import to_frequencies
from models.export.dead import dead_units, trimmed
from models.export.prior import ROWS, TILTS, key_table, prior_graphs, quality_basis, top_tables
from models.export.transforms import export_float, fix_shape, quantise, scale_tables
from models.hierarchical.codec import Codec
from models.hierarchical.config import (
    CENTRE_MIN,
    LOGIT_FRACTION,
    OFFSET_FRACTION,
    OFFSETS,
    SCALE_LOG_STEP,
    SCALE_MIN,
    SCALE_ROWS,
)
from models.training.data import crops

LEDGER = Path(__file__).parents[1] / "training" / "ledger.json"
"""Runs that led to the checkpoint that a run started from; a run's own entries travel in its checkpoint."""

NEAR_CERTAIN = (0.00003, 0.0002)
"""A trit of plane 1 or 2 whose probability of not being 0 is below this is not coded: it would cost more time than
it is worth. Eight validation pictures: with thirteen times these the picture lost 0.09, 0.09, 0.05 and 0.02 dB at
qualities 0, 0.2, 0.4 and 0.6, one and a half to three times what the bits were worth (synthesis takes such a zero for
certain); with a third of them bits and quality rose alike. It costs 3 % of the decoding time."""

COUNTED = (1.0, 0.75, 1.0, 0.5, 0.25, 1.0, 0.0)
"""Qualities of the pictures that tables are counted on, in turn."""

BASE_COUNT = 400.0
"""Weight of plane 0's Gaussians against what was counted, in symbols."""

PRIOR_COUNT = 60.0
"""Weight of a row's model against what was counted for it, in symbols."""

BITS_UNIT = 1024
"""Expected bits in a ranking are integers in 1/1024."""


def model_rows() -> np.ndarray:
    """(ROWS, 3) probabilities of trits -1, 0, +1 that the logits of each row stand for."""
    row = np.arange(ROWS)
    centre = (row // TILTS + CENTRE_MIN) / LOGIT_FRACTION
    tilt = (row % TILTS) / LOGIT_FRACTION
    p = np.exp(np.stack([-tilt, centre, tilt], 1))
    return p / p.sum(1, keepdims=True)


def base_rows() -> CdfTables:
    """Plane 0's rows as its Gaussians say, `scale index * OFFSETS + offset`."""
    scales = np.repeat(SCALE_MIN * np.exp(np.arange(SCALE_ROWS) * SCALE_LOG_STEP), OFFSETS)
    return CdfTables.gaussian(
        scales, means=scales * np.tile(np.arange(OFFSETS) / OFFSET_FRACTION, SCALE_ROWS)
    )


def trit_tables(p: np.ndarray) -> CdfTables:
    return CdfTables.from_frequencies([to_frequencies(q) for q in p], [-1] * len(p))


def latent_energy(model: Codec, images: list[np.ndarray], quality: float = 0.75) -> np.ndarray:
    """(channels,) squared error, summed over the picture and colours, that a unit error in one latent makes.

    In squared final steps; an orthonormal transform would give 1 everywhere. Measured by adding uniform noise of
    one step to one channel at a time of real pictures' rounded latents.
    """
    torch.manual_seed(3)
    x = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images]).float() / 255
    q = torch.full((len(x),), quality)
    gains = [g + model.log_gain(q) for g in model.gain]
    rounded = [(y * torch.exp(g)).round() for y, g in zip(model.analysis(x), gains, strict=True)]

    def picture(latents: list[torch.Tensor]) -> torch.Tensor:
        pixel = [z * torch.exp(-g) for z, g in zip(latents, gains, strict=True)]
        return model.synthesis(tuple(pixel), q[:, None].expand(-1, 3))

    start, energy = picture(rounded), []
    step = math.exp(-model.config.log_gain(quality))
    for level, z in enumerate(rounded):
        for channel in range(z.shape[1]):
            changed = [t.clone() for t in rounded]
            error = torch.rand(z[:, channel].shape) - 0.5
            changed[level][:, channel] += error
            moved = (picture(changed) - start).pow(2).sum() / error.pow(2).sum()
            energy.append(max(float(moved) / step**2, 1e-3))
    return np.array(energy)


class Entry:
    """An entry under construction."""

    def __init__(self, model: Codec, folder: Path, images: list[np.ndarray]) -> None:
        self.model, self.folder = model, folder
        folder.mkdir(parents=True, exist_ok=True)
        graphs = prior_graphs(model)
        for name, graph in graphs.items():
            (folder / f"{name}.onnx").write_bytes(graph.model().SerializeToString())
        self.accumulators = {name: graph.largest_accumulator for name, graph in graphs.items()}
        top_mean, top_scale = top_tables(model.base, quality_basis(model.config.knots))
        energy = latent_energy(model, [i[:128, :128] for i in images[:12]])
        self.arrays = {
            "key_table": key_table(),
            "top_mean": top_mean,
            "top_scale": top_scale,
            "latent_energy": energy.astype(np.float32),
            **{f"bias_{n}": g.bias_table() for n, g in graphs.items() if g.bias_rows},
        }
        self.set_tables(base_rows(), model_rows(), (0.0, 0.0))

    def set_tables(self, base: CdfTables, p: np.ndarray, near_certain: tuple[float, float]) -> None:
        """near_certain: per plane, probability of not being 0 below which a trit is not coded."""
        (self.folder / "base.cdf").write_bytes(base.to_bytes())
        (self.folder / "trits.cdf").write_bytes(trit_tables(p).to_bytes())
        mean = np.zeros(KEYS, np.float32)
        mean[:ROWS] = p[:, 2] - p[:, 0]
        mean[ROW_MIRROR : ROW_MIRROR + ROWS] = -mean[:ROWS]
        self.arrays["trit_mean"] = mean
        variance, bits = p[:, 0] + p[:, 2] - (p[:, 2] - p[:, 0]) ** 2, -(p * np.log2(p)).sum(1)
        energy = np.zeros(KEYS, np.float32)
        for start in (0, ROW_MIRROR):
            energy[start : start + ROWS] = variance
        self.arrays["trit_energy"] = energy
        # Expected distortion removed per bit. All of stride 8's channels count alike: with what a unit error in each
        # makes of the picture (`latent_energy`, 0.5 to 1.2) prefixes cost 11.1 % instead of 9.0 (eight Kodak pictures),
        # for synthesis smooths what it knows to be imprecise.
        worth = np.log2(variance / bits)
        for plane, limit in enumerate(near_certain, 1):
            coded = np.zeros(KEYS, bool)
            for start in (0, ROW_MIRROR):
                coded[start : start + ROWS] = 1 - p[:, 1] >= limit
            keys = np.flatnonzero(coded)
            order = keys[np.argsort(-worth[keys % ROW_MIRROR], kind="stable")]
            self.arrays[f"coded{plane}"], self.arrays[f"order{plane}"] = coded, order
            expected = np.rint(bits[order % ROW_MIRROR] * BITS_UNIT)
            self.arrays[f"bits{plane}"] = np.maximum(expected, 1).astype(np.int64)

    def write(self, extra: dict[str, object]) -> None:
        np.savez_compressed(self.folder / "tables.npz", **self.arrays)
        np.savez_compressed(self.folder / "transforms.npz", **scale_tables(self.model))
        names = sorted(p.name for p in self.folder.iterdir() if p.suffix in (".onnx", ".npz", ".cdf"))
        manifest = {
            "format": FORMAT,
            "config": self.model.config.to_json(),
            "accumulators": self.accumulators,
            "files": {n: hashlib.sha256((self.folder / n).read_bytes()).hexdigest() for n in names},
            "known_answer": "",
            **extra,
        }
        path = self.folder / "manifest.json"
        path.write_text(json.dumps(manifest, indent=1))
        manifest["known_answer"] = known_answer(HierarchicalCodec(self.folder, self_test=False).model)
        path.write_text(json.dumps(manifest, indent=1) + "\n")


class Counts:
    """What the encoder did with training pictures."""

    def __init__(self) -> None:
        self.trits = np.zeros((ROWS, 3))
        self.base: list[dict[int, int]] = [{} for _ in range(SCALE_ROWS * OFFSETS)]

    @classmethod
    def of(cls, codec: HierarchicalCodec, images: list[np.ndarray]) -> Counts:
        """Of pictures encoded at COUNTED qualities."""
        counts = cls()
        for i, image in enumerate(images):
            counts.add(codec, image, COUNTED[i % len(COUNTED)])
        return counts

    def add(self, codec: HierarchicalCodec, image: np.ndarray, quality: float) -> None:
        info = picture_info(image, quality)
        walk = Walk(codec.model, grid_of(info), info.quality_index)
        digits = Digits(walk, codec.analyse(image, info))
        while not walk.complete:
            rows, _ = walk.rows(walk.fitted(digits.present) if walk.shifted else None)
            symbols = digits.symbols()
            if walk.layer < walk.parts:
                pairs, n = np.unique(np.stack([rows.astype(np.int64), symbols]), axis=1, return_counts=True)
                for (row, symbol), k in zip(pairs.T.tolist(), n.tolist(), strict=True):
                    self.base[row][symbol] = self.base[row].get(symbol, 0) + k
            else:
                np.add.at(self.trits, (rows, symbols + 1), 1)
            walk.put(symbols)

    def trit_probabilities(self) -> np.ndarray:
        model = model_rows()
        p = self.trits + PRIOR_COUNT * model
        return p / p.sum(1, keepdims=True)

    def base_tables(self) -> CdfTables:
        """Gaussian rows, drawn towards what was counted (symmetrically where they lie around 0)."""
        plain = base_rows()
        rows = []
        for i, counted in enumerate(self.base):
            frequency = plain.row(i).astype(np.float64)
            p = frequency / frequency.sum() * BASE_COUNT
            inner = len(p) - 1
            for symbol, n in counted.items():
                alike = (symbol,) if i % OFFSETS else (symbol, -symbol)
                for s in alike:
                    at = s - int(plain.offsets[i])
                    p[at if 0 <= at < inner else inner] += n / len(alike)
            rows.append(p / p.sum())
        return CdfTables.from_probabilities(rows, plain.offsets, escaped=True)


def synthesis_feeds(codec: HierarchicalCodec, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What synthesis sees when pictures are decoded at several qualities and cuts."""
    feeds = []
    rng = np.random.default_rng(5)
    for i, image in enumerate(images):
        frame = codec.encode(image, (0.0, 0.3, 0.6, 0.8, 1.0)[i % 5])
        keep = len(frame.layers) if i % 3 else int(rng.integers(2, len(frame.layers)))
        decoder = codec.start(frame.picture)
        for layer in frame.layers[:keep]:
            decoder.push(layer)
        feeds.append(decoder.synthesis_inputs())
    return feeds


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--data", required=True, help="training pictures, for tables and calibration")
    ap.add_argument("--out", required=True, type=Path)
    ap.add_argument("--pictures", type=int, default=60)
    ap.add_argument("--side", type=int, default=384, help="side of the crops, a multiple of 32")
    ap.add_argument(
        "--keep", type=Path, help="also write the weights, as float16, for later runs to start from"
    )
    ap.add_argument(
        "--int8",
        nargs="*",
        default=[],
        choices=TRANSFORMS,
        help="transforms in int8 (see docs/codecs.md first)",
    )
    ap.add_argument(
        "--npu", type=int, nargs=2, metavar=("H", "W"), help="also write fixed-shape QDQ transforms"
    )
    o = ap.parse_args()
    model, state = Codec.of_checkpoint(o.checkpoint)
    model.set_exact(True)
    model.eval().requires_grad_(False)

    images = crops(o.data, o.pictures, o.side, seed=11)
    entry = Entry(model, o.out, images)
    floats = export_float(trimmed(model, dead_units(model, o.data)), o.out)
    for name, path in floats.items():
        path.rename(o.out / f"{name}.onnx")
    entry.write({})
    counts = Counts.of(HierarchicalCodec(o.out), images)
    entry.set_tables(counts.base_tables(), counts.trit_probabilities(), NEAR_CERTAIN)
    entry.write({})
    codec = HierarchicalCodec(o.out)
    if o.int8 or o.npu:
        feeds = {
            "analysis": [{"image": x[None], "scales": codec.model.analysis_scales(0)} for x in images[:24]],
            "synthesis": synthesis_feeds(codec, images[:40]),
        }
        for name in TRANSFORMS if o.npu else o.int8:
            whole, quantised = o.out / f"{name}.onnx", o.out.parent / f"{o.out.name}.{name}.int8.onnx"
            if o.npu:
                quantise(whole, quantised, feeds[name], outputs=True)
                fix_shape(quantised, o.out.parent / f"{o.out.name}.{name}.{o.npu[0]}x{o.npu[1]}.onnx", *o.npu)
                quantised.unlink()
            if name in o.int8:
                quantise(whole, quantised, feeds[name])
                quantised.replace(whole)
    entry.write(
        {
            "name": o.out.name,
            "licence": "Apache-2.0 (weights); see DATA.md for the photographs they were trained on",
            "ledger": json.loads(LEDGER.read_text()) + json.loads(state["ledger"]),
        }
    )
    if o.keep:
        half = {k: v.half() if v.is_floating_point() else v for k, v in state["average"].items()}
        torch.save({"config": state["config"], "average": half, "ledger": state["ledger"]}, o.keep)
    print({p.name: p.stat().st_size for p in sorted(o.out.iterdir())}, entry.accumulators)


if __name__ == "__main__":
    main()
