"""Who may do what on which channel: namespaces compiled once, verdicts without I/O.

The order of the checks is the protocol's: name, namespace, then for a subscription `$` without a token, the token, the
user-limited list, and the namespace's flags. A flag `..._for_client` speaks of users with a name; anonymous users need
`..._for_anonymous` on top of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import re2

from tidewire.edge.conflation import Delivery
from tidewire.kernel import errors
from tidewire.kernel.channels import (
    PART_BOUNDARY,
    WILDCARD,
    ends_in_rest,
    is_pattern,
    is_restricted,
    limited_users,
    split_channel,
)

if TYPE_CHECKING:
    from tidewire.edge.config import ChannelConfig, ChannelOptions
    from tidewire.kernel.errors import ReplyError
    from tidewire.options.storage_options import StorageConfig


CHANNELS_KNOWN = 8192
"""Channels whose namespace is remembered: judging a name takes microseconds, and most are used again at once."""
PUBLISHERS_KNOWN = 8192
"""Channels and users of whom is remembered whether one may publish in the other: most do so again and again."""
MAX_STARS = 3
MAX_PARTS = 6
"""Of a pattern. NATS sends a publication once for each pattern that covers it: with these bounds there are at most 41."""


class Namespace:
    """The options of one namespace, with its pattern compiled by RE2 (linear time on client input)."""

    __slots__ = ("_regex", "binary", "delivery", "options", "profile", "provable", "takes_ttl")

    def __init__(self, options: ChannelOptions, storage: StorageConfig | None = None) -> None:
        self.options = options
        self.profile = options.storage_profile if options.has_history else ""
        """Where publications are stored; empty: they are not."""
        stored = storage.find(self.profile) if storage is not None else None
        self.takes_ttl = stored is not None and stored.message_ttl
        """Whether a publication may have a lifetime of its own."""
        self.provable = stored is not None and stored.recoverable and not options.conflate
        """Whether it can be proven that a subscriber has missed nothing."""
        self.binary = options.publication_data_format == "binary"
        self.delivery = _delivery(options)
        """How publications go out; None: at once, and all."""
        self._regex = re2.compile(options.channel_regex) if options.channel_regex else None

    @property
    def attended(self) -> tuple[bool, ...]:
        """What decides what presence has to do with a subscription."""
        options = self.options
        return options.presence, options.join_leave, options.force_push_join_leave, options.occupancy

    def matches(self, name: str) -> bool:
        """Return whether the channel's name, without namespace, fits `channel_regex`."""
        return self._regex is None or self._regex.search(name) is not None

    def pattern_problem(self, channel: str) -> ReplyError | None:
        """Return why a channel with a `*`, or NATS's `>`, can be no subscription here; None for every other channel.

        A pattern covers only channels that could be had one by one: those that a name restricts are never among them.
        """
        if not self.options.allow_wildcards:
            return None
        if ends_in_rest(channel):
            return errors.BAD_REQUEST.saying(
                "bad request: there is no > here, use a * for each part of the name"
            )
        if WILDCARD not in channel:
            return None
        if not is_pattern(channel):
            return errors.BAD_REQUEST.saying(
                "bad request: a * stands for a whole part of the name between dots, as in prices:nasdaq.*"
            )
        parts = split_channel(channel).name.split(PART_BOUNDARY)
        if len(parts) > MAX_PARTS or parts.count(WILDCARD) > MAX_STARS:
            return errors.BAD_REQUEST.saying(
                f"bad request: a wildcard has at most {MAX_PARTS} parts between dots, {MAX_STARS} of them a *"
            )
        if is_restricted(channel):
            return errors.PERMISSION_DENIED.saying(
                "permission denied: a wildcard never covers private ($) or user-limited (#) channels"
            )
        return None

    def may_subscribe(self, channel: str, user: str) -> ReplyError | None:
        """Judge a subscription that no token and no capability allows; None is yes.

        It holds for patterns too: what every user may have one by one, every user may have by a pattern.
        """
        if channel.startswith("$"):
            return errors.PERMISSION_DENIED.saying(
                "permission denied: a private channel needs a subscription token"
            )
        users = limited_users(channel)
        if users is not None:
            return self._limited_to(users, user)
        options = self.options
        if options.allow_subscribe_for_client and (user or options.allow_subscribe_for_anonymous):
            return None
        return errors.PERMISSION_DENIED

    def may_publish(self, channel: str, user: str, *, subscribed: bool) -> ReplyError | None:
        """Judge a publication by a client; None is yes.

        In a private channel, and in a user-limited one that does not name the user, only a subscriber may publish:
        being subscribed is what proves the right to the channel.
        """
        options = self.options
        if options.allow_wildcards and WILDCARD in channel:
            return errors.BAD_REQUEST.saying(
                "bad request: a name with a * is a wildcard here, and no channel"
            )
        if user or options.allow_publish_for_anonymous:
            if subscribed and (options.allow_publish_for_subscriber or options.allow_publish_for_client):
                return None
            if options.allow_publish_for_client and not self._closed_to(channel, user):
                return None
        return errors.PERMISSION_DENIED

    def may_read_history(self, channel: str, user: str, *, subscribed: bool) -> ReplyError | None:
        """Judge a reading of the channel's history by a client; None is yes. Closed channels are closed as to publishers."""
        options = self.options
        if options.allow_wildcards and is_pattern(channel):
            return errors.NOT_AVAILABLE.saying("not available: a wildcard has no history of its own")
        if user or options.allow_history_for_anonymous:
            if subscribed and (options.allow_history_for_subscriber or options.allow_history_for_client):
                return None
            if options.allow_history_for_client and not self._closed_to(channel, user):
                return None
        return errors.PERMISSION_DENIED

    def may_ask_presence(self, channel: str, user: str, *, subscribed: bool) -> ReplyError | None:
        """Judge whether a client may know who is in the channel; None is yes. Closed channels are closed as to publishers."""
        options = self.options
        if options.allow_wildcards and is_pattern(channel):
            return errors.NOT_AVAILABLE.saying("not available: a wildcard has no presence of its own")
        if user or options.allow_presence_for_anonymous:
            if subscribed and (options.allow_presence_for_subscriber or options.allow_presence_for_client):
                return None
            if options.allow_presence_for_client and not self._closed_to(channel, user):
                return None
        return errors.PERMISSION_DENIED

    def _closed_to(self, channel: str, user: str) -> bool:
        if channel.startswith("$"):
            return True
        users = limited_users(channel)
        return users is not None and self._limited_to(users, user) is not None

    def _limited_to(self, users: tuple[str, ...], user: str) -> ReplyError | None:
        if not self.options.allow_user_limited_channels:
            return errors.PERMISSION_DENIED.saying("permission denied: user-limited channels are off here")
        return None if user and user in users else errors.PERMISSION_DENIED


