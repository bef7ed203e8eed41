"""The gRPC service: its messages into queries, and answers into its messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tidewire.history import turns
from tidewire.history.answers import Answer, Query, Since
from tidewire.kernel import errors
from tidewire.kernel.call_errors import refusal
from tidewire.platform import rpc_library as _grpc_first  # noqa: F401 - before the generated code, which imports gRPC
from tidewire.platform.rpc_call import CALLER
from tidewire.platform.rpc_server import Service
from tidewire.rpc.history.v1 import history_pb2 as pb
from tidewire.rpc.history.v1 import history_pb2_grpc as generated

if TYPE_CHECKING:
    from tidewire.history.positions import Positions
    from tidewire.history.reader import Reader

Context = Any
"""grpc.aio.ServicerContext"""

NAME: Final = "tidewire.rpc.history.v1.History"
MOST_OF_A_NAME: Final = 64
"""Characters that a caller is known by."""
MOST_POSITIONS: Final = 1_000
MOST_PUBLICATIONS: Final = 10_000
MOST_BYTES: Final = 2 << 20
"""Of publications in one answer, below the size of a gRPC message; what a request with 0 gets."""


class HistoryServicer:
    """Implements `tidewire.rpc.history.v1.History`; what goes wrong is a CallError."""

    def __init__(self, reader: Reader, positions: Positions) -> None:
        self._reader = reader
        self._positions = positions

    def service(self) -> Service:
        """Return what a server takes."""
        return Service(NAME, self._add)

    def _add(self, server: Any) -> None:  # noqa: ANN401 - gRPC's server
        generated.add_HistoryServicer_to_server(self, server)  # type: ignore[no-untyped-call] # generated

    async def Read(self, request: pb.ReadRequest, context: Context) -> bytes:  # noqa: N802 - the method's name
        """Publications of a channel, and its position: a `ReadReply`, most of which was written when they were first read."""
        _note_asker(context)
        answer = await self._reader.read(query_of(request))
        outcome: Any = answer.outcome.value
        rest = pb.ReadReply(top=_top(answer), outcome=outcome).SerializeToString()
        return b"".join([rest, *(each.body for each in answer.publications)])

    async def Position(self, request: pb.PositionRequest, context: Context) -> pb.PositionReply:  # noqa: N802 - as above
        """Where channels stand."""
        _note_asker(context)
        if len(request.channels) > MOST_POSITIONS:
            raise refusal(errors.BAD_REQUEST.saying(f"more than {MOST_POSITIONS} channels"))
        since = [Since(each.offset, each.epoch) for each in request.since]
        if since and len(since) != len(request.channels):
            raise refusal(errors.BAD_REQUEST.saying("`since` of some channels and not of others"))
        found = await self._positions.of(request.channels, since)
        return pb.PositionReply(
            positions=[
                pb.ChannelPosition(problem=each)
                if isinstance(each, str)
                else pb.ChannelPosition(top=pb.StreamPosition(offset=each[0], epoch=each[1]))
                for each in found
            ]
        )

    async def Purge(self, request: pb.PurgeRequest, context: Context) -> pb.PurgeReply:  # noqa: N802 - as above
        """Drop what a channel has kept."""
        _note_asker(context)
        return pb.PurgeReply(purged=await self._reader.purge(request.channel))

    async def Stats(self, request: pb.StatsRequest, context: Context) -> pb.StatsReply:  # noqa: N802 - as above
        """How much a channel has kept."""
        _note_asker(context)
        answer, publications, first = await self._reader.stats(request.channel)
        return pb.StatsReply(top=_top(answer), publications=publications, first_offset=first)


def _note_asker(context: Context) -> None:
    """Have what a call asks of streams wait its turn behind what the same edge has asked. A call has a context of its own."""
    named = [value for key, value in context.invocation_metadata() or () if key == CALLER]
    turns.asker.set(turns.Asker(context.peer(), named[0][:MOST_OF_A_NAME] if named else ""))


def query_of(request: pb.ReadRequest) -> Query:
    """Return what a request asks for. Raises CallError."""
    if request.recover and request.reverse:
        raise refusal(errors.BAD_REQUEST.saying("a recovery is not read in reverse"))
    since = Since(request.since.offset, request.since.epoch) if request.HasField("since") else None
    return Query(
        request.channel,
        since,
        min(request.limit, MOST_PUBLICATIONS),
        request.reverse,
        min(request.max_bytes or MOST_BYTES, MOST_BYTES),
        request.at_least,
        request.recover,
    )


def _top(answer: Answer) -> pb.StreamPosition:
    return pb.StreamPosition(offset=answer.offset, epoch=answer.epoch)
