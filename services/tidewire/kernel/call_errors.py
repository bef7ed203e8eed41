"""The one table between what goes wrong in a service and the statuses of gRPC, for servers and their clients. Pure.

A call that fails has a gRPC status, for everybody, and a reason, for us: its name goes along in the trailing metadata
REASON_KEY. Statuses are written as gRPC names them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError, TidewireError

REASON_KEY: Final = "tw-reason"

STATUSES: Final = (
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Those that say that a call failed, in the order of their numbers, which begin at 1."""


class Reason(msgspec.Struct, frozen=True):
    """Why calls fail: its name, the gRPC status it travels as, and what the client of an edge is told."""

    name: str
    status: str
    reply: ReplyError = errors.INTERNAL


class CallError(TidewireError):
    """A call failed. Servicers raise it, and clients get it as it was raised: `message` may be read by the caller's developer."""

    def __init__(self, reason: Reason, message: str = "") -> None:
        self.reason = reason
        self.message = message or reason.reply.message
        super().__init__(f"{reason.name}: {self.message}")

    @property
    def reply(self) -> ReplyError:
        """What to tell the client whose command needed this call: nothing of the mesh itself."""
        told = self.reason.reply
        return told if told == errors.INTERNAL else told.saying(self.message)


_OF_REPLIES: Final = {
    reply.code: Reason(name, status, reply)
    for name, status, reply in (
        ("internal", "INTERNAL", errors.INTERNAL),
        ("unauthorized", "UNAUTHENTICATED", errors.UNAUTHORIZED),
        ("unknown_channel", "NOT_FOUND", errors.UNKNOWN_CHANNEL),
        ("not_permitted", "PERMISSION_DENIED", errors.PERMISSION_DENIED),
        ("method_not_found", "UNIMPLEMENTED", errors.METHOD_NOT_FOUND),
        ("already_subscribed", "ALREADY_EXISTS", errors.ALREADY_SUBSCRIBED),
        ("limit_exceeded", "RESOURCE_EXHAUSTED", errors.LIMIT_EXCEEDED),
        ("bad_request", "INVALID_ARGUMENT", errors.BAD_REQUEST),
        ("not_available", "FAILED_PRECONDITION", errors.NOT_AVAILABLE),
        ("token_expired", "UNAUTHENTICATED", errors.TOKEN_EXPIRED),
        ("expired", "FAILED_PRECONDITION", errors.EXPIRED),
        ("too_many_requests", "RESOURCE_EXHAUSTED", errors.TOO_MANY_REQUESTS),
        ("unrecoverable_position", "OUT_OF_RANGE", errors.UNRECOVERABLE_POSITION),
    )
}
_OF_STATUSES: Final = {status: Reason(status.lower(), status) for status in STATUSES}

INTERNAL: Final = _OF_REPLIES[errors.INTERNAL.code]
BAD_REQUEST: Final = _OF_REPLIES[errors.BAD_REQUEST.code]
CANCELLED: Final = _OF_STATUSES["CANCELLED"]
DEADLINE_EXCEEDED: Final = _OF_STATUSES["DEADLINE_EXCEEDED"]
UNAVAILABLE: Final = _OF_STATUSES["UNAVAILABLE"]
"""Not now, and perhaps elsewhere: the one reason for which a call is repeated within the client's budget."""
ELSEWHERE: Final = Reason("elsewhere", "UNAVAILABLE")
"""Another replica serves it: this one has done nothing, so that asking the next one costs no budget."""
NOT_SYNCED: Final = Reason("not_synced", "UNAVAILABLE")
"""The replica does not hold the whole of what is asked for yet, and another one may."""
BUSY: Final = Reason("busy", "RESOURCE_EXHAUSTED")
"""The server has as many calls as it takes."""
BUSY_HERE: Final = Reason("busy_here", "RESOURCE_EXHAUSTED")
"""The client has as many calls as it makes: this one never left it."""
NO_DEADLINE: Final = Reason("no_deadline", "INVALID_ARGUMENT")
UNKNOWN_CLIENT: Final = Reason("unknown_client", "PERMISSION_DENIED")
"""The client's certificate is good, and names nobody who may call."""

_BY_NAME: Final = {
    reason.name: reason
    for reason in (
        *_OF_STATUSES.values(),
        *_OF_REPLIES.values(),
        ELSEWHERE,
        NOT_SYNCED,
        BUSY,
        BUSY_HERE,
        NO_DEADLINE,
        UNKNOWN_CLIENT,
    )
}


def refusal(reply: ReplyError) -> CallError:
    """Return the error of a servicer that says what an edge would say itself."""
    return CallError(_OF_REPLIES[reply.code], reply.message)


def reason_of(status: str, name: str | None) -> Reason:
    """Return the reason that a failed call came with.

    Without one that is known and fits the status (the answer is a proxy's, gRPC's own or a newer server's), it is the
    status's, and the client of an edge learns no more than "internal": what a proxy forbids, say, is not about him.
    """
    found = _BY_NAME.get(name or "")
    return found if found is not None and found.status == status else _OF_STATUSES[status]
