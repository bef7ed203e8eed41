"""Settings of the way to the history service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from tidewire.kernel.config import Problem
from tidewire.platform.rpc_client_options import RpcClientConfig, lists_are_named, target_is_named


def target_is_good(client: RpcClientConfig) -> Iterator[Problem]:
    """Without a target there is none to judge."""
    if client.target:
        yield from target_is_named(client)


class HistoryConfig(RpcClientConfig, frozen=True, kw_only=True):
    """The history service, which channels with history need: it says where they stand, and what a client has missed."""

    checks = (target_is_good, lists_are_named)

    target: Annotated[
        str,
        Meta(
            description="Where its replicas are: `dns:///history:9443` for every address of a name (a headless Service on "
            "Kubernetes), or `ipv4:10.0.0.1:9443,10.0.0.2:9443`. Needed as soon as one namespace has history."
        ),
    ] = ""
