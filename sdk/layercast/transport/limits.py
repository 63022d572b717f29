"""Every bound of the transport in one place, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from layercast.errors import ConfigError

PROTOCOL = 1
"""Version of proto/layercast/v1; both hellos carry it, and a relay refuses another."""

MAX_UNIT_BYTES = 32 << 20
"""Largest access unit in bytes: an 8192x8192 picture at 4 bits per pixel. gRPC refuses a larger message
unread."""

MAX_CONTROL_BYTES = 64 << 10
"""Largest control message in bytes: 64 acknowledgements are under 2 KiB, nothing honest comes near."""

MAX_DESCRIPTION_BYTES = 4 << 10
"""Largest encoded stream description; with the hello it stays below gRPC's 8 KiB for all metadata."""

MAX_HOPS = 8
"""Longest chain of relays: each adds a hop of delay, and a longer one is a configuration mistake."""

MAX_RELAYS_BELOW = 128
"""Relays of one stream in all branches below another: their ids travel in the hello, in 4 KiB at most."""

MAX_RELAY_ID = 24
"""Longest relay id in characters; a random one has 16."""

KEEPALIVE_S = 2.0
"""A silent connection is pinged this often, in seconds."""

KEEPALIVE_TIMEOUT_S = 2.5
"""A ping unanswered for this long, in seconds, ends the connection; under load an answer takes
milliseconds."""

PEER_LOSS_S = 5.0
"""A vanished or stopped peer is noticed within this many seconds: ping interval + timeout + half a second of
slack."""

TAKEN_PATIENCE_S = PEER_LOSS_S + 1.0
"""How long a sender tries to get a name that another sender holds, in seconds: until a relay must have
noticed that the other, perhaps the same camera before its power failed, is gone."""

CONNECT_TIMEOUT_S = 5.0
"""One connection attempt, in seconds: TCP to the other side of the world takes under one."""

LOOKAHEAD_BYTES = 256 << 10
"""HTTP/2 flow-control window per call, in bytes: what gRPC itself holds for a reader that stopped (measured:
260,000 bytes, against 4.2 MB with default arguments). It also caps one call: 100 Mbit/s over a round trip of
20 ms, 20 Mbit/s over 100 ms."""

CLOSE_TIMEOUT_S = 1.0
"""How long a polite goodbye may take, in seconds, before the call is simply dropped."""

MAX_STALENESS_S = 60.0
"""Largest staleness bound that a subscriber may ask for, in seconds: the adaptive allocator's; Window bounds what waits
here whatever was asked for."""

UPSTREAM_LINGER_S = 2.0
"""A relay stays subscribed upstream this long after its last subscriber left, in seconds: longer than a
receiver takes to reconnect, so that a restart does not run through the whole chain."""

HANDSHAKE_TIMEOUT_S = 5.0
"""A connection on which no HTTP/2 (and TLS) handshake is done by then, in seconds, is closed; gRPC's own default
of 120 s lets a stranger hold many."""

IDLE_CONNECTION_S = 10.0
"""A connection without a call is closed after this, in seconds: ours make their call at once."""

MAX_CONNECTIONS = 1536
"""TCP connections of a relay, by default: a fifth more than its streams and subscribers need. Each that a flood holds
costs memory and time (measured: docs/operations.md)."""

MAX_CALLS_PER_CONNECTION = 16
"""Ours make one; health checks a few."""

GIANT_FACTOR = 2
"""gRPC refuses a message above this many times max_unit_bytes unread, and tells the relay nothing about it; one
between the two is read, refused and counted."""

MAX_REPORTS_PER_S = 100.0
"""Control messages of one subscriber per second, twice as many at once; an honest one sends 10."""

RATE_BURST_S = 1.0
"""A publisher may be ahead of its permitted rates by what they allow in this time, in seconds: a camera that
stalled sends what it has."""

UPSTREAM_HEADROOM = 1.1
"""A bitrate asked upstream is this much above the largest cap downstream, so that two token buckets in a row,
out of step by some jitter, do not both cut the same frame."""


REPORTS_PER_S = 1000.0
"""All subscribers' control messages per second, by default: 33 of those that report each of 30 frames/s. A tenth of a
core (some 100 us each)."""


