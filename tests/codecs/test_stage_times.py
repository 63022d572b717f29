"""Where the time goes: what a codec says of its stages is about the last call, complete and never too much."""

from __future__ import annotations

import time

import numpy as np
import pytest

from layercast import get_codec
from layercast.codecs.base import Codec, Timed
from layercast.codecs.hierarchical import HierarchicalCodec
from layercast.codecs.stages import STAGES
from layercast.media.base import Image

NAMES = ("dct", "hierarchical")
LEAST_SHARE = 0.5
"""Of the call's time; the rest is checks, arrays for the frame's state and threads that start."""


@pytest.fixture(scope="module")
def picture() -> Image:
    noise = np.random.default_rng(1).integers(0, 60, (256, 320, 3))
    return (noise + np.linspace(0, 195, 320)[None, :, None]).astype(np.uint8)


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return get_codec(request.param)


def check(codec: Codec, total_s: float) -> None:
    assert isinstance(codec, Timed)
    assert set(codec.stage_times) <= set(STAGES)
    assert all(seconds >= 0 for seconds in codec.stage_times.values())
    assert LEAST_SHARE * total_s < sum(codec.stage_times.values()) <= total_s


def test_stages_add_up_to_the_call(codec: Codec, picture: Image) -> None:
    codec.decode((frame := codec.encode(picture)).layers, frame.picture)  # caches are not what is timed
    started_s = time.perf_counter()
    frame = codec.encode(picture)
    check(codec, time.perf_counter() - started_s)
    assert {"analysis", "prior", "entropy"} <= set(codec.stage_times)
    started_s = time.perf_counter()
    codec.decode(frame.layers, frame.picture)
    check(codec, time.perf_counter() - started_s)
    assert {"prior", "entropy", "synthesis"} <= set(codec.stage_times)
    assert ("order" in codec.stage_times) == isinstance(codec, HierarchicalCodec)


def test_a_decoder_times_only_its_own_calls(codec: Codec, picture: Image) -> None:
    frame = codec.encode(picture)
    decoder = codec.start(frame.picture)
    assert isinstance(decoder, Timed)
    used_s = 0.0
    for layer in frame.layers:
        codec.encode(picture[:64, :64])  # other work in between
        started_s = time.perf_counter()
        decoder.push(layer)
        used_s += time.perf_counter() - started_s
    assert 0 < sum(decoder.stage_times.values()) <= used_s
