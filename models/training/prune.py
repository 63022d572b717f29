"""Hidden units that others can stand in for: leave them out, and what reads them makes up for it.

    python -m models.training.prune --checkpoint run.pt --data TRAIN     # lists them, and what halving each costs
    python -m models.training.prune ... --out small.pt --keep plane2.third=112 plane1.wider=64

Optimal Brain Surgeon (Hassibi and Stork 1993) for whole units: what reads a hidden layer is linear in its units, so one
that is left out is best replaced by least squares on the others. From the units' second moments over training crops and
the loss's squared gradients at what is read follows what each costs; the cheapest goes, and again. What is left is
close enough to go on training from (`train --prior`, `--finish`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.hierarchical.codec import Codec
from models.hierarchical.fixed import FixedBlock, FixedConv
from models.hierarchical.prior import Follow, Head, PlanePrior, TritHead
from models.hierarchical.transforms import Block
from models.training.data import crops

PICTURES, SIDE = 30, 256
"""Training crops that moments and gradients are averaged over, one quality each."""

QUALITIES = (0.1, 0.4, 0.7, 0.85, 1.0)

DAMPING = 1e-6
"""Added to the moments' diagonal, as a part of its mean: units that are copies of each other have no inverse."""


Layer = nn.Conv2d | FixedConv


@dataclass
class Hidden:
    """A hidden layer: what makes it, and what reads it."""

    maker: Layer
    readers: list[Layer]

    @property
    def units(self) -> int:
        return convolution(self.maker).out_channels

    def weights(self) -> Tensor:
        """(outputs, hidden + 1) of what reads it, biases last."""
        convs = [convolution(reader) for reader in self.readers]
        return torch.cat([torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1) for conv in convs])


def convolution(layer: Layer) -> nn.Conv2d:
    """The one that holds a layer's weights."""
    return layer.conv if isinstance(layer, FixedConv) else layer


def hidden_layers(model: Codec) -> dict[str, Hidden]:
    """Every hidden layer that `Config.hidden` can make smaller, by the name it has there."""
    return {name: layer for name, layer in _found(model) if not name.startswith("direct")}


def _found(model: Codec) -> Iterator[tuple[str, Hidden]]:
    for name, m in model.named_modules():
        if isinstance(m, Block | FixedBlock):
            yield name, Hidden(m.a, [m.b])
        elif isinstance(m, Head):
            yield name, Hidden(m.hidden, [layer for layer in (m.scale, m.offset) if layer is not None])
        elif isinstance(m, TritHead):
            yield name, Hidden(m.hidden, [m.centre, m.tilt, m.gate])
        elif isinstance(m, Follow):
            yield name, Hidden(m.hidden, [m.centre])
        elif isinstance(m, PlanePrior) and m.large:
            yield f"{name}.mixed", Hidden(m.mix[2], [m.joined])


@dataclass
class Moments:
    """Of one hidden layer.

    Attributes:
        second: (hidden + 1, hidden + 1) mean products of its units and of a constant 1.
        gradient: (outputs,) mean squares of the loss's gradient at what its readers give, one reader after another.
    """

    second: Tensor
    gradient: Tensor