@dataclass(frozen=True, slots=True)
class Window:
    """How stale a peer's frames may get before its sender stops sending, then forgets.

    gRPC reports a message as written once it is in a buffer, so the bound is kept above it: what the peer has
    not acknowledged is in flight, and past any of the first three bounds nothing more is written. Frames then
    wait here, and first lose layers, then go altogether.

    Attributes:
        max_bytes: in flight. 4 MiB is 170 Mbit/s over 200 ms (a round trip, and the wait for the next report).
            One frame is always let through.
        max_frames: in flight. 64 is one second at 60 frames/s, ten reports; bounds the bookkeeping.
        max_age_s: age of the oldest frame in flight, seconds. A round trip is under 0.3 s on
            any link but a geostationary satellite's.
        max_quiet_s: by how much the oldest may be older while reports are seldom (pace.QUIET_INTERVAL_S and a little),
            seconds: as long as the last one, which spoke for several frames, had been waited for.
        full_layers_s: a frame that waited no longer keeps all layers; not below the staleness bound of the
            adaptive allocator, which judges the age of a frame itself.
        halving_s: each further period of waiting halves the layers.
        max_wait_s: a frame that waited longer is dropped. With max_age_s, the staleness bound above gRPC.
        max_waiting: frames in the queue; 0.6 s at 50 frames/s, and a bound when frames come in a burst.
    """

    max_bytes: int = 4 << 20
    max_frames: int = 64
    max_age_s: float = 0.5
    max_quiet_s: float = 0.7
    full_layers_s: float = 0.4
    halving_s: float = 0.1
    max_wait_s: float = 0.6
    max_waiting: int = 32


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What one relay process takes on.

    Attributes:
        max_streams: names with a sender or a subscriber; bounds the caches (max_streams x first_frame_bytes).
        max_subscribers: over all streams; one core serves a few hundred at 30 frames/s.
        max_subscribers_per_stream: None: as many as there are.
        max_connections: over all peers; more are closed as soon as they are accepted. Above max_streams +
            max_subscribers, because connections of strangers count until the handshake has failed.
        max_calls_per_peer: at once, from one IPv4 address or one IPv6 /64; many may stand behind one router.
        max_attempts_per_s: calls begun from one address, with max_calls_per_peer of them at once.
        max_unit_bytes: larger access units end the call that sent them (see GIANT_FACTOR).
        max_frames_per_s: of one publisher; None: no limit.
        max_publish_bitrate: access units of one publisher, bits per second; None: no limit.
        max_reports_per_s: of all subscribers together; beyond it they are asked to report less often. Nobody is refused
            for it.
        first_frame_bytes: per stream, for late joiners: a key frame (always kept) and the deltas after it.
        first_frame_max_age_s: an older key frame is not sent to a late joiner: it is no longer the present.
        ack_timeout_s: a subscriber that acknowledges nothing for so long, with frames in flight, is dropped;
            longer than PEER_LOSS_S, because its connection still answers pings.
        window: staleness bounds of each subscriber.
    """

    max_streams: int = 256
    max_subscribers: int = 1024
    max_subscribers_per_stream: int | None = None
    max_connections: int = MAX_CONNECTIONS
    max_calls_per_peer: int = 512
    max_attempts_per_s: float = 20.0
    max_unit_bytes: int = MAX_UNIT_BYTES
    max_frames_per_s: float | None = None
    max_publish_bitrate: float | None = None
    max_reports_per_s: float = REPORTS_PER_S
    first_frame_bytes: int = 4 << 20
    first_frame_max_age_s: float = 10.0
    ack_timeout_s: float = 15.0
    window: Window = field(default_factory=Window)

    def __post_init__(self) -> None:
        given = (
            self.max_streams,
            self.max_subscribers,
            self.max_subscribers_per_stream,
            self.max_connections,
            self.max_calls_per_peer,
            self.max_attempts_per_s,
            self.max_unit_bytes,
            self.max_frames_per_s,
            self.max_publish_bitrate,
            self.max_reports_per_s,
        )
        if not all(limit is None or limit >= 1 for limit in given):
            raise ConfigError("relay limits must be at least 1", hint="leave a limit out to get its default")
