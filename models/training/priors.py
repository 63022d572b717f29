"""Train the exact prior alone, on frozen transforms: three times the pixels per second of a whole step.

    python -m models.training.priors --data PHOTOS --start run.pt --out priors.pt --minutes 15

Cross-entropy of hard symbols, on the integer grids from the first step. The result is a checkpoint like `train`'s,
with the averaged weights and the ledger.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from models.hierarchical.codec import Codec, trit_bits
from models.hierarchical.config import Config
from models.training.data import Photographs
from models.training.muon import EXACT_PRIORS

RATE = 3e-3
WARM_UP_STEPS = 50
EMA_DECAY = 0.995


def bits_of_planes(model: Codec, x: Tensor, q: Tensor) -> list[Tensor]:
    """Bits per sample (B,) of the three planes; gradients reach the exact prior only."""
    with torch.no_grad():
        gain = model.log_gain(q)
        scaled = [y * torch.exp(g + gain) for y, g in zip(model.analysis(x), model.gain, strict=True)]
    levels, (first, second) = model.planes(scaled, q, torch.ones(len(x), 4, device=x.device), len(x))
    bits = [torch.zeros(len(x), device=x.device) for _ in range(3)]
    for i, level in enumerate(levels):
        trit1, trit2 = level.trits()
        bits[0] = bits[0] + level.bits(scaled[i] / 9, None).sum((1, 2, 3))
        bits[1] = bits[1] + trit_bits(first[i].log_probabilities(), trit1)
        bits[2] = bits[2] + trit_bits(second[i].log_probabilities(), trit2)
    return bits


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True)
    ap.add_argument("--start", required=True, type=Path)
    ap.add_argument("--out", required=True, type=Path)
    ap.add_argument("--minutes", type=float, default=15)
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--crop", type=int, default=160)
    ap.add_argument("--rate", type=float, default=RATE, help="largest learning rate")
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    o = ap.parse_args()
    state = torch.load(o.start, weights_only=True, map_location="cpu")
    model = Codec(Config.from_json(json.loads(state["config"])))
    model.load_state_dict({k: v.float() for k, v in state["average"].items()})
    model.set_exact(True)
    model.to(o.device, memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    trained = [
        (a, p)
        for (name, p), a in zip(model.named_parameters(), average.parameters(), strict=True)
        if name.split(".")[0] in EXACT_PRIORS
    ]
    model.requires_grad_(False)
    parameters = [p.requires_grad_(True) for _, p in trained]
    optimiser = torch.optim.AdamW(parameters, o.rate, betas=(0.9, 0.99), weight_decay=0)
    data = Photographs(o.data, o.crop, seed=int(time.time()), device=o.device)
    low, high = model.config.log_lambda
    started, step, recent = time.time(), 0, []
    while (progress := (time.time() - started) / 60 / o.minutes) < 1:
        x, q = data.batch(o.batch), torch.rand(o.batch, device=o.device)
        root = torch.exp(0.5 * (low + q * (high - low))) * 255
        parts = [(3 * bits / x[0, 0].numel() / root).mean() for bits in bits_of_planes(model, x, q)]
        optimiser.zero_grad()
        sum(parts).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        rate = (
            o.rate * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.005)
        )
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        step += 1
        with torch.no_grad():
            for a, p in trained:
                a.lerp_(p, 1 - min(EMA_DECAY, step / (step + 20)))
        recent.append([p.item() for p in parts])
        if step % 200 == 0:
            means = torch.tensor(recent[-200:]).mean(0).tolist()
            print(f"step {step} {time.time() - started:.0f} s", *(f"{m:.4f}" for m in means), flush=True)
    ledger = json.loads(state["ledger"])
    ledger.append(
        {
            "run": "exact prior alone, AdamW, on its integer grids",
            "device": o.device,
            "steps": step,
            "gigapixels": round(step * o.batch * o.crop**2 / 1e9, 3),
            "minutes": o.minutes,
            "batch": f"{o.batch} x {o.crop} x {o.crop}",
        }
    )
    torch.save(
        {"config": state["config"], "average": average.state_dict(), "ledger": json.dumps(ledger)}, o.out
    )


if __name__ == "__main__":
    main()
