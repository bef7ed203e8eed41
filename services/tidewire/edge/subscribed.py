"""What a client is told as its subscription begins: its position, and what it had missed. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Raw

from tidewire.edge.places import MAX_REPLY, Entry, Place
from tidewire.edge.wire.json_codec import MAX_CACHED_INFO, clean_json, parse_info
from tidewire.edge.wire.replies import ClientInfo, Publication, Subscribe, SubscribeResult
from tidewire.kernel import errors, fossil
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tidewire.edge import ports
    from tidewire.edge.effects import Traits
    from tidewire.edge.party import Party
    from tidewire.edge.policies.permissions import Namespace
    from tidewire.edge.subscription import Subscription

    Form = tuple[Namespace, Traits, bool]

MAX_DELTAS: Final = 256 * 1024
"""Bytes of the publications of one reply that deltas are made of, since nothing else has its turn meanwhile."""
FORMS: Final = 16
"""In which what was recovered last is kept, for others that missed the same: an edge that dies has many such clients."""


class Begun(NamedTuple):
    """What to answer, and the data of the last publication in it, for deltas; its bytes count against a reply's."""

    result: SubscribeResult
    base: bytes | None = None
    size: int = 0


def begin(
    party: Party, channel: str, subscription: Subscription, outcome: int | Place, room: int = MAX_REPLY
) -> Begun | ReplyError:
    """Return what the client is told now that it enters, with at most `room` bytes of publications, or why it does not."""
    if isinstance(outcome, int):
        return Begun(result(party, subscription, outcome))
    namespace = party.rules.namespaces.find(channel)
    if isinstance(namespace, ReplyError):  # it went with a reload
        return namespace
    wish, traits = outcome.wish, subscription.traits
    stringed = traits.delta and party.is_json
    entry = outcome.entry(room // 2 if stringed else room)
    if wish.strict and entry.recovered is False:
        return errors.UNRECOVERABLE_POSITION
    shown = _RECOVERED.render(list(entry.publications), (namespace, traits, party.is_json))
    base = shown.base if traits.delta else None
    told = result(party, subscription, outcome.channel_id, outcome, entry, shown.publications)
    return Begun(told, base, entry.size * (1 + stringed))


def result(
    party: Party,
    subscription: Subscription,
    channel_id: int = 0,
    place: Place | None = None,
    entry: Entry | None = None,
    publications: Sequence[Publication] = (),
) -> SubscribeResult:
    """Return the answer to a subscribe command."""
    ttl = party.ttl(subscription.grant.expires_at)
    traits = subscription.traits
    plain = SubscribeResult(
        expires=ttl > 0,
        ttl=ttl,
        data=subscription.grant.data,
        delta=traits.delta,
        id=channel_id if traits.compact else 0,
    )
    if place is None or entry is None:
        return plain
    wish = place.wish
    echoed = entry.recovered and not wish.latest and wish.since is not None
    return SubscribeResult(
        expires=plain.expires,
        ttl=plain.ttl,
        data=plain.data,
        delta=plain.delta,
        id=plain.id,
        recoverable=wish.recoverable,
        positioned=wish.positioned,
        epoch=entry.top.epoch,
        offset=wish.since.offset if echoed and wish.since is not None else entry.top.offset,
        publications=publications,
        recovered=bool(entry.recovered),
        was_recovering=entry.recovered is not None,
    )


def pushed(begun: SubscribeResult) -> Subscribe:
    """Return what a client is told that has not asked for the subscription."""
    return Subscribe(
        recoverable=begun.recoverable,
        epoch=begun.epoch,
        offset=begun.offset,
        positioned=begun.positioned,
        data=begun.data,
    )


class Shown(NamedTuple):
    """Publications as a client is shown them, and the data of the last one as it is in the channel."""

    publications: Sequence[Publication] = ()
    base: bytes | None = None


class Recovered:
    """Makes what clients are shown of publications, once for all that follow each other and missed the same."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[Form, tuple[list[ports.Publication], Shown]] = {}

    def render(self, publications: list[ports.Publication], form: Form) -> Shown:
        """Return publications in a form: of a namespace, with traits, for JSON."""
        if not publications:
            return Shown()
        last = self._last.get(form)
        if last is not None and last[0] == publications:  # compares identities first
            return last[1]
        if len(self._last) >= FORMS:
            self._last.clear()
        shown = _show(publications, *form)
        self._last[form] = publications, shown
        return shown


_RECOVERED: Final = Recovered()


def show(publications: Iterable[ports.Publication], namespace: Namespace) -> list[Publication]:
    """Return publications as a client is shown them; what its format could not carry is left out."""
    return [
        _shown(each, data)
        for each in publications
        if (data := each.data if namespace.binary else clean_json(each.data)) is not None
    ]


def _show(
    publications: Iterable[ports.Publication], namespace: Namespace, traits: Traits, is_json: bool
) -> Shown:
    wanted, made, room = traits.wanted, [], MAX_DELTAS
    base: bytes | None = None
    for each in publications:
        if wanted is not None and not wanted.passes(each.tags or {}):
            continue
        data = each.data if namespace.binary else clean_json(each.data)
        if data is None:
            continue
        if traits.delta:
            room -= len(data)
            asked = room > 0 and (namespace.options.delta_publish or each.delta)
            sent = _delta(base, data) if asked else data
            made.append(_shown(each, sent, delta=sent is not data, is_text=is_json))
        else:
            made.append(_shown(each, data))
        base = data
    return Shown(tuple(made), base)


def _delta(base: bytes | None, data: bytes) -> bytes:
    """Return the delta, or the data where there is no base or nothing is gained."""
    if base is None:
        return data
    delta = fossil.create(base, data)
    return delta if len(delta) < len(data) else data


def _shown(
    each: ports.Publication, data: bytes, *, delta: bool = False, is_text: bool = False
) -> Publication:
    return Publication(
        data=as_text(data) if is_text else Raw(data),
        info=None if each.info is None else _info(each.info),
        offset=each.offset,
        tags=dict(each.tags or {}),
        delta=delta,
    )


def as_text(data: bytes) -> Raw:
    """Return bytes of UTF-8 as a JSON string."""
    return Raw(msgspec.json.encode(data.decode()))


def _info(info: bytes) -> ClientInfo | None:
    return known_info(info) if len(info) <= MAX_CACHED_INFO else _parse_info(info)


def _parse_info(info: bytes) -> ClientInfo | None:
    parsed = parse_info(info)
    return None if parsed is None else parsed[1]


known_info = lru_cache(maxsize=1024)(_parse_info)
