from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_COMPLETE: _ClassVar[Outcome]
    OUTCOME_MORE: _ClassVar[Outcome]
    OUTCOME_TRIMMED: _ClassVar[Outcome]
    OUTCOME_OTHER_EPOCH: _ClassVar[Outcome]
    OUTCOME_TOO_MANY: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_COMPLETE: Outcome
OUTCOME_MORE: Outcome
OUTCOME_TRIMMED: Outcome
OUTCOME_OTHER_EPOCH: Outcome
OUTCOME_TOO_MANY: Outcome

class StreamPosition(_message.Message):
    __slots__ = ("offset", "epoch")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    offset: int
    epoch: str
    def __init__(self, offset: _Optional[int] = ..., epoch: _Optional[str] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("offset", "data", "headers", "time_ns")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    headers: bytes
    time_ns: int
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., headers: _Optional[bytes] = ..., time_ns: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("channel", "since", "limit", "reverse", "max_bytes", "at_least", "recover")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    RECOVER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    since: StreamPosition
    limit: int
    reverse: bool
    max_bytes: int
    at_least: int
    recover: bool
    def __init__(self, channel: _Optional[str] = ..., since: _Optional[_Union[StreamPosition, _Mapping]] = ..., limit: _Optional[int] = ..., reverse: _Optional[bool] = ..., max_bytes: _Optional[int] = ..., at_least: _Optional[int] = ..., recover: _Optional[bool] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("top", "publications", "outcome")
    TOP_FIELD_NUMBER: _ClassVar[int]
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    top: StreamPosition
    publications: _containers.RepeatedCompositeFieldContainer[Publication]
    outcome: Outcome
    def __init__(self, top: _Optional[_Union[StreamPosition, _Mapping]] = ..., publications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ..., outcome: _Optional[_Union[Outcome, str]] = ...) -> None: ...

class PositionRequest(_message.Message):
    __slots__ = ("channels", "since")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    since: _containers.RepeatedCompositeFieldContainer[StreamPosition]
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., since: _Optional[_Iterable[_Union[StreamPosition, _Mapping]]] = ...) -> None: ...

class ChannelPosition(_message.Message):
    __slots__ = ("top", "problem")
    TOP_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    top: StreamPosition
    problem: str
    def __init__(self, top: _Optional[_Union[StreamPosition, _Mapping]] = ..., problem: _Optional[str] = ...) -> None: ...

class PositionReply(_message.Message):
    __slots__ = ("positions",)
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[ChannelPosition]
    def __init__(self, positions: _Optional[_Iterable[_Union[ChannelPosition, _Mapping]]] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class PurgeReply(_message.Message):
    __slots__ = ("purged",)
    PURGED_FIELD_NUMBER: _ClassVar[int]
    purged: int
    def __init__(self, purged: _Optional[int] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class StatsReply(_message.Message):
    __slots__ = ("top", "publications", "first_offset")
    TOP_FIELD_NUMBER: _ClassVar[int]
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    top: StreamPosition
    publications: int
    first_offset: int
    def __init__(self, top: _Optional[_Union[StreamPosition, _Mapping]] = ..., publications: _Optional[int] = ..., first_offset: _Optional[int] = ...) -> None: ...
