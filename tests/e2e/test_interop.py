"""Tidewire seen from NATS: a plain nats-py client publishes, follows and breaks rules; servers without the mapping."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.support import nats_client
from tests.support.edges import EdgeProcess, Mesh, edge_config, mapping, native, running_mesh, token
from tests.support.http import upgrade
from tests.support.nats_server import NatsServer
from tests.support.node import Node
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, RawClient, joined, publication
from tests.support.sdk import FORMATS, SdkClient, connected, event, events_of, subscribed
from tests.support.sdk_python import PythonClient
from tests.support.wait import eventually

FENCE = "fence"
INFO = {"user": "backend", "client": "c-1", "conn_info": {"name": "Wörld"}, "chan_info": [1]}
UNAVAILABLE = 69


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges for the tests that leave NATS alone."""
    with running_mesh(tmp_path_factory.mktemp("interop")) as running:
        yield running


class Reader:
    """A raw subscriber that keeps what it is given."""

    def __init__(self) -> None:
        self.pubs: list[dict[str, Any]] = []
        self.lines: list[bytes] = []

    def on_push(self, line: bytes) -> None:
        """Take a push."""
        found = publication(line)
        assert found is not None
        self.lines.append(line)
        self.pubs.append(found[1])

    @property
    def data(self) -> list[Any]:
        """The data of all publications, in order."""
        return [pub["data"] for pub in self.pubs]


@contextlib.asynccontextmanager
async def readers(mesh: Mesh, *channels: str) -> AsyncIterator[list[Reader]]:
    """Subscribe one raw client on each edge."""
    found: list[Reader] = []
    clients: list[RawClient] = []
    try:
        for edge in mesh.edges:
            reader = Reader()
            clients.append(await joined(edge.ws_url, token(), *channels, on_push=reader.on_push))
            found.append(reader)
        yield found
    finally:
        for client in clients:
            client.abort()


async def fenced(reading: list[Reader], publish: Callable[[], Any]) -> list[list[Any]]:
    """Publish a last message and wait for it; return what each reader got before it."""
    await publish()
    await eventually(lambda: all(FENCE in reader.data for reader in reading))
    return [[data for data in reader.data if data != FENCE] for reader in reading]


def compact(value: object) -> bytes:
    """Return JSON as an application would write it."""
    return json.dumps(value).encode()


