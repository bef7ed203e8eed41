"""What `tidewire nats-config` prints, obeyed by a real nats-server: every right works, everything else is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from tests.support.least_rights import PASSWORDS, VARIABLES, logged_in, printed
from tests.support.nats_client import flushed
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE
from tidewire.kernel.nats_config import MAX_PAYLOAD
from tidewire.kernel.subjects import PROBE, in_subject

PARTITIONS = 8


class User:
    """A connected user, and the permission errors that the server told it."""

    def __init__(self, url: str, nc: Client, refused: list[str]) -> None:
        self.url = url
        self.nc = nc
        self.refused = refused

    async def may_publish(self, subject: str, payload: bytes = b"x", reply: str = "") -> bool:
        """Publish and say whether the server let it through."""
        return await self._allowed(lambda: self.nc.publish(subject, payload, reply))

    async def may_subscribe(self, subject: str, queue: str = "") -> bool:
        """Subscribe and say whether the server let it."""
        return await self._allowed(lambda: self.nc.subscribe(subject, queue))

    async def settle(self) -> None:
        """Return when the server has judged all that was sent: it answers in order, refusals before the PONG."""
        await flushed(self.nc)

    async def _allowed(self, act: Callable[[], Awaitable[object]]) -> bool:
        before = len(self.refused)
        await act()
        await self.settle()
        return len(self.refused) == before


Users = dict[str, User]


@pytest.fixture
async def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Users]:
    """Edge, app (chat and channels without a namespace, RPC, events) and other (live, orders) on one nats-server."""
    for name, password in VARIABLES.items():
        monkeypatch.setenv(name, password)
    with NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", PARTITIONS)) as server:
        async with AsyncExitStack() as stack:
            found = {}
            for name in PASSWORDS:
                refused: list[str] = []
                client = await stack.enter_async_context(logged_in(server.url, name, refused))
                found[name] = User(server.url, client, refused)
            yield found


async def heard(subscription_of: User, subject: str, act: Callable[[], Awaitable[object]]) -> Msg:
    """Subscribe, act, and return the one message that came."""
    subscription = await subscription_of.nc.subscribe(subject)
    await subscription_of.settle()
    await act()
    return await subscription.next_msg(PATIENCE)


def test_server_does_not_start_without_passwords(tmp_path: Path) -> None:
    """A forgotten password is an error at once, not an open door."""
    server = NatsServer(tmp_path / "nats", config=printed(tmp_path / "js", PARTITIONS))
    with pytest.raises(RuntimeError, match="NATS_PASSWORD_EDGE"):
        server.start()


async def test_server_has_the_printed_bounds(users: Users) -> None:
    """JetStream is on, and the longest payload is the one that edges count on."""
    assert users["edge"].nc.max_payload == MAX_PAYLOAD
    assert users["edge"].nc._server_info["jetstream"]


@pytest.mark.parametrize(
    "login", [{}, {"user": "edge", "password": "wrong"}, {"user": "nobody", "password": "x"}]
)
async def test_strangers_are_refused(users: Users, login: dict[str, str]) -> None:
    """Nobody gets in without the name and the password of one of the users."""
    stranger = Client()
    try:
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await stranger.connect(users["edge"].url, allow_reconnect=False, **login)
    finally:
        await stranger.close()


@pytest.mark.parametrize("channel", ["chat:room.1", "without-namespace", "$chat:private", "chat:ü #1"])
async def test_backend_publishes_without_knowing_partitions(users: Users, channel: str) -> None:
    """A plain publish to tw.pub arrives on the partition that an edge computes, headers and reply included."""
    subject = in_subject(channel, PARTITIONS).decode()
    tokens = subject.split(".", 3)[3]
    app = users["app"].nc
    message = await heard(
        users["edge"],
        subject,
        lambda: app.publish(f"tw.pub.{tokens}", b"hi", "_INBOX_app.1", {"Tw-User": "u"}),
    )
    assert (message.data, message.reply, message.headers) == (b"hi", "_INBOX_app.1", {"Tw-User": "u"})
    assert users["app"].refused == []


async def test_backend_follows_its_namespaces(users: Users) -> None:
    """What edges publish in a namespace reaches its backend, whatever the partition."""
    edge = users["edge"].nc
    message = await heard(
        users["app"], "tw.in.*.chat.>", lambda: edge.publish(in_subject("chat:a", PARTITIONS).decode(), b"1")
    )
    assert message.data == b"1"


@pytest.mark.parametrize(
    "subject",
    [
        "tw.pub.live.a",  # another backend's namespace, as mapped
        "tw.in.0.live.a",
        "tw.pub.chat",  # no name: not below its namespace
        "tw.out.0.chat.a",  # as if JetStream had stored it
        "tw.pub._tw.chk.1",
        "tw.ctl.all",
        "tw.rpc.echo",
        "tw.ev.message",
        "tw.hook.connect",
        "_INBOX_other.1",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.DIRECT.GET.TW_default_0",
        "$KV.TW_META.a",
    ],
)
async def test_backend_may_not_publish_elsewhere(users: Users, subject: str) -> None:
    """A backend's voice is limited to its namespaces, and JetStream's API is closed."""
    assert not await users["app"].may_publish(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "tw.in.>",
        "tw.in.*.live.>",
        "tw.in.*.*.>",
        "tw.out.>",
        "tw.pub.>",
        "tw.pub.chat.>",
        "tw.ctl.all",
        "_INBOX.>",
        "_INBOX_edge.>",
        "_INBOX_other.>",
        "$JS.>",
        "$SYS.>",
        ">",
    ],
)
async def test_backend_may_not_listen_elsewhere(users: Users, subject: str) -> None:
    """A backend hears its own namespaces and the answers to its own requests only."""
    assert not await users["app"].may_subscribe(subject)


async def test_rpc_and_events_only_for_who_asked(users: Users) -> None:
    """The rights of `--rpc` and `--events` are those backends' alone."""
    assert await users["app"].may_subscribe("tw.rpc.echo", "workers")
    assert await users["app"].may_subscribe("tw.ev.message")
    assert not await users["other"].may_subscribe("tw.rpc.echo", "workers")
    assert not await users["other"].may_subscribe("tw.ev.message")
    assert not await users["other"].may_publish("_INBOX_edge.1")


