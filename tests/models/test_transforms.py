"""What is exported computes what was trained; the direct prior sees what it should."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch==2.13.0")

from models.export.transforms import FastSynthesis  # noqa: E402  (imports torch)
from models.hierarchical.codec import Codec, Cut  # noqa: E402
from models.hierarchical.config import Config  # noqa: E402
from models.hierarchical.transforms import Synthesis  # noqa: E402

torch.set_num_threads(1)  # the tensors are tiny
SMALL = Config(widths=(16, 16, 16), width4=8, depths=(1, 1, 1), prior=(16, 16, 20))


def random_synthesis() -> Synthesis:
    torch.manual_seed(3)
    synthesis = Synthesis(SMALL)
    with torch.no_grad():
        for p in synthesis.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return synthesis


@torch.no_grad()
def test_exported_synthesis_paints_the_trained_picture() -> None:
    synthesis = random_synthesis()
    for name in ("u16", "u8", "u4"):  # the exported layers have one bias per channel, the mean of the four
        bias = getattr(synthesis, name)[0].bias
        bias.copy_(bias.view(-1, 4).mean(1, keepdim=True).expand(-1, 4).reshape(-1))
    latents = tuple(torch.randn(2, c, s, 2 * s) for c, s in zip(SMALL.latents, (1, 2, 4), strict=True))
    precision = torch.tensor([[0.9, 0.8, 0.7], [0.1, -0.5, -1.2]])
    expected = synthesis(latents, precision)
    assert expected.std() > 0.1
    torch.testing.assert_close(FastSynthesis(synthesis)(latents, precision), expected, rtol=1e-4, atol=1e-5)


def test_planes_of_part_of_a_batch_are_those_of_the_whole() -> None:
    torch.manual_seed(5)
    model = Codec(SMALL).eval()
    x, q = torch.rand(3, 3, 64, 64), torch.tensor([0.2, 0.9, 0.6])
    cut = Cut.none(3)
    cut.plane[2], cut.share[2] = 1, 0.5
    with torch.no_grad():
        whole = model(x, q, cut, full=2, hard=True)
        part = model(x, q, cut, full=2, hard=True, refined=1)
    assert [len(bits) for bits in part.planes] == [3, 1, 1]
    for a, b in zip(whole.planes, part.planes, strict=True):
        torch.testing.assert_close(a[-len(b) :], b)
    torch.testing.assert_close(part.picture, whole.picture)


def test_a_second_block_starts_as_if_it_were_not_there() -> None:
    torch.manual_seed(6)
    wider = Codec(SMALL).plane2.wider
    x = torch.randn(1, SMALL.prior[2], 5, 7).clamp(-8, 7)
    torch.testing.assert_close(wider(x), x)
