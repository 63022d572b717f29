"""Fit the numbers of the `dct` codec on a folder of photographs: context weights, tables, reconstruction offsets.

    python -m models.dct.fit --pictures TRAIN_DIR --out sdk/layercast/codecs/dct_tables.npz

It walks through the codec's own stages with the codec's own contexts. At each stage it fits the context weights, so
that a Laplacian of the predicted magnitude gives the symbols the shortest code, then counts the symbols per context
level into tables. Later passes keep the weights and count again with what the one before found (thresholds, certain
zeros, reconstruction offsets) in place.
"""

from __future__ import annotations

import argparse
import pathlib
import time

import numpy as np
import torch
from PIL import Image

from layercast.codecs.dct import choose_symbols, step_of
from layercast.codecs.dct_layout import FINE, STAGES, STARTS, Stage
from layercast.codecs.dct_model import (
    BUCKETS,
    CONTEXT_LEVELS,
    FIRST_ROWS,
    KINDS,
    MAX_FEATURE,
    ROWS,
    SETS,
    WEIGHT_ONE,
    DctModel,
    Weights,
    signed_offsets,
    sources,
    stage_key,
)
from layercast.codecs.dct_progress import LEVEL_CELL, NO_CLASS, SLAB, Progress
from layercast.codecs.dct_quantiser import DEAD_ZONE, PLANES, coarsen, quantise
from layercast.codecs.dct_transform import Geometry, analyse
from layercast.codecs.dct_work import Scratch, Workspace
from layercast.entropy import CdfTables

CROP = (512, 768)
WORKSPACE = Workspace()
MAX_SYMBOL = 40
"""Largest plain symbol of a plane-0 row; beyond it the escape."""
CERTAIN = ((6, 7), (8, 7), (10, 10))
"""Per plane, for luma and chroma of the fine level: the context level below which a zero is taken as certain. Chosen
on validation pictures: more than half of all symbols need not be coded, at no loss."""


class Draft:
    """A `DctModel` in the making, as far as `Progress` needs one."""

    bucket = staticmethod(DctModel.bucket)
    first_row = staticmethod(DctModel.first_row)

    def __init__(self, previous: DctModel | None):
        self.fitted: dict[str, Weights] = {} if previous is None else dict(previous._weights)
        self.previous = previous
        self.offsets = np.zeros((ROWS, 3), np.float32) if previous is None else previous.offsets
        self.signed_offsets = signed_offsets(self.offsets)
        self.thresholds = np.zeros(ROWS, np.float32) if previous is None else previous.thresholds

    def weights(self, stage: Stage) -> Weights:
        return self.fitted[stage_key(stage)]

    def certain(self, plane: int, level: int, part: int) -> int:
        return CERTAIN[plane][part] if level == FINE else 0


class Sample:
    """One training picture on its way through the stages."""

    def __init__(self, image: np.ndarray, quality_index: int, draft: Draft, seed: int):
        geometry = Geometry(image.shape[1], image.shape[0], 3)
        self.exact = [level.copy() for level in analyse(image, geometry, step_of(quality_index), WORKSPACE)]
        self.progress = Progress(draft, geometry, quality_index, complete=False, workspace=WORKSPACE)
        self.bucket, self.seed, self.draft = draft.bucket(quality_index), seed, draft

    def gather(self, stage: Stage, blocks: int) -> list[np.ndarray]:
        """Inputs, bins before and after, and which coefficients count, for some blocks; block axis first."""
        channels = slice(0, 1) if stage.part == 0 else slice(1, 3)
        bins = self.progress.bins[stage.level]
        seen = self.progress.inputs(stage, 0, bins.shape[2], Scratch())
        n = bins.shape[2] * bins.shape[3]
        own, around = np.zeros((2, len(bins[channels]), sources(stage), n), np.float32)
        for whole, some in zip((own, around), seen, strict=True):
            whole[:, : some.shape[1]] = some.reshape(*some.shape[:2], n)
        some = np.random.default_rng(self.seed).permutation(n)[:blocks]
        shape = (own.shape[0], stage.last - stage.first, n)
        band = np.minimum(np.abs(bins[:, stage.first : stage.last]), MAX_FEATURE).reshape(
            len(bins), *shape[1:]
        )
        others = [[band[0], band[2]], [band[0], band[1]]] if stage.part else []
        before = np.abs(bins[channels, stage.first : stage.last].reshape(shape)) // (3 if stage.plane else 1)
        exact = self.exact[stage.level][channels, stage.first : stage.last].reshape(shape)
        after = coarsen(quantise(np.abs(exact)).astype(np.int32), stage.plane)
        after = np.clip(after, 3 * before - 1, 3 * before + 1) if stage.plane else after
        counts = np.ones(shape, bool)
        if stage.worth:
            cells = self.progress.cells[stage.level][channels, stage.first : stage.last].reshape(shape)
            counts = (cells >= stage.worth * LEVEL_CELL) & (cells != NO_CLASS)
        pairs = np.array(others, np.float32) if others else np.zeros((1, 2, *shape[1:]), np.float32)
        picked = [
            np.ascontiguousarray(np.moveaxis(a[..., some], -1, 0))
            for a in (own, around, pairs, before, after, counts)
        ]
        return [*picked, np.full(len(some), self.bucket)]

    def code(self, stage: Stage, counts: np.ndarray, sums: np.ndarray) -> None:
        """Code the stage as the encoder does; count symbols per row, and sum errors per row and column."""
        level = self.exact[stage.level].reshape(-1)
        for portion in (portion for batch in self.progress.batches(stage) for portion in batch):
            exact = level[portion.begin : portion.begin + SLAB].take(portion.at)
            symbols = choose_symbols(self.draft, stage.plane, portion, exact)
            before = np.abs(portion.before)
            trits = np.where(before == 0, np.abs(symbols), symbols).astype(np.int64)
            after = before + trits
            column = np.clip(trits + (1 if stage.plane else -1), 0, 2)
            rows = portion.rows.astype(np.int64)
            key = rows * (MAX_SYMBOL + 2) + np.minimum(trits, MAX_SYMBOL) + 1
            counts += np.bincount(key, minlength=counts.size).reshape(counts.shape)
            live = after > 0
            error = np.abs(exact) / 3 ** (PLANES - 1 - stage.plane) - after
            key = (rows * 3 + column)[live]
            for k, weights in enumerate((error[live], None)):
                sums[..., k] += np.bincount(key, weights, minlength=ROWS * 3).reshape(ROWS, 3)
            self.progress.settle(stage, portion, symbols)


