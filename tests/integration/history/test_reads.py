"""Reads, positions, purges and figures over real streams and real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from nats.aio.client import Client

from tests.support.history import FEW, HistoryClient, HistoryProcess, client_of, offsets, outcome, publish
from tests.support.links import started
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.history.adapters.jetstream_store import JetStreamStore
from tidewire.kernel import call_errors
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject
from tidewire.platform.rpc_call import CALLER
from tidewire.platform.tasks import ended
from tidewire.rpc.history.v1 import history_pb2 as pb

READ = "/tidewire.rpc.history.v1.History/Read"


async def heard(client: HistoryClient, channel: str, offset: int) -> None:
    """Have the process know of a publication, which may be on its way to it."""
    await client.read(channel, limit=0, at_least=offset)


async def test_what_was_published_is_read(client: HistoryClient, nats: Client) -> None:
    """Data, headers of the publisher, time; position and epoch."""
    sent = [await publish(nats, "chat:a", b"%d" % number, Tw_Tags='{"n":"1"}') for number in range(3)]
    await publish(nats, "chat:b", b"x")
    await heard(client, "chat:a", sent[-1])
    reply = await client.read("chat:a")
    assert offsets(reply) == sent
    assert [each.data for each in reply.publications] == [b"0", b"1", b"2"]
    assert {each.headers for each in reply.publications} == {b'NATS/1.0\r\nTw-Tags: {"n":"1"}\r\n\r\n'}
    assert reply.top.offset == sent[-1]
    assert len(reply.top.epoch) == 12
    assert outcome(reply) == "COMPLETE"
    times = [each.time_ns for each in reply.publications]
    assert times == sorted(times)


async def test_a_position_in_memory_recovers(client: HistoryClient, nats: Client) -> None:
    """From any offset, with all that came since."""
    sent = [await publish(nats, "chat:a", b"x") for _ in range(5)]
    await heard(client, "chat:a", sent[-1])
    ((top, epoch),) = await client.position("chat:a")
    assert top == sent[-1]
    for place, offset in enumerate(sent):
        assert await client.recover("chat:a", offset, epoch) == ("COMPLETE", sent[place + 1 :])


async def test_a_cold_process_answers_from_the_stream(
    config: dict[str, Any], nats: Client, history: HistoryProcess, tmp_path: Any
) -> None:
    """What was published before it was started is read, recovered and proven."""
    async with client_of(history) as warm:
        sent = [await publish(nats, "chat:a", b"%d" % number) for number in range(10)]
        ((_, epoch),) = await warm.position("chat:a")
    with HistoryProcess(tmp_path, config, "cold") as cold:
        async with client_of(cold) as client:
            assert await client.recover("chat:a", sent[3], epoch) == ("COMPLETE", sent[4:])
        metrics = await cold.metrics()
        assert metrics.value("tidewire_history_reads_total", source="stream", outcome="complete") == 1
    with HistoryProcess(tmp_path, config, "cold") as cold:
        async with client_of(cold) as client:
            assert await client.recover("chat:a", 0, "") == ("COMPLETE", sent)
            assert offsets(await client.read("chat:a", reverse=True, limit=3)) == sent[:-4:-1]
            assert offsets(await client.read("chat:a", limit=3)) == sent[:3]
            assert await client.stats("chat:a") == (sent[-1], 10, sent[0])


async def test_pages(client: HistoryClient, nats: Client) -> None:
    """Forwards and backwards, until the end."""
    sent = [await publish(nats, "chat:a", b"x") for _ in range(5)]
    await heard(client, "chat:a", sent[-1])
    first = await client.read("chat:a", limit=2)
    assert (offsets(first), outcome(first)) == (sent[:2], "MORE")
    epoch = first.top.epoch
    second = await client.read("chat:a", (sent[1], epoch), limit=2)
    assert (offsets(second), outcome(second)) == (sent[2:4], "MORE")
    third = await client.read("chat:a", (sent[3], epoch), limit=2)
    assert (offsets(third), outcome(third)) == (sent[4:], "COMPLETE")
    back = await client.read("chat:a", limit=2, reverse=True)
    assert (offsets(back), outcome(back)) == (sent[:2:-1], "MORE")
    rest = await client.read("chat:a", (sent[3], epoch), limit=9, reverse=True)
    assert (offsets(rest), outcome(rest)) == (sent[2::-1], "COMPLETE")


async def test_limits_of_count_and_bytes(client: HistoryClient, nats: Client) -> None:
    """A recovery is whole or none; a page ends."""
    sent = [await publish(nats, "chat:a", b"x" * 100) for _ in range(5)]
    await heard(client, "chat:a", sent[-1])
    ((_, epoch),) = await client.position("chat:a")
    assert await client.recover("chat:a", sent[0], epoch, limit=3) == ("TOO_MANY", [])
    assert await client.recover("chat:a", sent[0], epoch, limit=4) == ("COMPLETE", sent[1:])
    top = (await client.read("chat:a", limit=0)).ByteSize()
    size = (await client.read("chat:a", (sent[0], epoch))).ByteSize() - top
    assert await client.recover("chat:a", sent[0], epoch, max_bytes=size - 1) == ("TOO_MANY", [])
    assert await client.recover("chat:a", sent[0], epoch, max_bytes=size) == ("COMPLETE", sent[1:])
    page = await client.read("chat:a", max_bytes=size // 2)
    assert (offsets(page), outcome(page)) == (sent[:2], "MORE")
    only = await client.read("chat:a", limit=0)
    assert (only.top.offset, offsets(only), outcome(only)) == (sent[-1], [], "COMPLETE")


async def test_honest_errors(client: HistoryClient, nats: Client) -> None:
    """No history is not an empty history."""
    await heard(client, "chat:a", await publish(nats, "chat:a", b"x"))
    for channel in ("live:a", "nowhere:a", "a", ""):
        with pytest.raises(CallError) as caught:
            await client.read(channel)
        assert caught.value.reason.name == "unknown_channel"
    assert await client.position("live:a", "chat:a") == [
        "unknown_channel",
        (1, (await epoch(client, "chat:a"))),
    ]
    for since in ((1, "another"), (1, ""), (99, await epoch(client, "chat:a"))):
        assert await client.recover("chat:a", *since) == ("OTHER_EPOCH", [])
        with pytest.raises(CallError) as caught:
            await client.read("chat:a", since)
        assert caught.value.reason.name == "unrecoverable_position"
    with pytest.raises(CallError) as caught:
        await client.position(*(["chat:a"] * 1001))
    assert caught.value.reason is call_errors.BAD_REQUEST


async def epoch(client: HistoryClient, channel: str) -> str:
    """The epoch of a channel."""
    ((_, found),) = await client.position(channel)
    return str(found)


async def test_positions_of_many(
    config: dict[str, Any], nats: Client, history: HistoryProcess, tmp_path: Any
) -> None:
    """A thousand at once, cold, in few requests: published to, empty and unknown ones."""
    channels = [f"chat:{number}" for number in range(900)]
    sent = await asyncio.gather(*(publish(nats, channel, b"x") for channel in channels[:600]))
    with HistoryProcess(tmp_path, config, "cold") as cold:
        async with client_of(cold) as client:
            found = await client.position(*channels, "live:a")
            assert [each[0] for each in found[:600]] == sent
            assert {each[0] for each in found[600:900]} <= {max(sent), max(sent) - 1} | set(range(200, 602))
            assert found[900] == "unknown_channel"
            again = await client.position(*channels)
            assert again == found[:900]
            metrics = await cold.metrics()
            assert metrics.value("tidewire_history_positions_total", source="memory") == 901


async def test_empty_channels_stand_where_the_caller_does_whichever_replica_is_asked(
    config: dict[str, Any], nats: Client, history: HistoryProcess, tmp_path: Path
) -> None:
    """One that was there, and one that has begun since: the stream is asked once for all of them, and nobody reads."""
    await publish(nats, "chat:other", b"x")
    partition = in_subject("chat:other", FEW).split(b".")[2]
    empty = [each for n in range(300) if in_subject(each := f"chat:{n}", FEW).split(b".")[2] == partition]
    async with client_of(history) as client:
        here = (await client.position(empty[0]))[0]
        assert await client.position(*empty, since=here) == [here] * len(empty)
        for _ in range(5):
            last = await publish(nats, "chat:other", b"x")
        with HistoryProcess(tmp_path, config, "cold") as cold:
            async with client_of(cold) as other:
                assert await other.position(empty[0]) == [(last, here[1])]
                assert await other.position(*empty, since=here) == [here] * len(empty)
                assert await client.position(*empty, since=here) == [here] * len(empty)
                news = await publish(nats, empty[1], b"x")

                async def told() -> bool:
                    found = [await each.position(*empty, since=here) for each in (client, other)]
                    return found == [[here, (news, here[1]), *[here] * (len(empty) - 2)]] * 2

                await eventually(told)
                for process in (history, cold):
                    assert (await process.metrics()).labels("tidewire_history_reads_total", "source") == set()


async def test_the_position_of_an_empty_channel_is_where_its_stream_ends(
    client: HistoryClient, nats: Client
) -> None:
    """Never 0: a publication that comes and goes in between would be invisible."""
    other = "chat:a"
    sent = [await publish(nats, other, b"x") for _ in range(3)]
    await heard(client, other, sent[-1])
    empty = next(name for name in map("chat:e{}".format, range(99)) if same_stream(name, other))
    ((offset, found),) = await client.position(empty)
    assert offset == sent[-1]
    assert await client.recover(empty, offset, found) == ("COMPLETE", [])
    first = await publish(nats, empty, b"y")
    await heard(client, empty, first)
    assert await client.recover(empty, offset, found) == ("COMPLETE", [first])


def same_stream(one: str, two: str) -> bool:
    """Whether two channels are on the same partition."""
    return in_subject(one, FEW)[:8] == in_subject(two, FEW)[:8]


async def test_sizes_and_times_of_a_namespace(client: HistoryClient, nats: Client) -> None:
    """They cut what can be read, and who is behind the cut has missed something."""
    sent = [await publish(nats, "chat:a", b"x") for _ in range(30)]
    await heard(client, "chat:a", sent[-1])
    found = await epoch(client, "chat:a")
    assert offsets(await client.read("chat:a")) == sent[-20:]
    assert await client.recover("chat:a", sent[-21], found) == ("COMPLETE", sent[-20:])
    assert await client.recover("chat:a", sent[-22], found) == ("TRIMMED", [])
    old = [await publish(nats, "fresh:a", b"x") for _ in range(2)]
    await heard(client, "fresh:a", old[-1])
    found = await epoch(client, "fresh:a")
    assert await client.recover("fresh:a", old[0], found) == ("COMPLETE", old[1:])

    async def over() -> bool:
        return offsets(await client.read("fresh:a")) == []

    await eventually(over)
    new = await publish(nats, "fresh:a", b"y")
    await heard(client, "fresh:a", new)
    assert offsets(await client.read("fresh:a")) == [new]
    assert await client.recover("fresh:a", old[1], found) == ("COMPLETE", [new])
    assert await client.recover("fresh:a", old[0], found) == ("TRIMMED", [])


async def test_a_purge(
    config: dict[str, Any], client: HistoryClient, history: HistoryProcess, nats: Client, tmp_path: Any
) -> None:
    """It empties the channel, and moves nobody's position; who missed what is gone now is told so, by all replicas."""
    sent = [await publish(nats, "chat:a", b"x") for _ in range(3)]
    kept = await publish(nats, "chat:b", b"x")
    await heard(client, "chat:a", sent[-1])
    await heard(client, "chat:b", kept)
    found = await epoch(client, "chat:a")
    assert await client.purge("chat:a") == 3
    assert offsets(await client.read("chat:a")) == []
    assert offsets(await client.read("chat:b")) == [kept]
    assert await client.recover("chat:a", sent[2], found) == ("COMPLETE", [])
    assert await client.recover("chat:a", sent[1], found) == ("TRIMMED", [])
    with HistoryProcess(tmp_path, config, "other") as other:
        async with client_of(other) as cold:
            assert await cold.recover("chat:a", sent[1], found) == ("TRIMMED", [])
            new = await publish(nats, "chat:a", b"y")
            await heard(cold, "chat:a", new)
            await heard(client, "chat:a", new)
            assert await cold.recover("chat:a", sent[0], found) == ("TRIMMED", [])
            assert offsets(await cold.read("chat:a")) == [new]
    assert await client.recover("chat:a", sent[2], found) == ("COMPLETE", [new])


