"""Placeholder."""
from __future__ import annotations
from collections.abc import Mapping
import msgspec
from msgspec import Raw
from tidewire.edge.policies.capabilities import NONE, Capabilities
from tidewire.edge.wire.commands import NO_DATA


class Override(msgspec.Struct, frozen=True):
    presence: bool | None = None


class ServerSubscription(msgspec.Struct, frozen=True):
    info: Raw = NO_DATA
    data: Raw = NO_DATA
    override: Override = Override()


class ConnectionClaims(msgspec.Struct, frozen=True):
    user: str
    info: Raw = NO_DATA
    meta: Raw = NO_DATA
    expires_at: int = 0
    id: str = ""
    subs: Mapping[str, ServerSubscription] = {}
    capabilities: Capabilities = NONE


class SubscriptionClaims(msgspec.Struct, frozen=True):
    user: str
    channel: str
    client: str = ""
    info: Raw = NO_DATA
    expires_at: int = 0
    id: str = ""
    override: Override = Override()
    capabilities: Capabilities = NONE
