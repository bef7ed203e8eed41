"""The edge's own methods, whose names begin with `tw.`: no call of theirs reaches NATS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from tidewire.edge import presence_command, requests
from tidewire.edge.pending import Demands
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.policies.publication_keys import MAX_KEY_BYTES, key_problem
from tidewire.edge.presence_ports import USER_STATUS
from tidewire.edge.wire.commands import NO_DATA, PublishRequest
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.effects import Effect
    from tidewire.edge.party import Party
    from tidewire.edge.subscriptions import Subscriptions
    from tidewire.edge.waiting import TokensWanted
    from tidewire.edge.wire.commands import RpcRequest
    from tidewire.kernel.errors import Disconnect

PUBLISH: Final = "tw.publish"
MAX_VERSION: Final = 2**53 - 1
"""What JavaScript counts exactly."""
MAX_TTL: Final = 365 * 24 * 3600
_EPOCH: Final = re.compile("[-a-zA-Z0-9_]{1,64}")
MAX_SHOWN: Final = 200
"""Characters of what is said about data of the wrong form."""


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of `tw.publish`."""

    channel: str
    data: Raw = NO_DATA
    key: str | None = None
    idempotency_key: str | None = None
    version: int | None = None
    version_epoch: str | None = None
    ttl: int | None = None

    @property
    def demands(self) -> Demands | None:
        """What it asks of JetStream."""
        asked = self.idempotency_key, self.version, self.version_epoch, self.ttl
        if asked == (None, None, None, None):
            return None
        return Demands(self.idempotency_key or "", self.version or 0, self.version_epoch or "", self.ttl or 0)


_ARGUMENTS = msgspec.json.Decoder(Arguments)


def call(
    number: int, request: RpcRequest, party: Party, subscriptions: Subscriptions
) -> list[Effect] | Disconnect | TokensWanted:
    """Carry out an rpc command, of ours or of the application's."""
    if request.method == USER_STATUS:
        return presence_command.status(number, bytes(request.data), party)
    if request.method != PUBLISH:
        return requests.call(number, request, party)
    found = _arguments(bytes(request.data), party)
    if isinstance(found, ReplyError):
        return [party.refuse("rpc", number, found)]
    publication = PublishRequest(channel=found.channel, data=found.data)
    key = found.key or ""
    return requests.publish(number, publication, party, subscriptions, key, "rpc", found.demands)


def _arguments(data: bytes, party: Party) -> Arguments | ReplyError:
    clean = clean_json(data)
    if clean is None:
        return _bad("expected an object of JSON with channel and data")
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
    if why is None and arguments.demands is not None and isinstance(namespace, Namespace):
        why = _unfit(arguments, namespace, party.user)
    return _bad(why) if why is not None else None


def _unfit(arguments: Arguments, namespace: Namespace, user: str) -> str | None:
    """Return what is wrong with what it asks of JetStream."""
    if not namespace.profile:
        return "idempotency_key, version and ttl need a namespace with history"
    return (
        _key_unfit(arguments.idempotency_key, user)
        or _version_unfit(arguments)
        or _ttl_unfit(arguments, namespace)
    )


def _key_unfit(key: str | None, user: str) -> str | None:
    if key is None:
        return None
    if not 0 < len(key.encode(errors="surrogatepass")) <= MAX_KEY_BYTES:
        return f"an idempotency_key has 1 to {MAX_KEY_BYTES} bytes"
    return None if user else "an idempotency_key belongs to a user, and this client has no user id"


def _version_unfit(arguments: Arguments) -> str | None:
    version, epoch = arguments.version, arguments.version_epoch
    if version is not None and not 0 < version <= MAX_VERSION:
        return "version is a whole number from 1 to 2^53 - 1"
    if epoch is None:
        return None
    if version is None:
        return "version_epoch needs a version"
    return None if _EPOCH.fullmatch(epoch) else "a version_epoch has 1 to 64 letters, digits, - and _"


def _ttl_unfit(arguments: Arguments, namespace: Namespace) -> str | None:
    if arguments.ttl is None:
        return None
    if not namespace.takes_ttl:
        return "ttl needs a storage profile with message_ttl, and the namespace's has none"
    return None if 0 < arguments.ttl <= MAX_TTL else f"ttl is a whole number of seconds, 1 to {MAX_TTL}"


def _bad(why: str) -> ReplyError:
    return errors.BAD_REQUEST.saying(f"bad request: {PUBLISH}: {why}")
