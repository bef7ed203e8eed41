"""A member as it stands in an answer, written without a message object for each: lists have thousands. Pure.

Fields are those of `tidewire.rpc.presence.v1`: a `Member` as one of `ChannelMembers.members`, and that as one of `MembersReply.channels`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tidewire.presence.content import Member, Person

_CLIENT, _USER, _CONN_INFO, _CHAN_INFO = b"\x0a", b"\x12", b"\x1a", b"\x22"
"""Numbers 1 to 4, each with a length."""
_MEMBER: Final = b"\x0a"
_CHANNEL: Final = b"\x0a"


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_LENGTHS: Final = tuple(map(_varint, range(2048)))
"""Those that nearly all have."""


def _length(number: int) -> bytes:
    return _LENGTHS[number] if number < len(_LENGTHS) else _varint(number)


def packed(member: Member) -> bytes:
    """Return the bytes of a member in a list, its tag and length included."""
    if isinstance(member, Person):
        person, chan_info = member, b""
    else:
        person, chan_info = member.person, member.chan_info
    client, user, info = person.client.encode(), person.user.encode(), person.info
    body = _CLIENT + _length(len(client)) + client
    if user:
        body += _USER + _length(len(user)) + user
    if info:
        body += _CONN_INFO + _length(len(info)) + info
    if chan_info:
        body += _CHAN_INFO + _length(len(chan_info)) + chan_info
    return _MEMBER + _length(len(body)) + body


def wrapped(parts: Iterable[bytes]) -> bytes:
    """Return fields of a `ChannelMembers` as one of `MembersReply.channels`."""
    body = b"".join(parts)
    return _CHANNEL + _length(len(body)) + body
