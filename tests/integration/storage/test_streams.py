"""Streams as `tidewire migrate` makes them, on a real nats-server: what they store, refuse and publish again."""

from __future__ import annotations

import pytest

from tests.support.links import Received, asked, settled
from tests.support.nats_server import NatsServer
from tests.support.storage import (
    HISTORY,
    PARTITIONS,
    count,
    epoch,
    headers,
    migrate,
    published,
    storage_config,
)
from tests.support.wait import eventually
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import encode_channel, partition_of
from tidewire.platform.jetstream import JetStream, JetStreamError
from tidewire.platform.nats_link import NatsLink

CHANNEL = "chat:a"
PARTITION = partition_of(encode_channel(CHANNEL), PARTITIONS)
STREAM = stream_name("default", PARTITION)
OUT = f"tw.out.{PARTITION}.chat.a".encode()
NO_TTL = 10166


@pytest.fixture
async def stored(server: NatsServer, js: JetStream) -> None:
    """Chat is stored; live has no history."""
    config = storage_config(server.url, {"chat": {}, "live": dict.fromkeys(HISTORY, 0)})
    await migrate(js, config)


@pytest.mark.usefixtures("stored")
async def test_a_publication_is_stored_and_published_again(link: NatsLink, js: JetStream) -> None:
    """With what an edge believes it by: stream, subject, sequence and the one before."""
    out = Received()
    link.subscribe(b"tw.out.>", out)
    assert await settled(link)
    for number in (1, 2):
        assert await published(js, CHANNEL, b"%d" % number) == {"stream": STREAM, "seq": number}
    await eventually(lambda: out.payloads == [b"1", b"2"])
    subject, _, header, _ = out.messages[1]
    assert subject == OUT
    for line in (
        f"Nats-Stream: {STREAM}",
        f"Nats-Subject: tw.in.{PARTITION}.chat.a",
        "Nats-Sequence: 2",
        "Nats-Last-Sequence: 1",
    ):
        assert f"\r\n{line}\r\n".encode() in header


@pytest.mark.usefixtures("stored")
async def test_a_native_publisher_gets_the_ack_through_the_mapping(link: NatsLink) -> None:
    """Without knowing partitions, and with its id counted once."""
    header = headers(Nats_Msg_Id="1")
    first = await asked(link, b"tw.pub.chat.a", b"x", header=header)
    again = await asked(link, b"tw.pub.chat.a", b"x", header=header)
    assert f'"stream":"{STREAM}"'.encode() in first[1]
    assert b'"duplicate": true' in again[1]


@pytest.mark.usefixtures("stored")
async def test_what_has_no_history_is_not_stored(link: NatsLink, js: JetStream) -> None:
    """A JetStream publish there has no answer, although it was delivered."""
    heard = Received()
    link.subscribe(b"tw.in.*.live.a", heard)
    assert await settled(link)
    assert await asked(link, b"tw.pub.live.a", b"x", timeout=1.0) == (None, b"")
    await eventually(lambda: heard.payloads == [b"x"])
    assert [await count(js, stream_name("default", number)) for number in range(PARTITIONS)] == [0, 0]


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("header", "err_code"),
    [
        (headers(Nats_TTL="1s"), NO_TTL),
        (headers(Nats_Rollup="sub"), 10111),
        (headers(Nats_Rollup="all"), 10111),
        (headers(Nats_Schedule="@at 2020-01-01T00:00:00Z", Nats_Schedule_Target=OUT.decode()), 10188),
        (headers(Nats_Schedule="@every 1s", Nats_Schedule_Target="tw.in.0.live.a"), 10188),
        (headers(Nats_Incr="+1"), 10168),
        (headers(Nats_Stream_Source="TW_default_0 1 tw.in.0.chat.a"), 10227),
    ],
    ids=["ttl", "rollup", "rollup of all", "schedule", "recurring schedule", "counter", "source"],
)
async def test_no_publisher_commands_the_stream(js: JetStream, header: bytes, err_code: int) -> None:
    """Refused with an error, and not stored.

    To take a message from the middle would break the proof that nothing is missing; others would publish elsewhere.
    """
    await published(js, CHANNEL)
    assert (await published(js, CHANNEL, header=header))["error"]["err_code"] == err_code
    assert await count(js, STREAM) == 1


@pytest.mark.usefixtures("stored")
async def test_what_only_the_server_says_is_text_of_a_publishers(link: NatsLink, js: JetStream) -> None:
    """Markers of deletion, and where a message stands: the stream's own words come last."""
    out = Received()
    link.subscribe(OUT, out)
    assert await settled(link)
    for header in (
        headers(Nats_Marker_Reason="Purge"),
        headers(KV_Operation="PURGE"),
        headers(Nats_Schedule_Target="tw.in.0.live.a"),
        headers(Nats_Trace_Dest="tw.out.0.live.a"),
        b"NATS/1.0\r\nNats-Sequence: 98\r\nNats-Sequence: 99\r\nNats-Last-Sequence: 97\r\nNats-Subject: tw.in.0.live.a\r\n\r\n",
    ):
        assert "seq" in await published(js, CHANNEL, header=header)
    await eventually(lambda: len(out.messages) == 5)
    for sequence, (_, _, block, _) in enumerate(out.messages, 1):
        lines = block.decode().split("\r\n")
        last = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        assert (last["Nats-Sequence"], last["Nats-Last-Sequence"]) == (str(sequence), str(sequence - 1))
        assert (last["Nats-Stream"], last["Nats-Subject"]) == (STREAM, f"tw.in.{PARTITION}.chat.a")


