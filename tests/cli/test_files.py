"""encode, decode, trim and info: pictures survive, budgets hold, damage costs only what it hit."""

import json

import numpy as np
import pytest

from layercast.bitstream import ContainerReader, read_index
from layercast.demo import assets
from layercast.media import PatternSource, VideoSource, open_sink, read_picture, write_picture


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write_picture(path, PatternSource(48, 32).draw(0))
    return path


@pytest.fixture
def clip(tmp_path, run):
    """Ten frames at 10 frames/s, as an .lcast file."""
    with open_sink(tmp_path / "frames") as sink:
        for image, timestamp_us in PatternSource(48, 32, frame_rate=25, frames=10):
            sink.write(image, timestamp_us)
    code, _, err = run("encode", tmp_path / "frames", tmp_path / "clip.lcast", "--codec", "pairs")
    assert (code, err) == (0, "")
    return tmp_path / "clip.lcast"


def units(path):
    with ContainerReader(path) as reader:
        return list(reader)


def test_a_picture_survives_encode_and_decode(run, photo, tmp_path):
    code, out, _ = run("encode", photo, tmp_path / "a.lcast", "--codec", "pairs")
    assert code == 0
    assert "1 frame, pairs, 4 layers" in out
    assert run("decode", tmp_path / "a.lcast", tmp_path / "back.png")[0] == 0
    assert np.array_equal(read_picture(tmp_path / "back.png"), read_picture(photo))


def test_effort_goes_to_the_codec(run, tmp_path):
    write_picture(tmp_path / "crop.png", read_picture(assets.path("kodim23.png"))[128:256, 96:256])
    sizes = []
    for effort in (0, 1):
        path = tmp_path / f"{effort}.lcast"
        options = ["--quality", 0.9, "--effort", effort]
        assert run("encode", tmp_path / "crop.png", path, "--codec", "hierarchical", *options)[0] == 0
        assert run("decode", path, tmp_path / "back.png")[0] == 0
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0]
    code, _, err = run(
        "encode", tmp_path / "crop.png", tmp_path / "a.lcast", "--codec", "pairs", "--effort", 1
    )
    assert code == 2
    assert "no option effort" in err


def test_fewer_layers_decode_to_a_coarser_picture(run, photo, tmp_path):
    run("encode", photo, tmp_path / "a.lcast", "--codec", "pairs")
    run("decode", tmp_path / "a.lcast", tmp_path / "coarse.png", "--layers", 2)
    difference = read_picture(tmp_path / "coarse.png").astype(int) - read_picture(photo)
    assert 0 < np.abs(difference).max() <= 8


def test_a_video_goes_in_and_comes_out_with_its_times(run, clip, tmp_path):
    assert run("decode", clip, tmp_path / "out.mp4")[0] == 0
    assert [t for _, t in VideoSource(tmp_path / "out.mp4")] == [40_000 * k for k in range(10)]


def test_frames_stops_early(run, clip, tmp_path):
    run("decode", clip, tmp_path / "out", "--frames", 3)
    assert len(list((tmp_path / "out").iterdir())) == 3
    run("encode", "pattern:16x16", tmp_path / "p.lcast", "--codec", "pairs", "--frames", 5)
    assert len(units(tmp_path / "p.lcast")) == 5


def test_trim_to_layers_keeps_that_prefix(run, clip, tmp_path):
    code, out, _ = run("trim", clip, tmp_path / "t.lcast", "--layers", 2)
    assert code == 0
    assert "10 frames" in out
    for small, whole in zip(units(tmp_path / "t.lcast"), units(clip), strict=True):
        assert read_index(small).kept == 2
        assert len(small) == read_index(whole).ends[2]


def test_trim_to_bytes_keeps_the_longest_prefix_that_fits(run, clip, tmp_path):
    budget = read_index(units(clip)[0]).ends[3] + 1
    run("trim", clip, tmp_path / "t.lcast", "--bytes", budget)
    for small, whole in zip(units(tmp_path / "t.lcast"), units(clip), strict=True):
        ends = read_index(whole).ends
        kept = read_index(small).kept
        assert len(small) == ends[kept] <= budget
        assert kept == 4 or ends[kept + 1] > budget


def test_trim_drops_frames_whose_first_layer_is_too_much(run, clip, tmp_path):
    code, out, _ = run("trim", clip, tmp_path / "t.lcast", "--bytes", 10)
    assert (code, units(tmp_path / "t.lcast")) == (0, [])
    assert "10 dropped" in out


def test_trim_to_a_bitrate_fills_it_and_does_not_exceed_it(run, tmp_path):
    run("encode", "pattern:64x64@25", tmp_path / "long.lcast", "--codec", "pairs", "--frames", 250)
    whole = sum(map(len, units(tmp_path / "long.lcast")))
    asked = 0.4 * whole * 8 / 10
    assert run("trim", tmp_path / "long.lcast", tmp_path / "t.lcast", "--bitrate", round(asked))[0] == 0
    got = sum(map(len, units(tmp_path / "t.lcast"))) * 8 / 10
    assert 0.8 * asked < got <= 1.02 * asked


def test_info_shows_every_prefix(run, clip):
    code, out, _ = run("info", clip)
    assert code == 0
    assert "10 frames of 48x32, codec pairs" in out
    assert [line.split()[:2] for line in out.splitlines() if " bits" in line][1:] == [
        [str(k + 1), f"bits{k}"] for k in range(4)
    ]
    assert "26.00 dB" in out, "the gains of two layers add up"


def test_info_speaks_json(run, clip):
    code, out, _ = run("info", clip, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["codec"], facts["frames"], facts["width"], facts["height"]) == ("pairs", 10, 48, 32)
    assert facts["seconds"] == pytest.approx(0.4)
    assert facts["bytes"] == sum(map(len, units(clip)))
    sizes = [row["bytes"] for row in facts["layers"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == facts["bytes"] / 10


def test_a_file_that_was_cut_decodes_up_to_the_cut(run, clip, tmp_path):
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    code, _, err = run("decode", clip, tmp_path / "out")
    assert code == 0
    assert "cut" in err
    assert 0 < len(list((tmp_path / "out").iterdir())) < 10
    assert "cut short" in run("info", clip)[1]


def test_a_damaged_layer_costs_that_layer_and_is_reported(run, photo, tmp_path):
    path = tmp_path / "a.lcast"
    run("encode", photo, path, "--codec", "pairs")
    (unit,) = units(path)
    data = bytearray(path.read_bytes())
    data[data.index(unit) + read_index(unit).ends[3] - 3] ^= 0x55  # near the end of the third layer
    path.write_bytes(data)
    code, _, err = run("decode", path, tmp_path / "hit.png")
    assert code == 0
    assert "1 of 1 frames lost" in err
    clean = tmp_path / "clean.lcast"
    run("encode", photo, clean, "--codec", "pairs")
    run("decode", clean, tmp_path / "two.png", "--layers", 2)
    assert np.array_equal(read_picture(tmp_path / "hit.png"), read_picture(tmp_path / "two.png"))


def test_trimming_a_file_onto_itself_is_refused_and_harmless(run, clip):
    before = clip.read_bytes()
    code, _, err = run("trim", clip, clip, "--layers", 1)
    assert code == 2
    assert "same file" in err
    assert clip.read_bytes() == before
