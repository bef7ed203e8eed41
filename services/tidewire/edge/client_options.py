"""Settings of client connections: limits, times, tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from tidewire.edge.key_options import JwksConfig
from tidewire.edge.publish_options import PublishConfig
from tidewire.edge.token_options import SubscriptionTokenConfig, TokenConfig
from tidewire.kernel.config import RESTART, SHARED, Duration, Problem, Section, duration
from tidewire.options import centrifugo_names

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", re.IGNORECASE)
_EVERY_ORIGIN: Final = re.compile(r"\*|[^/]*://[*.]+(:.*)?")

TOKEN_COST: Final = 10
"""What a command with a token counts, in commands: to check a signature costs a third of a publish command (HS256) to fifteen
times as much (ES512). What reads history counts as much: a page of 300 costs edge and history service some milliseconds."""


def origins_are_origins(client: ClientConfig) -> Iterator[Problem]:
    """A path or a missing scheme would never match what browsers send."""
    for index, origin in enumerate(client.allowed_origins):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            yield Problem(
                f"allowed_origins[{index}]",
                f"expected scheme://host or scheme://host:port without a path, got {origin!r}",
            )


def no_cookie_for_every_origin(client: ClientConfig) -> Iterator[Problem]:
    """With a cookie every page of the web could act as the user who visits it."""
    if client.token.cookie and (every := next(filter(_EVERY_ORIGIN.fullmatch, client.allowed_origins), "")):
        yield Problem("allowed_origins", f"{every} cannot be combined with token.cookie: list the origins")


def pong_before_ping(client: ClientConfig) -> Iterator[Problem]:
    """A pong that may come after the next ping proves nothing."""
    if client.pong_timeout >= client.ping_interval:
        yield Problem("pong_timeout", f"expected less than ping_interval ({client.ping_interval})")


def whole_ping_seconds(client: ClientConfig) -> Iterator[Problem]:
    """The protocol tells clients the interval in whole seconds."""
    if client.ping_interval % 1:
        yield Problem("ping_interval", f"expected whole seconds, got {client.ping_interval}")


def someone_can_connect(client: ClientConfig) -> Iterator[Problem]:
    """An edge that refuses everybody is a mistake, not a wish."""
    if not client.allow_anonymous_connect_without_token and not client.token.trusts_someone:
        yield Problem(
            "token",
            "nobody could connect: set hmac_secret_key (or hmac_secret_key_file), hmac_keys, public_keys or jwks, "
            "or client.allow_anonymous_connect_without_token",
        )


def one_way_to_fetch(client: ClientConfig) -> Iterator[Problem]:
    """A key set is fetched once for both sections."""
    fetched = {jwks.url: _fetching(jwks) for jwks in client.token.jwks}
    for index, jwks in enumerate(client.subscription_token.jwks):
        if fetched.get(jwks.url, _fetching(jwks)) != _fetching(jwks):
            yield Problem(
                f"subscription_token.jwks[{index}]",
                "expected the times and ca_file of token.jwks, which has the same url",
            )


def bursts_hold_something(client: ClientConfig) -> Iterator[Problem]:
    """A burst below what one command counts would refuse it for ever."""
    if client.command_rate_burst and client.command_rate_burst < TOKEN_COST:
        yield Problem(
            "command_rate_burst",
            f"expected 0, or at least {TOKEN_COST}: what a command with a token, or that reads history, counts",
        )


def one_limit_of_connections(client: ClientConfig) -> Iterator[Problem]:
    """`single_connection` is a limit of one already."""
    if client.user_connection_limit and client.single_connection != "off":
        yield Problem("user_connection_limit", "expected 0 with single_connection, which is a limit of one")


def _fetching(jwks: JwksConfig) -> tuple[object, ...]:
    times = (jwks.refresh_interval, jwks.min_refetch_interval, jwks.timeout, jwks.max_stale)
    return (*times, jwks.ca_file)


class PersonalChannel(Section, frozen=True, kw_only=True):
    """The channel `<namespace>:#<user>`, which only that user may have."""

    hints = centrifugo_names.PERSONAL_CHANNEL
    reloadable = True

    enabled: Annotated[bool, Meta(description="Subscribe each user to its personal channel.")] = False
    namespace: Annotated[
        str,
        Meta(
            description="The namespace of personal channels. Empty: channels without a namespace, `#<user>`."
        ),
    ] = ""


class ClientConfig(Section, frozen=True, kw_only=True):
    """Who may connect, how many, and for how long."""

    checks = (
        origins_are_origins,
        no_cookie_for_every_origin,
        pong_before_ping,
        whole_ping_seconds,
        someone_can_connect,
        one_way_to_fetch,
        bursts_hold_something,
        one_limit_of_connections,
    )
    hints = centrifugo_names.CLIENT
    reloadable = True

    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Origins of the pages that may connect (`https://app.example.com`; a `*` stands for host "
            "labels or a port, a lone `*` for every origin). Empty: only pages of the edge's own host. A handshake "
            "from another origin gets HTTP 403; one without an Origin header does not come from a page and passes."
        ),
    ] = ()
    allow_anonymous_connect_without_token: Annotated[
        bool,
        Meta(
            description="Whether a client without a token may connect, with the empty user id. Otherwise it is closed "
            "with 3501."
        ),
    ] = False
    connection_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Most connections of one edge. Further handshakes get HTTP 503, so that a balancer tries "
            "another edge. Lowered, with a warning, where the limit of open files allows fewer.",
            extra=SHARED,
        ),
    ] = 15000
    user_connection_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Most connections of one user on one edge; 0: any number. A further one is closed with 3504, after "
            "which SDKs do not try again. Users without an id do not count. Each worker counts its own: with several "
            "workers or edges a user may have as many on each. Over all of them: `rate_limits.connections`.",
        ),
    ] = 0
    address_connection_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Most connections of one client address on one edge; 0: any number. A further handshake gets HTTP "
            "429. Of IPv6 a /64 network counts as one address. Leave it at 0 where all clients come from the address of a "
            "balancer, and remember that a company or a mobile network may be one address. Each worker counts its own: the "
            "kernel spreads an address's connections over all of them. Over all edges: `rate_limits.connections`.",
        ),
    ] = 0
    connection_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Most WebSocket handshakes in a second; 0: any number. Further ones get HTTP 503 with a Retry-After "
            "that differs from client to client. It keeps a core free for the clients that are "
            "there while many come back at once, so it is each worker's own.",
        ),
    ] = 1000
    connection_rate_burst: Annotated[
        int,
        Meta(ge=1, description="Most handshakes at once, after a quiet time; then `connection_rate_limit`."),
    ] = 2000
    max_loop_lag: Annotated[
        Duration,
        Meta(
            description="How late the event loop may be, in the median of about a second, while handshakes are accepted; "
            "0: however late. Above it they get HTTP 503, so that an overloaded edge serves those that it has. Each worker "
            "measures its own.",
            extra={"at_most": "1m"},
        ),
    ] = duration("500ms")
    command_rate_limit: Annotated[
        int,
        Meta(
            ge=0,
            description="Most commands of one connection in a second; 0: any number. A command with a token, or that reads "
            "history (`history` with a limit, `subscribe` that recovers) or asks who is there (`presence`, `presence_stats`, `tw.user_status`), counts as 10, a pong as none. Further ones get error 111, which clients may try again. A client that is refused "
            "as many again does not look at the answers, and is closed with 3013.",
        ),
    ] = 500
    command_rate_burst: Annotated[
        int,
        Meta(
            ge=0,
            description="Most commands of one connection at once, after a quiet time; then `command_rate_limit`. 0: what a "
            "client sends that comes back with `channel_limit` subscriptions, each with a token (10 for connect, 10 for each), "
            "or a second's worth where that is more.",
        ),
    ] = 0
    channel_limit: Annotated[
        int, Meta(ge=1, description="Most subscriptions of one connection. Further ones get error 106.")
    ] = 128
    inflight_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Most commands of one connection that wait for an answer (subscribe, publish, rpc). Further "
            "ones get error 111, which clients may try again.",
        ),
    ] = 128
    publish: Annotated[PublishConfig, Meta(description="Publications to namespaces with history.")] = field(
        default_factory=PublishConfig
    )
    queue_max_size: Annotated[
        int,
        Meta(
            ge=1,
            description="Most bytes that may wait for a client that reads slowly. With more it is closed with 3008 "
            "and reconnects. A change counts for new connections.",
        ),
    ] = 1048576
    ping_interval: Annotated[
        Duration,
        Meta(
            description="Time between pings of the edge, in whole seconds. Clients learn it when they connect and "
            "reconnect when a ping does not come.",
            extra={"at_least": "1s", "at_most": "10m", **RESTART},
        ),
    ] = duration("25s")
    pong_timeout: Annotated[
        Duration,
        Meta(
            description="How long a client may take to answer a ping; less than `ping_interval`. Later it is closed "
            "with 3012.",
            extra={"at_least": "100ms", **RESTART},
        ),
    ] = duration("8s")
    stale_close_delay: Annotated[
        Duration,
        Meta(
            description="How long a connection may stay without a successful connect command. Later it is closed "
            "with 3502.",
            extra={"at_least": "100ms", "at_most": "10m"},
        ),
    ] = duration("10s")
    handshake_timeout: Annotated[
        Duration,
        Meta(
            description="How long a new connection may take to send its whole HTTP request. Later it is dropped.",
            extra={"at_least": "100ms", "at_most": "10m"},
        ),
    ] = duration("5s")
    expired_close_delay: Annotated[
        Duration,
        Meta(
            description="How long a connection may go on after its token expired, so that it can refresh it. Later "
            "it is closed with 3005.",
            extra={"at_most": "1h"},
        ),
    ] = duration("25s")
    expired_sub_close_delay: Annotated[
        Duration,
        Meta(
            description="How long a subscription may go on after its token expired, so that it can be refreshed. "
            "Later it ends with 2501, and the SDK subscribes again with a new token.",
            extra={"at_most": "1h"},
        ),
    ] = duration("25s")
    single_connection: Annotated[
        Literal["off", "replace", "refuse"],
        Meta(
            description="Whether a user with an id may have one connection only. `replace`: a new connection closes "
            "the user's others, on all edges, with 3503. `refuse`: while the user has a connection, a new one is closed with "
            "3504. On all edges: with a presence service before its connect reply, for which that is asked (`presence.timeout` at "
            "most); where there is none, or it does not answer, and of two that come at once, just after the reply."
        ),
    ] = "off"
    allow_user_status_for_client: Annotated[
        bool,
        Meta(
            description="Whether every client with a user id may ask by the RPC method `tw.user_status` which users are "
            "connected, since when, and when they were last seen. Needs the presence service."
        ),
    ] = False
    subscribe_to_user_personal_channel: Annotated[
        PersonalChannel,
        Meta(
            description="A channel for each user with an id, subscribed to by the edge when the user connects."
        ),
    ] = field(default_factory=PersonalChannel)
    token: Annotated[
        TokenConfig,
        Meta(
            description="How connection tokens are checked, and subscription tokens where `subscription_token` has no key."
        ),
    ] = field(default_factory=TokenConfig)
    subscription_token: Annotated[
        SubscriptionTokenConfig,
        Meta(
            description="How subscription tokens are checked, where other keys sign them than connection tokens. With a "
            "key here, those of `token` serve connection tokens alone."
        ),
    ] = field(default_factory=SubscriptionTokenConfig)
