"""The rules that every session of an edge plays by: the configuration, compiled; a reload replaces it in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.policies.permissions import Namespaces
from tidewire.edge.policies.rpc import RpcPolicy
from tidewire.edge.policies.tokens import TokenVerifier

if TYPE_CHECKING:
    from tidewire.edge.config import EdgeConfig
    from tidewire.kernel.clock import Clock


class Rules:
    """Limits in the units of their names, and the policies that answer yes or no."""

    __slots__ = (
        "_send",
        "allow_anonymous",
        "channel_limit",
        "clock",
        "expired_close_delay",
        "inflight_limit",
        "namespaces",
        "ping_seconds",
        "rpc",
        "tokens",
        "version",
    )

    def __init__(self, config: EdgeConfig, clock: Clock, version: str) -> None:
        self.clock = clock
        self.version = version
        self.configure(config)

    def configure(self, config: EdgeConfig) -> None:
        """Follow `config` from now on, in sessions that live, too. What raises here has changed nothing."""
        client = config.client
        namespaces = Namespaces(config.channel)
        tokens = TokenVerifier(client.token, self.clock)
        rpc = RpcPolicy(config.rpc)
        self.namespaces = namespaces
        self.tokens = tokens
        self.rpc = rpc
        self.allow_anonymous = client.allow_anonymous_connect_without_token
        self.channel_limit = client.channel_limit
        self.inflight_limit = client.inflight_limit
        self.expired_close_delay = float(client.expired_close_delay)
        self.ping_seconds = max(1, round(client.ping_interval))
        self._send = config.send

    def may_send(self, user: str) -> bool:
        """Return whether one-way messages of this user are passed on."""
        return self._send.enabled and (bool(user) or self._send.allow_for_anonymous)
