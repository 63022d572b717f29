"""The promises of the `dct` codec: any size, any prefix, the same symbols at both ends, no harm from garbage."""

import hashlib
import itertools
import json
import pathlib
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import layercast.demo.assets as assets
from layercast.bitstream.types import MAX_LAYERS, PictureInfo
from layercast.codecs.base import Codec
from layercast.codecs.dct import DctCodec, DctFrameDecoder, FrameEncoder
from layercast.codecs.dct_work import Workspace
from layercast.codecs.registry import get_codec
from layercast.codecs.stages import StageClock
from layercast.errors import CodecError, CorruptError, PictureError

CODEC = DctCodec()
LAYERS = len(CODEC.layer_table)
MOST_ENCODING, MOST_DECODING = 28, 18
"""Bytes per pixel: a little over what state (12), exact coefficients (12) and the decoded picture (3) take."""
T = TypeVar("T")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-10)))


def photograph() -> np.ndarray:
    """A bundled Kodak picture, (512, 768, 3)."""
    return np.asarray(Image.open(pathlib.Path(assets.__file__).parent / "kodim23.png").convert("RGB"))


def scene(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture with smooth parts, edges and texture, the same on every machine."""
    y, x = np.mgrid[:height, :width]
    planes = [
        ((x * (3 + k) + y * 2) % 256) // 2 + 60 * ((x // 9 + y // 7 + k) % 2) + (x * y * 7) % 11
        for k in range(channels)
    ]
    picture = np.stack(planes, -1).astype(np.uint8)
    return picture if channels == 3 else picture[..., 0]


def test_the_registry_knows_it_and_it_is_a_codec():
    codec = get_codec("dct")
    assert isinstance(codec, Codec)
    assert codec.name == "dct"
    assert len(codec.fingerprint) == 16
    assert 12 <= len(codec.layer_table) <= MAX_LAYERS
    assert len({info.name for info in codec.layer_table}) == LAYERS
    assert all(len(info.name) <= 16 and info.name.isascii() for info in codec.layer_table)


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (1, 9, 3), (9, 1), (7, 5, 3), (8, 8), (17, 33, 3), (33, 17), (64, 129, 3), (1, 300)]
)
def test_any_size_comes_back_closely_at_the_best_quality(shape):
    picture = scene(*shape[:2], channels=3 if len(shape) == 3 else 1)
    frame = CODEC.encode(picture, 1.0)
    decoded = CODEC.decode(frame.layers, frame.picture)
    assert decoded.shape == picture.shape
    assert decoded.dtype == np.uint8
    assert psnr(decoded, picture) > 38


def test_a_long_thin_picture_at_the_size_limit_codes():
    picture = scene(2, 8192, channels=1)
    frame = CODEC.encode(picture, 0.8)
    assert psnr(CODEC.decode(frame.layers, frame.picture), picture) > 30


def test_memory_grows_by_few_bytes_per_pixel():
    """The largest picture, 8192 x 8192, is to fit a small machine; arrays of the whole picture add up quickly."""
    peaks = []
    for down, across in ((2, 2), (4, 3)):
        picture = np.tile(photograph(), (down, across, 1))
        encoding, frame = traced_peak(lambda codec, picture=picture: codec.encode(picture, 0.9))
        decoding, _ = traced_peak(lambda codec, frame=frame: codec.decode(frame.layers, frame.picture))
        peaks.append((picture.shape[0] * picture.shape[1], encoding, decoding))
    (pixels, encoding, decoding), (more_pixels, more_encoding, more_decoding) = peaks
    assert more_encoding - encoding < MOST_ENCODING * (more_pixels - pixels)
    assert more_decoding - decoding < MOST_DECODING * (more_pixels - pixels)


def traced_peak(work: Callable[[DctCodec], T]) -> tuple[int, T]:
    """The most memory that Python and numpy held at a time while a new codec worked, bytes; and what it gave."""
    codec = DctCodec()
    tracemalloc.start()
    try:
        result = work(codec)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_every_prefix_decodes_and_no_layer_makes_the_picture_worse():
    picture = photograph()
    frame = CODEC.encode(picture, 0.7)
    assert len(frame.layers) == LAYERS
    decoder = CODEC.start(frame.picture)
    quality = [psnr(decoder.picture(), picture)]
    for layer in frame.layers:
        decoder.push(layer)
        quality.append(psnr(decoder.picture(), picture))
    assert all(after >= before for before, after in itertools.pairwise(quality))
    assert quality[-1] > 38


def test_the_stated_gains_are_what_the_layers_gain():
    picture = photograph()
    frame = CODEC.encode(picture, 0.7)
    decoder = CODEC.start(frame.picture)
    before = psnr(decoder.picture(), picture)
    total = before
    for layer, gain in zip(frame.layers, frame.gains_db, strict=True):
        decoder.push(layer)
        total += gain
        assert psnr(decoder.picture(), picture) == pytest.approx(total, abs=0.35)


def test_more_quality_takes_more_bytes_and_gives_a_better_picture():
    picture = photograph()[:256, :384]
    frames = [CODEC.encode(picture, quality) for quality in (0.0, 0.3, 0.6, 1.0)]
    sizes = [sum(map(len, frame.layers)) for frame in frames]
    scores = [psnr(CODEC.decode(frame.layers, frame.picture), picture) for frame in frames]
    assert sizes == sorted(sizes)
    assert scores == sorted(scores)
    assert sizes[-1] > 10 * sizes[0]


def test_a_prefix_is_nearly_as_good_as_a_lower_quality_of_the_same_size():
    picture = photograph()[:256, 192:576]
    full = CODEC.encode(picture, 0.9)
    curve = []
    for quality in np.linspace(0, 0.9, 7):
        frame = CODEC.encode(picture, float(quality))
        curve.append(
            (np.log(sum(map(len, frame.layers))), psnr(CODEC.decode(frame.layers, frame.picture), picture))
        )
    rates, scores = zip(*curve, strict=True)
    for keep in range(LAYERS - 7, LAYERS + 1):
        size = np.log(sum(map(len, full.layers[:keep])))
        assert (
            psnr(CODEC.decode(full.layers[:keep], full.picture), picture)
            > np.interp(size, rates, scores) - 0.8
        )


@pytest.mark.parametrize("quality", [0.3, 0.7, 1.0])
def test_a_picture_unlike_any_photograph_is_coded_well_too(quality):
    """One-pixel patterns hold all their energy where contexts, fitted on photographs, are certain of zeros."""
    y, x = np.mgrid[:64, :96]
    checks = np.where((x + y) % 2, 255, 0).astype(np.uint8)
    picture = np.stack([checks, np.where(x % 2, 200, 30).astype(np.uint8), np.full_like(checks, 90)], -1)
    frame = CODEC.encode(picture, quality)
    assert psnr(CODEC.decode(frame.layers, frame.picture), picture) > 20 + 25 * quality


def test_no_layers_give_a_grey_picture():
    info = PictureInfo(20, 10, 3, 128)
    assert (CODEC.decode([], info) == 128).all()


def test_pushing_layers_one_by_one_is_decoding_them_together():
    picture = scene(60, 90)
    frame = CODEC.encode(picture, 0.5)
    decoder = CODEC.start(frame.picture)
    for k, layer in enumerate(frame.layers):
        decoder.push(layer)
        assert (decoder.picture() == CODEC.decode(frame.layers[: k + 1], frame.picture)).all()


def test_encoding_twice_gives_the_same_bytes():
    picture = scene(50, 70)
    assert CODEC.encode(picture, 0.6) == DctCodec().encode(picture, 0.6)


@settings(max_examples=40, deadline=None)
@given(
    picture=arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)), elements=st.integers(0, 255)
    ),
    quality=st.floats(0, 1),
    complete=st.booleans(),
)
def test_encoder_and_decoder_agree_on_every_symbol(picture, quality, complete):
    """If contexts ever differed, the range decoder would drift into noise."""
    info = PictureInfo(picture.shape[1], picture.shape[0], 3, round(quality * 255))
    encoder = FrameEncoder(CODEC._model, Workspace(), picture, info, StageClock())
    encoder.restart(complete)
    decoder = CODEC.start(info)
    with ThreadPoolExecutor(1) as helper:
        for number in range(LAYERS):
            decoder.push(encoder.layer(number, helper).result())
    for sent, received in zip(encoder.progress.bins, decoder.progress.bins, strict=True):
        assert (sent == received).all()
    for sent, received in zip(encoder.progress.offsets, decoder.progress.offsets, strict=True):
        assert (sent == received).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=LAYERS), st.integers(0, 255))
def test_garbage_is_refused_or_decoded_but_harms_nothing(layers, quality_index):
    decoder = CODEC.start(PictureInfo(45, 30, 3, quality_index))
    for layer in layers:
        try:
            decoder.push(layer)
        except CorruptError:
            break
    assert decoder.picture().shape == (30, 45, 3)


def test_a_damaged_layer_leaves_the_layers_before_it():
    """The first layer's escapes reach any magnitude; bytes of ones ask for one that no picture has."""
    picture = scene(40, 40)
    frame = CODEC.encode(picture, 0.9)
    rng, refused = np.random.default_rng(0), 0
    for keep in (0, 1, 2):
        for _ in range(60):
            decoder = CODEC.start(frame.picture)
            for layer in frame.layers[:keep]:
                decoder.push(layer)
            before = decoder.picture()
            try:
                decoder.push(rng.integers(192, 256, 40, dtype=np.uint8).tobytes())
            except CorruptError:
                refused += 1
                assert (decoder.picture() == before).all()
                decoder.push(frame.layers[keep])
                assert (decoder.picture() == CODEC.decode(frame.layers[: keep + 1], frame.picture)).all()
    assert refused > 0


def test_one_layer_too_many_is_refused():
    frame = CODEC.encode(scene(8, 8), 0.5)
    decoder = CODEC.start(frame.picture)
    for layer in frame.layers:
        decoder.push(layer)
    with pytest.raises(CodecError, match="all its layers"):
        decoder.push(b"")


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((8193, 1), np.uint8),
    ],
)
def test_a_picture_it_cannot_take_is_a_picture_error(picture):
    with pytest.raises(PictureError):
        CODEC.encode(picture, 0.5)


