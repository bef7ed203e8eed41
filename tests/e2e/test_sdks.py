"""The official SDKs, JavaScript and Python, JSON and Protobuf, against two edges: what an application sees."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from nats.aio.msg import Msg

from tests.support.edges import OPEN, EdgeProcess, Mesh, edge_config, native, running_mesh, token
from tests.support.nats_client import flushed
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, RawClient
from tests.support.sdk import (
    Make,
    connected,
    error_of,
    event,
    events_of,
    subscribed,
)
from tests.support.sdk_maker import KINDS, all_kinds, maker
from tests.support.wait import PATIENCE, eventually

CHANNEL_LIMIT = 12
CONFIG = {
    "client": {"channel_limit": CHANNEL_LIMIT, "expired_close_delay": "3s"},
    "channel": {
        "namespaces": [
            {"name": "live", **OPEN},
            {"name": "closed"},
            {"name": "read", "allow_subscribe_for_client": True},
        ]
    },
    "rpc": {
        "enabled": True,
        "methods": [{"name": "sum"}, {"name": "fail"}, {"name": "nobody"}, {"name": "odd"}],
    },
}


PONG_BYTES = {"json": 8, "protobuf": 7}
"""A pong with its frame: two bytes of header, four of mask, and `{}` or a zero byte."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Two edges for all tests of this module: each uses users and channels of its own."""
    with running_mesh(tmp_path_factory.mktemp("sdks"), CONFIG) as running:
        yield running


