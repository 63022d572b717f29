"""Weights of a smaller codec in a larger one: more latents at stride 8 go on from what fewer have learned."""

from __future__ import annotations

import torch
from torch import Tensor

from models.hierarchical.codec import Codec
from models.hierarchical.config import Config
from models.training.muon import EXACT_PRIORS


def take_in(model: Codec, weights: dict[str, Tensor], config: Config) -> None:
    """Load `weights` of a codec with `config` into `model`, whose stride 8 may have more latents or fewer signed ones.

    What exists in both is copied. New inputs of old outputs get weight zero, so that these start as they were; new
    outputs stay as they were initialised, those of the exact prior start as the finest old one is.

    Raises:
        ValueError: the two differ in anything else.
    """
    state = model.state_dict()
    for name, old in weights.items():
        new = state.get(name)
        if new is None and ".offset." in name:
            continue  # of a group without signed channels now
        if new is None or new.ndim != old.ndim:
            raise ValueError(f"{name}: this codec has no such weights")
        if new.shape == old.shape:
            state[name] = old
            continue
        grown = new.clone()
        rows = min(len(old), len(new))
        if old.ndim == 1:
            grown[:rows] = old[:rows]
        else:
            source, target = columns(name, old.shape[1], config, model.config)
            grown[:rows] = 0
            grown[:rows, target] = old[:rows, source]
        if name.split(".")[0] in EXACT_PRIORS:
            grown[rows:] = grown[rows - 1]
        state[name] = grown
    model.load_state_dict(state)


def columns(name: str, count: int, old: Config, new: Config) -> tuple[Tensor, Tensor]:
    """Which of a layer's `count` old inputs stay, and where they stand among the new ones.

    A refinement plane's trunk at stride 8 sees values of signed channels, magnitudes of all, and then everything else;
    everywhere else latents come alone or last.
    """
    every = torch.arange(count)
    if not name.endswith(("mix.2.conv.weight", "apart.conv.weight")):
        return every, every
    values, sizes, rest = every.split([old.signed, old.latents[2], count - old.signed - old.latents[2]])
    kept = min(old.signed, new.signed)
    begin = new.signed + new.latents[2]
    places = (torch.arange(kept), new.signed + torch.arange(len(sizes)), begin + torch.arange(len(rest)))
    return torch.cat([values[:kept], sizes, rest]), torch.cat(places)