@pytest.mark.parametrize("quality", [-0.1, 1.1, float("nan")])
def test_a_quality_out_of_range_is_a_picture_error(quality):
    with pytest.raises(PictureError):
        CODEC.encode(scene(8, 8), quality)


@pytest.mark.parametrize(
    "info",
    [PictureInfo(0, 4, 3, 0), PictureInfo(4, 8193, 3, 0), PictureInfo(4, 4, 2, 0), PictureInfo(4, 4, 3, 256)],
)
def test_a_header_it_cannot_take_is_a_picture_error(info):
    with pytest.raises(PictureError):
        CODEC.start(info)


def test_a_stored_stream_still_decodes_to_the_same_bins():
    """A change that breaks this breaks every stored file: it must come with a new fingerprint and new bytes here."""
    golden = json.loads((pathlib.Path(__file__).parent / "test_dct_golden.json").read_text())
    assert CODEC.fingerprint.hex() == golden["fingerprint"]
    decoder = CODEC.start(PictureInfo(*golden["picture"]))
    for layer in golden["layers"]:
        decoder.push(bytes.fromhex(layer))
    assert bins_digest(decoder) == golden["bins"]


def bins_digest(decoder: DctFrameDecoder) -> str:
    magnitudes = (np.abs(bins).astype("<i2").tobytes() for bins in decoder.progress.bins)
    return hashlib.sha256(b"".join(magnitudes)).hexdigest()


def write_golden() -> None:
    """Run this file to store a new stream, when the fingerprint has changed."""
    frame = CODEC.encode(scene(40, 48), 0.55)
    info, decoder = frame.picture, CODEC.start(frame.picture)
    for layer in frame.layers:
        decoder.push(layer)
    golden = {
        "fingerprint": CODEC.fingerprint.hex(),
        "picture": [info.width, info.height, info.channels, info.quality_index],
        "bins": bins_digest(decoder),
        "layers": [layer.hex() for layer in frame.layers],
    }
    (pathlib.Path(__file__).parent / "test_dct_golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write_golden()