async def test_orders_only_for_who_asked(users: Users) -> None:
    """To all edges alike; what other orders say stays unheard."""
    assert await users["other"].may_publish("tw.ctl.all")
    assert not await users["other"].may_publish("tw.ctl.edge-1")
    assert not await users["other"].may_subscribe("tw.ctl.all")
    assert not await users["app"].may_publish("tw.ctl.all")


async def test_edge_asks_and_backend_answers(users: Users) -> None:
    """Client RPC goes to a responder and back; where nobody answers the edge is told at once."""

    async def answer(message: Msg) -> None:
        await message.respond(b"pong")

    await users["app"].nc.subscribe("tw.rpc.echo", cb=answer)
    await users["app"].settle()
    assert (await users["edge"].nc.request("tw.rpc.echo", b"ping", PATIENCE)).data == b"pong"
    with pytest.raises(NoRespondersError):
        await users["edge"].nc.request("tw.rpc.nobody", b"ping", PATIENCE)
    assert users["edge"].refused == users["app"].refused == []


async def test_responder_cannot_publish_through_a_reply_subject(users: Users) -> None:
    """A message to itself with a chosen reply subject gives a responder no right on that subject."""
    app = users["app"]
    for target in ("tw.out.0.live.a", "tw.in.0.live.a", "$JS.API.INFO"):
        message = await heard(
            app, "tw.in.0.chat.>", lambda target=target: app.may_publish("tw.in.0.chat.a", b"", target)
        )
        assert message.reply == target
        assert not await app.may_publish(message.reply)


@pytest.mark.parametrize(
    "subject",
    [
        "tw.in.0.chat.a",
        "tw.ctl.all",
        "tw.ctl.edge-1",
        "tw.rpc.echo",
        "tw.hook.connect",
        "tw.ev.message",
        "$JS.API.DIRECT.GET.TW_default_0.tw.in.0.chat.a",
    ],
)
async def test_edge_publishes_what_it_needs(users: Users, subject: str) -> None:
    """Publications, control, RPC, hooks and events are the edge's to send."""
    assert await users["edge"].may_publish(subject)


async def test_edge_probes_the_mapping(users: Users) -> None:
    """The probe goes through the mapping and comes back on the partition that the edge computes."""
    edge = users["edge"]
    message = await heard(edge, f"tw.in.*.{PROBE}.>", lambda: edge.may_publish(f"tw.pub.{PROBE}.nonce"))
    assert message.subject.endswith(f".{PROBE}.nonce")
    assert edge.refused == []


