from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeaseRequest(_message.Message):
    __slots__ = ("asks", "unspent")
    ASKS_FIELD_NUMBER: _ClassVar[int]
    UNSPENT_FIELD_NUMBER: _ClassVar[int]
    asks: _containers.RepeatedCompositeFieldContainer[Ask]
    unspent: _containers.RepeatedCompositeFieldContainer[Unspent]
    def __init__(self, asks: _Optional[_Iterable[_Union[Ask, _Mapping]]] = ..., unspent: _Optional[_Iterable[_Union[Unspent, _Mapping]]] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("rule", "key", "tokens")
    RULE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    key: bytes
    tokens: int
    def __init__(self, rule: _Optional[str] = ..., key: _Optional[bytes] = ..., tokens: _Optional[int] = ...) -> None: ...

class Unspent(_message.Message):
    __slots__ = ("rule", "key", "tokens", "age_ms")
    RULE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    rule: str
    key: bytes
    tokens: int
    age_ms: int
    def __init__(self, rule: _Optional[str] = ..., key: _Optional[bytes] = ..., tokens: _Optional[int] = ..., age_ms: _Optional[int] = ...) -> None: ...

class LeaseReply(_message.Message):
    __slots__ = ("grants",)
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    def __init__(self, grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("tokens", "retry_after_ms", "unknown")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    retry_after_ms: int
    unknown: bool
    def __init__(self, tokens: _Optional[int] = ..., retry_after_ms: _Optional[int] = ..., unknown: _Optional[bool] = ...) -> None: ...

class HoldRequest(_message.Message):
    __slots__ = ("edge", "sequence", "holds", "anew")
    EDGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    ANEW_FIELD_NUMBER: _ClassVar[int]
    edge: str
    sequence: int
    holds: _containers.RepeatedCompositeFieldContainer[Held]
    anew: bool
    def __init__(self, edge: _Optional[str] = ..., sequence: _Optional[int] = ..., holds: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., anew: _Optional[bool] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("rule", "key", "held", "wanted", "moved")
    RULE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    rule: str
    key: bytes
    held: int
    wanted: int
    moved: bool
    def __init__(self, rule: _Optional[str] = ..., key: _Optional[bytes] = ..., held: _Optional[int] = ..., wanted: _Optional[int] = ..., moved: _Optional[bool] = ...) -> None: ...

class HoldReply(_message.Message):
    __slots__ = ("places", "life")
    PLACES_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    places: _containers.RepeatedCompositeFieldContainer[Place]
    life: str
    def __init__(self, places: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., life: _Optional[str] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("granted", "learning", "unknown", "over")
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    LEARNING_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    granted: int
    learning: bool
    unknown: bool
    over: bool
    def __init__(self, granted: _Optional[int] = ..., learning: _Optional[bool] = ..., unknown: _Optional[bool] = ..., over: _Optional[bool] = ...) -> None: ...
