"""The options of channels, per namespace. Names are Centrifugo's (v6), so that people can move over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import re2
from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Problem, Section, duration, repeated
from tidewire.options import centrifugo_names
from tidewire.options.storage_options import DEFAULT_PROFILE

POSITIONED = ("allow_positioning", "force_positioning", "allow_recovery", "force_recovery")
"""Options under which clients are promised to miss nothing."""


def channel_regex_compiles(options: ChannelOptions) -> Iterator[Problem]:
    """The pattern meets client input, so it must be one that RE2 runs in linear time."""
    if not options.channel_regex:
        return
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        re2.compile(options.channel_regex, quiet)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        yield Problem("channel_regex", f"not a regular expression of RE2: {text}")


def no_wildcards_past_a_regex(options: ChannelOptions) -> Iterator[Problem]:
    """A pattern would also cover names that nobody may subscribe to one by one."""
    if options.allow_wildcards and options.channel_regex:
        yield Problem("allow_wildcards", "cannot be combined with channel_regex")


def deltas_are_for_somebody(options: ChannelOptions) -> Iterator[Problem]:
    """Nobody may ask for what would be made."""
    if options.delta_publish and not options.allowed_delta_types:
        yield Problem("delta_publish", "has no effect without allowed_delta_types")


def history_has_both_bounds(options: ChannelOptions) -> Iterator[Problem]:
    """A history without one of its bounds would be none, which nobody means who sets the other."""
    if bool(options.history_size) != bool(options.history_ttl):
        yield Problem(
            "history_ttl" if options.history_size else "history_size",
            "history needs history_size and history_ttl",
        )


def positions_need_history(options: ChannelOptions) -> Iterator[Problem]:
    """Where nothing is stored there are no positions."""
    if options.history_size and options.history_ttl:
        return
    for name in POSITIONED:
        if getattr(options, name):
            yield Problem(name, "needs history: history_size and history_ttl")


def positions_need_every_publication(options: ChannelOptions) -> Iterator[Problem]:
    """Who is sent the latest of each key only, and when behind in another order, cannot be promised to miss nothing."""
    for name in POSITIONED if options.conflate else ():
        recovers_latest = name.endswith("recovery") and options.force_recovery_mode == "cache"
        if getattr(options, name) and not recovers_latest:
            yield Problem(name, "cannot be combined with conflate, but for recovery in cache mode")


class ChannelOptions(Section, frozen=True, kw_only=True):
    """What clients may do in the channels of one namespace."""

    checks = (
        channel_regex_compiles,
        no_wildcards_past_a_regex,
        deltas_are_for_somebody,
        history_has_both_bounds,
        positions_need_history,
        positions_need_every_publication,
    )
    hints = centrifugo_names.CHANNEL_OPTIONS
    reloadable = True

    allow_subscribe_for_client: Annotated[
        bool,
        Meta(
            description="Whether every client with a user id may subscribe. Otherwise a subscription needs a "
            "subscription token, or the user's id in a user-limited channel; without either the answer is error 103."
        ),
    ] = False
    allow_subscribe_for_anonymous: Annotated[
        bool, Meta(description="Whether clients without a user id may subscribe, too.")
    ] = False
    allow_publish_for_client: Annotated[
        bool,
        Meta(
            description="Whether every client with a user id may publish, subscribed or not. Otherwise the answer "
            "is error 103."
        ),
    ] = False
    allow_publish_for_subscriber: Annotated[
        bool, Meta(description="Whether a client may publish to a channel while it is subscribed to it.")
    ] = False
    allow_publish_for_anonymous: Annotated[
        bool, Meta(description="Whether clients without a user id may publish, too.")
    ] = False
    allow_history_for_client: Annotated[
        bool,
        Meta(description="Whether every client with a user id may read the history of a channel."),
    ] = False
    allow_history_for_subscriber: Annotated[
        bool,
        Meta(description="Whether a client may read the history of a channel while it is subscribed to it."),
    ] = False
    allow_history_for_anonymous: Annotated[
        bool,
        Meta(description="Whether clients without a user id may read the history of a channel, too."),
    ] = False
    allow_presence_for_client: Annotated[
        bool,
        Meta(
            description="Whether every client with a user id may ask who is in a channel (`presence`, `presence_stats`), and be "
            "told of joins and leaves where it subscribes."
        ),
    ] = False
    allow_presence_for_subscriber: Annotated[
        bool,
        Meta(
            description="Whether a client may ask who is in a channel, and be told of joins and leaves, while it is subscribed "
            "to it."
        ),
    ] = False
    allow_presence_for_anonymous: Annotated[
        bool,
        Meta(description="Whether clients without a user id may ask who is in a channel, too."),
    ] = False
    allow_user_limited_channels: Annotated[
        bool,
        Meta(
            description="Whether a channel whose name ends in `#` and user ids (`dialog#42,43`) admits exactly "
            "these users without a subscription token. When off, such a channel needs a token."
        ),
    ] = False
    channel_regex: Annotated[
        str,
        Meta(
            description="A regular expression (RE2 syntax) that the channel's name without its namespace must "
            "match somewhere; anchor it with `^` and `$` to match the whole. Empty: every name. A name that does not "
            "match is error 107."
        ),
    ] = ""
    publication_data_format: Annotated[
        Literal["json", "binary"],
        Meta(
            description="What publications carry. `json`: data must be valid JSON, every client gets it. `binary`: "
            "any bytes, for clients of the Protobuf format only.",
            extra=RESTART,
        ),
    ] = "json"
    presence: Annotated[
        bool,
        Meta(
            description="Keep who is in the channel, with client id, user and info; needs the presence service. It holds for "
            "subscriptions that begin after a reload, as the three options that follow."
        ),
    ] = False
    join_leave: Annotated[
        bool,
        Meta(
            description="Publish joins and leaves to subscribers that ask for them (`join_leave`) and may ask who is there. The "
            "leaves of an edge that dies come from the presence service."
        ),
    ] = False
    force_push_join_leave: Annotated[
        bool, Meta(description="Send joins and leaves to every subscriber, asked for or not.")
    ] = False
    occupancy: Annotated[
        bool,
        Meta(
            description="Let the presence service know which channels have subscribers, whether or not it keeps who they are: it "
            "tells backends of a channel's first subscriber and of its last. It costs an edge about 100 B a channel."
        ),
    ] = True
    join_leave_debounce: Annotated[
        Duration,
        Meta(
            description="How long an edge holds a leave back from its subscribers: a user who is back within that time, by whatever "
            "connection on whatever edge, causes neither a leave nor a join. The leaves of all its connections then come "
            "with the last one's. 0 = every leave is sent at once, and so is one of a client without a user id.",
            extra={"at_most": "1m"},
        ),
    ] = duration("0s")
    presence_max_clients: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Most clients of one answer to a presence command. For a channel with more, or whose list is over 512 KiB, "
            "it is error 106 (limit exceeded), never a part of the list; `presence_stats` goes on counting all.",
        ),
    ] = 1000
    history_size: Annotated[
        int,
        Meta(
            ge=0,
            description="How many publications of a channel can be read; 0 = no history. At most the profile's "
            "`max_messages`.",
        ),
    ] = 0
    history_ttl: Annotated[
        Duration,
        Meta(
            description="How long a publication can be read; 0 = no history. At most the profile's `max_age`."
        ),
    ] = duration("0s")
    storage_profile: Annotated[
        str,
        Meta(
            description="The profile of `storage.profiles` that keeps the history. A namespace that has been published to moves "
            "to another one only by `tidewire migrate`.",
            extra=RESTART,
        ),
    ] = DEFAULT_PROFILE
    history_max_publication_limit: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Most publications of one answer to a history command."),
    ] = 300
    recovery_max_publication_limit: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Most publications that a recovery brings: a client that missed more is told that it has not recovered.",
        ),
    ] = 300
    allow_positioning: Annotated[
        bool, Meta(description="Let a client ask for its position to be watched.")
    ] = False
    force_positioning: Annotated[bool, Meta(description="Watch the position of every subscriber.")] = False
    allow_recovery: Annotated[bool, Meta(description="Let a client ask for what it missed.")] = False
    force_recovery: Annotated[bool, Meta(description="Send every subscriber what it missed.")] = False
    force_recovery_mode: Annotated[
        Literal["stream", "cache"],
        Meta(description="`stream`: all that was missed; `cache`: the latest publication only."),
    ] = "stream"
    allowed_delta_types: Annotated[
        tuple[Literal["fossil"], ...],
        Meta(
            description="The kinds of delta that a client may ask for. Who does is sent the first publication whole, and "
            "then what has changed from one to the next (Fossil's format), where that is smaller and `delta_publish` "
            "or the publisher wants it. It holds for subscriptions that begin after a reload."
        ),
    ] = ()
    delta_publish: Annotated[
        bool,
        Meta(
            description="Send every publication as a delta to clients that asked for deltas. Otherwise only those of "
            "NATS publishers with the header `Tw-Delta: 1` are. An edge computes a delta once for all its subscribers, "
            "in time that grows with the publication: some tens of microseconds for 1 KiB. It holds for a channel from "
            "the first subscription after a reload."
        ),
    ] = False
    batch_max_delay: Annotated[
        Duration,
        Meta(
            description="How long publications of a channel may be collected, to be written together. The first one after "
            "at least that long without any is sent at once; those that come within that time after a batch wait for the "
            "next. 0 = what arrives in one turn of the edge's loop, typically less than a millisecond.",
            extra={"at_most": "10s"},
        ),
    ] = duration("0s")
    batch_max_size: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="A batch with so many publications goes out before `batch_max_delay` is over. It may have more when "
            "they arrive together.",
        ),
    ] = 1000
    conflate: Annotated[
        bool,
        Meta(
            description="Send only the latest of publications that have the same key (the `Tw-Key` header on NATS, the RPC "
            "method `tw.publish` of clients) and wait at the same time: in a batch, or for a client that reads too slowly, "
            "which then is not closed with 3008. Publications without a key are all sent."
        ),
    ] = False
    conflate_max_keys: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most keys of a channel whose latest publication is kept for clients that read too slowly, in each "
            "form in which they get it. Publications of further keys wait like those without a key, up to "
            "`client.queue_max_size`.",
        ),
    ] = 10_000
    allow_tags_filter: Annotated[
        bool,
        Meta(
            description="Let a client filter a channel's publications by their tags (`tf`). Otherwise a subscribe "
            "command with a filter is error 107."
        ),
    ] = False
    allow_wildcards: Annotated[
        bool,
        Meta(
            description="Whether a client may subscribe to patterns such as `prices:nasdaq.*`, in which `*` stands for "
            "one part of a name between dots. A pattern covers only channels that its subscriber may have one by "
            "one, never `$` or `#` channels. Names with a `*` are then no channels: publishing to one is error 107.",
            extra=RESTART,
        ),
    ] = False

    @property
    def has_history(self) -> bool:
        """Whether publications are stored."""
        return bool(self.history_size)


class Namespace(ChannelOptions, frozen=True, kw_only=True):
    """One namespace: a name and the options of its channels."""

    name: Annotated[
        str,
        Meta(
            pattern="^[-a-zA-Z0-9][-a-zA-Z0-9_]+$",
            max_length=64,
            description="The text before the first `:` of its channels (`chat` for `chat:room-1`): letters, digits, "
            "`-` and `_`, at least two, and not `_` first.",
            extra={"hint": "a name is two or more of letters, digits, - and _, and does not start with _"},
        ),
    ]


def namespace_names_differ(channel: ChannelConfig) -> Iterator[Problem]:
    """A channel belongs to one namespace."""
    yield from repeated("namespaces", channel.namespaces, "name")


class ChannelConfig(Section, frozen=True, kw_only=True):
    """Channels and their namespaces."""

    checks = (namespace_names_differ,)
    hints = centrifugo_names.CHANNEL
    reloadable = True

    max_length: Annotated[
        int,
        Meta(
            ge=1,
            le=255,
            description="Longest channel name in bytes of UTF-8, namespace included. A command with a longer one is "
            "error 107.",
        ),
    ] = 255
    unsubscribe_linger: Annotated[
        Duration,
        Meta(
            description="How long an edge keeps its NATS subscription after the last local subscriber left, so that "
            "short visits do not burden NATS. Useful from 5s to 30s; 0 = unsubscribe at once.",
            extra={"at_most": "10m", **RESTART},
        ),
    ] = duration("10s")
    without_namespace: Annotated[
        ChannelOptions, Meta(description="The options of channels without a `:` in their name.")
    ] = field(default_factory=ChannelOptions)
    namespaces: Annotated[
        tuple[Namespace, ...],
        Meta(
            description="The namespaces. A channel of a namespace that is not listed is error 102 (unknown channel)."
        ),
    ] = ()


def announced(channel: ChannelConfig) -> bool:
    """Return whether there is a namespace whose members are announced to the presence service."""
    return any(each.presence or each.join_leave for each in (channel.without_namespace, *channel.namespaces))
