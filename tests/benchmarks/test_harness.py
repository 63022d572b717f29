"""The promise: what the harness compares is what the formats are, and what it prints is what was stored."""

from __future__ import annotations

import importlib.util
from fractions import Fraction

import numpy as np
import pytest

if any(importlib.util.find_spec(name) is None for name in ("imagecodecs", "av", "matplotlib")):
    pytest.skip('needs pip install "layercast[bench]"', allow_module_level=True)

from benchmarks.still_tables import within
from benchmarks.video_peers import VIDEO_PEERS, VideoPeer, code

from benchmarks import (
    codec_tables,
    jpeg2000_cut,
    jpegxl_cut,
    markdown,
    mbt2018,
    peers,
    pictures,
    plots,
    proof,
    published,
    render,
    results,
    speed,
    summary,
)
from layercast.bench.metrics import psnr


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return next(iter(pictures.bundled().pictures.values()))[:256, :384]


@pytest.mark.parametrize("peer", [*peers.PEERS, peers.JPEG_PLAIN], ids=lambda peer: peer.name)
def test_each_peer_gives_a_rising_curve_of_pictures_of_the_right_size(peer: peers.Peer, picture) -> None:
    few, many = peer.qualities[1], peer.qualities[-2]
    small, large = peer.encode(picture, few), peer.encode(picture, many)
    assert len(small) < len(large)
    assert 20 < psnr(picture, peer.decode(small)) < psnr(picture, peer.decode(large))


def test_a_jpeg_2000_file_cut_at_more_packets_shows_more(picture) -> None:
    stream = jpeg2000_cut.encode(picture, layers=6)
    counts = range(0, len(stream.packets) + 1, 18)
    shown = [psnr(picture, peers.pillow_decode(stream.cut(count))) for count in counts]
    assert shown == sorted(shown)
    assert stream.size(len(stream.packets)) + 2 == len(
        stream.cut(len(stream.packets))
    )  # 2: end of codestream