async def test_a_recovery_by_the_stream_goes_as_far_as_it_says(
    config: dict[str, Any], nats: Client, tmp_path: Path
) -> None:
    """While publications come, and memory has no room for what is recovered: a position beyond it would hide the next one."""
    own = {**config["history_service"], "cache_size": 1 << 20}
    with HistoryProcess(tmp_path, {**config, "history_service": own}, "small") as small:
        async with client_of(small) as client:
            offset = await publish(nats, "long:a", bytes(15_000))
            for _ in range(60):
                await publish(nats, "long:a", bytes(15_000))
            epoch = (await client.read("long:a", limit=0)).top.epoch

            async def busy() -> None:
                while True:
                    await publish(nats, "long:a", bytes(15_000))
                    await publish(nats, "long:b", bytes(15_000))
                    await client.read("long:b")

            working = asyncio.ensure_future(busy())
            for _ in range(30):
                reply = await client.read("long:a", (offset, epoch), recover=True)
                if outcome(reply) == "COMPLETE":
                    assert offsets(reply)[-1] == reply.top.offset
                offset = offsets(await client.read("long:a", limit=50, reverse=True))[-1]
            assert (await small.metrics()).value("tidewire_history_reads_total", source="stream") > 10
            await ended([working])


async def test_a_stream_is_followed_however_many_reads_wait(
    server: NatsServer, config: dict[str, Any]
) -> None:
    """A process whose looks waited behind reads would be told unhealthy for being busy."""
    async with started(server.url) as (link, _):
        store = JetStreamStore(link, "_INBOX_x", 1)
        stream = stream_name("default", 0)
        async with store._turn:
            facts = await asyncio.wait_for(store.facts(stream), PATIENCE)
            assert facts is not None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.facts(stream, b"tw.in.0.chat.a"), 0.05)


