"""Commands and replies of the client protocol as the official SDKs would write and read them, for property tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from tidewire.edge.wire import replies
from tidewire.kernel.errors import ReplyError

Plain = dict[str, Any]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
uint32 = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def commands(payloads: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    """Return commands as the SDKs hold them: an id and one method, any of its fields."""
    filters = st.recursive(
        _some(op=texts, key=texts, cmp=texts, val=texts, vals=st.lists(texts, max_size=2)),
        lambda inner: _some(op=texts, nodes=st.lists(inner, max_size=2)),
        max_leaves=4,
    )
    subscribe = _some(
        channel=texts,
        token=texts,
        recover=st.booleans(),
        epoch=texts,
        offset=offsets,
        data=payloads,
        positioned=st.booleans(),
        recoverable=st.booleans(),
        join_leave=st.booleans(),
        delta=texts,
        tf=filters,
        flag=st.integers(0, 2**63 - 1),
    )
    methods = {
        "connect": _some(
            token=texts,
            data=payloads,
            subs=st.dictionaries(
                texts, _some(recover=st.booleans(), epoch=texts, offset=offsets), max_size=2
            ),
            name=texts,
            version=texts,
            headers=st.dictionaries(texts, texts, max_size=2),
        ),
        "subscribe": subscribe,
        "unsubscribe": _some(channel=texts),
        "publish": _some(channel=texts, data=payloads),
        "presence": _some(channel=texts),
        "presence_stats": _some(channel=texts),
        "history": _some(
            channel=texts,
            limit=st.integers(-1, 2**31 - 1),
            since=_some(offset=offsets, epoch=texts),
            reverse=st.booleans(),
        ),
        "ping": _some(),
        "send": _some(data=payloads),
        "rpc": _some(data=payloads, method=texts),
        "refresh": _some(token=texts),
        "sub_refresh": _some(channel=texts, token=texts),
    }
    return st.one_of([st.tuples(uint32, st.just(method), fields) for method, fields in methods.items()]).map(
        lambda drawn: {"id": drawn[0], drawn[1]: drawn[2]}
    )


def outgoing(payloads: st.SearchStrategy[Raw]) -> st.SearchStrategy[replies.Reply]:
    """Return replies and pushes, any that this server writes."""
    infos = st.builds(replies.ClientInfo, user=texts, client=texts, conn_info=payloads)
    publications = st.builds(
        replies.Publication,
        data=payloads,
        info=st.none() | infos,
        offset=offsets,
        tags=st.dictionaries(texts, texts, max_size=2),
        delta=st.booleans(),
    )
    people = st.builds(replies.ClientInfo, user=texts, client=texts, conn_info=payloads, chan_info=payloads)
    counts = st.integers(1, 2**32 - 1)
    several = st.lists(publications, max_size=2).map(tuple)
    subscribed = st.builds(
        replies.SubscribeResult,
        expires=st.booleans(),
        ttl=uint32,
        data=payloads,
        delta=st.booleans(),
        recoverable=st.booleans(),
        positioned=st.booleans(),
        epoch=texts,
        offset=offsets,
        publications=several,
        recovered=st.booleans(),
        was_recovering=st.booleans(),
    )
    begun = st.builds(
        replies.Subscribe,
        recoverable=st.booleans(),
        epoch=texts,
        offset=offsets,
        positioned=st.booleans(),
        data=payloads,
    )
    ended = st.builds(replies.Unsubscribe, code=uint32, reason=texts)
    connected = st.builds(
        replies.ConnectResult,
        client=texts,
        version=texts,
        expires=st.booleans(),
        ttl=uint32,
        data=payloads,
        subs=st.dictionaries(texts, subscribed, max_size=2),
        ping=uint32,
        pong=st.booleans(),
    )
    results: dict[str, st.SearchStrategy[msgspec.Struct]] = {
        "error": st.builds(ReplyError, code=uint32, message=texts, temporary=st.booleans()),
        "push": st.builds(replies.Push, channel=texts, pub=publications)
        | st.builds(replies.Push, channel=texts, unsubscribe=ended)
        | st.builds(replies.Push, channel=texts, subscribe=begun)
        | st.builds(replies.Push, channel=texts, join=st.builds(replies.Attendee, info=people))
        | st.builds(replies.Push, channel=texts, leave=st.builds(replies.Attendee, info=people)),
        "connect": connected,
        "subscribe": subscribed,
        "history": st.builds(replies.HistoryResult, publications=several, epoch=texts, offset=offsets),
        "presence": st.builds(
            replies.PresenceResult, presence=st.dictionaries(texts, people, min_size=1, max_size=3)
        ),
        "presence_stats": st.builds(replies.PresenceStatsResult, num_clients=counts, num_users=counts),
        "unsubscribe": st.just(replies.UnsubscribeResult()),
        "publish": st.just(replies.PublishResult()),
        "rpc": st.builds(replies.RpcResult, data=payloads),
        "refresh": st.builds(replies.RefreshResult, client=texts, version=texts),
    }
    return st.one_of([st.tuples(uint32, st.just(field), result) for field, result in results.items()]).map(
        lambda drawn: msgspec.structs.replace(replies.Reply(id=drawn[0]), **{drawn[1]: drawn[2]})
    )


def plain(value: object, payload: Callable[[bytes], object] = json.loads) -> object:
    """Return a Struct as a dict without its default fields, each payload as what `payload` makes of its bytes."""
    if isinstance(value, Raw):
        return payload(bytes(value))
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: plain(field, payload) for name, field in fields.items() if not _absent(field)}
    if isinstance(value, dict):
        return {key: plain(field, payload) for key, field in value.items()}
    return [plain(item, payload) for item in value] if isinstance(value, (list, tuple)) else value


SEVERAL = frozenset({"nodes", "publications"})
"""Fields that hold messages."""
MAPS = frozenset({"tags", "subs"})
"""Fields that are absent where they are empty."""
NOT_READ = frozenset({"headers"})
"""Fields of a connect command that the edge skips."""


def with_numbers(message: Any) -> Any:
    """Return a message as the SDK's `MessageToDict` makes it, with numbers where that writes 64-bit ones as text."""
    if isinstance(message, list):
        return [with_numbers(each) for each in message]
    if not isinstance(message, dict):
        return message
    return {
        name: int(value)
        if name == "offset" and isinstance(value, str)
        else with_numbers(value)
        if name != "tags"
        else value
        for name, value in message.items()
    }


def without_defaults(message: Plain, *, keep: tuple[str, ...] = ()) -> Plain:
    """Return a message without what is skipped, and what is at its default; payloads named in `keep` stay."""
    found: Plain = {}
    for name, value in message.items():
        if name in keep or (name == "tags" and value):
            found[name] = value
        elif name not in NOT_READ and (value or (isinstance(value, dict) and name not in MAPS)):
            found[name] = _inner(name, value, keep)
    return found


def _inner(name: str, value: Any, keep: tuple[str, ...]) -> Any:
    if name in SEVERAL:
        return [without_defaults(each, keep=keep) for each in value]
    if name == "subs":
        return {channel: without_defaults(each, keep=keep) for channel, each in value.items()}
    return without_defaults(value, keep=keep) if isinstance(value, dict) else value


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Plain]:
    return st.fixed_dictionaries({}, optional=fields)


def _absent(field: object) -> bool:
    if isinstance(field, Raw):
        return not bytes(field)
    return not isinstance(field, msgspec.Struct) and not field
