"""Any source into any sink: what was written reads back, and what cannot be written is one clear error."""

import numpy as np
import pytest

from layercast.errors import MediaError
from layercast.media import (
    ArraySink,
    CallbackSink,
    FolderSource,
    PatternSource,
    VideoSource,
    open_sink,
    open_source,
    read_picture,
)


def copy(source, sink):
    with source, sink:
        for image, timestamp_us in source:
            sink.write(image, timestamp_us)


def test_a_folder_of_png_reads_back_exactly(tmp_path):
    source = PatternSource(33, 21, frames=3)
    copy(source, open_sink(tmp_path / "new" / "folder"))
    back = [image for image, _ in FolderSource(tmp_path / "new" / "folder")]
    assert all(np.array_equal(a, b) for a, (b, _) in zip(back, source, strict=True))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_reads_back_with_its_times_and_nearly_its_pixels(tmp_path, suffix):
    source = PatternSource(64, 48, frame_rate=10, frames=5)
    path = tmp_path / f"video{suffix}"
    copy(source, open_sink(path, frame_rate=10))
    back = list(VideoSource(path))
    assert [timestamp_us for _, timestamp_us in back] == [index * 100_000 for index in range(5)]
    for (image, _), (wanted, _) in zip(back, source, strict=True):
        assert np.abs(image[12:-4].astype(int) - wanted[12:-4]).mean() < 6


def test_a_video_of_odd_size_gains_a_row_and_a_column(tmp_path):
    copy(PatternSource(63, 47, frames=2), open_sink(tmp_path / "odd.mp4"))
    assert {image.shape for image, _ in VideoSource(tmp_path / "odd.mp4")} == {(48, 64, 3)}


def test_a_video_keeps_gaps_between_frames(tmp_path):
    with open_sink(tmp_path / "gap.mp4") as sink:
        for timestamp_us in (5_000_000, 5_040_000, 6_000_000):
            sink.write(np.zeros((16, 16, 3), np.uint8), timestamp_us)
    assert [timestamp_us for _, timestamp_us in VideoSource(tmp_path / "gap.mp4")] == [0, 40_000, 1_000_000]


def test_a_video_cannot_change_its_size(tmp_path):
    with open_sink(tmp_path / "v.mp4") as sink:
        sink.write(np.zeros((16, 16, 3), np.uint8), 0)
        with pytest.raises(MediaError, match="changed their size to 18x16"):
            sink.write(np.zeros((16, 18, 3), np.uint8), 40_000)


def test_a_grey_picture_stays_grey_in_a_picture_and_becomes_rgb_in_a_video(tmp_path):
    grey = np.full((16, 16), 99, np.uint8)
    for name in ("grey.png", "grey.mp4"):
        with open_sink(tmp_path / name) as sink:
            sink.write(grey, 0)
    assert np.array_equal(read_picture(tmp_path / "grey.png"), grey)
    ((image, _),) = open_source(tmp_path / "grey.mp4")
    assert np.abs(image.astype(int) - 99).max() <= 2


def test_one_picture_file_holds_one_picture(tmp_path):
    with open_sink(tmp_path / "one.png") as sink:
        sink.write(np.zeros((2, 2, 3), np.uint8), 0)
        with pytest.raises(MediaError, match="holds one picture"):
            sink.write(np.zeros((2, 2, 3), np.uint8), 1)


def test_arrays_and_callbacks_get_every_frame():
    kept, called = ArraySink(), []
    source = PatternSource(8, 8, frames=3)
    copy(source, kept)
    copy(source, CallbackSink(lambda image, timestamp_us: called.append(timestamp_us)))
    assert len(kept.images) == 3
    assert kept.timestamps_us == called == [0, 40_000, 80_000]


def test_a_full_disk_is_a_media_error_for_pictures(tmp_path):
    (tmp_path / "000000.png").symlink_to("/dev/full")
    with open_sink(tmp_path) as sink, pytest.raises(MediaError, match="No space left on device"):
        sink.write(np.zeros((200, 200, 3), np.uint8), 0)


def test_a_full_disk_is_a_media_error_for_video(tmp_path):
    (tmp_path / "full.mkv").symlink_to("/dev/full")
    with pytest.raises(MediaError, match=r"full\.mkv"):
        copy(PatternSource(640, 480, frames=30), open_sink(tmp_path / "full.mkv"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x.doc", "unknown kind of file"),
        ("no/such/folder/x.mp4", "cannot write"),
        ("file/inside", "cannot write"),
    ],
)
def test_sinks_that_cannot_be_made_say_why(tmp_path, name, says):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MediaError, match=says):
        open_sink(tmp_path / name)


def test_closing_twice_is_fine(tmp_path):
    for name in ("a.mp4", "b.png", "folder"):
        sink = open_sink(tmp_path / name)
        sink.write(np.zeros((16, 16, 3), np.uint8), 0)
        sink.close()
        sink.close()