def test_a_jpeg_xl_file_cut_short_shows_less_and_the_whole_file_all_of_it(picture) -> None:
    library = jpegxl_cut.library()
    if library is None:
        pytest.skip("this imagecodecs wheel holds no shared libjxl")
    data = jpegxl_cut.encode(library, picture, distance=1.0)
    half, whole = jpegxl_cut.decode(library, data[: len(data) // 2]), jpegxl_cut.decode(library, data)
    assert jpegxl_cut.decode(library, data[:40]) is None
    assert psnr(picture, half) < psnr(picture, whole)
    assert psnr(picture, whole) > 35


@pytest.mark.parametrize("peer", VIDEO_PEERS, ids=lambda peer: peer.name)
def test_video_encoders_return_every_frame_and_gain_from_earlier_ones(peer: VideoPeer) -> None:
    y, x = np.mgrid[:192, :128]
    still = ((x * 7 ^ y * 3) % 200).astype(np.uint8)
    clip = [still.copy() for _ in range(6)]
    intra = code(peer, clip, Fraction(25), peer.crfs[2], key_interval=1)
    inter = code(peer, clip, Fraction(25), peer.crfs[2], key_interval=50)
    assert len(intra.frames) == len(inter.frames) == len(clip)
    assert inter.size < intra.size / 2


def test_the_proof_holds_for_the_stored_curves() -> None:
    """WebP and JPEG as stored are the published ones: 0.01 dB, 0.5 % of the rate, 0.0001 of MS-SSIM."""
    required = [c for c in proof.COMPARISONS if c.must_hold]
    assert {c.published for c in required} == {"webp", "jpeg"}
    assert [proof.compare(c)["holds"] for c in required] == [True, True]


def test_published_points_keep_their_source() -> None:
    curves = published.curves()
    assert all(curve.source for curve in curves.values())
    assert all(tuple(sorted(curve.bpp)) == curve.bpp for curve in curves.values())


def test_a_result_that_was_stored_comes_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    rows = [{"setting": 1.0, "bpp": 0.5}, {"setting": 2.0, "bpp": 0.75}]
    results.save("rd/set", "codec", rows, title="Käse")
    stored = results.load("rd/set", "codec")
    assert stored is not None
    assert (stored["rows"], stored["title"]) == (rows, "Käse")
    assert set(stored["about"]) == {"machine", "versions", "commit", "date", "command"}
    assert results.load("rd/set", "other") is None


def test_a_mosaic_keeps_the_pixels_of_its_pictures(picture) -> None:
    wide = pictures.mosaic([picture], 900, 300)
    assert wide.shape == (300, 900, 3)
    assert np.array_equal(wide[:256, :384], picture)
    assert np.array_equal(wide[:256, 384:768], picture)


def test_the_summary_calls_a_loss_a_loss() -> None:
    assert [summary.verdict(p) for p in (-30.0, -1.0, 0.0, 1.9, 2.1)] == [
        "wins",
        "even",
        "even",
        "even",
        "loses",
    ]


def test_markdown_says_where_figures_are_from() -> None:
    about = {"machine": "m", "versions": {"a": "1"}, "commit": "c", "date": "d", "command": "run"}
    once = markdown.origin([{"about": about}, {"about": about}])
    assert once.count("`run` on d, commit c; m; a 1.") == 1


QUALITIES_OF = {
    0.0: [(0.1, 25.0), (0.2, 28.0)],
    1.0: [(0.3, 27.0), (0.6, 31.0), (0.5, 30.9), (0.8, 34.0)],
}
"""Of a codec with two or four layers: quality to (bpp, PSNR) of its prefixes."""


def stored_codec() -> dict:
    rows = [
        {"quality": quality, "layers": k, "bpp": bpp, "psnr": db}
        for quality, points in QUALITIES_OF.items()
        for k, (bpp, db) in enumerate(points, start=1)
    ]
    return {"rows": rows}


def test_a_layer_that_makes_the_mean_worse_is_found() -> None:
    assert codec_tables.falls(stored_codec()) == pytest.approx(0.1)


def test_the_largest_layer_is_a_share_of_the_best_quality() -> None:
    sizes = np.diff([0.0, 0.3, 0.6, 0.5, 0.8])
    assert codec_tables.largest_share(stored_codec()) == pytest.approx(100 * max(sizes) / 0.8)


def test_what_a_cut_loses_is_measured_at_its_rate_and_nowhere_else() -> None:
    whole = ([0.1, 0.4], [24.0, 32.0])
    assert codec_tables.lost_db(whole, 0.2, 27.0) == pytest.approx(1.0), "half way on the log rate"
    assert codec_tables.lost_db(whole, 0.05, 22.0) is None


def test_a_learned_peer_takes_pixels_to_pixels_where_it_is_installed(picture) -> None:
    if not mbt2018.versions():
        pytest.skip("needs torch, scipy and compressai")
    encode, decode = mbt2018.actions(picture, threads=1)
    assert decode(encode()).shape == picture.shape


def test_one_size_is_timed_with_every_stage_of_every_codec() -> None:
    rows = {row["codec"]: row for row in speed.measure(["dct", "webp"], (96, 64), threads=1, rounds=1)}
    stages = rows["dct"]["stages"]
    for step in ("encode", "decode"):
        spent_ms = sum(ms for name, ms in stages.items() if name.startswith(step))
        assert 0 < spent_ms <= rows["dct"][f"{step}_ms"] + 0.1, "each is rounded to 0.01 ms"
    assert rows["webp"]["decode_ms"] > 0
    assert "stages" not in rows["webp"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(plots, "draw", lambda name, *_, **__: f"![{name}]()")
    return render.page()


def test_the_page_opens_with_ten_lines_and_leaves_no_figure_out(page: str) -> None:
    opening = page.split("## Run it yourself")[0]
    rows = [line for line in opening.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 10
    assert all(word in opening for word in ("wins", "loses"))
    assert f"| {markdown.LEFT_OUT} |" not in page


def test_every_section_with_figures_says_where_they_are_from(page: str) -> None:
    sections = page.split("\n## ")[1:]
    assert len(sections) == 9
    for section in sections[1:]:
        assert "<sub>`" in section, section.splitlines()[0]
        assert "commit" in section


def test_a_curve_is_cut_at_rates_between_its_points():
    rates, psnrs = [0.1, 0.2, 0.4, 1.6], [25.0, 28.0, 31.0, 37.0]
    cut = within((rates, psnrs), 0.2 * 2**-0.5, 0.8)
    assert cut[0] == pytest.approx([0.2 * 2**-0.5, 0.2, 0.4, 0.8])
    assert cut[1] == pytest.approx([26.5, 28, 31, 34]), "PSNR is interpolated over the logarithm of the rate"
    assert within((rates, psnrs), 0.01, 9.0) == (rates, psnrs), "never further than it was measured"