@pytest.fixture(params=KINDS)
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Create clients of each SDK and format in turn."""
    async with maker(request.param) as create:
        yield create


class TestDelivery:
    @protocol(
        "transport.websocket",
        "format.json",
        "format.protobuf",
        "publish.info",
        "command.connect",
        "command.publish",
    )
    async def test_what_one_publishes_the_other_receives_across_edges(self, mesh: Mesh, make: Make) -> None:
        """With who published it: user, connection and the info of the connection token."""
        one, two = mesh.edges
        reader = await make(one.ws_url, token=token("reader"))
        writer = await make(two.ws_url, token=token("writer", info={"name": "Wörld"}))
        await connected(reader)
        connection = (await connected(writer)).connection
        await subscribed(reader, "live:room")
        data = {"text": "hello\nthere ✓", "number": 12.5, "nested": [{"a": None}, True]}
        await writer.publish("live:room", data)
        got = await event(reader, "publication")
        assert got.channel == "live:room"
        assert got.data == data
        assert got.info is not None
        assert got.info["user"] == "writer"
        assert got.info["client"] == connection
        assert got.info["conn_info"] == {"name": "Wörld"}
        assert not got.offset

    @protocol("command.subscribe")
    async def test_a_publisher_that_is_subscribed_receives_its_own(self, mesh: Mesh, make: Make) -> None:
        """Also in a channel without a namespace."""
        client = await make(mesh.edges[0].ws_url, token=token("echo"))
        await connected(client)
        await subscribed(client, "plain channel")
        await client.publish("plain channel", 7)
        assert (await event(client, "publication")).data == 7

    @protocol("command.unsubscribe")
    async def test_after_unsubscribe_nothing_comes_and_after_resubscribe_it_does(
        self, mesh: Mesh, make: Make
    ) -> None:
        """A second channel, published to last, shows that nothing of the first is still under way."""
        client = await make(mesh.edges[0].ws_url, token=token("again"))
        writer = await make(mesh.edges[1].ws_url, token=token("writer"))
        await connected(client)
        await connected(writer)
        await subscribed(client, "live:on-off")
        await subscribed(client, "live:fence")
        await client.unsubscribe("live:on-off")
        await event(client, "unsubscribed", channel="live:on-off", code=0)
        await writer.publish("live:on-off", "lost")
        await writer.publish("live:fence", 1)
        await event(client, "publication", channel="live:fence")
        await subscribed(client, "live:on-off")
        await writer.publish("live:on-off", "seen")
        await event(client, "publication", channel="live:on-off")
        assert [each.data for each in events_of(client, "publication", channel="live:on-off")] == ["seen"]

    @protocol("subscribe.pairs")
    async def test_ten_pairs_of_subscribe_and_unsubscribe_end_unsubscribed(
        self, mesh: Mesh, make: Make
    ) -> None:
        """Sent without waiting; the edge agrees, since nothing is delivered, and a last subscribe works."""
        client = await make(mesh.edges[0].ws_url, token=token("flapper"))
        await connected(client)
        await subscribed(client, "live:fence")
        for _ in range(10):
            await client.subscribe("live:flap")
            await client.unsubscribe("live:flap")
        await client.publish("live:flap", "lost")
        await client.publish("live:fence", 1)
        await event(client, "publication", channel="live:fence")
        assert events_of(client, "publication", channel="live:flap") == []
        await subscribed(client, "live:flap")
        await client.publish("live:flap", "seen")
        assert (await event(client, "publication", channel="live:flap")).data == "seen"
        assert events_of(client, "error") == events_of(client, "subscription_error") == []
        assert len(events_of(client, "connected")) == 1

    @protocol("disconnect.3000")
    async def test_connect_and_disconnect_in_a_loop_leave_no_ghost(self, mesh: Mesh, make: Make) -> None:
        """Each end closes the one before; the edge counts no connection that is not there."""
        edge = mesh.edges[0]
        client = await make(edge.ws_url, token=token("loop"))
        for _ in range(10):
            await client.connect()
            await client.disconnect()
        await client.connect()
        await eventually(lambda: client.events[-1].event == "connected")
        await subscribed(client, "live:loop")
        await client.disconnect()

        async def empty() -> bool:
            return (await edge.metrics()).value("tidewire_connections") == 0

        await eventually(empty)


class TestRpc:
    @protocol("command.rpc", "rpc.errors")
    async def test_calls_reach_a_nats_responder_and_its_answers_come_back(
        self, mesh: Mesh, make: Make
    ) -> None:
        """With user and client id as headers; a service error code from 400 to 1999 is passed on, others are 100."""
        calls: list[Msg] = []

        async def answer(message: Msg) -> None:
            calls.append(message)
            if message.subject.endswith("sum"):
                await message.respond(b'{"sum": 5}')
                return
            code = "450" if message.subject.endswith("fail") else "99"
            headers = {"Nats-Service-Error-Code": code, "Nats-Service-Error": "too late"}
            await responder.publish(message.reply, b"", headers=headers)

        async with native(mesh) as responder:
            for method in ("sum", "fail", "odd"):
                await responder.subscribe(f"tw.rpc.{method}", cb=answer)
            await flushed(responder)
            client = await make(mesh.edges[0].ws_url, token=token("zoë caller"))
            connection = (await connected(client)).connection
            assert await client.rpc("sum", {"a": 2, "b": 3}) == {"sum": 5}
            assert calls[0].headers is not None
            assert calls[0].headers["Tw-User"] == "zo%C3%AB%20caller"
            assert calls[0].headers["Tw-Client"] == connection
            assert calls[0].data == b'{"a": 2, "b": 3}' or calls[0].data == b'{"a":2,"b":3}'
            failed = await error_of(client.rpc("fail", None))
            assert (failed.code, failed.message) == (450, "too late")
            assert (await error_of(client.rpc("odd", None))).code == 100

    @protocol("error.104")
    async def test_a_method_that_nobody_answers_is_error_104(self, mesh: Mesh, make: Make) -> None:
        """NATS says at once that there is no responder."""
        client = await make(mesh.edges[0].ws_url, token=token())
        await connected(client)
        assert (await error_of(client.rpc("nobody", 1))).code == 104
        assert (await error_of(client.rpc("unlisted", 1))).code == 103


class TestErrors:
    @protocol(
        "error.102",
        "error.103",
        "error.107",
        "error.108",
        "command.presence",
        "command.presence_stats",
        "command.history",
    )
    async def test_calls_that_are_refused_leave_the_connection_open(self, mesh: Mesh, make: Make) -> None:
        """102, 103, 107 and 108, each as an error of its call with a message."""
        client = await make(mesh.edges[0].ws_url, token=token("refused"))
        await connected(client)
        errors = {
            102: client.publish("unknown:room", 1),
            103: client.publish("read:room", 1),
            107: client.publish("live:" + "x" * 300, 1),
        }
        for code, call in errors.items():
            error = await error_of(call)
            assert (error.code, error.temporary) == (code, False)
            assert error.message
        for name in ("presence", "presence_stats", "history"):
            assert (await error_of(client.call(name, "live:room"))).code == 108
        assert await client.publish("live:room", 1) is None
        assert len(events_of(client, "connected")) == 1

    @pytest.mark.parametrize(
        ("channel", "code"),
        [("unknown:room", 102), ("closed:room", 103), ("$live:private", 103), ("live:" + "é" * 130, 107)],
        ids=["102", "103", "103 private", "107"],
    )
    @protocol("channel.namespace", "channel.length", "channel.private")
    async def test_a_refused_subscription_ends_unsubscribed(
        self, mesh: Mesh, make: Make, channel: str, code: int
    ) -> None:
        """With the server's code; the SDK does not try again."""
        client = await make(mesh.edges[0].ws_url, token=token("refused"))
        await connected(client)
        await client.subscribe(channel)
        assert (await event(client, "unsubscribed", channel=channel)).code == code
        assert events_of(client, "subscribed", channel=channel) == []

    @protocol("error.106", "subscribe.limit")
    async def test_one_channel_too_many_is_error_106(self, mesh: Mesh, make: Make) -> None:
        """The ones before stay."""
        client = await make(mesh.edges[0].ws_url, token=token("greedy"))
        await connected(client)
        for number in range(CHANNEL_LIMIT):
            await subscribed(client, f"live:{number}")
        await client.subscribe("live:one too many")
        assert (await event(client, "unsubscribed", channel="live:one too many")).code == 106
        await client.publish("live:0", 1)
        await event(client, "publication", channel="live:0")

    @protocol("error.105")
    async def test_a_second_subscribe_to_a_channel_is_error_105(self, mesh: Mesh, clients: Clients) -> None:
        """The SDKs keep an application from it, so a raw client shows it."""
        client = await clients.join(mesh.edges[0].ws_url, token(), "live:twice")
        assert (await client.command(subscribe={"channel": "live:twice"}))["error"]["code"] == 105


