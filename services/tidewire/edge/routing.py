"""Which method a command asks for, and what carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge import history_command, methods, presence_command, requests
from tidewire.edge.wire.commands import (
    Command,
    HistoryRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.credentials import Credentials
    from tidewire.edge.party import Party
    from tidewire.edge.subscriptions import Outcome, Subscriptions

METHODS = Command.__struct_fields__[1:]


def method_of(command: Command) -> str:
    """Return the name of the first field that is set (the protocol has no oneof), "" for none."""
    for name in METHODS:
        if getattr(command, name) is not None:
            return name
    return ""


def carry_out(
    method: str, command: Command, party: Party, credentials: Credentials, subscriptions: Subscriptions
) -> Outcome:
    """Carry out a command of a client that is connected; `method` is the command's, and not connect."""
    number = command.id
    outcome: Outcome
    match getattr(command, method):
        case PublishRequest() as request:
            outcome = requests.publish(number, request, party, subscriptions)
        case SubscribeRequest() as request:
            outcome = subscriptions.subscribe(number, request)
        case UnsubscribeRequest() as request:
            outcome = subscriptions.unsubscribe(number, request)
        case HistoryRequest() | PresenceRequest() | PresenceStatsRequest() as request:
            outcome = _read(number, request, party, subscriptions)
        case RpcRequest() as request:
            outcome = methods.call(number, request, party, subscriptions)
        case SendRequest() as request:
            outcome = requests.send(request, party)
        case RefreshRequest() as request:
            outcome = credentials.refresh(number, request)
        case SubRefreshRequest() as request:
            outcome = subscriptions.refresh(number, request)
        case request if getattr(request, "channel", None) == "":
            outcome = errors.BAD_PROTOCOL
        case _:
            outcome = [party.refuse(method, number, errors.NOT_AVAILABLE)]
    return outcome


def _read(
    number: int,
    request: HistoryRequest | PresenceRequest | PresenceStatsRequest,
    party: Party,
    subscriptions: Subscriptions,
) -> Outcome:
    if isinstance(request, HistoryRequest):
        return history_command.read(number, request, party, subscriptions)
    return presence_command.read(number, request, party, subscriptions)
