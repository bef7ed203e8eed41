"""What a channel name says by itself: namespace, privacy, and the users it is limited to.

Rules of the Centrifuge client protocol: a leading `$` makes a channel private, the text before the first `:` (after
that `$`) is its namespace, and what follows the last `#` is a comma-separated list of user ids.
"""

from __future__ import annotations

import msgspec

PRIVATE_PREFIX = "$"
NAMESPACE_BOUNDARY = ":"
USER_BOUNDARY = "#"
USER_SEPARATOR = ","
PART_BOUNDARY = "."
WILDCARD = "*"
REST_OF_SUBJECT = ">"


class ChannelParts(msgspec.Struct, frozen=True):
    """A channel name taken apart; `namespace` is None for a channel without one."""

    private: bool
    namespace: str | None
    name: str


def split_channel(channel: str) -> ChannelParts:
    """Take a channel name apart. Total: any string has parts, whether or not the namespace exists."""
    private = channel.startswith(PRIVATE_PREFIX)
    rest = channel[1:] if private else channel
    namespace, boundary, name = rest.partition(NAMESPACE_BOUNDARY)
    if not boundary:
        return ChannelParts(private, None, rest)
    return ChannelParts(private, namespace, name)


def limited_users(channel: str) -> tuple[str, ...] | None:
    """Return the user ids that a `#` channel is limited to, or None where the name has no `#`."""
    if USER_BOUNDARY not in channel:
        return None
    return tuple(channel.rpartition(USER_BOUNDARY)[2].split(USER_SEPARATOR))


def is_pattern(channel: str) -> bool:
    """Return whether the parts of the name between dots are a wildcard pattern: none empty, and one of them a lone `*`."""
    if WILDCARD not in channel:
        return False
    parts = split_channel(channel).name.split(PART_BOUNDARY)
    return WILDCARD in parts and all(parts)


def ends_in_rest(channel: str) -> bool:
    """Return whether the last part of the name is a lone `>`, which in NATS stands for all further parts."""
    return split_channel(channel).name.split(PART_BOUNDARY)[-1] == REST_OF_SUBJECT


def is_restricted(channel: str) -> bool:
    """Return whether the name alone restricts who may have it: private (`$`) or limited to users (`#`)."""
    return channel.startswith(PRIVATE_PREFIX) or USER_BOUNDARY in channel
