"""The flagship codec as its users see it: every prefix decodes, both ends agree, bad input is told apart."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import layercast
from layercast.bitstream.types import PictureInfo
from layercast.codecs.hierarchical import HierarchicalCodec, kernels
from layercast.codecs.hierarchical.model import DEFAULT_ENTRY
from layercast.codecs.hierarchical.shifts import decoded, encoded
from layercast.codecs.hierarchical.streams import StreamCoder, join, split
from layercast.codecs.hierarchical.walk import Walk
from layercast.demo import assets
from layercast.errors import BitstreamError, ConfigError, CorruptError, ModelError, PictureError
from layercast.runtime.programs import INSTRUCTIONS, ProgramNetwork

CROP = (160, 224)


@pytest.fixture(scope="module")
def codec() -> HierarchicalCodec:
    return HierarchicalCodec(threads=1)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    with Image.open(assets.path("kodim23.png")) as image:
        return np.asarray(image.convert("RGB"))[100 : 100 + CROP[0], 200 : 200 + CROP[1]].copy()


def parts(codec: HierarchicalCodec) -> int:
    """Layers of plane 0."""
    return 2 + len(codec.model.groups)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


# Elsewhere ONNX Runtime is meant to run them; that nothing was left uncompiled where it could be, .ci/run looks at.
@pytest.mark.skipif(not INSTRUCTIONS, reason="no compiled kernel for this processor")
def test_every_shipped_network_runs_as_a_program(codec: HierarchicalCodec) -> None:
    """One that no program can do would run, slower, in ONNX Runtime, and nobody would notice."""
    model = codec.model
    networks = [*model.networks.values(), model.analysis, model.synthesis, model.projection]
    assert [type(network) for network in networks] == [ProgramNetwork] * len(networks)


def test_more_quality_costs_more_and_looks_better(codec: HierarchicalCodec, photo: NDArray[np.uint8]) -> None:
    frames = [codec.encode(photo, q) for q in (0.0, 0.5, 1.0)]
    sizes = [sum(map(len, f.layers)) for f in frames]
    values = [psnr(codec.decode(f.layers, f.picture), photo) for f in frames]
    assert sizes == sorted(sizes)
    assert values == sorted(values)
    assert sizes[2] > 3 * sizes[0]
    assert values[2] > 33


@pytest.fixture(scope="module")
def careful() -> HierarchicalCodec:
    return HierarchicalCodec(threads=1, effort=1)


@pytest.mark.parametrize("quality", [0.2, 0.7, 1.0])
def test_effort_buys_what_training_was_for(
    codec: HierarchicalCodec, careful: HierarchicalCodec, photo: NDArray[np.uint8], quality: float
) -> None:
    frames = [c.encode(photo, quality) for c in (codec, careful)]
    weight = np.exp(codec.model.log_lambda_at(frames[0].picture.quality_index))
    costs, sizes, values = [], [], []
    for frame in frames:
        picture = codec.decode(frame.layers, frame.picture)  # a decoder need not know
        sizes.append(sum(map(len, frame.layers)))
        values.append(psnr(picture, photo))
        error = np.square(picture.astype(float) - photo).mean()
        costs.append(8 * sizes[-1] / (photo.size / 3) + weight * error)
    assert costs[1] < 0.998 * costs[0]
    assert sizes[1] < sizes[0] + (3 if quality == 0.2 else 0)  # there it is 590 bytes, give or take one
    assert values[1] > values[0] + (0.1 if quality == 1 else -0.1)
    until = next(i for i, layer in enumerate(codec.layer_table) if layer.name == "p2.c1")
    assert frames[0].layers[:until] == frames[1].layers[:until]  # no earlier prefix changes
    assert "refinement" in careful.stage_times
    assert "refinement" not in codec.stage_times


def test_more_effort_buys_more(
    codec: HierarchicalCodec, careful: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    more = HierarchicalCodec(threads=1, effort=3)
    frames = [c.encode(photo, 1.0) for c in (careful, more)]
    values = [psnr(codec.decode(f.layers, f.picture), photo) for f in frames]
    assert values[1] > values[0] + 0.02
    assert more.stage_times["refinement"] > careful.stage_times["refinement"]


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 70), (5, 64, 3)])
def test_effort_with_any_picture(careful: HierarchicalCodec, shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    frame = careful.encode(picture, 0.8)
    assert careful.decode(frame.layers, frame.picture).shape == shape


def test_effort_without_anything_compiled(
    careful: HierarchicalCodec, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime and NumPy choose nearly the same trits."""
    frame = careful.encode(photo, 0.8)
    monkeypatch.setattr(kernels, "_compiled", None)
    plain = HierarchicalCodec(threads=1, optimise=False, effort=1).encode(photo, 0.8)
    sizes = [sum(map(len, f.layers)) for f in (frame, plain)]
    assert abs(sizes[1] / sizes[0] - 1) < 0.01
    pictures = [careful.decode(f.layers, f.picture) for f in (frame, plain)]
    assert abs(psnr(pictures[0], photo) - psnr(pictures[1], photo)) < 0.1