@pytest.mark.parametrize(
    "subject",
    [
        "tw.out.0.chat.a",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.STREAM.UPDATE.TW_default_0",
        "$JS.API.STREAM.DELETE.TW_default_0",
        "$JS.API.STREAM.PURGE.TW_default_0",
        "$JS.API.STREAM.INFO.TW_default_0",
        "$JS.API.STREAM.MSG.GET.KV_TW_META",
        "$JS.API.DIRECT.GET.TW_default_0",
        "$JS.API.DIRECT.GET.TW_default_0.tw.out.0.chat.a",
        "$JS.API.DIRECT.GET.KV_TW_META",
        "$JS.API.DIRECT.GET.KV_TW_META.$KV.TW_META.notes.TW_default_0",
        "$JS.API.CONSUMER.CREATE.TW_default_0",
        "$JS.ACK.TW_default_0.c.1.1.1.1.0",
        "$KV.TW_META.layout",
        "$KV.TW_META.a",
        "tw.meta.00.layout",
        "tw.meta.00.nonce.TW_default_0",
        "_INBOX_app.1",
        "other",
    ],
)
async def test_edge_may_not_publish_elsewhere(users: Users, subject: str) -> None:
    """Not even an edge forges stored messages, answers of others, or touches JetStream."""
    assert not await users["edge"].may_publish(subject)


@pytest.mark.parametrize(
    ("subject", "queue", "allowed"),
    [
        ("tw.out.>", "", True),
        ("tw.in.3.chat.a", "", True),
        ("tw.pub.>", "tw-map", True),
        ("tw.pub.>", "", False),
        ("tw.pub.>", "another", False),
        ("tw.ctl.all", "", True),
        ("tw.ctl.edge-1", "", True),
        ("_INBOX_edge.>", "", True),
        ("_INBOX_app.>", "", False),
        ("tw.rpc.echo", "", False),
        ("$KV.TW_META.layout", "", True),
        ("$KV.TW_META.>", "", False),
        ("tw.meta.>", "", False),
        ("$JS.>", "", False),
        (">", "", False),
    ],
)
async def test_edge_subscribes_to_what_it_needs(
    users: Users, subject: str, queue: str, allowed: bool
) -> None:
    """The edge hears publications and control; unmapped publications in the one queue group only."""
    assert await users["edge"].may_subscribe(subject, queue) is allowed


async def test_client_cannot_widen_a_right_by_case_or_inbox(users: Users) -> None:
    """Subjects are case-sensitive, and a default inbox is refused: the prefix must be the user's own."""
    assert not await users["app"].may_publish("TW.PUB.chat.a")
    assert not await users["app"].may_subscribe("_INBOX.abc.*")


@pytest.mark.parametrize(
    "subject",
    [
        "tw.in.0.chat.a",
        "tw.pub.chat.a",
        "tw.out.0.chat.a",
        "tw.ctl.all",
        "tw.rpc.echo",
        "_INBOX_edge.1",
        "$KV.TW_META.layout",
        "tw.meta.00.layout",
        "$JS.API.STREAM.CREATE.X",
        "$JS.API.STREAM.UPDATE.TW_default_0",
        "$JS.API.STREAM.DELETE.TW_default_0",
        "$JS.API.STREAM.PURGE.KV_TW_META",
        "$JS.API.CONSUMER.CREATE.TW_default_0",
    ],
)
async def test_history_service_speaks_for_nobody(users: Users, subject: str) -> None:
    """It cannot publish, change what all agree on, or change a stream."""
    assert not await users["history"].may_publish(subject)


@pytest.mark.parametrize(
    ("subject", "allowed"),
    [
        ("tw.out.>", True),
        ("$KV.TW_META.>", True),
        ("_INBOX_history.>", True),
        ("tw.in.>", False),
        ("tw.ctl.all", False),
        ("_INBOX_edge.>", False),
        ("$JS.>", False),
    ],
)
async def test_history_service_hears_what_is_stored(users: Users, subject: str, allowed: bool) -> None:
    """And nothing that is not."""
    assert await users["history"].may_subscribe(subject) is allowed


@pytest.mark.parametrize(
    "subject",
    [
        "tw.in.0.chat.a",
        "tw.pub.chat.a",
        "tw.out.0.chat.a",
        "tw.ctl.all",
        "_INBOX_edge.1",
        "$JS.API.CONSUMER.CREATE.X",
        "$KV.TW_META.notes.TW_default_0",
        "tw.meta.00.notes.TW_default_0",
    ],
)
async def test_migrations_publish_for_nobody(users: Users, subject: str) -> None:
    """Their user makes streams, and is no client's voice."""
    assert not await users["migrate"].may_publish(subject)


@pytest.mark.parametrize("subject", ["tw.in.>", "tw.out.>", "_INBOX_edge.>", "$KV.TW_META.layout", ">"])
async def test_migrations_hear_nobody(users: Users, subject: str) -> None:
    """Not even what they make the streams for."""
    assert not await users["migrate"].may_subscribe(subject)
