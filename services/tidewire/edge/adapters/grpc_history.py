"""The history port on gRPC: what this edge asks of the history service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from tidewire.edge.ports import Outcome, Page, Publication, Query
from tidewire.edge.wire.commands import StreamPosition
from tidewire.kernel import call_errors, errors
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.retries import MOST_MOVES
from tidewire.kernel.seldom import Seldom
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.tasks import ended
from tidewire.rpc.history.v1 import history_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from tidewire.kernel.clock import Clock
    from tidewire.platform.rpc_call import Method
    from tidewire.platform.rpc_client_options import RpcClientConfig
    from tidewire.platform.rpc_telemetry import RpcClientMetrics
    from tidewire.platform.tracing import Tracer

    Parse = Callable[[str, bytes, bytes, int, int], Publication | None]
    """A channel, a header block, data, the offset and when it was stored; None for what cannot be understood."""

AWAY: Final = errors.INTERNAL.saying("temporarily not possible: the history service is away")
DISAGREES: Final = errors.INTERNAL.saying(
    "temporarily not possible: the history service does not know the channel's namespace"
)
BUSY: Final = errors.TOO_MANY_REQUESTS.saying("too many requests: the history service is busy")
ELSEWHERE: Final = call_errors.ELSEWHERE.name
"""The next replica may serve it: positions that one does not know are asked of another."""
_SERVICE: Final = f"/{pb.DESCRIPTOR.services_by_name['History'].full_name}"
READ: Final = f"{_SERVICE}/Read"
POSITION: Final = f"{_SERVICE}/Position"
_OUTCOMES: Final[Mapping[int, Outcome]] = {
    pb.OUTCOME_COMPLETE: Outcome.COMPLETE,
    pb.OUTCOME_MORE: Outcome.MORE,
    pb.OUTCOME_TRIMMED: Outcome.TRIMMED,
    pb.OUTCOME_OTHER_EPOCH: Outcome.OTHER_EPOCH,
    pb.OUTCOME_TOO_MANY: Outcome.TOO_MANY,
}


def client_of(
    config: RpcClientConfig,
    metrics: RpcClientMetrics,
    log: FilteringBoundLogger,
    clock: Clock,
    tracer: Tracer | None,
    node: str,
) -> RpcClient:
    """Return a client of the service, all of whose calls may be repeated. `node` is this edge's name."""
    return RpcClient(config, (READ, POSITION), metrics, log, clock, tracer, caller=node)


class GrpcHistory:
    """`ports.History` on a client of the service. `parse` reads the headers of stored publications as those of live ones.

    That it is away is logged once a minute, and at the start, before anybody misses it; that it has other namespaces as often.
    """

    def __init__(
        self, client: RpcClient, parse: Parse, log: FilteringBoundLogger, monotonic: Callable[[], float]
    ) -> None:
        self._client = client
        self._parse = parse
        self._log = log
        self._seldom = Seldom(monotonic)
        self._tasks: set[asyncio.Task[None]] = set()

    def read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> None:
        """See ports.History."""
        self._begin(self._read(query, done))

    def positions(
        self,
        since: Mapping[str, StreamPosition],
        done: Callable[[Sequence[StreamPosition | None] | ReplyError], None],
    ) -> None:
        """See ports.History."""
        self._begin(self._positions(since, done))

    async def start(self) -> None:
        """Begin to connect. Raises StartError: a certificate cannot be used."""
        client = self._client
        await client.start()
        self._read_method: Method[pb.ReadRequest, pb.ReadReply] = client.unary_unary(
            READ, pb.ReadRequest.SerializeToString, pb.ReadReply.FromString
        )
        self._position_method: Method[pb.PositionRequest, pb.PositionReply] = client.unary_unary(
            POSITION, pb.PositionRequest.SerializeToString, pb.PositionReply.FromString
        )
        self.positions({}, lambda _found: None)

    def reload(self) -> None:
        """Read certificates again, soon."""
        self._begin(self._client.reload())

    async def close(self) -> None:
        """End the calls that are under way, whose `done` never comes then."""
        await ended(self._tasks)
        await self._client.close()

    def _begin(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> None:
        told: Page | ReplyError = AWAY
        try:
            told = self._page(query.channel, await self._read_method(_request(query)))
        except CallError as error:
            told = self._told(error)
        except Exception:
            done(AWAY)  # whatever is wrong with one read, it must not take up a place for ever
            raise
        done(told)

    async def _positions(
        self,
        since: Mapping[str, StreamPosition],
        done: Callable[[Sequence[StreamPosition | None] | ReplyError], None],
    ) -> None:
        told: Sequence[StreamPosition | None] | ReplyError = AWAY
        try:
            told = await self._where(since)
        except CallError as error:
            told = self._told(error)
        except Exception:
            done(AWAY)  # whatever is wrong with one answer, the sweep goes on
            raise
        done(told)

    async def _where(
        self, since: Mapping[str, StreamPosition]
    ) -> Sequence[StreamPosition | None] | ReplyError:
        """Return where these channels stand, None for those that no replica knows. Raises CallError."""
        found: dict[str, StreamPosition] = {}
        left = since
        for _ in range(MOST_MOVES):
            request = pb.PositionRequest(channels=left, since=map(_sent, left.values()))
            reply = await self._position_method(request)
            if len(reply.positions) != len(left):
                return AWAY
            told = dict(zip(left, reply.positions, strict=True))
            found |= {channel: _position(each.top) for channel, each in told.items() if not each.problem}
            left = {channel: since[channel] for channel, each in told.items() if each.problem == ELSEWHERE}
            if not left:
                break
        return [found.get(channel) for channel in since]

    def _page(self, channel: str, reply: pb.ReadReply) -> Page | ReplyError:
        outcome = _OUTCOMES.get(reply.outcome)
        if outcome is None or not reply.top.epoch:  # a newer service's, or none at all
            return AWAY
        parse = self._parse
        read = (
            parse(channel, each.headers, each.data, each.offset, each.time_ns) for each in reply.publications
        )
        publications = [publication for publication in read if publication is not None]
        return Page(_position(reply.top), publications, outcome)

    def _told(self, error: CallError) -> ReplyError:
        """Return what a client is told: that it can try again, unless the service said otherwise itself."""
        if error.reason in {call_errors.BUSY, call_errors.BUSY_HERE}:
            return BUSY
        told = error.reply
        if told.code == errors.UNKNOWN_CHANNEL.code:  # this edge knows it: the service will, after its reload
            self._warn("history.disagrees", error)
            return DISAGREES
        if told != errors.INTERNAL:
            return told
        self._warn("history.away", error)
        return AWAY

    def _warn(self, event: str, error: CallError) -> None:
        if self._seldom.allows(event):
            self._log.warning(event, target=self._client.target, problem=str(error))


def _request(query: Query) -> pb.ReadRequest:
    since = query.since
    return pb.ReadRequest(
        channel=query.channel,
        since=None if since is None else _sent(since),
        limit=query.limit,
        reverse=query.reverse,
        max_bytes=query.max_bytes,
        at_least=query.at_least,
        recover=query.recover,
    )


def _sent(position: StreamPosition) -> pb.StreamPosition:
    return pb.StreamPosition(offset=position.offset, epoch=position.epoch)


def _position(position: pb.StreamPosition) -> StreamPosition:
    return StreamPosition(offset=position.offset, epoch=position.epoch)
