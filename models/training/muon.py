"""Muon: orthogonalised momentum for matrices (Jordan 2024); polynomials of Polar Express (Amsel et al. 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POLYNOMIALS = (
    (8.2872, -23.5959, 17.3004),
    (4.1071, -2.9478, 0.5448),
    (3.9486, -2.9089, 0.5518),
    (3.3184, -2.4885, 0.5100),
    (2.3007, -1.6689, 0.4188),
)

LINEAR_PYRAMID = {"l8", "ldc", "l16", "l32", "s8", "sdc", "s16", "s32"}

EXACT_PRIORS = {"base", "plane1", "plane2"}


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, to the few per cent that five polynomial steps give."""
    x = matrix / (matrix.norm() * 1.02 + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for a, b, c in POLYNOMIALS:
        y = x @ x.T
        x = a * x + (b * y + c * y @ y) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Steps of spectral norm lr * sqrt(max(1, rows / columns)) along the orthogonalised Nesterov momentum."""

    def __init__(self, params: list[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.flatten(1)
                m = self.state[p].setdefault("momentum", torch.zeros_like(grad))
                m.lerp_(grad, 1 - group["momentum"])
                update = orthogonalise(grad.lerp(m, group["momentum"]))
                stretch = max(1.0, m.shape[0] / m.shape[1]) ** 0.5
                p.add_(update.view_as(p), alpha=-group["lr"] * stretch)


def split_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameters by how they are trained.

    `matrices` are Muon's, the others AdamW's: `linear` is the pyramid and the gains, which swing at ordinary rates,
    `exact` the exact prior, `rest` everything else.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in ("matrices", "linear", "exact", "rest")}
    for name, p in model.named_parameters():
        part, parts = name.split(".")[0], set(name.split("."))
        if part in EXACT_PRIORS:
            groups["exact"].append(p)
        elif (part in ("analysis", "synthesis") and parts & LINEAR_PYRAMID) or part == "gain":
            groups["linear"].append(p)
        elif p.ndim == 4 and p.shape[1] > 1 and min(p.shape[0], p[0].numel()) > 16:
            groups["matrices"].append(p)
        else:
            groups["rest"].append(p)
    return groups
