"""The rules that every session of an edge plays by: the configuration, compiled; a reload replaces it in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.client_options import TOKEN_COST
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.permissions import Namespace, Namespaces
from tidewire.edge.policies.rpc import RpcPolicy
from tidewire.edge.policies.tokens import TokenVerifier
from tidewire.kernel import errors
from tidewire.kernel.channels import NAMESPACE_BOUNDARY, USER_BOUNDARY, limited_users
from tidewire.kernel.token_bucket import Allowance

if TYPE_CHECKING:
    from tidewire.edge.client_options import ClientConfig
    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.conflation import Delivery
    from tidewire.edge.connection_limits import ConnectionLimits
    from tidewire.edge.limits import Limits
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError


class Rules:
    """Limits in the units of their names, and the policies that answer yes or no."""

    __slots__ = (
        "_keys",
        "_personal",
        "_send",
        "allow_anonymous",
        "announces",
        "channel_limit",
        "clock",
        "command_rate",
        "expired_close_delay",
        "expired_sub_close_delay",
        "inflight_limit",
        "limits",
        "namespaces",
        "ping_seconds",
        "places",
        "rpc",
        "single_connection",
        "tokens",
        "user_connection_limit",
        "user_status",
        "version",
    )

    def __init__(self, config: EdgeConfig, clock: Clock, version: str, keys: KeyCache | None = None) -> None:
        self.clock = clock
        self.version = version
        self._keys = keys or KeyCache()
        self.limits: Limits | None = None
        """Limits over all edges; None without a rate-limit service. `places`: those of connections at the same time."""
        self.places: ConnectionLimits | None = None
        self.configure(config)

    def configure(self, config: EdgeConfig) -> None:
        """Follow `config` from now on, in sessions that live, too. What raises here has changed nothing."""
        client = config.client
        namespaces = Namespaces(config.channel, config.storage)
        rpc = RpcPolicy(config.rpc)
        self.tokens = TokenVerifier(client, self.clock, self._keys, config.rate_limits.claims)
        self.namespaces = namespaces
        self.rpc = rpc
        self.allow_anonymous = client.allow_anonymous_connect_without_token
        self.announces = bool(config.presence.target)
        """Whether there is a presence service to tell who is there."""
        self.user_status = client.allow_user_status_for_client
        self.channel_limit = client.channel_limit
        self.inflight_limit = client.inflight_limit
        self.expired_close_delay = float(client.expired_close_delay)
        self.expired_sub_close_delay = float(client.expired_sub_close_delay)
        self.single_connection = client.single_connection
        self.user_connection_limit = client.user_connection_limit
        self.command_rate = _command_rate(client)
        """How fast one connection may send commands; None: as fast as it can."""
        self._personal = client.subscribe_to_user_personal_channel
        self.ping_seconds = max(1, round(client.ping_interval))
        self._send = config.send

    def may_send(self, user: str) -> bool:
        """Return whether one-way messages of this user are passed on."""
        return self._send.enabled and (bool(user) or self._send.allow_for_anonymous)

    def is_stored(self, channel: str) -> bool:
        """Return whether publications of a channel are stored."""
        namespace = self.namespaces.find(channel)
        return isinstance(namespace, Namespace) and namespace.options.has_history

    def leaves_held(self, channel: str) -> float:
        """Return for how many seconds leaves of a channel are held back."""
        namespace = self.namespaces.find(channel)
        return float(namespace.options.join_leave_debounce) if isinstance(namespace, Namespace) else 0.0

    def delivery(self, channel: str) -> Delivery | None:
        """Return how publications of a channel go out; None: at once, and all."""
        namespace = self.namespaces.find(channel)
        return namespace.delivery if isinstance(namespace, Namespace) else None

    def personal_channel(self, user: str) -> str | ReplyError | None:
        """Return the channel that the edge subscribes this user to, if any, or why there can be none for this user."""
        if not self._personal.enabled or not user:
            return None
        namespace = self._personal.namespace
        channel = f"{USER_BOUNDARY}{user}"
        if limited_users(channel) != (user,):  # it would be limited to others
            return errors.BAD_REQUEST.saying(
                "bad request: a user id with # or , can have no personal channel"
            )
        return f"{namespace}{NAMESPACE_BOUNDARY}{channel}" if namespace else channel


def _command_rate(client: ClientConfig) -> Allowance | None:
    if not client.command_rate_limit:
        return None
    reconnect = TOKEN_COST * (1 + client.channel_limit)
    burst = client.command_rate_burst or max(client.command_rate_limit, reconnect)
    return Allowance(client.command_rate_limit, burst)