def moments(model: Codec, data: str, pictures: int) -> dict[str, Moments]:
    """Measured on training crops; the exact prior runs on its grids."""
    model.set_exact(True)
    model.eval().requires_grad_(True)
    layers = hidden_layers(model)
    second = {name: torch.zeros(layer.units + 1, layer.units + 1).double() for name, layer in layers.items()}
    gradient = {
        name: [torch.zeros(convolution(reader).out_channels) for reader in layer.readers]
        for name, layer in layers.items()
    }
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def watch(name: str, reader: Layer, number: int) -> None:
        def see(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
            if number == 0:
                units = given[0].detach().permute(0, 2, 3, 1).flatten(0, 2).double()
                units = torch.cat([units, torch.ones(len(units), 1)], 1)
                second[name] += units.T @ units / len(units)

        def feel(_: nn.Module, __: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> None:
            gradient[name][number] += found[0].square().mean((0, 2, 3))

        handles.append(reader.register_forward_hook(see))
        handles.append(reader.register_full_backward_hook(feel))

    for name, layer in layers.items():
        for number, reader in enumerate(layer.readers):
            watch(name, reader, number)
    for i, image in enumerate(crops(data, pictures, SIDE, seed=7)):
        quality = QUALITIES[i % len(QUALITIES)]
        q, x = torch.tensor([quality]), torch.tensor(image).permute(2, 0, 1)[None] / 255
        weight = torch.tensor(model.config.log_lambda_at(quality)).exp()
        picture, bits = model.whole(x, q)
        with torch.no_grad():
            _, scaled = model.scaled(x, q)
        planes, start = model.hard_bits(scaled, q)
        rate = (bits.sum() + sum(b.sum() for b in (*planes, *start))) / (SIDE * SIDE)
        ((rate + weight * 255**2 * (picture - x).square().mean()) / weight.sqrt()).backward()
        model.zero_grad(set_to_none=True)
    for handle in handles:
        handle.remove()
    model.requires_grad_(False)
    return {
        name: Moments(second[name] / pictures, torch.cat(gradient[name]).double() / pictures)
        for name in layers
    }


def eliminated(weights: Tensor, found: Moments, keep: int) -> tuple[list[int], Tensor, float]:
    """Leave units out until `keep` are left, the cheapest first.

    Args:
        weights: (outputs, hidden + 1) of what reads them, biases last.

    Returns:
        The units that stay, ascending; the weights that make up for the others, 0 where these were; and the mean
        squared error at the outputs, weighted by the loss's gradients.
    """
    w, cost = weights.double(), 0.0
    second = found.second + DAMPING * found.second.diagonal().mean() * torch.eye(len(found.second)).double()
    inverse = torch.linalg.inv(second)
    left = list(range(w.shape[1] - 1))
    while len(left) > keep:
        costs = (found.gradient[:, None] * w[:, left].square()).sum(0) / inverse.diagonal()[left]
        unit = left.pop(int(costs.argmin()))
        cost += float(costs.min())
        w = w - w[:, unit : unit + 1] * inverse[unit] / inverse[unit, unit]
        inverse = inverse - inverse[:, unit : unit + 1] * inverse[unit] / inverse[unit, unit]
        w[:, unit] = inverse[unit] = inverse[:, unit] = 0
        inverse[unit, unit] = 1
    return left, w.to(weights.dtype), cost


@torch.no_grad()
def pruned(model: Codec, found: dict[str, Moments], keep: dict[str, int]) -> Codec:
    """The codec with fewer hidden units.

    Args:
        keep: how many stay, by name as in `hidden_layers`.

    Raises:
        ValueError: there is no such layer, or it has no more units than that.
    """
    layers = hidden_layers(model)
    for name, count in keep.items():
        if name not in layers or not 0 < count < layers[name].units:
            raise ValueError(f"{name}={count}: no hidden layer with more units than that")
    config = model.config
    small = Codec(replace(config, hidden={**config.hidden, **keep}))
    targets, state = hidden_layers(small), small.state_dict()
    for key, value in model.state_dict().items():
        if state[key].shape == value.shape:
            state[key] = value
    small.load_state_dict(state)
    for name, count in keep.items():
        source, target = layers[name], targets[name]
        units, weights, _ = eliminated(source.weights(), found[name], count)
        convolution(target.maker).weight.copy_(convolution(source.maker).weight[units])
        convolution(target.maker).bias.copy_(convolution(source.maker).bias[units])
        if isinstance(source.maker, FixedConv) and source.maker.quality is not None:
            target.maker.quality.copy_(source.maker.quality[:, units])
        readers = [convolution(reader) for reader in target.readers]
        for reader, rows in zip(readers, weights.split([r.out_channels for r in readers]), strict=True):
            reader.weight.copy_(rows[:, units, None, None])
            reader.bias.copy_(rows[:, -1])
    return small


def chosen(pairs: Sequence[str]) -> dict[str, int]:
    """`name=count` pairs."""
    return {name: int(count) for name, count in (pair.split("=") for pair in pairs)}


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--data", required=True, help="training pictures")
    ap.add_argument("--out", type=Path)
    ap.add_argument("--keep", nargs="*", default=[], metavar="NAME=UNITS")
    o = ap.parse_args()
    model, state = Codec.of_checkpoint(o.checkpoint)
    found, keep = moments(model, o.data, PICTURES), chosen(o.keep)
    for name, layer in hidden_layers(model).items():
        count = keep.get(name, layer.units if o.out else layer.units // 2)
        if count < layer.units:
            cost = eliminated(layer.weights(), found[name], count)[2]
            print(f"{name}: {layer.units} to {count}, {cost:.1e}")
    if o.out:
        small = pruned(model, found, keep)
        config = json.dumps(small.config.to_json())
        torch.save(state | {"config": config, "average": small.state_dict()}, o.out)


if __name__ == "__main__":
    main()
