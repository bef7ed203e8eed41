"""Settings of calls of clients: which methods there are, and who may call them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from tidewire.kernel.config import Duration, Problem, Section, duration, repeated
from tidewire.options import centrifugo_names

_RESERVED_METHODS: Final = "tw."


def method_names_differ(rpc: RpcConfig) -> Iterator[Problem]:
    """One entry decides on a method."""
    yield from repeated("methods", rpc.methods, "name")


def method_is_not_ours(method: RpcMethod) -> Iterator[Problem]:
    """Some names are kept for methods of the edge itself."""
    if method.name.startswith(_RESERVED_METHODS):
        yield Problem("name", f"names that begin with {_RESERVED_METHODS} are the edge's own")


class RpcMethod(Section, frozen=True, kw_only=True):
    """Who may call one method."""

    checks = (method_is_not_ours,)
    reloadable = True

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="The method's name; `*` stands for every method that is not listed.",
        ),
    ]
    allow_for_client: Annotated[bool, Meta(description="Whether clients with a user id may call it.")] = True
    allow_for_anonymous: Annotated[
        bool, Meta(description="Whether clients without a user id may call it.")
    ] = False


class RpcConfig(Section, frozen=True, kw_only=True):
    """Calls of clients, relayed to NATS responders on `tw.rpc.<method>`."""

    checks = (method_names_differ,)
    hints = centrifugo_names.RPC
    reloadable = True

    enabled: Annotated[
        bool, Meta(description="Whether calls are relayed. Otherwise each gets error 108 (not available).")
    ] = False
    timeout: Annotated[
        Duration,
        Meta(
            description="How long a responder may take before the client gets a temporary error. Less than 4s, since "
            "the SDKs give up on a command after 5s.",
            extra={"at_least": "100ms", "below": "4s"},
        ),
    ] = duration("3s")
    methods: Annotated[
        tuple[RpcMethod, ...],
        Meta(description="The methods that clients may call. Any other gets error 103 (permission denied)."),
    ] = ()
