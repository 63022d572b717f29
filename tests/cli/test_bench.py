"""`layercast bench codec`: what a row says is what a receiver gets."""

import json
import math

import pytest

from layercast.bench.codec import measure
from layercast.bench.metrics import psnr
from layercast.bench.peers import JPEG, PEERS, measure_peer
from layercast.bitstream import read_index, trim, unpack
from layercast.cli.units import encode_unit
from layercast.demo import assets
from layercast.media import PatternSource, read_picture, write_picture

KEYS = {
    "image", "codec", "quality", "layers", "bytes", "bpp", "psnr", "ms_ssim", "encode_ms", "decode_ms",
}  # fmt: skip


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(2):
        write_picture(folder / f"{index}.png", PatternSource(96, 64).draw(5 * index))
    return folder


def test_rows_count_every_byte_and_compare_what_was_decoded(pairs):
    image = PatternSource(64, 48).draw(0)
    unit = encode_unit(pairs, image, 0, 0, 0.5)
    rows = measure(pairs, "x", image, 0.5, ["all"])
    assert [row.layers for row in rows] == [1, 2, 3, 4]
    for row in rows:
        cut = trim(unit, row.layers)
        assert row.bytes == len(cut) == read_index(unit).ends[row.layers]
        assert row.bpp == 8 * len(cut) / (64 * 48)
        assert row.psnr == psnr(image, pairs.decode(unpack(cut).layers, unpack(cut).header.picture))
        assert row.encode_ms > 0 < row.decode_ms
    assert math.isinf(rows[-1].psnr)


@pytest.mark.parametrize(
    ("asked", "got"), [([None], [4]), (["all"], [1, 2, 3, 4]), ([2, 4], [2, 4]), ([3, 9, 3], [3]), ([9], [])]
)
def test_layers_are_prefix_lengths(pairs, asked, got):
    rows = measure(pairs, "x", PatternSource(16, 16).draw(0), 0.5, asked)
    assert [row.layers for row in rows] == got


def test_the_command_writes_rows_and_prints_every_peer(run, images, tmp_path):
    path = tmp_path / "rows.json"
    code, out, err = run(
        "bench",
        "codec",
        "--images",
        images,
        "--codec",
        "pairs",
        "--quality",
        0.3,
        0.6,
        "--layers",
        1,
        4,
        "--json",
        path,
    )
    assert (code, err) == (0, "")
    rows = json.loads(path.read_text())
    assert len(rows) == 2 * 2 * 2
    assert all(set(row) == KEYS for row in rows)
    assert {(row["image"], row["quality"], row["layers"]) for row in rows} == {
        (f"{index}.png", quality, layers) for index in range(2) for quality in (0.3, 0.6) for layers in (1, 4)
    }
    assert all(row["psnr"] is None for row in rows if row["layers"] == 4), "an exact copy has no finite PSNR"
    assert all(peer.name in out for peer in PEERS)


def test_the_command_says_where_the_time_went(run, images):
    code, out, _ = run("bench", "codec", "--images", images, "--codec", "dct", "--quality", 0.5)
    assert code == 0
    for step, stages in (("encode", ("analysis", "prior", "entropy")), ("decode", ("prior", "synthesis"))):
        line = next(line for line in out.splitlines() if line.startswith(f"{step} 0.png at 0.5"))
        assert all(stage in line for stage in stages)


def test_against_jpeg_prints_bd_rates(run, images):
    code, out, _ = run(
        "bench", "codec", "--images", images, "--codec", "pairs", "--layers", 1, 2, 3, "--against-jpeg"
    )
    assert code == 0
    table = out.split("BD-rate")[1]
    assert "JPEG 2000" in table
    assert "WebP" in table
    assert "%" in table


def test_jpeg_is_progressive_optimised_and_subsampled():
    import io

    from PIL import Image

    picture = Image.fromarray(PatternSource(64, 64).draw(0))
    buffer = io.BytesIO()
    picture.save(buffer, JPEG.format, **JPEG.options(50))
    with Image.open(io.BytesIO(buffer.getvalue())) as saved:
        assert saved.info["progressive"] == 1
        assert [component[1:3] for component in saved.layer] == [(2, 2), (1, 1), (1, 1)]
    assert measure_peer(JPEG, PatternSource(64, 64).draw(0), 50).bpp == 8 * len(buffer.getvalue()) / 64**2


def test_jpeg_2000_is_measured_at_its_best():
    jpeg2000 = PEERS[2]
    point = measure_peer(jpeg2000, read_picture(assets.path("kodim23.png")), 24)
    assert point.bpp == pytest.approx(1.0, abs=0.01)
    assert point.psnr > 42, "39.4 without its colour transform"


def test_peers_take_grey_pictures():
    grey = PatternSource(64, 48).draw(0)[..., 0]
    for peer in PEERS:
        assert measure_peer(peer, grey, peer.shown).psnr > 15


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peers_quality_goes_up_with_its_rate(peer):
    image = PatternSource(128, 96).draw(3)
    low, high = (measure_peer(peer, image, peer.steps[k]) for k in (2, -1))
    assert high.bpp > low.bpp
    assert high.psnr > low.psnr