async def test_an_edge_that_reads_much_holds_nobody_up(
    config: dict[str, Any], server: NatsServer, nats: Client, tmp_path: Path
) -> None:
    """Of what waits for streams, the next request is another connection's: one answer comes while all the others wait.

    Where the test is held up behind that answer it sees too late who still waits, and looks once more: with one line for
    all, nobody would wait whenever it looks.
    """
    channels = [f"chat:{number}" for number in range(150)]
    for channel in channels:
        await publish(nats, channel, b"x")
    slow = {**config, "history_service": {**config["history_service"], "max_stream_requests": 1}}
    left = [await waiting_behind_one(server, HistoryProcess(tmp_path, slow, "cold"), channels)]
    while max(left) < len(channels) // 2:
        assert len(left) < 5, f"of {len(channels)} reads there waited when the other one was answered: {left}"
        left.append(await waiting_behind_one(server, HistoryProcess(tmp_path, slow, "cold"), channels))


async def waiting_behind_one(server: NatsServer, process: HistoryProcess, channels: list[str]) -> float:
    """Return how many reads of one connection still wait once the read of another, which came last, is answered."""
    *many, one = channels
    with process:

        async def waiting() -> float:
            return (await process.metrics()).value("tidewire_history_waiting_requests")

        async def are_waiting(least: int) -> bool:
            return await waiting() >= least

        async with client_of(process) as greedy, client_of(process) as other:
            await asyncio.gather(
                greedy.stats("chat:nobody"), other.stats("chat:nobody")
            )  # both are connected
            with paused(server):
                reads = [asyncio.ensure_future(greedy.read(channel)) for channel in many]
                await eventually(lambda: are_waiting(len(many) - 1))
                read = asyncio.ensure_future(other.read(one))
                await eventually(lambda: are_waiting(len(many)))
            reply = await read
            with paused(server):
                left = await waiting()
            replies = await asyncio.gather(*reads)
    assert [len(each.publications) for each in (reply, *replies)] == [1] * (len(many) + 1)
    return left


