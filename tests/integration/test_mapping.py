"""The mapping of `tw.pub` to partitions: nats-server's own hash against ours, the probe, and the rescue without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.support.channels import random_channels, vectors
from tests.support.edges import mapping
from tests.support.links import Received, asked, settled, started
from tests.support.nats_server import NatsServer
from tests.support.wait import eventually
from tidewire.edge.adapters.mapping import Mapping, probe, rescue
from tidewire.kernel.subjects import encode_channel, in_subject, in_subject_of_tokens
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError, LinkState, PayloadTooLarge

CHANNELS = 300
EDGES_OF_NAMES = ["a." * 127 + "a", "." * 255, "é" * 127, "😀" * 63, "%" * 255, "x" * 255]
"""As long as a name may be: very many tokens, and three bytes for each."""
HEADER = b'NATS/1.0\r\nTw-Tags: {"a":"b"}\r\n\r\n'
MARKED = b'NATS/1.0\r\nTw-Tags: {"a":"b"}\r\nTw-Unmapped: 1\r\n\r\n'


@pytest.fixture
def unmapped(nats_server: NatsServer) -> NatsServer:
    """A server without the mapping."""
    return nats_server


@pytest.fixture(params=[1, 16, 64])
def mapped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[NatsServer, int]]:
    """A server with the mapping, and its number of partitions."""
    with NatsServer(tmp_path / "nats", config=mapping(request.param)) as server:
        yield server, request.param


async def test_servers_own_hash_puts_every_channel_where_we_do(mapped: tuple[NatsServer, int]) -> None:
    """What is published on `tw.pub.<C>` comes out on exactly `in_subject(channel)`, whatever the channel is called."""
    server, partitions = mapped
    channels = [*random_channels(CHANNELS, seed=partitions), *EDGES_OF_NAMES]
    channels += [vector.channel for vector in vectors()]
    async with started(server.url) as (link, _):
        received = Received()
        link.subscribe(b"tw.>", received)
        for channel in channels:
            link.publish(f"tw.pub.{encode_channel(channel)}".encode(), channel.encode())
        assert await settled(link)
        expected = [(in_subject(channel, partitions), b"", b"", channel.encode()) for channel in channels]
        assert received.messages == expected


@pytest.mark.parametrize("tokens", [b"raw.\xff\xe9", "raw.é".encode(), b"raw.*", b"raw.>", b"raw"])
async def test_servers_own_hash_is_of_bytes(mapped: tuple[NatsServer, int], tokens: bytes) -> None:
    """Also for what is no channel's subject, and no text at all."""
    server, partitions = mapped
    async with started(server.url) as (link, _):
        received = Received()
        link.subscribe(b"tw.in.>", received)
        link.publish(b"tw.pub." + tokens, b"1")
        assert await settled(link)
        assert received.messages == [(in_subject_of_tokens(tokens, partitions), b"", b"", b"1")]


async def test_probe_finds_the_right_mapping(mapped: tuple[NatsServer, int]) -> None:
    """Also while others probe."""
    server, partitions = mapped
    async with started(server.url) as (link, _), started(server.url) as (other, _):
        received = Received()
        other.subscribe(b"tw.in.>", received)
        assert await settled(other)
        assert await probe(link, partitions) is Mapping.RIGHT
        assert await probe(other, partitions) is Mapping.RIGHT


async def test_probe_finds_another_number_of_partitions(tmp_path: Path) -> None:
    """Divisors and multiples too, where many channels agree by chance."""
    with NatsServer(tmp_path / "nats", config=mapping(16)) as server:
        async with started(server.url) as (link, _):
            for partitions in (1, 8, 32, 17):
                assert await probe(link, partitions) is Mapping.OTHER_PARTITIONS


async def test_probe_finds_no_mapping(unmapped: NatsServer) -> None:
    """Nothing comes out, and nothing is left subscribed; a rescue does not hide it."""
    async with started(unmapped.url) as (link, _), started(unmapped.url) as (other, _):
        rescue(other, 16, lambda: None, lambda _error: None)
        assert await settled(other)
        before = len(link._subscriptions)
        assert await probe(link, 16) is Mapping.MISSING
        assert len(link._subscriptions) == before


async def test_probe_finds_nothing_out_while_nats_is_away(unmapped: NatsServer) -> None:
    """Which is no verdict about any server."""
    async with started(unmapped.url) as (link, listener):
        unmapped.stop()
        await eventually(lambda: listener.heard("away"))
        assert await probe(link, 16) is Mapping.UNKNOWN


class Rescued:
    """Counts what a rescue finds."""

    def __init__(self, link: NatsLink) -> None:
        self.count = 0
        self.lost: list[LinkError] = []
        rescue(link, 16, self._found, self.lost.append)

    def _found(self) -> None:
        self.count += 1