def test_an_effort_that_there_is_not() -> None:
    for effort in (4, -1, "most"):
        with pytest.raises(ConfigError, match="effort"):
            HierarchicalCodec(effort=effort)  # type: ignore[arg-type]  # a word is one of the wrong ones


def test_every_prefix_decodes_and_planes_add_quality(
    codec: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    frame = codec.encode(photo, 1.0)
    assert len(frame.layers) == len(codec.layer_table) == len(frame.gains_db)
    values = [
        psnr(codec.decode(frame.layers[:k], frame.picture), photo) for k in range(1, len(frame.layers) + 1)
    ]
    assert all(after > before - 0.05 for before, after in itertools.pairwise(values))
    assert values[-1] > values[parts(codec) - 1] + 4


def test_pushing_layers_one_by_one_is_decoding_them_at_once(
    codec: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    frame = codec.encode(photo, 0.6)
    decoder = codec.start(frame.picture)
    for k, layer in enumerate(frame.layers, 1):
        decoder.push(layer)
        # Looking at the picture in between must not change what comes after.
        np.testing.assert_array_equal(decoder.picture(), codec.decode(frame.layers[:k], frame.picture))


@pytest.mark.parametrize("plane", [1, 2])
def test_known_trits_change_what_is_expected_of_later_ones(
    codec: HierarchicalCodec, photo: NDArray[np.uint8], plane: int
) -> None:
    """Streams that part in a plane's first layer, or in a class of worth after which a network corrects what is
    expected: what comes after is distributed otherwise."""
    frame = codec.encode(photo, 0.8)
    begin = parts(codec) + sum(count + 1 for count in codec.model.classes[: plane - 1])
    assert codec.model.follow == ((), (3,))
    for parting in (begin, *(begin + known for known in codec.model.follow[plane - 1])):
        rows = []
        for told in (True, False):
            walk = Walk(codec.model, (CROP[0] // 32, CROP[1] // 32), frame.picture.quality_index)
            for layer in frame.layers[: parting + 1]:
                first, rest = split(layer, 2) if walk.shifted else (b"", layer)
                symbols = StreamCoder(1).decode(rest, *walk.keys(decoded(first, walk.shifted)))
                walk.put(symbols if told or walk.layer < parting else np.zeros_like(symbols))
            rows.append(walk.rows()[0].copy())
        assert len(rows[0]) != len(rows[1]) or (rows[0] != rows[1]).mean() > 0.02


def test_coarse_trits_that_have_not_come_stand_at_half_their_mean(
    codec: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    frame = codec.encode(photo, 0.6)
    decoder = codec.start(frame.picture)
    for layer in frame.layers[: parts(codec)]:
        decoder.push(layer)
    feeds, walk = decoder.synthesis_inputs(), decoder._walk
    here, coarse = 9.0 * walk.value[: walk.bounds[2]], walk._keys
    here[: walk.bounds[1]] += walk.mean * (9 / 16)
    known = np.concatenate([feeds["z32"].ravel(), feeds["z16"].ravel()])
    np.testing.assert_allclose(known - here, 1.5 * codec.model.trit_mean[coarse], atol=1e-4)
    assert np.abs(known - here).max() > 0.2


def test_a_further_layer_never_decodes_an_earlier_one_again(
    codec: HierarchicalCodec, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = codec.encode(photo, 0.6)
    seen: list[bytes] = []
    decode = StreamCoder.decode

    def spy(coder: StreamCoder, layer: bytes, *keys_and_tables: Any) -> NDArray[np.int32]:
        seen.append(layer)
        return decode(coder, layer, *keys_and_tables)

    monkeypatch.setattr(StreamCoder, "decode", spy)
    decoder = codec.start(frame.picture)
    for layer in frame.layers:
        decoder.push(layer)
        decoder.picture()
    assert seen == [rest_of(codec, frame.layers, k) for k in range(len(frame.layers))]


def shifted(codec: HierarchicalCodec) -> list[bool]:
    """Which layers begin with shifts."""
    names = [info.name for info in codec.layer_table]
    return [name.startswith("p0") or name.endswith(".c1") for name in names]


def rest_of(codec: HierarchicalCodec, layers: Sequence[bytes], number: int) -> bytes:
    """A layer's symbols: all of it, but for the channels' shifts that some begin with."""
    return split(layers[number], 2)[1] if shifted(codec)[number] else layers[number]


def shifts_of(codec: HierarchicalCodec, layers: Sequence[bytes]) -> list[bytes]:
    return [split(layer, 2)[0] for layer, begins in zip(layers, shifted(codec), strict=True) if begins]


def test_a_picture_that_is_not_what_the_prior_expects_says_so(
    codec: HierarchicalCodec, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise has more in every channel; shifts of their logits cost less than they save."""
    noise = np.random.default_rng(3).normal(0, 25, photo.shape)
    image = np.clip(photo + noise, 0, 255).astype(np.uint8)
    frame = codec.encode(image, 0.6)
    assert sum(len(shifts) > 5 for shifts in shifts_of(codec, frame.layers)) > 2
    monkeypatch.setattr(Walk, "fitted", lambda walk, digits: np.zeros(walk.shifted, np.int8))
    without = codec.encode(image, 0.6)
    assert not any(shifts_of(codec, without.layers))
    assert sum(map(len, frame.layers)) < 0.98 * sum(map(len, without.layers))
    pictures = (codec.decode(f.layers, f.picture) for f in (frame, without))
    assert psnr(*pictures) > 45  # what nobody codes differs a little


def test_shifts_of_a_layer_that_is_damaged_are_forgotten(
    codec: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    frame = codec.encode(photo, 0.6)
    number = [info.name for info in codec.layer_table].index("p1.c1")
    decoder, other = codec.start(frame.picture), codec.start(frame.picture)
    for layer in frame.layers[:number]:
        decoder.push(layer)
        other.push(layer)
    before = other.picture()
    shifts = encoded(np.full(codec.model.latents[2], -7, np.int8))
    with pytest.raises(CorruptError):
        decoder.push(join([shifts, b"\xff" * 9]))
    np.testing.assert_array_equal(decoder.picture(), before)
    with pytest.raises(CorruptError):
        decoder.push(join([shifts, b"\xff" * 9]))
    for layer in frame.layers[number:]:  # without another picture in between
        decoder.push(layer)
        other.push(layer)
        assert decoder.state() == other.state()
    np.testing.assert_array_equal(decoder.picture(), codec.decode(frame.layers, frame.picture))


@pytest.mark.parametrize("quality", [0.0, 0.4, 1.0])
def test_threads_and_optimisations_never_change_a_symbol(quality: float, photo: NDArray[np.uint8]) -> None:
    plain = HierarchicalCodec(threads=1, optimise=False)
    fast = HierarchicalCodec(threads=2)
    for encoder, decoder in ((plain, fast), (fast, plain)):
        frame = encoder.encode(photo, quality)
        sent, got = (states_of(c, frame.layers, frame.picture) for c in (encoder, decoder))
        for k, (a, b) in enumerate(zip(sent, got, strict=True)):
            assert a == b, f"layer {k}"


def states_of(codec: HierarchicalCodec, layers: tuple[bytes, ...], picture: PictureInfo) -> list[bytes]:
    """What the decoder knows after each layer."""
    decoder = codec.start(picture)
    states = []
    for layer in layers:
        decoder.push(layer)
        states.append(decoder.state())
    return states


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70, 3), (33, 5, 3), (31, 64), (1, 1)])
def test_any_size_in_colour_and_grey(codec: HierarchicalCodec, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    frame = codec.encode(image, 0.5)
    for keep in (0, 1, parts(codec) + 1, len(frame.layers)):
        assert codec.decode(frame.layers[:keep], frame.picture).shape == shape


def test_a_flat_picture_costs_a_small_part_of_a_photograph(
    codec: HierarchicalCodec, photo: NDArray[np.uint8]
) -> None:
    flat = codec.encode(np.full_like(photo, 77), 0.5)
    assert sum(map(len, flat.layers)) < 0.25 * sum(map(len, codec.encode(photo, 0.5).layers))
    assert abs(int(codec.decode(flat.layers, flat.picture).astype(int).mean()) - 77) <= 1


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros(5, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_a_picture_of_the_wrong_kind_is_named(codec: HierarchicalCodec, image: NDArray[np.uint8]) -> None:
    with pytest.raises(PictureError):
        codec.encode(image)


def test_garbage_layers_never_crash(codec: HierarchicalCodec, photo: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(3)
    frame = codec.encode(photo[:64, :96], 0.8)
    for _ in range(30):
        layers = [rng.integers(0, 256, rng.integers(0, 200)).astype(np.uint8).tobytes() for _ in frame.layers]
        decoder = codec.start(frame.picture)
        try:
            for layer in layers:
                decoder.push(layer)
        except BitstreamError:
            pass
        assert decoder.picture().shape == (64, 96, 3)


def test_one_layer_too_many_is_corrupt(codec: HierarchicalCodec, photo: NDArray[np.uint8]) -> None:
    frame = codec.encode(photo[:32, :32], 0.2)
    decoder = codec.start(frame.picture)
    for layer in frame.layers:
        decoder.push(layer)
    with pytest.raises(CorruptError, match="more than"):
        decoder.push(b"")


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    with resources.as_file(resources.files("layercast.zoo") / DEFAULT_ENTRY) as folder:
        return Path(shutil.copytree(folder, tmp_path / "entry"))


def test_a_damaged_model_file_is_refused(entry: Path) -> None:
    path = entry / "fine1.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"fine1\.onnx is damaged"):
        HierarchicalCodec(entry)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="manifest"):
        HierarchicalCodec(tmp_path)


def test_an_inexact_machine_is_refused_at_start(entry: Path) -> None:
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["known_answer"] = "0" * 64
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="exact prior"):
        HierarchicalCodec(entry)
    HierarchicalCodec(entry, self_test=False)


def test_another_prior_has_another_fingerprint(codec: HierarchicalCodec, entry: Path) -> None:
    with np.load(entry / "tables.npz") as archive:
        arrays = {k: archive[k] for k in archive.files}
    arrays["trit_mean"] = arrays["trit_mean"] * 2
    np.savez_compressed(entry / "tables.npz", **arrays)
    manifest = json.loads((entry / "manifest.json").read_text())
    import hashlib

    manifest["files"]["tables.npz"] = hashlib.sha256((entry / "tables.npz").read_bytes()).hexdigest()
    (entry / "manifest.json").write_text(json.dumps(manifest))
    assert HierarchicalCodec(entry).fingerprint != codec.fingerprint


def test_an_unknown_execution_provider_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="CPUExecutionProvider"):
        HierarchicalCodec(provider="Abacus", self_test=False).encode(np.zeros((32, 32, 3), np.uint8))


def test_the_registry_makes_it() -> None:
    assert layercast.get_codec("hierarchical", self_test=False).name == "hierarchical"


def test_the_entry_is_small_and_says_where_it_comes_from() -> None:
    folder = resources.files("layercast.zoo") / DEFAULT_ENTRY
    sizes = [len(p.read_bytes()) for p in folder.iterdir() if p.is_file()]
    assert sum(sizes) <= 16 << 20
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["ledger"]
    assert max(manifest["accumulators"].values()) < 2**24
    assert "DATA.md" in manifest["licence"]


def test_it_tells_what_each_part_runs_on_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    from layercast.cli import main
    from layercast.runtime.programs import INSTRUCTIONS

    parts = HierarchicalCodec(provider="CPU", optimise=False, self_test=False).runs_on
    for part in ("analysis", "exact prior", "synthesis"):
        assert parts[part] == "CPUExecutionProvider: optimisations are off"
    assert main(["codecs", "hierarchical"]) == 0
    told = capsys.readouterr().out
    assert "\nentropy coder: " in told
    for part in ("analysis", "exact prior", "synthesis"):
        if INSTRUCTIONS:
            place = f"compiled program: this processor has {next(iter(INSTRUCTIONS))}"
        else:
            place = "CPUExecutionProvider: nothing is compiled for this processor"
        assert f"\n{part}: {place}\n" in told