class TestTokens:
    @protocol("token.invalid", "disconnect.3500")
    async def test_a_wrong_token_ends_the_client_with_3500(self, mesh: Mesh, make: Make) -> None:
        """Signed with another key."""
        client = await make(mesh.edges[0].ws_url, token=token(key="another key, 32 bytes long, more"))
        await client.connect()
        assert (await event(client, "disconnected")).code == 3500
        assert events_of(client, "connected") == []

    @protocol("token.expired", "error.109")
    async def test_an_expired_token_makes_the_sdk_ask_for_a_new_one(self, mesh: Mesh, make: Make) -> None:
        """Error 109 in the connect reply, then getToken, then connected."""
        client = await make(mesh.edges[0].ws_url, token=token(ttl=-60), tokens=[token()])
        await connected(client)
        assert [each.code for each in events_of(client, "error")] == [109]
        assert len(events_of(client, "token_wanted")) == 1
        assert events_of(client, "disconnected") == []

    @protocol("token.refresh", "command.refresh")
    async def test_a_refresh_before_expiry_keeps_the_connection(self, mesh: Mesh) -> None:
        """Twice, and past the end of the first token: the same connection still delivers. For each SDK and format."""

        async def stay(make: Make) -> None:
            tokens = [token("fresh", ttl=ttl) for ttl in (4, 9, 3600)]
            client = await make(mesh.edges[0].ws_url, tokens=tokens)
            await connected(client)
            await event(client, "token_wanted", count=3)
            await subscribed(client, "live:fresh")
            await client.publish("live:fresh", 1)
            await event(client, "publication")
            assert len(events_of(client, "connected")) == 1
            assert events_of(client, "error") == []

        async with all_kinds() as makes:
            await asyncio.gather(*map(stay, makes))
        answered = (await mesh.edges[0].metrics()).value(
            "tidewire_commands_total", method="refresh", code="0"
        )
        assert answered >= 2 * len(KINDS)

    @protocol("disconnect.3005")
    async def test_without_a_refresh_the_connection_ends_with_3005(self, mesh: Mesh) -> None:
        """The application cannot get a token for now, so the grace time passes. The SDK goes on trying."""

        async def lapse(make: Make) -> None:
            client = await make(mesh.edges[0].ws_url, tokens=[token("late", ttl=4)])
            await connected(client)
            assert (await event(client, "connecting", code=3005)).reason == "connection expired"
            assert events_of(client, "disconnected") == []

        async with all_kinds() as makes:
            await asyncio.gather(*map(lapse, makes))

    @protocol("token.subscription", "channel.private")
    async def test_a_private_channel_opens_to_its_subscription_token(self, mesh: Mesh, make: Make) -> None:
        """The token's info is the channel info of what the subscriber publishes."""
        user = "member"
        client = await make(mesh.edges[0].ws_url, token=token(user))
        other = await make(mesh.edges[1].ws_url, token=token("second"))
        await connected(client)
        await connected(other)
        ticket = token(user, channel="$live:club", info={"rank": 1})
        await subscribed(client, "$live:club", tokens=[ticket])
        await subscribed(other, "$live:club", token=token("second", channel="$live:club"))
        await client.publish("$live:club", "members only")
        got = await event(other, "publication")
        assert got.info is not None
        assert got.info["chan_info"] == {"rank": 1}

    @protocol("token.subscription")
    async def test_an_expired_subscription_token_makes_the_sdk_ask_for_a_new_one(
        self, mesh: Mesh, make: Make
    ) -> None:
        """Error 109 for the subscription only; the connection stays."""
        client = await make(mesh.edges[0].ws_url, token=token("member"))
        await connected(client)
        tokens = [token("member", channel="$live:club", ttl=-60), token("member", channel="$live:club")]
        await subscribed(client, "$live:club", tokens=tokens)
        assert [each.code for each in events_of(client, "subscription_error")] == [109]
        assert len(events_of(client, "connected")) == 1

    @protocol("token.subscription")
    async def test_a_subscription_token_for_another_channel_ends_the_client_with_3500(
        self, mesh: Mesh, make: Make
    ) -> None:
        """Well signed, but not for this: somebody is trying."""
        client = await make(mesh.edges[0].ws_url, token=token("member"))
        await connected(client)
        await client.subscribe("$live:club", token=token("member", channel="$live:other"))
        assert (await event(client, "disconnected")).code == 3500

    @protocol("connect.anonymous", "disconnect.3501")
    async def test_without_a_token_an_anonymous_client_is_refused_with_3501(
        self, mesh: Mesh, make: Make
    ) -> None:
        """The commonest mistake of a first run, so the reason says what is missing."""
        client = await make(mesh.edges[0].ws_url)
        await client.connect()
        ended = await event(client, "disconnected")
        assert ended.code == 3501
        assert "token" in ended.reason