def _delivery(options: ChannelOptions) -> Delivery | None:
    if not options.batch_max_delay and not options.conflate:
        return None
    return Delivery(
        float(options.batch_max_delay), options.batch_max_size, options.conflate, options.conflate_max_keys
    )


class Namespaces:
    """All namespaces of a deployment."""

    __slots__ = ("_by_name", "_look_up", "_look_up_to_publish", "_max_length", "_without")

    def __init__(self, config: ChannelConfig, storage: StorageConfig | None = None) -> None:
        """`storage` is for namespaces with history."""
        self._max_length = config.max_length
        self._without = Namespace(config.without_namespace, storage)
        self._by_name = {namespace.name: Namespace(namespace, storage) for namespace in config.namespaces}
        self._look_up = lru_cache(CHANNELS_KNOWN)(self._judge)
        self._look_up_to_publish = lru_cache(PUBLISHERS_KNOWN)(self._judge_to_publish)

    @property
    def names(self) -> frozenset[str]:
        """The names of all namespaces."""
        return frozenset(self._by_name)

    @property
    def stored(self) -> frozenset[str | None]:
        """The names of those with history; None: channels without a namespace."""
        named = frozenset(name for name, each in self._by_name.items() if each.options.has_history)
        return named | {None} if self._without.options.has_history else named

    @property
    def attended(self) -> dict[str | None, tuple[bool, ...]]:
        """What presence has to do with channels, by namespace."""
        return {None: self._without.attended, **{name: each.attended for name, each in self._by_name.items()}}

    @property
    def known(self) -> tuple[int, int]:
        """How many channels, and publishers in a channel, are remembered: of CHANNELS_KNOWN and PUBLISHERS_KNOWN at most."""
        return self._look_up.cache_info().currsize, self._look_up_to_publish.cache_info().currsize

    @property
    def deliveries(self) -> dict[str | None, Delivery | None]:
        """How publications go out, by namespace; None: at once, and all."""
        return {None: self._without.delivery, **{name: each.delivery for name, each in self._by_name.items()}}

    def find(self, channel: str) -> Namespace | ReplyError:
        """Return the namespace of a channel, or why there can be no such channel (102 or 107)."""
        if len(channel) > self._max_length:  # before the cache, whose names this bounds
            return self._too_long()
        return self._look_up(channel)

    def to_publish_in(self, channel: str, user: str, *, subscribed: bool) -> Namespace | ReplyError:
        """Return the namespace of a channel in which this user may publish, capabilities aside, or why not."""
        if len(channel) > self._max_length:  # as in `find`; users' names are bounded, too
            return self._too_long()
        return self._look_up_to_publish(channel, user, subscribed)

    def _judge_to_publish(self, channel: str, user: str, subscribed: bool) -> Namespace | ReplyError:
        namespace = self.find(channel)
        if not isinstance(namespace, Namespace):
            return namespace
        return namespace.may_publish(channel, user, subscribed=subscribed) or namespace

    def _too_long(self) -> ReplyError:
        return errors.BAD_REQUEST.saying(f"bad request: channel over {self._max_length} bytes")

    def _judge(self, channel: str) -> Namespace | ReplyError:
        try:
            length = len(channel.encode())
        except UnicodeEncodeError:
            return errors.BAD_REQUEST.saying("bad request: the channel is not valid Unicode")
        if length > self._max_length:
            return self._too_long()
        parts = split_channel(channel)
        namespace = self._without if parts.namespace is None else self._by_name.get(parts.namespace)
        if namespace is None:
            return errors.UNKNOWN_CHANNEL
        if not parts.name:
            return errors.BAD_REQUEST.saying("bad request: the channel's name is empty")
        if not namespace.matches(parts.name):
            return errors.BAD_REQUEST.saying(
                "bad request: the channel does not fit the namespace's channel_regex"
            )
        return namespace