@pytest.mark.usefixtures("stored")
async def test_without_an_ack_a_lifetime_is_refused_silently(link: NatsLink, js: JetStream) -> None:
    """Which the page on interoperation says."""
    out = Received()
    link.subscribe(b"tw.out.>", out)
    link.publish(b"tw.pub.chat.a", b"x", headers(Nats_TTL="1s"))
    link.publish(b"tw.pub.chat.a", b"y")
    await eventually(lambda: out.payloads == [b"y"])
    assert await count(js, STREAM) == 1


@pytest.mark.usefixtures("stored")
async def test_nobody_deletes_a_message_and_channels_can_be_purged(js: JetStream) -> None:
    """Not even who may use the whole API."""
    await published(js, CHANNEL)
    await published(js, CHANNEL)
    with pytest.raises(JetStreamError, match="message delete not permitted"):
        await js.call(f"STREAM.MSG.DELETE.{STREAM}", {"seq": 1})
    purged = await js.call(f"STREAM.PURGE.{STREAM}", {"filter": f"tw.in.{PARTITION}.chat.a"})
    assert purged["purged"] == 2


@pytest.mark.usefixtures("stored")
async def test_a_publish_to_a_wildcard_is_stored_and_never_delivered(link: NatsLink, js: JetStream) -> None:
    """The server takes it, and publishes nothing again: so our own doors refuse it, and the page says so."""
    out = Received()
    link.subscribe(b"tw.out.>", out)
    assert await settled(link)
    answer = await asked(link, f"tw.in.{PARTITION}.chat.*".encode(), b"odd")
    assert b'"seq":1' in answer[1]
    await published(js, CHANNEL, b"good")
    await eventually(lambda: out.payloads == [b"good"])


async def test_a_profile_with_lifetimes_has_them(server: NatsServer, js: JetStream) -> None:
    """And no marker of a deletion that would take a sequence."""
    await migrate(js, storage_config(server.url, {"chat": {"storage_profile": "mixed"}}))
    stream = stream_name("mixed", PARTITION)
    assert "error" not in await published(js, CHANNEL, header=headers(Nats_TTL="3s"))
    assert await count(js, stream) == 1

    async def ended() -> bool:
        return await count(js, stream) == 0

    await eventually(ended)
    assert (await published(js, CHANNEL))["seq"] == 2


@pytest.mark.usefixtures("stored")
async def test_an_atomic_batch_is_taken(link: NatsLink, js: JetStream) -> None:
    """What edges send when publications of one client wait for each other."""
    subject = f"tw.in.{PARTITION}.chat.a"
    first = headers(Nats_Batch_Id="b", Nats_Batch_Sequence=1)
    last = headers(Nats_Batch_Id="b", Nats_Batch_Sequence=2, Nats_Batch_Commit=1)
    assert await js.ask(subject, b"1", first) == (b"", b"")
    _, answer = await js.ask(subject, b"2", last)
    assert b'"count":2' in answer
    assert await count(js, STREAM) == 2


@pytest.mark.usefixtures("stored")
async def test_a_batch_with_an_id_that_is_taken_stores_nothing(link: NatsLink, js: JetStream) -> None:
    """Whoever took the error for "stored already" would lose the others of the batch: each is asked for by itself."""
    subject = f"tw.in.{PARTITION}.chat.a"
    await published(js, CHANNEL, b"foreign", headers(Nats_Msg_Id="taken"))
    ids = ("mine", "taken", "mine too")
    for number, name in enumerate(ids, 1):
        commit = {"Nats_Batch_Commit": 1} if number == len(ids) else {}
        block = headers(Nats_Msg_Id=name, Nats_Batch_Id="b", Nats_Batch_Sequence=number, **commit)
        _, answer = await js.ask(subject, b"%d" % number, block)
    assert b'"err_code":10201' in answer
    assert await count(js, STREAM) == 1


async def test_a_memory_stream_that_is_lost_with_its_server_is_made_again_with_another_epoch(
    server: NatsServer, js: JetStream
) -> None:
    """A single server forgets it altogether."""
    config = storage_config(server.url, {"chat": {"storage_profile": "fast"}})
    await migrate(js, config)
    stream = stream_name("fast", PARTITION)
    await published(js, CHANNEL)
    before = await epoch(js, stream)
    server.restart()

    async def back() -> bool:
        try:
            return bool(await js.call("INFO"))
        except JetStreamError:
            return False

    await eventually(back)
    await migrate(js, config)
    assert await count(js, stream) == 0
    assert await epoch(js, stream) != before
