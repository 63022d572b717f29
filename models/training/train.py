"""Train the `hierarchical` codec; stop and go on at any time, on a CPU or a CUDA device.

    python -m models.training.train --data TRAIN --valid VALID --out run.pt --minutes 60
    python -m models.training.train ... --out run.pt          # goes on where run.pt stopped
    python -m models.training.train ... --start run.pt --out better.pt --transforms --rate 0.6
    python -m models.training.train ... --start better.pt --out prior.pt --prior --crop 256 --minutes 45
    python -m models.training.train ... --start prior.pt --out done.pt --finish --crop 256 --batch 4 --rate 0.1

Objective per sample (TRAINING.md): (rate + lambda * 255**2 * MSE) / sqrt(lambda), lambda log-uniform. Most samples
are coded whole: they train analysis, synthesis and the direct prior. The others are cut at a random place of the
layered stream (OHM eq. 6) and train synthesis with the lambda of the precision they have reached (OHM eq. 10). The
exact prior learns plane 0 on noisy and planes 1-2 on hard symbols, from detached latents.

`--transforms` trains analysis, synthesis and the direct prior alone, on whole samples: a codec without planes. When
analysis has been trained, `--prior` trains the exact prior alone, from latents that are computed once, four times as
fast; `--finish` trains synthesis alone, in int8, on pictures that are cut where the exact prior's order has it;
`--analysis` trains analysis alone, for synthesis as that has become.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.hierarchical.codec import Codec, Cut
from models.hierarchical.config import Config
from models.hierarchical.int8 import set_int8
from models.training.data import Latents, Photographs
from models.training.evaluate import evaluate
from models.training.grow import take_in
from models.training.muon import Muon, split_parameters
from models.training.prune import chosen
from models.training.sketch import load_sketch

MUON_RATE = 0.02
ADAM_RATES = {"linear": 1e-3, "rest": 3e-3, "exact": 3e-3}
"""The exact prior is AdamW's. Under Muon at 0.005 without weight decay its clipped activations saturated and died; in
one 45-second comparison each, from the same weights, AdamW at 3e-3 ended at 0.082, Muon at 3e-3 at 0.085."""

WARM_UP_STEPS = 200
EMA_DECAY = 0.998
EXACT_FROM = 0.65
"""Share of the run after which the exact prior runs on its integer grids."""

TOP_QUALITIES = 0.7
"""Exponent on uniform qualities where the exact prior is trained alone: the best ones, with their large and noisy
values, learn last."""

CUT_QUALITIES = 0.5
"""The same of samples that are cut: relays cut what was encoded well."""

START_WEIGHT = 0.5
"""Weight in the loss of what stride 8's trits would cost without what is learned within a plane. Without it their
first distributions, which order them, drift where others correct them."""

COARSE_ONLY = 1e-7
"""Share of a plane at which strides 32 and 16 have arrived and nothing of stride 8."""

TRAINED = {
    "transforms": ("analysis", "synthesis", "gain", "direct"),
    "prior": ("base", "plane1", "plane2"),
    "finish": ("synthesis",),
    "analysis": ("analysis",),
}
"""Parts that a run of one of these kinds trains; the others stand still."""

KINDS = {
    "transforms": "transforms and direct prior",
    "prior": "exact prior",
    "finish": "synthesis, in int8",
    "analysis": "analysis",
}
"""What the ledger calls them."""


def arguments() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True, help="folder of training pictures")
    ap.add_argument("--valid", help="folder of pictures to choose checkpoints on")
    ap.add_argument("--out", required=True, type=Path, help="checkpoint; read first if it exists")
    ap.add_argument(
        "--start", type=Path, help="weights to start a new run from (a checkpoint of this trainer)"
    )
    ap.add_argument(
        "--fresh", nargs="*", default=[], help="parts that --start leaves untrained, e.g. base plane1"
    )
    ap.add_argument(
        "--units",
        nargs="*",
        default=[],
        metavar="NAME=UNITS",
        help="more hidden units than --start has, e.g. synthesis.d4=128 (for fewer: models.training.prune)",
    )
    ap.add_argument("--sketch", help="prototype checkpoint to start a new run from")
    ap.add_argument("--minutes", type=float, default=60, help="length of the whole run, over all its pieces")
    ap.add_argument("--piece", type=float, default=1e9, help="stop this piece after so many minutes")
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--cuts", type=int, default=2, help="samples of a batch that are cut")
    ap.add_argument(
        "--refined",
        type=int,
        help="samples of a batch that train planes 1 and 2, at least the cut ones (all); few leave the time to the "
        "transforms when `--finish` follows",
    )
    ap.add_argument("--crop", type=int, default=160)
    ap.add_argument("--rate", type=float, default=1.0, help="factor on every learning rate")
    ap.add_argument("--exact-from", type=float, default=EXACT_FROM)
    kind = ap.add_mutually_exclusive_group()
    kind.add_argument(
        "--transforms", action="store_true", help="train the transforms and the direct prior only, see above"
    )
    kind.add_argument("--prior", action="store_true", help="train the exact prior only, see above")
    kind.add_argument("--finish", action="store_true", help="train synthesis only, see above")
    kind.add_argument("--analysis", action="store_true", help="train analysis only, see above")
    ap.add_argument("--held", type=int, default=2400, help="crops whose latents `--prior` holds")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument(
        "--mixed", action="store_true", help="bfloat16 in the correcting networks (CUDA, AVX512-BF16)"
    )
    ap.add_argument("--compile", action="store_true", help="torch.compile the transforms")
    ap.add_argument("--threads", type=int, default=0, help="CPU threads; 1 on a machine with other work")
    ap.add_argument("--save-every", type=float, default=5, help="minutes between checkpoints")
    ap.add_argument(
        "--evaluate-every",
        type=float,
        default=1e9,
        help="minutes between evaluations on --valid (at the end only)",
    )
    return ap.parse_args()


def random_cut(batch: int, cuts: int, parts: int, device: str) -> Cut:
    """No cut for the first samples; for the last `cuts`, a place that is denser towards the stream's end."""
    cut = Cut.none(batch, parts, torch.device(device))
    for i in range(batch - cuts, batch):
        place = torch.rand(()).item() ** 0.7
        if place < 0.2:
            cut.levels[i] = int(torch.randint(1, parts + 1, ()).item())
            cut.plane[i], cut.share[i] = (0, 0.0)
        else:
            within = (place - 0.2) / 0.4
            cut.plane[i] = 1 if within < 1 else 2
            share = within - int(within)
            cut.share[i] = 0.0 if share < 0.08 else COARSE_ONLY if share < 0.2 else share
    return cut