async def test_rescue_puts_publications_on_their_partitions(unmapped: NatsServer) -> None:
    """With data, reply and headers as they were, and a mark; bytes that are no text stay as they are."""
    async with started(unmapped.url) as (edge, _), started(unmapped.url) as (link, _):
        rescued, received = Rescued(edge), Received()
        link.subscribe(b"tw.in.>", received)
        assert await settled(edge)
        channels = random_channels(50, seed=3)
        for channel in channels:
            link.publish(f"tw.pub.{encode_channel(channel)}".encode(), b"1")
        link.publish(b"tw.pub.chat.a", b"2", HEADER, b"back.to")
        foreign = [b"raw.\xff\xe9", "raw.é".encode(), b"raw.*", b"raw"]
        for tokens in foreign:
            link.publish(b"tw.pub." + tokens, b"3")
        count = len(channels) + 1 + len(foreign)
        await eventually(lambda: len(received.messages) == count)
        mark = b"NATS/1.0\r\nTw-Unmapped: 1\r\n\r\n"
        assert received.messages == [
            *((in_subject(channel, 16), b"", mark, b"1") for channel in channels),
            (in_subject("chat:a", 16), b"back.to", MARKED, b"2"),
            *((in_subject_of_tokens(tokens, 16), b"", mark, b"3") for tokens in foreign),
        ]
        assert rescued.count == count


async def test_publication_that_the_mark_makes_too_large_is_reported(unmapped: NatsServer) -> None:
    """It was as large as the server takes: there is no way to mark it. The next one is put right."""
    async with started(unmapped.url) as (edge, listener), started(unmapped.url) as (link, _):
        rescued, received = Rescued(edge), Received()
        link.subscribe(b"tw.in.>", received)
        assert await settled(edge)
        link.publish(b"tw.pub.chat.a", b"x" * link.max_payload)
        link.publish(b"tw.pub.chat.a", b"1")
        await eventually(lambda: received.messages)
        assert received.payloads == [b"1"]
        assert [type(error) for error in rescued.lost] == [PayloadTooLarge]
        assert listener.heard("error:callback") == 0


async def test_rescue_leaves_the_edges_own_subjects_alone(unmapped: NatsServer) -> None:
    """A rescued probe would make a bad server look right."""
    async with started(unmapped.url) as (edge, _), started(unmapped.url) as (link, _):
        rescued, received = Rescued(edge), Received()
        link.subscribe(b"tw.in.>", received)
        assert await settled(edge)
        link.publish(b"tw.pub._tw.chk.00", b"")
        link.publish(b"tw.pub._tw.anything", b"")
        link.publish(b"tw.pub._twx.ours", b"")
        await eventually(lambda: received.messages)
        assert await settled(link)
        assert [message[0] for message in received.messages] == [in_subject_of_tokens(b"_twx.ours", 16)]
        assert rescued.count == 1


async def test_one_edge_of_many_rescues(unmapped: NatsServer) -> None:
    """Each publication once, whoever does it."""
    url = unmapped.url
    async with started(url) as (one, _), started(url) as (other, _), started(url) as (link, _):
        first, second, received = Rescued(one), Rescued(other), Received()
        link.subscribe(b"tw.in.>", received)
        assert await settled(one)
        assert await settled(other)
        for number in range(100):
            link.publish(b"tw.pub.chat.a", b"%d" % number)
        await eventually(lambda: len(received.messages) == 100)
        assert first.count + second.count == 100
        assert sorted(map(int, received.payloads)) == list(range(100))


async def test_rescued_jetstream_publication_gets_its_ack(tmp_path: Path) -> None:
    """The stream answers the publisher, since the reply subject is kept."""
    with NatsServer(tmp_path / "nats", jetstream=True) as server:
        async with started(server.url) as (edge, _), started(server.url) as (link, _):
            Rescued(edge)
            assert await settled(edge)
            client: Client = link.nc
            await client.jetstream().add_stream(name="S", subjects=["tw.in.*.chat.>"])
            _, ack = await asked(link, b"tw.pub.chat.a", b"1", header=b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n")
            assert json.loads(ack) == {"stream": "S", "seq": 1}


async def test_rescue_hears_nothing_on_a_server_with_the_mapping(tmp_path: Path) -> None:
    """So whatever it finds proves a server without it."""
    with NatsServer(tmp_path / "nats", config=mapping(16)) as server:
        async with started(server.url) as (edge, _), started(server.url) as (link, _):
            rescued, received = Rescued(edge), Received()
            link.subscribe(b"tw.in.>", received)
            assert await settled(edge)
            for tokens in (b"chat.a", b"chat.*", b"chat.>", b">", b"raw.\xff"):
                link.publish(b"tw.pub." + tokens, b"1")
            assert await settled(link)
            assert await settled(edge)
            assert len(received.messages) == 5
            assert rescued.count == 0


async def test_link_that_is_lost_during_the_probe_says_nothing_of_the_mapping(tmp_path: Path) -> None:
    """A server that hangs, and then is gone, has not lost its mapping."""
    with NatsServer(tmp_path, config=mapping(16)) as server:
        async with started(server.url) as (link, _):
            server.pause()
            sent = link.stats.out_msgs
            found = asyncio.create_task(probe(link, 16))
            await eventually(lambda: link.stats.out_msgs > sent and link.pending_bytes == 0)
            server.kill()
            assert await found is Mapping.UNKNOWN


async def test_server_that_hangs_is_not_blamed_for_its_mapping(tmp_path: Path) -> None:
    """The probe ends without an answer: nothing is known."""
    with NatsServer(tmp_path, config=mapping(16)) as server:
        async with started(server.url) as (link, _):
            server.pause()
            assert await probe(link, 16) is Mapping.UNKNOWN
            server.resume()
            await eventually(lambda: link.state is LinkState.CONNECTED)
