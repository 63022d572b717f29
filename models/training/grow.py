"""Weights of one codec in another: more latents at stride 8 go on from what fewer have learned, fewer corrections
within a plane are left of more."""

from __future__ import annotations

import torch
from torch import Tensor

from models.hierarchical.codec import Codec
from models.hierarchical.config import Config
from models.training.muon import EXACT_PRIORS


def take_in(model: Codec, weights: dict[str, Tensor], config: Config) -> None:
    """Load `weights` of a codec with `config` into `model`, whose stride 8 may have more latents or fewer signed ones,
    and whose planes may lack corrections.

    What exists in both is copied. New inputs of old outputs get weight zero, so that these start as they were; new
    outputs stay as they were initialised, those of the exact prior start as the finest old one is.

    Raises:
        ValueError: the two differ in anything else.
    """
    state = model.state_dict()
    for old_name, old in weights.items():
        name = renamed(old_name, config, model.config)
        if name is None:
            continue
        new = state.get(name)
        if new is None and (".offset." in name or ".ranges." in name):
            continue  # of a group without signed channels now, of what is not rounded now
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


def renamed(name: str, old: Config, new: Config) -> str | None:
    """What a weight is called in a codec whose planes have other corrections; None where this one is left out."""
    part, *rest = name.split(".")
    if rest[:1] != ["follow"]:
        return name
    plane = ("plane1", "plane2").index(part)
    known, number = new.follow[plane], old.follow[plane][int(rest[1])]
    return ".".join([part, "follow", str(known.index(number)), *rest[2:]]) if number in known else None


def columns(name: str, count: int, old: Config, new: Config) -> tuple[Tensor, Tensor]:
    """Which of a layer's `count` old inputs stay, and where they stand among the new ones.

    A refinement plane's trunk at stride 8 sees values of signed channels, magnitudes of sized ones, and then everything
    else; everywhere else latents come alone or last.
    """
    every = torch.arange(count)
    if name.endswith("mix.2.conv.weight"):
        plane = ("plane1", "plane2").index(name.split(".")[0])
        before, after = (old.signed, old.sized[plane]), (new.signed, new.sized[plane])
        values, sizes, rest = every.split([*before, count - sum(before)])
        signed, sized = (min(pair) for pair in zip(before, after, strict=True))
        places = (torch.arange(signed), after[0] + torch.arange(sized), sum(after) + torch.arange(len(rest)))
        return torch.cat([values[:signed], sizes[:sized], rest]), torch.cat(places)
    if ".follow." in name and name.endswith("hidden.conv.weight"):
        count = min(count, count - old.surprising + new.surprising)
    return every[:count], every[:count]