def code_length(scale, before, after, plane):
    """Nats of each bin under a Laplacian of mean magnitude `scale` (steps of the plane), given the bin before."""
    ratio = torch.exp(-1 / scale)
    tail = torch.exp(-DEAD_ZONE / scale)
    if plane == 0:
        zero = -torch.log1p(-tail.clamp(max=1 - 1e-6))
        return torch.where(after == 0, zero, DEAD_ZONE / scale + (after - 1) / scale - torch.log1p(-ratio))
    p0 = ((1 - tail) / (1 - torch.exp(-3 * DEAD_ZONE / scale))).clamp(1e-6, 1 - 1e-6)
    fresh = torch.where(after == 0, -torch.log(p0), -torch.log1p(-p0))
    trit = (after - 3 * before + 1) / scale + torch.log(1 + ratio + ratio**2)
    return torch.where(before == 0, fresh, trit)


def fit_weights(stage: Stage, samples: list[Sample], iterations: int) -> Weights:
    blocks = 800 if stage.level == FINE else 10**6
    parts = [sample.gather(stage, blocks) for sample in samples]
    own, around, others, before, after, counts, bucket = (
        torch.from_numpy(np.concatenate(p)) for p in zip(*parts, strict=True)
    )
    n, channels, frequencies = own.shape
    band = stage.last - stage.first
    w_own, w_around = (
        torch.full((channels, band, frequencies), 1e-3),
        torch.full((channels, band, frequencies), 3e-4),
    )
    for i in range(band):
        if stage.first + i < frequencies:
            w_own[:, i, stage.first + i], w_around[:, i, stage.first + i] = 0.2, 0.03
    w_others = torch.full((channels, 2, band), 0.02 if stage.part else 0.0)
    start = after.float().mean((0, 1)).clamp(0.02, 50).log() - 0.7
    bias = start.expand(BUCKETS, channels, band).clone()
    leaves = [w_own, w_around, w_others, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    rates = (0.006, 0.003, 0.006, 0.05)
    adam = torch.optim.Adam(
        [{"params": [x], "lr": r} for x, r in zip(leaves, rates, strict=True)], betas=(0.9, 0.98)
    )
    generator, batch = torch.Generator().manual_seed(0), min(n, 4096)
    for it in range(iterations):
        for group, rate in zip(adam.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - it / iterations)
        i = torch.randint(n, (batch,), generator=generator)
        scale = torch.einsum("ncF,cfF->ncf", own[i], w_own) + torch.einsum(
            "ncF,cfF->ncf", around[i], w_around
        )
        scale = scale + (others[i] * w_others).sum(2) + bias.exp()[bucket[i]]
        loss = (
            code_length(scale.clamp(min=0.03), before[i], after[i].float(), stage.plane) * counts[i]
        ).sum() / batch
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            for leaf in leaves[:3]:
                leaf.clamp_(min=0)
    whole = [
        np.round(x.detach().numpy() * WEIGHT_ONE).astype(np.float32)
        for x in (w_own, w_around, w_others, bias.exp())
    ]
    if stage.part == 0:
        whole[2][:] = 0
    whole[3] = np.maximum(whole[3], 1)
    return Weights(*whole)


def laplacian(level: int, plane: int, kind: int) -> np.ndarray:
    """Prior over the columns of `counts` for rows that were seldom seen."""
    scale = 2 ** ((level + 0.5) / 4) / 32
    weights = np.zeros(MAX_SYMBOL + 2)
    if plane and kind:
        weights[:3] = np.exp(-np.arange(3) / scale)
    elif plane:
        tail = np.exp(-DEAD_ZONE / scale)
        weights[1:3] = 1 - tail, tail - tail**3
    else:
        edges = np.exp(-(np.arange(MAX_SYMBOL + 1) + DEAD_ZONE - 1).clip(0) / scale)
        weights[1:] = edges - np.append(edges[1:], 0)
    return (weights + 1e-7) / (weights + 1e-7).sum()


def finish(draft: Draft, counts: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
    """Counts and weights to the arrays of the model file."""
    rows, starts = [], []
    certain = np.zeros(len(SETS), np.uint8)
    for which, (plane, fine, part) in enumerate(SETS):
        first = FIRST_ROWS[(plane, fine, part)]
        certain[which] = CERTAIN[plane][part] if fine else 0
        for kind in range(KINDS if plane else 1):
            for level in range(CONTEXT_LEVELS):
                seen = counts[first + kind * CONTEXT_LEVELS + level]
                p = seen + 20 * laplacian(level, plane, kind)
                p /= p.sum()
                if plane and kind:
                    row = p[:3]
                elif plane:
                    row = np.array([p[2] / 2, p[1], p[2] / 2, p[3:].sum()])
                else:
                    most = int(np.clip(np.ceil(7 * 2 ** (level / 4) / 32) + 1, 1, MAX_SYMBOL - 1))
                    side = p[2 : most + 2] / 2
                    row = np.concatenate((side[::-1], [p[1]], side, [p[most + 2 :].sum()]))
                rows.append(row)
                starts.append(-1 if plane else -most)
    tables = CdfTables.from_probabilities(
        rows, starts, [start < -1 or len(row) == 4 for row, start in zip(rows, starts, strict=True)]
    )
    offsets = np.round(64 * (sums[..., 0] + 5 * 0.08) / (sums[..., 1] + 5)).clip(-127, 127).astype(np.int8)
    arrays = {"tables": np.frombuffer(tables.to_bytes(), np.uint8), "offsets": offsets, "certain": certain}
    for key, weights in draft.fitted.items():
        for name in ("own", "around", "others", "bias"):
            arrays[f"{key}.{name}"] = getattr(weights, name).astype(np.uint16)
    return arrays


def one_pass(images: list[np.ndarray], previous: DctModel | None, iterations: int) -> dict[str, np.ndarray]:
    draft = Draft(previous)
    qualities = np.random.default_rng(1).permutation(np.linspace(0, 255, len(images)).round().astype(int))
    samples = [Sample(x, int(q), draft, i) for i, (x, q) in enumerate(zip(images, qualities, strict=True))]
    counts, sums, plane = np.zeros((ROWS, MAX_SYMBOL + 2), np.int64), np.zeros((ROWS, 3, 2)), 0
    for stage in STAGES:
        began = time.time()
        if stage.plane != plane:
            plane = stage.plane
            for part in (0, 1):
                draft.fitted[stage_key(STARTS[plane, part])] = _flat(part)
            for sample in samples:
                sample.progress.begin(plane)
            for part in (0, 1):
                draft.fitted[stage_key(STARTS[plane, part])] = fit_weights(
                    STARTS[plane, part], samples, iterations
                )
            for sample in samples:
                sample.progress.rank()
        if previous is None and stage.fresh and stage.worth != 0:
            draft.fitted[stage_key(stage)] = fit_weights(stage, samples, iterations)
        for sample in samples:
            sample.code(stage, counts, sums)
        print(f"{stage}  {time.time() - began:.0f} s", flush=True)
    return finish(draft, counts, sums)


def _flat(part: int) -> Weights:
    """Weights that say nothing, to enter a plane before its own are fitted."""
    c = 1 + part
    shapes = ((c, 63, 64), (c, 63, 64), (c, 2, 63), (BUCKETS, c, 63))
    return Weights(
        *(
            np.full(shape, value, np.float32)
            for shape, value in zip(shapes, (0, 0, 0, WEIGHT_ONE), strict=True)
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--weights-from", type=pathlib.Path, help="keep the weights of this file, only count")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    rng, images = np.random.default_rng(0), []
    for path in rng.permutation(sorted(options.pictures.glob("*.jpg"))):
        image = np.asarray(Image.open(path).convert("RGB"))
        down, right = image.shape[0] - CROP[0], image.shape[1] - CROP[1]
        if down >= 0 and right >= 0 and len(images) < options.count:
            top, left = rng.integers(down + 1), rng.integers(right + 1)
            images.append(image[top : top + CROP[0], left : left + CROP[1]].copy())
    model = None
    if options.weights_from:
        with np.load(options.weights_from) as archive:
            model = DctModel(dict(archive))
    for _ in range(options.passes):
        arrays = one_pass(images, model, options.iterations)
        model = DctModel(arrays)
    np.savez_compressed(options.out, **arrays)


if __name__ == "__main__":
    main()
