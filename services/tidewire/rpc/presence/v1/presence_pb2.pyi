from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Member(_message.Message):
    __slots__ = ("client", "user", "conn_info", "chan_info")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    CONN_INFO_FIELD_NUMBER: _ClassVar[int]
    CHAN_INFO_FIELD_NUMBER: _ClassVar[int]
    client: str
    user: str
    conn_info: bytes
    chan_info: bytes
    def __init__(self, client: _Optional[str] = ..., user: _Optional[str] = ..., conn_info: _Optional[bytes] = ..., chan_info: _Optional[bytes] = ...) -> None: ...

class MembersRequest(_message.Message):
    __slots__ = ("channels", "limit")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ...) -> None: ...

class ChannelMembers(_message.Message):
    __slots__ = ("members", "clients", "problem")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    clients: int
    problem: str
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., clients: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class MembersReply(_message.Message):
    __slots__ = ("channels",)
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[ChannelMembers]
    def __init__(self, channels: _Optional[_Iterable[_Union[ChannelMembers, _Mapping]]] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ("channels",)
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[str]] = ...) -> None: ...

class ChannelStats(_message.Message):
    __slots__ = ("clients", "users", "problem")
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    clients: int
    users: int
    problem: str
    def __init__(self, clients: _Optional[int] = ..., users: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class StatsReply(_message.Message):
    __slots__ = ("channels",)
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[ChannelStats]
    def __init__(self, channels: _Optional[_Iterable[_Union[ChannelStats, _Mapping]]] = ...) -> None: ...

class UserStatusRequest(_message.Message):
    __slots__ = ("users",)
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, users: _Optional[_Iterable[str]] = ...) -> None: ...

class UserConnection(_message.Message):
    __slots__ = ("client", "edge", "since_ms")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    client: str
    edge: str
    since_ms: int
    def __init__(self, client: _Optional[str] = ..., edge: _Optional[str] = ..., since_ms: _Optional[int] = ...) -> None: ...

class UserStatus(_message.Message):
    __slots__ = ("connections", "online", "last_seen_ms", "known_since_ms", "problem")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[UserConnection]
    online: int
    last_seen_ms: int
    known_since_ms: int
    problem: str
    def __init__(self, connections: _Optional[_Iterable[_Union[UserConnection, _Mapping]]] = ..., online: _Optional[int] = ..., last_seen_ms: _Optional[int] = ..., known_since_ms: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class UserStatusReply(_message.Message):
    __slots__ = ("users",)
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[UserStatus]
    def __init__(self, users: _Optional[_Iterable[_Union[UserStatus, _Mapping]]] = ...) -> None: ...
