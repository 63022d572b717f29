"""Hidden units of analysis and synthesis that no picture switches on, and networks without them.

They cost time and compute nothing: of the analysis of the first eight sets of weights four of six blocks were dead as a
whole, a third of its time.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from models.hierarchical.codec import Codec
from models.hierarchical.transforms import Block
from models.training.data import crops

PICTURES, SIDE = 60, 384
"""Training crops that a unit has to be off for."""

MARGIN = 0.02
"""A unit counts as dead if it stays so far below 0."""


def transform_blocks(model: Codec) -> dict[str, Block]:
    return {
        f"{part}.{name}": block
        for part in ("analysis", "synthesis")
        for name, block in getattr(model, part).named_modules()
        if isinstance(block, Block)
    }


@torch.no_grad()
def dead_units(model: Codec, data: str) -> dict[str, Tensor]:
    """Which hidden units of each block never come near 0 on training crops at several qualities; bool, (hidden,)."""
    blocks = transform_blocks(model)
    highest = {name: torch.full((block.a.out_channels,), -torch.inf) for name, block in blocks.items()}

    def watch(name: str) -> None:
        def see(module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
            highest[name] = torch.maximum(highest[name], found.amax((0, 2, 3)))

        handles.append(blocks[name].a.register_forward_hook(see))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in blocks:
        watch(name)
    qualities = np.linspace(0, 1, 7)
    for i, image in enumerate(crops(data, PICTURES, SIDE, seed=7)):
        q = torch.tensor([qualities[i % len(qualities)]], dtype=torch.float32)
        gains, scaled = model.scaled(torch.tensor(image).permute(2, 0, 1)[None] / 255, q)
        latents = tuple(torch.round(z) * torch.exp(-g) for z, g in zip(scaled, gains, strict=True))
        for planes in range(3):
            model.synthesis(latents, (q - model.config.plane_quality * planes)[:, None].expand(-1, 3))
    for handle in handles:
        handle.remove()
    return {name: value < -MARGIN for name, value in highest.items()}


@torch.no_grad()
def without(block: Block, dead: Tensor) -> None:
    """Leave the dead units of a block out."""
    alive = ~dead
    for conv, weight, count in (
        (block.a, block.a.weight[alive], "out_channels"),
        (block.b, block.b.weight[:, alive], "in_channels"),
    ):
        conv.weight = nn.Parameter(weight)
        setattr(conv, count, int(alive.sum()))
    block.a.bias = nn.Parameter(block.a.bias[alive])


def trimmed(model: Codec, dead: dict[str, Tensor]) -> Codec:
    """The model without the dead units of its blocks."""
    model = copy.deepcopy(model)
    for name, block in transform_blocks(model).items():
        without(block, dead[name])
    return model
