"""What good tokens say: the claims of the Centrifuge client protocol, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from tidewire.edge.policies.capabilities import NONE, Capabilities
from tidewire.edge.wire.commands import NO_DATA

LONGEST_USER: Final = 1024
"""Characters of a user id: whoever is connected can be named in an order."""


class Override(msgspec.Struct, frozen=True):
    """Options of the namespace that a token sets otherwise for one subscription; None leaves them as they are."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_push_join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None


class ServerSubscription(msgspec.Struct, frozen=True):
    """A subscription that the edge makes for the client when it connects; `info` and `data` are JSON, "" = none."""

    info: Raw = NO_DATA
    data: Raw = NO_DATA
    override: Override = Override()


class ConnectionClaims(msgspec.Struct, frozen=True):
    """What a good connection token says. `expires_at` in Unix seconds, 0 = never; `info` and `meta` are JSON, "" = none.

    `id` is the claim `jti`; `subs` holds the channels of both claims `channels` and `subs`.
    """

    user: str
    info: Raw = NO_DATA
    meta: Raw = NO_DATA
    expires_at: int = 0
    id: str = ""
    subs: Mapping[str, ServerSubscription] = {}
    capabilities: Capabilities = NONE
    custom: Mapping[str, str] = {}
    """Those of the application's own claims that rate limits ask for, as text."""


class SubscriptionClaims(msgspec.Struct, frozen=True):
    """What a good subscription token says; `client` is set by old issuers only.

    `channel` is "" in a connection token, which is for no channel. `expires_at`: when the subscription ends, in Unix
    seconds, 0 = never. `capabilities` (claim `allow`) are on this channel.
    """

    user: str
    channel: str
    client: str = ""
    info: Raw = NO_DATA
    expires_at: int = 0
    id: str = ""
    override: Override = Override()
    capabilities: Capabilities = NONE
