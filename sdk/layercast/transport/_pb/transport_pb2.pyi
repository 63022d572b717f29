from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessUnit(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublishHello(_message.Message):
    __slots__ = ("protocol", "stream", "session", "description")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    stream: str
    session: bytes
    description: bytes
    def __init__(self, protocol: _Optional[int] = ..., stream: _Optional[str] = ..., session: _Optional[bytes] = ..., description: _Optional[bytes] = ...) -> None: ...

class SubscribeHello(_message.Message):
    __slots__ = ("protocol", "stream", "limits", "hops", "wait_ms", "link", "takes_notes")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    TAKES_NOTES_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    stream: str
    limits: Limits
    hops: Hops
    wait_ms: int
    link: str
    takes_notes: bool
    def __init__(self, protocol: _Optional[int] = ..., stream: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., hops: _Optional[_Union[Hops, _Mapping]] = ..., wait_ms: _Optional[int] = ..., link: _Optional[str] = ..., takes_notes: _Optional[bool] = ...) -> None: ...

class StreamInfo(_message.Message):
    __slots__ = ("relay", "session", "description")
    RELAY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    relay: str
    session: bytes
    description: bytes
    def __init__(self, relay: _Optional[str] = ..., session: _Optional[bytes] = ..., description: _Optional[bytes] = ...) -> None: ...

class Hops(_message.Message):
    __slots__ = ("relays", "depth")
    RELAYS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    relays: _containers.RepeatedScalarFieldContainer[str]
    depth: int
    def __init__(self, relays: _Optional[_Iterable[str]] = ..., depth: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_layers", "max_bitrate_bps", "max_staleness_ms")
    MAX_LAYERS_FIELD_NUMBER: _ClassVar[int]
    MAX_BITRATE_BPS_FIELD_NUMBER: _ClassVar[int]
    MAX_STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    max_layers: int
    max_bitrate_bps: int
    max_staleness_ms: int
    def __init__(self, max_layers: _Optional[int] = ..., max_bitrate_bps: _Optional[int] = ..., max_staleness_ms: _Optional[int] = ...) -> None: ...

class IngestFeedback(_message.Message):
    __slots__ = ("demand", "acks")
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    demand: Demand
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    def __init__(self, demand: _Optional[_Union[Demand, _Mapping]] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ...) -> None: ...

class Demand(_message.Message):
    __slots__ = ("active", "limits")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    active: bool
    limits: Limits
    def __init__(self, active: _Optional[bool] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class ReceiverMessage(_message.Message):
    __slots__ = ("limits", "acks", "hops")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    limits: Limits
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    hops: Hops
    def __init__(self, limits: _Optional[_Union[Limits, _Mapping]] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ..., hops: _Optional[_Union[Hops, _Mapping]] = ...) -> None: ...

class RelayNote(_message.Message):
    __slots__ = ("report_interval_ms",)
    REPORT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    report_interval_ms: int
    def __init__(self, report_interval_ms: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("frame_id", "arrival_us", "bytes", "decode_lag_us")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_US_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DECODE_LAG_US_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    arrival_us: int
    bytes: int
    decode_lag_us: int
    def __init__(self, frame_id: _Optional[int] = ..., arrival_us: _Optional[int] = ..., bytes: _Optional[int] = ..., decode_lag_us: _Optional[int] = ...) -> None: ...
