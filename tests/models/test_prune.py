"""Hidden units that others can stand in for are left out, and nothing that the codec computes changes by much."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from models.hierarchical.config import Config
from PIL import Image
from tests.models.small import SMALL

# `make test` goes without it; .ci/run has a step that installs it
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs PyTorch: pip install torch==2.13.0", allow_module_level=True)

import torch
from models.hierarchical.codec import Codec
from models.training import prune
from models.training.prune import Moments, convolution, eliminated, hidden_layers, moments, pruned

torch.set_num_threads(1)  # the tensors are tiny


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for i in range(2):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        small.resize((300, 280), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return str(folder)


def random_codec(seed: int) -> Codec:
    torch.manual_seed(seed)
    model = Codec(SMALL)
    with torch.no_grad():
        for p in (*model.analysis.parameters(), *model.synthesis.parameters()):
            p.add_(0.02 * torch.randn_like(p))
    return model


def test_a_unit_that_is_a_mixture_of_others_costs_nothing() -> None:
    rng = np.random.default_rng(1)
    units = torch.from_numpy(np.maximum(0, rng.normal(size=(500, 6))))
    units[:, 4] = 2 * units[:, 1]
    units[:, 5] = units[:, 0] + 3 * units[:, 2] + 0.5  # a constant can stand in, too
    weights = torch.from_numpy(rng.normal(size=(3, 7)))
    with_one = torch.cat([units, torch.ones(500, 1)], 1)
    found = Moments(with_one.T @ with_one / 500, torch.ones(3).double())
    kept, left, cost = eliminated(weights, found, 4)
    assert len(kept) == 4
    assert 3 in kept
    assert {1, 4} & set(kept)
    torch.testing.assert_close(with_one @ left.T, with_one @ weights.T, atol=1e-3, rtol=1e-3)
    assert cost < 1e-4
    assert set(np.flatnonzero(left[:, :6].abs().sum(0).numpy())) == set(kept)
    assert eliminated(weights, found, 3)[2] > 0.01


def test_the_cheapest_by_its_readers_gradients_goes_first() -> None:
    weights = torch.tensor([[5.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    second = torch.eye(3).double()
    for gradient, kept in (([1.0, 1.0], [0]), ([1.0, 99.0], [1])):
        assert eliminated(weights, Moments(second, torch.tensor(gradient).double()), 1)[0] == kept


def test_every_hidden_layer_can_be_made_smaller(photos: str) -> None:
    model = random_codec(2)
    found, layers = moments(model, photos, pictures=2), hidden_layers(model)
    assert {
        "base.b8",
        "plane1.head.2",
        "plane2.third",
        "plane2.mixed",
        "analysis.e8.1",
        "synthesis.d4",
    } <= set(layers)
    for name, layer in layers.items():
        assert found[name].second.diagonal().max() > 0, name
        assert found[name].second.shape == (layer.units + 1,) * 2
    keep = {name: layer.units - 3 for name, layer in layers.items()}
    small = pruned(model, found, keep)
    assert small.config.hidden == keep
    assert {name: layer.units for name, layer in hidden_layers(small).items()} == keep
    again = Codec(Config.from_json(json.loads(json.dumps(small.config.to_json()))))
    again.load_state_dict(small.state_dict())


def test_what_is_left_computes_nearly_the_same(photos: str) -> None:
    """Of units that are copies of others, and one layer at a time: its readers give what they gave."""
    model = random_codec(3)
    names = ("plane2.mixed", "plane1.head.2", "base.head8.0", "synthesis.d8.0", "plane2.follow.0")
    with torch.no_grad():
        for name in names:
            layer = hidden_layers(model)[name]
            maker, half = convolution(layer.maker), layer.units // 2
            for tensor in (maker.weight, maker.bias):
                tensor[half : 2 * half] = tensor[:half]
            for reader in layer.readers:
                convolution(reader).weight.normal_(0, 0.1)
            if getattr(layer.maker, "quality", None) is not None:
                layer.maker.quality.normal_(0, 0.1)
                layer.maker.quality[:, half : 2 * half] = layer.maker.quality[:, :half]
    found = moments(model, photos, pictures=2)
    model.set_exact(False)
    small = pruned(model, found, {name: -(-hidden_layers(model)[name].units // 2) for name in names})
    x, q = torch.rand(1, 3, 64, 64), torch.tensor([0.8])
    with torch.no_grad():
        (picture, _), (picture_small, _) = (m.whole(x, q, True) for m in (model, small))
        torch.testing.assert_close(picture_small, picture, atol=2e-3, rtol=0)
        _, scaled = model.scaled(x, q)
        bits, bits_small = (torch.stack(m.hard_bits(scaled, q)[0]) for m in (model, small))
        torch.testing.assert_close(bits_small, bits, rtol=0.01, atol=1.0)


def test_no_layer_grows_or_is_made_up(photos: str) -> None:
    model = random_codec(4)
    found = moments(model, photos, pictures=1)
    for keep in ({"plane2.fourth": 8}, {"base.b8": 0}, {"base.b8": 999}):
        with pytest.raises(ValueError, match="no hidden layer with more units"):
            pruned(model, found, keep)


def test_the_command_writes_a_checkpoint_to_go_on_from(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prune, "PICTURES", 1)
    model = random_codec(6)
    path, out = tmp_path / "big.pt", tmp_path / "small.pt"
    torch.save({"config": json.dumps(SMALL.to_json()), "average": model.state_dict(), "ledger": "[1]"}, path)
    options = ["prune", "--checkpoint", str(path), "--data", photos, "--out", str(out), "--keep", "base.b8=8"]
    monkeypatch.setattr(sys, "argv", options)
    prune.main()
    assert "base.b8: 32 to 8" in capsys.readouterr().out
    small, state = Codec.of_checkpoint(out)
    assert small.base.b8.a.conv.out_channels == 8
    assert state["ledger"] == "[1]"
