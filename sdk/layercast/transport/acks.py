"""Making acknowledgements: what arrived, when, how big, and how far behind its consumer is."""

from __future__ import annotations

from layercast.transport._pb import transport_pb2 as pb

MAX_LAG_US = 2**32 - 1
"""The field's ceiling, over an hour."""


def make_ack(frame_id: int, size: int, now_s: float, decode_lag_s: float = 0.0) -> pb.Ack:
    """The acknowledgement of a unit of `size` bytes that arrived at `now_s` of this end's monotonic clock."""
    return pb.Ack(
        frame_id=frame_id,
        arrival_us=int(now_s * 1e6),
        bytes=size,
        decode_lag_us=min(MAX_LAG_US, int(decode_lag_s * 1e6)),
    )
