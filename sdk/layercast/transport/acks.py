"""Acknowledgements: what arrived, when, how big, and how far behind its consumer is."""

from __future__ import annotations

from typing import NamedTuple

from layercast.transport._pb import transport_pb2 as pb

MAX_LAG_US = 2**32 - 1
"""The field's ceiling, over an hour."""


class Arrival(NamedTuple):
    """A unit that came, as whoever subscribed sees it.

    Attributes:
        frame_id: of the frame.
        size: bytes.
        at_s: this end's monotonic clock, seconds.
        captured_s: the sender's clock, seconds.
        layers, total_layers: that came, and that the encoder made.
        decode_lag_s: how long the oldest frame not yet taken by the consumer has waited, seconds.
    """

    frame_id: int
    size: int
    at_s: float
    captured_s: float
    layers: int
    total_layers: int
    decode_lag_s: float = 0.0


def make_ack(frame_id: int, size: int, now_s: float, decode_lag_s: float = 0.0) -> pb.Ack:
    """The acknowledgement of a unit of `size` bytes that arrived at `now_s` of this end's monotonic clock."""
    return pb.Ack(
        frame_id=frame_id,
        arrival_us=int(now_s * 1e6),
        bytes=size,
        decode_lag_us=min(MAX_LAG_US, int(decode_lag_s * 1e6)),
    )
