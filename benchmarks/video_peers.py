"""The video encoders that a camera might use instead, set up so that each frame leaves before the next comes.

All are tuned for PSNR where they can be: without that, x264 and x265 trade PSNR for looks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.uint8]
"""One frame as yuv420p, shape (H * 3 / 2, W)."""


X265_PARAMETERS = "info=0:psy-rd=0:psy-rdoq=0:aq-mode=0:pools=none:frame-threads=1:log-level=none"
"""No SEI with the settings in each key frame, and what `tune=psnr` sets, since x265 takes one tune only."""


@dataclass(frozen=True)
class VideoPeer:
    """One encoder at fixed settings; the option `crf` makes its curve."""

    name: str
    title: str
    encoder: str
    decoder: str
    options: dict[str, str]
    crfs: tuple[int, ...]

    def settings(self) -> str:
        return " ".join(
            [self.encoder, *(f"{key}={value}" for key, value in self.options.items()), "threads=1"]
        )


VIDEO_PEERS = (
    VideoPeer(
        "x264-superfast",
        "x264 superfast",
        "libx264",
        "h264",
        {"preset": "superfast", "tune": "psnr,zerolatency"},
        (18, 23, 28, 33, 38),
    ),
    VideoPeer(
        "x264-medium",
        "x264 medium",
        "libx264",
        "h264",
        {"preset": "medium", "tune": "psnr,zerolatency"},
        (18, 23, 28, 33, 38),
    ),
    VideoPeer(
        "x265-medium",
        "x265 medium",
        "libx265",
        "hevc",
        {"preset": "medium", "tune": "zerolatency", "x265-params": X265_PARAMETERS},
        (18, 23, 28, 33, 38),
    ),
    VideoPeer(
        "svtav1-10",
        "SVT-AV1 preset 10",
        "libsvtav1",
        "libdav1d",
        {"preset": "10", "svtav1-params": "pred-struct=1:tune=1:lp=1"},
        (20, 30, 40, 50, 60),
    ),
)


@dataclass(frozen=True)
class Coded:
    """What an encoder made of a clip: bytes in all, CPU seconds it took, and the clip decoded again."""

    size: int
    cpu_seconds: float
    frames: list[Planes]


def code(peer: VideoPeer, clip: Sequence[Planes], rate: Fraction, crf: int, key_interval: int) -> Coded:
    """Encode and decode `clip` with a key frame every `key_interval` frames, and at no other place."""
    context = av.CodecContext.create(peer.encoder, "w")
    context.width, context.height = clip[0].shape[1], clip[0].shape[0] * 2 // 3
    context.pix_fmt, context.framerate, context.time_base = "yuv420p", rate, 1 / rate
    context.thread_count = 1
    context.options = {"crf": str(crf), "g": str(key_interval), "sc_threshold": "0", **peer.options}
    if peer.encoder == "libsvtav1":
        context.options.pop("sc_threshold")
    started = time.process_time()
    packets = []
    for number, planes in enumerate(clip):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = number, context.time_base
        packets += context.encode(frame)
    packets += context.encode(None)
    spent = time.process_time() - started
    decoder = av.CodecContext.create(peer.decoder, "r")
    if context.extradata:
        decoder.extradata = context.extradata
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames += decoder.decode(None)
    if len(frames) != len(clip):
        raise RuntimeError(f"{peer.name}: {len(clip)} frames in, {len(frames)} out")
    return Coded(sum(p.size for p in packets), spent, [f.to_ndarray(format="yuv420p") for f in frames])
