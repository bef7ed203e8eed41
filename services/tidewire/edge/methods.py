"""The edge's own methods, whose names begin with `tw.`: no call of theirs reaches NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from tidewire.edge import requests
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.policies.publication_keys import key_problem
from tidewire.edge.wire.commands import NO_DATA, PublishRequest
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.effects import Effect
    from tidewire.edge.party import Party
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.wire.commands import RpcRequest
    from tidewire.kernel.errors import Disconnect

PUBLISH: Final = "tw.publish"
MAX_SHOWN: Final = 200
"""Characters of what is said about data of the wrong form."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of `tw.publish`."""

    channel: str
    data: Raw = NO_DATA
    key: str | None = None


_ARGUMENTS = msgspec.json.Decoder(Arguments)


def call(
    number: int, request: RpcRequest, party: Party, subscriptions: Subscriptions
) -> list[Effect] | Disconnect:
    """Carry out an rpc command, of ours or of the application's."""
    if request.method != PUBLISH:
        return requests.call(number, request, party)
    found = _arguments(bytes(request.data), party)
    if isinstance(found, ReplyError):
        return [party.refuse("rpc", number, found)]
    publication = PublishRequest(channel=found.channel, data=found.data)
    return requests.publish(number, publication, party, subscriptions, found.key or "", "rpc")


def _arguments(data: bytes, party: Party) -> Arguments | ReplyError:
    clean = clean_json(data)
    if clean is None:
        return _bad("expected an object of JSON with channel, data and key")
    try:
        arguments = _ARGUMENTS.decode(clean)
    except msgspec.DecodeError as error:  # it may name a field that the client has made up, of any length
        return _bad(str(error)[:MAX_SHOWN])
    return _problem(arguments, party) or arguments


def _problem(arguments: Arguments, party: Party) -> ReplyError | None:
    """Return what is wrong beyond what is wrong for a publish command."""
    if not arguments.channel:
        return _bad("channel is empty")
    namespace = party.rules.namespaces.find(arguments.channel)
    if isinstance(namespace, Namespace) and namespace.binary:
        return _bad("it carries JSON, and the channel's namespace is binary")
    why = None if arguments.key is None else key_problem(arguments.key.encode(errors="surrogatepass"))
    return _bad(why) if why is not None else None


def _bad(why: str) -> ReplyError:
    return errors.BAD_REQUEST.saying(f"bad request: {PUBLISH}: {why}")