def with_units(config: Config, state: dict[str, Any], units: dict[str, int]) -> Config:
    """`config` with as many hidden units as the weights of a run's file have, and then with `units`."""
    found = Config.from_json(json.loads(state["config"])).hidden if state else {}
    return replace(config, hidden={**config.hidden, **found, **units})


class Run:
    """Everything that a checkpoint carries."""

    def __init__(self, o: argparse.Namespace, config: Config | None = None) -> None:
        self.o = o
        goes_on = o.out.exists()
        path = o.out if goes_on else o.start
        state = torch.load(path, weights_only=True, map_location=o.device) if path else {}
        self.config = with_units(config or Config(), state, chosen(o.units))
        self.model = Codec(self.config).to(o.device, memory_format=torch.channels_last)
        if o.sketch:
            load_sketch(self.model, o.sketch)
        self.ledger: list[dict[str, Any]] = []
        if state and not goes_on:
            weights, self.ledger = state["average"], json.loads(state["ledger"])
            kept = {k: v.float() for k, v in weights.items() if k.split(".")[0] not in o.fresh}
            take_in(self.model, kept, Config.from_json(json.loads(state["config"])))
        for kind, parts in TRAINED.items():
            if getattr(o, kind):
                self.model.requires_grad_(False)
                for part in parts:
                    getattr(self.model, part).requires_grad_(True)
        if o.finish or o.analysis:
            set_int8(self.model.synthesis, True)
        if o.analysis:
            self.model.synthesis.eval()  # its ranges stand still, too
        self.average = copy.deepcopy(self.model)
        for part in (self.model.analysis, self.model.synthesis, self.model.direct):
            part.mixed = o.mixed
        params = split_parameters(self.model)
        self.muon = Muon(params["matrices"], MUON_RATE)
        groups = [{"params": params[name], "lr": rate} for name, rate in ADAM_RATES.items()]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0)
        for group in (*self.muon.param_groups, *self.adam.param_groups):
            group["peak"] = group["lr"]
        self.step, self.pixels, self.seconds = 0, 0, 0.0
        if goes_on:
            self.load(state)

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step, self.pixels, self.seconds = state["step"], state["pixels"], state["seconds"]
        self.ledger = json.loads(state["ledger"])

    def save(self) -> None:
        state = {
            "config": json.dumps(self.config.to_json()),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step,
            "pixels": self.pixels,
            "seconds": self.seconds,
            "ledger": json.dumps(self.ledger),
        }
        partial = self.o.out.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.o.out)

    def latents(self, x: Tensor) -> list[Tensor]:
        """Of crops x (B, 3, H, W), in the steps of a quality whose logarithmic gain is 0."""
        with torch.no_grad():
            return [
                y.float() * torch.exp(g) for y, g in zip(self.model.analysis(x), self.model.gain, strict=True)
            ]

    def set_rates(self, progress: float) -> None:
        """Learning rates, and whether the exact prior is exact, at a share of the run."""
        o = self.o
        factor = (
            min(1.0, (self.step + 1) / WARM_UP_STEPS)
            * (0.5 * (1 + math.cos(math.pi * progress)) + 0.005)
            * o.rate
        )
        for group in (*self.muon.param_groups, *self.adam.param_groups):
            group["lr"] = group["peak"] * factor
        exact = progress >= o.exact_from or o.finish or o.analysis
        if exact != self.model.exact:
            self.model.set_exact(exact)
            self.average.set_exact(exact)

    def one_step(self, data: Photographs | Latents, progress: float) -> dict[str, float]:
        """One step of every optimiser; returns the parts of the loss by name."""
        self.set_rates(progress)
        if isinstance(data, Latents):
            terms, pixels = self.prior_terms(data)
        else:
            whole = self.o.transforms or self.o.analysis
            terms, pixels = self.transform_terms(data) if whole else self.terms(data)
        loss = 3 * sum(terms.values(), torch.zeros(()))
        self.muon.zero_grad()
        self.adam.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.muon.step()
            self.adam.step()
        decay = min(EMA_DECAY, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for a, p in zip(self.average.parameters(), self.model.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
            for a, p in zip(self.average.buffers(), self.model.buffers(), strict=True):
                a.copy_(p)
        self.step += 1
        self.pixels += pixels
        return {"loss": loss.item(), **{name: 3 * term.item() for name, term in terms.items()}}

    def transform_terms(self, data: Photographs) -> tuple[dict[str, Tensor], int]:
        """Parts of the loss of whole pictures without planes, and the pixels that they stand for."""
        x = data.batch(self.o.batch)
        q = torch.rand(len(x), device=self.o.device)
        picture, bits = self.model.whole(x, q)
        pixels, root = x.shape[2] * x.shape[3], root_lambda(q, self.config)
        mse = (picture - x).pow(2).mean((1, 2, 3))
        return {"distortion": (root * mse).mean(), "direct": (bits / pixels / root).mean()}, len(x) * pixels

    def prior_terms(self, data: Latents) -> tuple[dict[str, Tensor], int]:
        """Parts of the loss of the exact prior alone, and the pixels that they stand for."""
        batch = self.o.batch
        q = torch.rand(batch, device=self.o.device) ** TOP_QUALITIES
        gain = torch.exp(self.model.log_gain(q))
        planes, start = self.model.hard_bits([y.to(self.o.device) * gain for y in data.batch(batch)], q)
        pixels = data.photographs.crop**2
        return rate_terms(planes, start, pixels * root_lambda(q, self.config)), batch * pixels

    def terms(self, data: Photographs) -> tuple[dict[str, Tensor], int]:
        """Parts of the loss of everything, and the pixels that they stand for."""
        o = self.o
        x = data.batch(o.batch)
        cut, full = random_cut(o.batch, o.cuts, self.config.parts, o.device), o.batch - o.cuts
        q = torch.rand(o.batch, device=o.device)
        q[full:] **= CUT_QUALITIES
        result = self.model(x, q, cut, full, o.finish, 0 if o.finish else o.refined)
        pixels = x.shape[2] * x.shape[3]
        root, reached = (root_lambda(v, self.config) for v in (q, cut_quality(cut, q, self.config)))
        mse = (result.picture.float() - x).pow(2).mean((1, 2, 3))
        terms = {"distortion": (reached * mse).mean()}
        if o.finish:
            return terms, o.batch * pixels
        terms["direct"] = (result.direct / pixels / root[:full]).sum() / o.batch
        return terms | rate_terms(result.planes, result.start, pixels * root), o.batch * pixels


def root_lambda(q: Tensor, config: Config) -> Tensor:
    """Square root of lambda * 255**2 at qualities q (B,)."""
    return torch.exp(config.log_lambda_at(q) / 2) * 255


def rate_terms(planes: list[Tensor], start: list[Tensor], scale: Tensor) -> dict[str, Tensor]:
    """Parts of the loss that are bits of the exact prior.

    Args:
        planes: bits of each plane, of the last samples of the batch; start: as `Result.start`.
        scale: (B,) what bits are divided by.
    """
    terms = {f"p{i}": (bits / scale[-len(bits) :]).mean() for i, bits in enumerate(planes)}
    terms["start"] = START_WEIGHT * sum((bits / scale[-len(bits) :]).mean() for bits in start)
    return terms


def cut_quality(cut: Cut, q: torch.Tensor, config: Config) -> torch.Tensor:
    """The quality that a cut sample's precision amounts to (B,), for its lambda."""
    planes = torch.where(cut.plane == 0, 0.0, cut.plane - 1 + cut.share)
    planes = planes - (config.parts - cut.levels) / config.parts
    return q - config.plane_quality * (2 - planes)


def main() -> None:
    o = arguments()
    if o.threads:
        torch.set_num_threads(o.threads)
    torch.manual_seed(int(time.time()) % 2**31)
    run = Run(o)
    data: Photographs | Latents = Photographs(o.data, o.crop, seed=run.step, device=o.device)
    if o.prior:
        data = Latents(data, run.latents, o.held)
    if o.compile:
        run.model.analysis.compile()
        run.model.synthesis.compile()
    started, before, sums, count = time.time(), run.seconds, {}, 0
    saved = evaluated = started
    while True:
        run.seconds = before + time.time() - started
        progress = run.seconds / 60 / o.minutes
        if progress >= 1 or (time.time() - started) / 60 >= o.piece:
            break
        for name, value in run.one_step(data, progress).items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        if count == 100:
            line = " ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
            print(
                f"step {run.step} {run.seconds:.0f} s {run.pixels / 1e9:.2f} Gpx exact {run.model.exact} {line}",
                flush=True,
            )
            sums, count = {}, 0
        if time.time() - saved > o.save_every * 60:
            run.save()
            data.refresh()
            saved = time.time()
        if o.valid and time.time() - evaluated > o.evaluate_every * 60:
            report(evaluate(run.average.eval(), o.valid, crop=256))
            evaluated = time.time()
    rows = evaluate(run.average.eval(), o.valid, crop=256) if o.valid else []
    run.ledger.append(
        {
            "run": next((name for kind, name in KINDS.items() if getattr(o, kind)), "all parts"),
            "batch": f"{o.batch} x {o.crop} x {o.crop}",
            "rate": o.rate,
            "lambda": [round(math.exp(v), 6) for v in run.config.log_lambda],
            "steps": run.step,
            "gigapixels": run.pixels / 1e9,
            "seconds": round(run.seconds),
            "device": o.device,
            "valid": rows,
        }
    )
    run.save()
    report(rows)


def report(rows: list[dict[str, float]]) -> None:
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
