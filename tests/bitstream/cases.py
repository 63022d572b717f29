"""Arbitrary legal headers and layer tables for the property tests."""

from hypothesis import settings
from hypothesis import strategies as st

from layercast.bitstream import FrameHeader, FrameKind, PictureInfo, StreamDescription

# The same examples on every run and every machine.
deterministic = settings(derandomize=True, deadline=None, max_examples=300)

ids = st.integers(0, 2**32 - 1)
pictures = st.builds(
    PictureInfo,
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    channels=st.sampled_from([1, 3]),
    quality_index=st.integers(0, 255),
)


@st.composite
def headers(draw, layer_count=0):
    reference = draw(st.none() | ids)
    return FrameHeader(
        frame_id=draw(ids),
        timestamp_us=draw(st.integers(0, 2**63 - 1)),
        picture=draw(pictures),
        kind=FrameKind.KEY if reference is None else FrameKind.DELTA,
        reference_id=reference,
        total_layers=draw(st.integers(layer_count, 32)),
    )


@st.composite
def frames(draw, least=0):
    """(header, layers, gains in dB that need no rounding)"""
    layers = draw(st.lists(st.binary(max_size=300), min_size=least, max_size=32))
    gain = st.integers(0, 254).map(lambda steps: steps / 4)
    gains = draw(st.just(()) | st.lists(gain, min_size=len(layers), max_size=len(layers)).map(tuple))
    return draw(headers(len(layers))), layers, gains


def text(alphabet, low, high):
    return st.text(alphabet, min_size=low, max_size=high)


printable_ascii = st.characters(min_codepoint=32, max_codepoint=126)
descriptions = st.builds(
    StreamDescription,
    codec=text(printable_ascii, 1, 64),
    fingerprint=st.binary(min_size=16, max_size=16),
    layer_names=st.lists(text(printable_ascii, 1, 16), max_size=32).map(tuple),
    frame_rate=st.floats(0.0, 1e6),
    title=text(st.characters(exclude_categories=("Cs",)), 0, 200),
)

DESCRIPTION = StreamDescription("dct", bytes(range(16)), ("dc", "ac1", "ac2"), 25.0, "Zürich, 東京")


def header(frame_id=0, timestamp_us=None, reference_id=None, total_layers=0):
    """A small picture's header; 40 ms per frame unless told."""
    return FrameHeader(
        frame_id=frame_id,
        timestamp_us=1_700_000_000_000_000 + 40_000 * frame_id if timestamp_us is None else timestamp_us,
        picture=PictureInfo(width=768, height=512, channels=3, quality_index=180),
        kind=FrameKind.KEY if reference_id is None else FrameKind.DELTA,
        reference_id=reference_id,
        total_layers=total_layers,
    )