class TestPublishing:
    @pytest.mark.parametrize(
        ("channel", "subject"),
        [
            ("live:room-1", "tw.pub.live.room-1"),
            ("live:nasdaq.AAPL", "tw.pub.live.nasdaq.AAPL"),
            ("live:a b/é", "tw.pub.live.a%20b%2F%C3%A9"),
            ("plain", "tw.pub._.plain"),
        ],
    )
    async def test_a_native_publication_reaches_subscribers_of_both_edges(
        self, shared: Mesh, channel: str, subject: str
    ) -> None:
        """On the channel's subject, whichever partition that is; it has no info, as nobody says who sent it."""
        async with native(shared) as client, readers(shared, channel) as reading:
            await client.publish(subject, b'{"n": 1}')
            for reader in reading:
                await eventually(lambda reader=reader: reader.pubs)  # type: ignore[misc]
                assert reader.pubs == [{"data": {"n": 1}}]

    @protocol("publish.tags")
    async def test_the_sdks_get_tags_and_info_of_a_native_publication(self, shared: Mesh, node: Node) -> None:
        """From the headers Tw-Tags and Tw-Info, in both formats; data with line ends arrives as it was meant."""
        data = {"text": "line\nline", "list": [1, {"a": None}]}
        async with native(shared) as client, contextlib.AsyncExitStack() as stack:
            sdks: list[SdkClient] = []
            for wire in FORMATS:
                sdks.append(await node.create(shared.edges[0].ws_url, wire=wire, token=token("js")))
                sdks.append(PythonClient(shared.edges[1].ws_url, wire=wire, token=token("py")))
            for each in sdks:
                stack.push_async_callback(each.close)
                await connected(each)
                await subscribed(each, "live:tagged")
            headers = {"Tw-V": "1", "Tw-Tags": '{"kind": "news"}', "Tw-Info": json.dumps(INFO)}
            pretty = json.dumps(data, indent=2).replace("\n", "\r\n").encode()
            await client.publish("tw.pub.live.tagged", pretty, headers=headers)
            for each in sdks:
                got = await event(each, "publication")
                assert got.data == data
                assert got.tags == {"kind": "news"}
                assert got.info == INFO
                assert events_of(each, "error") == []

    async def test_what_cannot_be_delivered_is_dropped_and_counted(self, shared: Mesh) -> None:
        """Data that is not JSON, headers that are malformed, and a version that this edge does not know."""
        bad: list[tuple[str, bytes, dict[str, str] | None]] = [
            ("not_json", b"not JSON", None),
            ("not_json", b"", None),
            ("not_json", b'{"a": 1} {"b": 2}', None),
            ("not_json", b'{"push":{}}\n{"id":1', None),
            ("not_json", b'"\xff"', None),
            ("malformed", b"1", {"Tw-Tags": "[1]"}),
            ("version", b"1", {"Tw-V": "2"}),
        ]
        names = "tidewire_publications_dropped_total"
        async with native(shared) as client, readers(shared, "live:strict") as reading:
            before = {reason: await shared.total(names, reason=reason) for reason, _, _ in bad}
            for _, data, headers in bad:
                await client.publish("tw.pub.live.strict", data, headers=headers)
            assert await fenced(reading, lambda: client.publish("tw.pub.live.strict", compact(FENCE))) == [
                [],
                [],
            ]
            for reason, count in before.items():
                expected = count + len(shared.edges) * sum(1 for each in bad if each[0] == reason)
                assert await shared.total(names, reason=reason) == expected

    async def test_a_publish_to_a_subject_with_wildcards_is_delivered_to_nobody(self, shared: Mesh) -> None:
        """nats-server takes it, but it is no channel's subject, not even that of a channel named `*`."""
        channels = ("live:room", "live:*", "live:a.b")
        async with native(shared) as client, readers(shared, *channels) as reading:
            for subject in ("tw.pub.live.*", "tw.pub.live.>", "tw.pub.live.a.*", "tw.pub.>"):
                await client.publish(subject, b'"lost"')
            await nats_client.flushed(client)
            assert await fenced(reading, lambda: client.publish("tw.pub.live.room", compact(FENCE))) == [
                [],
                [],
            ]


class TestFollowing:
    async def test_a_native_subscriber_follows_a_namespace_with_data_unwrapped(
        self, shared: Mesh, clients: Clients
    ) -> None:
        """What clients and backends publish, with who did it and when in the headers; other namespaces stay out."""
        messages: list[Msg] = []

        async def keep(message: Msg) -> None:
            messages.append(message)

        async with native(shared) as client:
            await client.subscribe("tw.in.*.live.>", cb=keep)
            await nats_client.flushed(client)
            publisher = await clients.open(shared.edges[0].ws_url)
            connection = (await publisher.connect(token("zoë", info={"a": 1})))["client"]
            for channel in ("plain", "live:news.today"):
                await publisher.command(publish={"channel": channel, "data": {"text": "hi"}})
            await client.publish("tw.pub.live.native", b"2")
            await eventually(lambda: len(messages) == 2)
        first, second = messages
        assert first.subject.split(".", 3)[3] == "live.news.today"
        assert json.loads(first.data) == {"text": "hi"}
        assert first.headers is not None
        assert first.headers["Tw-V"] == "1"
        assert int(first.headers["Tw-Time"]) > 1_600_000_000_000_000
        info = json.loads(first.headers["Tw-Info"])
        assert info == {"user": "zoë", "client": connection, "conn_info": {"a": 1}}
        assert (second.subject.split(".", 3)[3], second.data, second.headers) == ("live.native", b"2", None)


