"""The parts of the demo: what it ships, what it promises, what it draws. `make demo` runs the whole."""

import numpy as np
import pytest

from layercast.demo import assets
from layercast.demo.run import LEAST_FRAMES, SHOWN, TOLERANCE, Viewer, side_by_side
from layercast.demo.sheets import half_size, write_sheet
from layercast.demo.table import Table
from layercast.demo.viewer import KEEP_EVERY, Report
from layercast.errors import MediaError
from layercast.media import VideoSource, read_picture, write_picture

FRAMES = 150


def viewer(budget=None, folder=None, **report):
    seen = {"shown": FRAMES, "arrived": FRAMES, "bytes": 1000 * FRAMES, "psnr": 30.0 * FRAMES}
    seen |= {"layers": 5 * FRAMES, "of_layers": 12 * FRAMES, "span_s": 0.08 * (FRAMES - 1)} | report
    return Viewer("thin", budget, folder, report=Report(**seen))


def test_the_assets_are_here_small_and_credited():
    files = [assets.path(name) for name in (assets.CLIP, *assets.PICTURES)]
    assert assets.path(assets.CLIP).stat().st_size <= 600_000
    assert sum(file.stat().st_size for file in files) < 2_000_000
    credits = assets.path("ATTRIBUTION.md").read_text()
    assert all(file.name in credits for file in files)
    assert "Intel IoT DevKit sample videos" in credits
    assert "CC BY 4.0" in credits
    with pytest.raises(MediaError, match="no asset"):
        assets.path("nothing.png")


def test_frames_for_the_sheet_are_among_those_that_receivers_keep():
    length = VideoSource(assets.path(assets.CLIP)).length
    assert max(SHOWN) < LEAST_FRAMES <= length
    assert all(index % KEEP_EVERY == 0 and index < length for index in SHOWN)
    assert length % KEEP_EVERY == 0, "so that every round of the clip keeps the same frames"


def test_a_bitrate_is_bytes_over_the_time_that_the_frames_span():
    assert viewer().bitrate == pytest.approx(8 * 1000 / 0.08)
    assert viewer(shown=1).bitrate == 0


def test_within_budget_there_is_nothing_to_complain_about():
    assert viewer().complaint(FRAMES) == ""
    assert viewer(budget=100_000).complaint(FRAMES) == ""
    assert viewer(budget=round(100_000 / (1 + TOLERANCE)) + 1).complaint(FRAMES) == ""


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ({"budget": 90_000}, "got 100 kbit/s, its budget is 90"),
        ({"shown": 0}, "showed 0 of"),
        ({"shown": FRAMES // 3}, f"showed {FRAMES // 3} of"),
        ({"psnr": 12.0 * FRAMES}, "pictures of 12.0 dB"),
    ],
)
def test_a_broken_promise_is_named(seen, says):
    assert says in viewer(**seen).complaint(FRAMES)


def test_a_sheet_has_a_cell_per_picture(tmp_path):
    red, blue = (np.full((40, 120, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    write_sheet(tmp_path / "sheet.png", [[(red, "one"), (blue, "two\nlines")], [(blue, "three")]])
    sheet = read_picture(tmp_path / "sheet.png")
    assert sheet.shape == (2 * (40 + 40) + 4, 2 * 120 + 4, 3)
    assert sheet[5, 5].tolist() == [200, 0, 0]
    assert sheet[5, 124 + 5].tolist() == sheet[84 + 5, 5].tolist() == [0, 0, 200]
    assert (sheet[40:80, :120] < 100).any(), "there is text under the picture"


def test_half_size_is_the_mean_of_four():
    image = np.array([[0, 100], [100, 200]], np.uint8)[..., None].repeat(3, axis=2)
    assert half_size(image).tolist() == [[[100, 100, 100]]]


def test_the_sheet_shows_frames_that_all_receivers_showed(tmp_path):
    clip = [image for image, _ in VideoSource(assets.path(assets.CLIP))]
    viewers = [viewer(folder=tmp_path / name) for name in ("a", "b")]
    for one, ids in zip(viewers, ({7, 21, 63}, {7, 35, 63}), strict=True):
        one.folder.mkdir()
        for frame_id in ids:
            write_picture(one.folder / f"{frame_id}_5_1000.png", clip[frame_id % len(clip)])
    side_by_side(viewers, tmp_path / "sheet.png")
    sheet = read_picture(tmp_path / "sheet.png")
    assert sheet.shape[:2] == (288 + 20, 3 * (512 + 4) - 4), "one row: frame 63, which is frame 7 again"
    assert np.array_equal(sheet[:288, :512], clip[7])
    assert np.array_equal(sheet[:288, -512:], clip[7])


def test_the_table_has_a_line_per_receiver(capsys):
    table = Table()
    table.draw([viewer(shown=0)])
    assert capsys.readouterr().out == "", "nothing to show yet"
    table.draw([viewer(budget=123_456), viewer()], last=True)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["receiver", "asked", "kbit/s"]
    assert first.split() == ["thin", "123", "100", "5.0", "of", "12", "30.00", "0", str(FRAMES)]
    assert second.split()[1:3] == ["no", "limit"]