@pytest.mark.parametrize("behind_a_proxy", [True, False])
async def test_names_on_a_connection_take_turns_there_and_nowhere_else(
    behind_a_proxy: bool, config: dict[str, Any], server: NatsServer, nats: Client, tmp_path: Path
) -> None:
    """As edges behind a proxy do; a caller with a name for each of its calls is no better off than one with none."""
    *many, one = [f"chat:{number}" for number in range(60)]
    for channel in (*many, one):
        await publish(nats, channel, b"x")
    slow = {**config, "history_service": {**config["history_service"], "max_stream_requests": 1}}
    with HistoryProcess(tmp_path, slow, "cold") as cold:

        async def waiting(least: int) -> bool:
            return (await cold.metrics()).value("tidewire_history_waiting_requests") >= least

        async with (
            grpc.aio.insecure_channel(
                f"127.0.0.1:{cold.port}", [("grpc.use_local_subchannel_pool", 1)]
            ) as shared,
            grpc.aio.insecure_channel(
                f"127.0.0.1:{cold.port}", [("grpc.use_local_subchannel_pool", 1)]
            ) as own,
        ):

            def read(channel: str, through: grpc.aio.Channel, name: str) -> asyncio.Future[pb.ReadReply]:
                call = through.unary_unary(READ, pb.ReadRequest.SerializeToString, pb.ReadReply.FromString)
                asked = pb.ReadRequest(channel=channel, limit=9)
                return asyncio.ensure_future(call(asked, timeout=20, metadata=((CALLER, name),)))

            await asyncio.gather(read("chat:nobody", shared, "x"), read("chat:nobody", own, "x"))
            with paused(server):
                names = ["greedy"] * len(many) if behind_a_proxy else [*map(str, range(len(many)))]
                reads = [read(channel, shared, name) for channel, name in zip(many, names, strict=True)]
                await eventually(lambda: waiting(len(many) - 1))
                last = read(one, shared if behind_a_proxy else own, "honest")
                await eventually(lambda: waiting(len(many)))
            reply = await last
            with paused(server):
                assert await waiting(len(many) // 2)
            replies = await asyncio.gather(*reads)
    assert [len(each.publications) for each in (reply, *replies)] == [1] * 60


@contextlib.contextmanager
def paused(server: NatsServer) -> Iterator[None]:
    """It answers nobody meanwhile."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