class TestPings:
    @protocol("ping.schedule", "ping.pong")
    async def test_pings_keep_all_four_clients_connected(
        self, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """With a ping each 2 s, until each client has answered three; nothing else happens on the connections."""
        changes = {"client": {"ping_interval": "2s", "pong_timeout": "1900ms"}}
        config = edge_config(mesh.nats.url, changes)
        with EdgeProcess(tmp_path_factory.mktemp("pings"), config, name="pinging") as edge:
            async with all_kinds() as makes:
                clients = [await make(edge.ws_url, token=token()) for make in makes]
                await asyncio.gather(*map(connected, clients))
                before = (await edge.metrics()).value("tidewire_received_bytes_total")
                three_pongs = 2 * 3 * sum(PONG_BYTES.values())

                async def answered() -> bool:
                    received = (await edge.metrics()).value("tidewire_received_bytes_total")
                    return received >= before + three_pongs

                await eventually(answered)
                for client in clients:
                    assert {each.event for each in client.events} == {"connecting", "connected"}
                assert (await edge.metrics()).value("tidewire_connections") == len(KINDS)

    @protocol("disconnect.3012", "ping.unsolicited")
    async def test_a_client_that_does_not_answer_is_closed_with_3012(
        self, mesh: Mesh, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """And one that answers a ping twice is forgiven once, then closed with 3501."""
        changes = {"client": {"ping_interval": "3s", "pong_timeout": "2s"}}
        config = edge_config(mesh.nats.url, changes)
        with EdgeProcess(tmp_path_factory.mktemp("pings"), config) as edge, contextlib.ExitStack() as stack:
            mute, eager = RawClient(edge.ws_url), RawClient(edge.ws_url)
            mute.answers_pings = False
            for client in (mute, eager):
                stack.callback((await client.open()).abort)
                await client.connect(token())
            await eventually(lambda: eager.pings)
            eager.frame(b"{}")
            await eager.command(publish={"channel": "live:room", "data": 1})
            eager.frame(b"{}")
            for client, code in ((eager, 3501), (mute, 3012)):
                async with asyncio.timeout(PATIENCE):
                    await client.gone.wait()
                assert client.close_code == code
