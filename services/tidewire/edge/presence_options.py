"""Settings of the way to the presence service."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tidewire.edge.history_options import target_is_good
from tidewire.kernel.config import Duration, duration
from tidewire.platform.rpc_client_options import RpcClientConfig, lists_are_named


class PresenceConfig(RpcClientConfig, frozen=True, kw_only=True):
    """The presence service: who is in channels, and which users are connected, over all edges."""

    checks = (target_is_good, lists_are_named)

    target: Annotated[
        str,
        Meta(
            description="Where its replicas are: `dns:///presence:9543` for every address of a name (a headless Service on "
            "Kubernetes), or `ipv4:10.0.0.1:9543,10.0.0.2:9543`. Needed as soon as one namespace has `presence`. Without it "
            "an edge announces nobody."
        ),
    ] = ""
    timeout: Annotated[
        Duration,
        Meta(
            description="The deadline of every call, its retries included: a client then gets a temporary error, and with "
            "`client.single_connection: refuse` its connect reply. Less than 4s, since the SDKs give up on a command after 5s.",
            extra={"at_least": "10ms", "below": "4s"},
        ),
    ] = duration("2s")
