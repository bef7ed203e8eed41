"""The gRPC service: its messages into questions, and answers into its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from tidewire.kernel import errors
from tidewire.kernel.call_errors import BAD_REQUEST, ELSEWHERE, NOT_SYNCED, UNAVAILABLE, CallError, refusal
from tidewire.platform import rpc_library as _grpc_first  # noqa: F401 - before the generated code, which imports gRPC
from tidewire.platform.rpc_server import Service
from tidewire.presence.answers import Answers, Counts, Members, Problem, Status
from tidewire.presence.packed import wrapped
from tidewire.rpc.presence.v1 import presence_pb2 as pb
from tidewire.rpc.presence.v1 import presence_pb2_grpc as generated

NAME: Final = "tidewire.rpc.presence.v1.Presence"
MOST_ITEMS: Final = 1_000
MOST_MEMBERS: Final = 10_000
"""Of one channel; what a request with 0 gets."""

_REASONS: Final = {reason.name: reason for reason in (BAD_REQUEST, ELSEWHERE, NOT_SYNCED, UNAVAILABLE)}
_A = TypeVar("_A")

Counted = Callable[[str, str, int], None]
"""Counts answers: the method, the outcome, how many."""


class PresenceServicer:
    """Implements `tidewire.rpc.presence.v1.Presence`. What is wrong with all items is a CallError, so that another replica is asked."""

    def __init__(self, answers: Answers, counted: Counted) -> None:
        self._answers = answers
        self._counted = counted

    def service(self) -> Service:
        """Return what a server takes."""
        return Service(NAME, self._add)

    def _add(self, server: Any) -> None:  # noqa: ANN401 - gRPC's server
        generated.add_PresenceServicer_to_server(self, server)  # type: ignore[no-untyped-call] # generated

    async def Members(self, request: pb.MembersRequest, _context: object) -> bytes:  # noqa: N802 - the method's name
        """The members of channels: a `MembersReply`."""
        limit = min(request.limit or MOST_MEMBERS, MOST_MEMBERS)
        found = self._answers.members(_bounded(request.channels), limit)
        return b"".join(map(_members, self._checked("members", found)))

    async def Stats(self, request: pb.StatsRequest, _context: object) -> pb.StatsReply:  # noqa: N802 - as above
        """How many members channels have."""
        found = self._answers.counts(_bounded(request.channels))
        return pb.StatsReply(channels=map(_stats, self._checked("stats", found)))

    async def UserStatus(self, request: pb.UserStatusRequest, _context: object) -> pb.UserStatusReply:  # noqa: N802 - as above
        """Whether users are connected."""
        found = self._answers.statuses(_bounded(request.users))
        return pb.UserStatusReply(users=map(_status, self._checked("user_status", found)))

    def _checked(self, method: str, found: Sequence[_A | Problem]) -> Iterable[_A | Problem]:
        """Return the answers; raise CallError where there is none among them."""
        problems = [each for each in found if isinstance(each, str)]
        self._counted(method, "ok", len(found) - len(problems))
        for problem in problems:
            self._counted(method, problem, 1)
        if problems and len(problems) == len(found):
            reason = next((_REASONS[name] for name in _MOST_HOPEFUL if name in problems), BAD_REQUEST)
            raise CallError(reason, _SAID[reason.name])
        return found


_MOST_HOPEFUL: Final = (ELSEWHERE.name, NOT_SYNCED.name, UNAVAILABLE.name)
_SAID: Final = {
    ELSEWHERE.name: "another replica serves these partitions",
    NOT_SYNCED.name: "this replica does not hold the whole yet",
    UNAVAILABLE.name: "NATS is away",
    BAD_REQUEST.name: "no channel can have such a name",
}


def _bounded(items: Sequence[str]) -> Sequence[str]:
    if len(items) > MOST_ITEMS:
        raise refusal(errors.BAD_REQUEST.saying(f"more than {MOST_ITEMS} at once"))
    return items


def _members(found: Members | Problem) -> bytes:
    """One of `MembersReply.channels`: fields of a message may be written one after the other."""
    if isinstance(found, str):
        return pb.MembersReply(channels=[pb.ChannelMembers(problem=found)]).SerializeToString()
    rest = pb.ChannelMembers(clients=found.clients).SerializeToString()
    return wrapped([*found.shown, rest])


def _stats(found: Counts | Problem) -> pb.ChannelStats:
    if isinstance(found, str):
        return pb.ChannelStats(problem=found)
    return pb.ChannelStats(clients=found.clients, users=found.users)


def _status(found: Status | Problem) -> pb.UserStatus:
    if isinstance(found, str):
        return pb.UserStatus(problem=found)
    return pb.UserStatus(
        connections=[
            pb.UserConnection(client=each.client, edge=each.edge, since_ms=each.since_ms)
            for each in found.connections
        ],
        online=found.online,
        last_seen_ms=found.last_seen_ms,
        known_since_ms=found.known_since_ms,
    )
