"""Every source yields (uint8 picture, timestamp in microseconds), or says in one line why it cannot."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image

from layercast.demo import assets
from layercast.errors import ConfigError, MediaError
from layercast.media import (
    ArraySource,
    CameraSource,
    FolderSource,
    PatternSource,
    PictureSource,
    VideoSource,
    open_source,
    read_picture,
)


def test_a_picture_is_a_stream_of_one_frame():
    source = PictureSource(assets.path("kodim23.png"))
    ((image, timestamp_us),) = source
    assert image.shape == (512, 768, 3)
    assert image.dtype == np.uint8
    assert timestamp_us == 0
    assert source.length == 1
    assert len(list(source)) == 1, "iterating again starts again"


def test_a_folder_plays_in_the_order_of_its_numbers_and_passes_over_other_files(tmp_path):
    for number in (10, 9, 1):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    frames = list(FolderSource(tmp_path, frame_rate=10))
    assert [image[0, 0, 0] for image, _ in frames] == [1, 9, 10]
    assert [timestamp_us for _, timestamp_us in frames] == [0, 100_000, 200_000]


def test_a_video_gives_every_frame_with_its_own_time():
    source = VideoSource(assets.path(assets.CLIP))
    frames = list(source)
    assert source.length == len(frames) == 56
    assert source.frame_rate == 12.5
    assert all(image.shape == (288, 512, 3) and image.dtype == np.uint8 for image, _ in frames)
    assert [timestamp_us for _, timestamp_us in frames] == [80_000 * index for index in range(56)]


def test_the_pattern_is_the_same_everywhere_and_moves():
    source = PatternSource(65, 47, frame_rate=10, frames=3)
    frames = list(source)
    assert [timestamp_us for _, timestamp_us in frames] == [0, 100_000, 200_000]
    assert all(image.shape == (47, 65, 3) and image.dtype == np.uint8 for image, _ in frames)
    assert not np.array_equal(frames[0][0], frames[1][0])
    assert np.array_equal(frames[2][0], PatternSource(65, 47, frame_rate=10).draw(2))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (8192, 1)])
def test_the_pattern_takes_any_size(width, height):
    assert PatternSource(width, height).draw(5).shape == (height, width, 3)


def test_arrays_are_a_source_and_anything_else_is_refused():
    images = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    assert all(np.array_equal(a, b) for (a, _), b in zip(ArraySource(images), images, strict=True))
    with pytest.raises(MediaError, match="array 0 is no picture: float32"):
        next(iter(ArraySource(images.astype(np.float32))))


def test_grey_sixteen_bit_and_transparent_files_become_eight_bit_pictures(tmp_path):
    Image.new("L", (5, 4), 77).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 5), 0x8055, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (5, 4), (1, 2, 3, 255)).save(tmp_path / "alpha.png")
    assert np.array_equal(read_picture(tmp_path / "grey.png"), np.full((4, 5), 77, np.uint8))
    assert np.array_equal(read_picture(tmp_path / "deep.png"), np.full((4, 5), 0x80, np.uint8))
    assert read_picture(tmp_path / "alpha.png").tolist() == [[[1, 2, 3]] * 5] * 4


def test_a_phone_picture_comes_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (8, 4, 3)


def test_a_cut_picture_is_a_media_error(tmp_path):
    whole = assets.path("kodim20.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cut\.png: damaged picture"):
        read_picture(tmp_path / "cut.png")


def test_a_picture_above_the_size_bound_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (8193, 1)).save(tmp_path / "wide.png")
    with pytest.raises(MediaError, match="8193x1 pixels is too large"):
        read_picture(tmp_path / "wide.png")


def test_a_file_that_lies_about_its_kind_is_a_media_error(tmp_path):
    for name in ("lie.png", "lie.mp4"):
        (tmp_path / name).write_bytes(os.urandom(64) + b"no media in here" * 40)
        with pytest.raises(MediaError):
            list(open_source(tmp_path / name))


def test_a_cut_video_plays_up_to_the_damage_and_then_says_so(tmp_path):
    whole = assets.path(assets.CLIP).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:150_000])
    seen = []
    with pytest.raises(MediaError, match=r"cut\.mp4: frame \d+: Invalid data"):
        seen.extend(image.shape for image, _ in open_source(tmp_path / "cut.mp4"))
    assert 0 < len(seen) < 56


def test_a_file_without_video_is_a_media_error(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(MediaError):
        open_source(tmp_path / "empty.mp4")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.mp4", "no such file or folder"),
        ("pattern:big", 'write "pattern:640x480@30"'),
        ("camera:", 'write "camera:/dev/video0'),
        ("camera:/dev/video0@1.2.3", "bad frame rate"),
        ("camera:/dev/no-such-camera", "no camera at /dev/no-such-camera"),
        ("camera:/dev/null", "camera /dev/null"),
    ],
)
def test_what_cannot_be_opened_is_named_with_a_hint(spec, says):
    with pytest.raises(MediaError) as caught:
        open_source(spec)
    assert says in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("spec", ["pattern:0x10", "pattern:9000x10", "pattern:10x10@0"])
def test_impossible_patterns_are_config_errors(spec):
    with pytest.raises(ConfigError, match="impossible pattern"):
        open_source(spec)


def test_an_empty_folder_is_a_media_error(tmp_path):
    with pytest.raises(MediaError, match="no pictures in this folder"):
        open_source(tmp_path)


def test_a_camera_gives_live_frames_and_its_end_is_an_error():
    # FFmpeg's own test input stands in for a driver: same calls, same thread, same ending.
    spec = "testsrc=size=64x48:rate=25:duration=0.2,realtime"
    with CameraSource(spec, input_format="lavfi") as camera:
        frames = iter(camera)
        image, timestamp_us = next(frames)
        assert image.shape == (48, 64, 3)
        assert timestamp_us > 1_600_000_000_000_000, "stamped with the wall clock"
        with pytest.raises(MediaError, match="stopped"):
            list(frames)


def test_closing_a_camera_ends_its_iteration():
    with CameraSource("testsrc=size=64x48:rate=25,realtime", input_format="lavfi") as camera:
        frames = iter(camera)
        next(frames)
        camera.close()
        assert len(list(itertools.islice(frames, 5))) <= 1
