"""What is exported computes what was trained; the direct prior sees what it should."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.models.small import SMALL

# `make test` goes without it; .ci/run has a step that installs it
if importlib.util.find_spec("torch") is None:
    pytest.skip("needs PyTorch: pip install torch==2.13.0", allow_module_level=True)

import torch
from models.export import dead
from models.export.transforms import AnalysisGraph, SynthesisGraph, export_float, fix_shape, scale_tables
from models.hierarchical.codec import Codec, Cut
from models.hierarchical.int8 import set_int8, weight_scale
from models.hierarchical.transforms import Block, Up
from models.training.revive import revive
from PIL import Image

from layercast.codecs.hierarchical.model import splined

torch.set_num_threads(1)  # the tensors are tiny


@torch.no_grad()
def test_exported_synthesis_paints_the_trained_picture() -> None:
    torch.manual_seed(3)
    model = Codec(SMALL).eval()
    for p in (*model.synthesis.parameters(), *model.gain):
        p.add_(0.05 * torch.randn_like(p))
    latents = tuple(4 * torch.randn(1, c, s, 2 * s) for c, s in zip(SMALL.latents, (1, 2, 4), strict=True))
    for precision in ([0.9, 0.8, 0.7], [0.1, -0.5, -1.2]):
        p, inverse_gain = torch.tensor([precision]), 0.05
        pixel = tuple(z * torch.exp(-g) * inverse_gain for z, g in zip(latents, model.gain, strict=True))
        scales = torch.tensor(splined(scale_tables(model), np.array(precision), inverse_gain))
        levels = 255 * model.synthesis(pixel, p)[0].permute(1, 2, 0)
        expected = levels.clamp(0, 255)
        assert expected.std() > 25
        assert (levels < 0).any()
        assert (levels > 255).any()
        painted = SynthesisGraph(model)(*(z.permute(0, 2, 3, 1) for z in latents), scales)[0]
        torch.testing.assert_close(painted.float(), expected, rtol=0, atol=0.501)


def random_model() -> Codec:
    model = Codec(SMALL).eval().requires_grad_(False)
    for p in (*model.analysis.parameters(), *model.synthesis.parameters(), *model.gain):
        p.add_(0.05 * torch.randn_like(p))
    return model


@torch.no_grad()
def test_exported_analysis_finds_the_trained_latents() -> None:
    torch.manual_seed(4)
    model = random_model()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    expected = model.analysis(image.permute(0, 3, 1, 2) / 255)
    gain = scale_tables(model)["gain"]
    found = AnalysisGraph(model)(image, torch.tensor(gain))
    for a, y, g in zip(found, expected, model.gain, strict=True):
        assert y.std() > 0.1
        torch.testing.assert_close(a.permute(0, 3, 1, 2), y * torch.exp(g), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_no_picture_switches_on_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(6)
    model = random_model()
    rng = np.random.default_rng(1)
    for i in range(3):
        pixels = rng.integers(0, 256, (dead.SIDE, dead.SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    blocks = dead.transform_blocks(model)
    for name, off in (("analysis.e8.1", 32), ("analysis.e16.1", 5), ("synthesis.d8.0", 3)):
        blocks[name].a.bias[:off] = -1000
    found = dead.dead_units(model, str(tmp_path))
    assert int(found["analysis.e8.1"].sum()) == 32
    assert found["analysis.e16.1"][:5].all()
    assert not found["synthesis.d4"].all()
    small = dead.trimmed(model, found)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters()) - 1000
    image = torch.tensor(rng.integers(0, 256, (1, 64, 96, 3)).astype(np.uint8))
    gain = torch.tensor(scale_tables(model)["gain"])
    for a, b in zip(AnalysisGraph(model)(image, gain), AnalysisGraph(small)(image, gain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    latents = [torch.randn(1, s, 2 * s, c) for c, s in zip(SMALL.latents, (1, 2, 4), strict=True)]
    scales = torch.ones(scale_tables(model)["knots"].shape[1])
    a, b = (SynthesisGraph(m)(*latents, scales).float() for m in (model, small))
    torch.testing.assert_close(a, b, rtol=0, atol=1)


@pytest.mark.parametrize("hidden", [24, 7])
@torch.no_grad()
def test_a_dead_block_gets_a_new_start(hidden: int) -> None:
    torch.manual_seed(7)
    block, x = Block(12, False, hidden=hidden), torch.randn(1, 12, 9, 9)
    block.a.bias[:] = -100
    before = block(x)
    revive(block, torch.ones(hidden, dtype=torch.bool))
    torch.testing.assert_close(block(x), before)  # it goes on from where it was
    with torch.enable_grad():
        block(x).square().sum().backward()
    assert block.b.weight.grad is not None
    assert block.b.weight.grad.abs().amax(0).amin() > 0  # and every unit can learn


def test_a_network_of_fixed_shape_computes_the_same_and_knows_every_size(tmp_path: Path) -> None:
    torch.manual_seed(9)
    for name, path in export_float(Codec(SMALL).eval(), tmp_path).items():
        fixed = tmp_path / f"{name}.fixed.onnx"
        fix_shape(path, fixed, 64, 96)
        model = onnx.load(fixed)
        assert "Shape" not in {node.op_type for node in model.graph.node}
        for value in (*model.graph.input, *model.graph.output):
            assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim), value.name
        sessions = [ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]) for p in (path, fixed)]
        rng = np.random.default_rng(3)
        feeds = {
            i.name: rng.integers(0, 256, i.shape).astype(np.uint8)
            if i.type == "tensor(uint8)"
            else rng.normal(size=i.shape).astype(np.float32)
            for i in sessions[1].get_inputs()
        }
        for a, b in zip(*(session.run(None, feeds) for session in sessions), strict=True):
            np.testing.assert_allclose(
                a.astype(float), b.astype(float), rtol=1e-4, atol=1e-3 if name == "analysis" else 1
            )


def test_a_block_trained_for_int8_computes_on_256_levels() -> None:
    torch.manual_seed(8)
    block, x = Block(12, True, rounded=True), torch.randn(2, 12, 40, 40)
    plain = block(x)
    set_int8(block, True)
    x.requires_grad_(True)
    rounded = block(x)
    # Filters of 25 weights that are all alike in size are what the limit on their sum makes coarsest.
    assert 0 < (rounded - plain).pow(2).mean() < 5e-3 * (plain - x).detach().pow(2).mean()
    inner = block.ranges[1](torch.linspace(-9, 9, 5000))
    assert len(inner.unique()) <= 256
    assert inner.abs().max() < 9  # what lies outside the range it has seen is clipped
    rounded.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.99
    block.eval()
    ends = block.ranges[0].ends.clone()
    block(100 * x.detach())
    torch.testing.assert_close(block.ranges[0].ends, ends)  # only training reads ranges


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_all_products_of_an_int8_filter_stay_in_16_bits(spread: float) -> None:
    torch.manual_seed(8)
    filters, products = 1 + spread * torch.randn(40, 1, 5, 5), torch.randn(40, 7, 1, 1)
    filters[0] = 2.5  # halves that round up
    sums = [torch.round(w / weight_scale(w)[:, None, None, None]).abs() for w in (filters, products)]
    assert sums[0].sum((1, 2, 3)).max() <= 128
    assert sums[0].sum((1, 2, 3)).min() > 60, "no coarser than needed"
    assert (sums[1].amax((1, 2, 3)) == 63).all()


def test_a_step_up_trained_for_int8_is_near_what_it_is_in_floats() -> None:
    torch.manual_seed(9)
    up, x = Up(12, 5, rounded=True), torch.randn(2, 12, 20, 20)
    plain = up(x)
    set_int8(up, True)
    rounded = up(x)
    assert rounded.shape == (2, 5, 40, 40)
    assert 0 < (rounded - plain).pow(2).mean() < 1e-3 * plain.detach().pow(2).mean()


def test_planes_of_part_of_a_batch_are_those_of_the_whole() -> None:
    torch.manual_seed(5)
    model = Codec(SMALL).eval()
    x, q = torch.rand(3, 3, 64, 64), torch.tensor([0.2, 0.9, 0.6])
    cut = Cut.none(3, SMALL.parts)
    cut.plane[2], cut.share[2] = 1, 0.5
    with torch.no_grad():
        whole = model(x, q, cut, full=2, hard=True)
        part = model(x, q, cut, full=2, hard=True, refined=1)
    assert [len(bits) for bits in part.planes] == [3, 1, 1]
    for a, b in zip(whole.planes, part.planes, strict=True):
        torch.testing.assert_close(a[-len(b) :], b)
    torch.testing.assert_close(part.picture, whole.picture)