class TestMapping:
    @pytest.mark.parametrize(
        ("config", "said"),
        [("", "does not map tw.pub"), (mapping(32), "another number of partitions")],
        ids=["none", "other partitions"],
    )
    async def test_an_edge_does_not_start_on_a_server_that_maps_otherwise(
        self, tmp_path: Path, config: str, said: str
    ) -> None:
        """It ends with 69 and one line that says what is wrong."""
        with NatsServer(tmp_path / "nats", config=config) as server:
            edge = EdgeProcess(tmp_path, edge_config(server.url))
            try:
                edge.launch()
                assert await edge.exit_code() == UNAVAILABLE
            finally:
                edge.kill()
        (line,) = [line for line in edge.lines if line["level"] == "error"]
        assert line["event"] == "process.refused"
        assert said in line["problem"]
        assert "16" in line["problem"]
        assert "Traceback" not in edge.log

    async def test_an_edge_does_not_start_without_nats(self, tmp_path: Path) -> None:
        """One line names the server; the exit code is 69."""
        with NatsServer(tmp_path / "nats") as server:
            url = server.url
        config = edge_config(url, {"nats": {"connect_timeout": "200ms"}})
        edge = EdgeProcess(tmp_path, config)
        try:
            edge.launch()
            assert await edge.exit_code() == UNAVAILABLE
        finally:
            edge.kill()
        (line,) = [line for line in edge.lines if line["level"] == "error"]
        assert server.address in line["problem"]

    async def test_publications_on_a_node_without_the_mapping_are_put_right_and_counted(
        self, tmp_path: Path
    ) -> None:
        """In a cluster: one edge of the two stands in for the mapping, so nothing is lost or doubled; metrics tell."""
        count = 50
        name = "tidewire_unmapped_publications_total"
        cluster = "cluster { name: tests, listen: 127.0.0.1:-1 }\n"
        with running_mesh(tmp_path, nats=mapping() + cluster) as mesh:
            port = json.loads(mesh.nats.ports_file.read_text())["cluster"][0]
            route = f'cluster {{ name: tests, listen: 127.0.0.1:-1, routes: ["{port}"] }}\n'
            with NatsServer(tmp_path / "unmapped", config=route) as unmapped:
                async with nats_client.connected(unmapped.url) as client:
                    messages: list[Msg] = []

                    async def keep(message: Msg) -> None:
                        messages.append(message)

                    async def routed() -> bool:
                        await client.publish("tw.pub.live.probe", b"1")
                        return bool(messages)

                    await client.subscribe("tw.in.*.live.>", cb=keep)
                    await eventually(routed)
                    async with readers(mesh, "live:rescued") as reading:
                        for number in range(count):
                            await client.publish(
                                "tw.pub.live.rescued", compact(number), headers={"Tw-Tags": '{"a": "b"}'}
                            )
                        await eventually(lambda: all(len(reader.data) >= count for reader in reading))
                        got = await fenced(
                            reading, lambda: client.publish("tw.pub.live.rescued", compact(FENCE))
                        )
                        assert [sorted(each) for each in got] == [list(range(count))] * 2
                        assert all(pub["tags"] == {"a": "b"} for pub in reading[0].pubs[:count])
            assert all(each.headers is not None and each.headers["Tw-Unmapped"] == "1" for each in messages)
            assert await mesh.total(name) > count
            assert any(edge.logged("nats.unmapped_node") for edge in mesh.edges)

    async def test_a_node_that_comes_back_without_the_mapping_counts_as_away(
        self, mesh: Mesh, clients: Clients
    ) -> None:
        """Clients stay, publishers get 100 and new handshakes 503 until the node maps again."""
        edge = mesh.edges[0]
        client = await clients.join(edge.ws_url, token(), "live:room")
        mesh.nats.restart("")

        async def noticed() -> bool:
            return (await edge.metrics()).value("tidewire_nats_mapping_failures_total") >= 1

        await eventually(noticed)
        assert (await upgrade(edge.websocket_url)).status == 503
        error = (await client.command(publish={"channel": "live:room", "data": 1}))["error"]
        assert (error["code"], error["temporary"]) == (100, True)
        assert (await edge.ready()).status == 200
        assert edge.logged("nats.mapping_failed")
        mesh.nats.restart(mapping())

        async def accepted() -> bool:
            return (await upgrade(edge.websocket_url)).status == 101

        await eventually(accepted)
        assert (await client.command(publish={"channel": "live:room", "data": 1}))["publish"] == {}
        assert not client.gone.is_set()
