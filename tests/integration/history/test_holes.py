"""What would make history lie: each hole of the design is tried on real streams."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from tests.support.history import (
    FEW,
    HistoryClient,
    HistoryProcess,
    client_of,
    history_config,
    migrated,
    offsets,
    outcome,
    publish,
    publisher,
    server_config,
)
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE, eventually
from tidewire.history.config import HistoryConfig
from tidewire.kernel.call_errors import UNAVAILABLE, CallError
from tidewire.kernel.config import decode
from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import in_subject
from tidewire.storage.migration import connected as jetstream


async def dropped(history: HistoryProcess, reason: str) -> float:
    """How many messages were dropped for this reason."""
    return (await history.metrics()).value("tidewire_history_dropped_total", reason=reason)


async def position(client: HistoryClient, channel: str) -> tuple[int, str]:
    """The position of a channel, once it has one."""

    async def told() -> tuple[int, str] | None:
        return await position_now(client, channel)

    found: tuple[int, str] = await eventually(told, 60)
    return found


async def position_now(client: HistoryClient, channel: str) -> tuple[int, str] | None:
    """The position of a channel; None while it cannot be told."""
    try:
        (found,) = await client.position(channel)
    except CallError as error:
        if error.reason is not UNAVAILABLE:
            raise
        return None
    return None if isinstance(found, str) else found


async def another_epoch(client: HistoryClient, channel: str, epoch: str) -> str:
    """The epoch of a channel, once it has another one."""

    async def told() -> str:
        found = await position_now(client, channel)
        return "" if found is None or found[1] == epoch else found[1]

    return await eventually(told, 60)


async def shorten(config: dict[str, Any], stream: str, **changes: Any) -> None:
    """Change a stream as its owner could."""
    async with jetstream(decode(HistoryConfig, config).nats) as js:
        info = await js.call(f"STREAM.INFO.{stream}")
        await js.call(f"STREAM.UPDATE.{stream}", {**info["config"], **changes})


def stream_of(channel: str, profile: str = "default") -> str:
    """The stream of a channel."""
    return stream_name(profile, int(in_subject(channel, FEW).split(b".")[2]))


async def test_headers_of_nats_that_a_publisher_forged(client: HistoryClient, nats: Client) -> None:
    """The server's own, which come last, count; none of either is handed on."""
    first = await publish(nats, "chat:a", b"x")
    forged = {"Nats-Sequence": "99", "Nats-Last-Sequence": "0", "Nats-Stream": "TW_other_0", "nats-x": "y"}
    forged |= {"Nats-Subject": "tw.in.0.chat.b", "Nats-Time-Stamp": "1970-01-01T00:00:00Z", "Tw-V": "1"}
    second = await publish(nats, "chat:a", b"y", **{name.replace("-", "_"): v for name, v in forged.items()})
    reply = await client.read("chat:a", at_least=second)
    assert offsets(reply) == [first, second]
    assert reply.publications[1].headers == b"NATS/1.0\r\nTw-V: 1\r\n\r\n"
    assert reply.publications[1].time_ns > reply.publications[0].time_ns


async def test_messages_that_jetstream_did_not_publish(
    client: HistoryClient, history: HistoryProcess, nats: Client
) -> None:
    """Without its headers, of another stream, or of another subject: dropped and counted."""
    sent = await publish(nats, "chat:a", b"x")
    subject = in_subject("chat:a", FEW).decode()
    partition = subject.split(".")[2]
    out = subject.replace("tw.in.", "tw.out.")
    said = {
        "Nats-Stream": stream_name("default", int(partition)),
        "Nats-Subject": subject,
        "Nats-Sequence": str(sent + 1),
        "Nats-Time-Stamp": "2026-01-01T00:00:00Z",
        "Nats-Last-Sequence": str(sent),
    }
    other = str(1 - int(partition))
    for changes in (
        dict.fromkeys(said),
        {"Nats-Stream": stream_name("default", int(other))},
        {"Nats-Stream": "TW_none_0"},
        {"Nats-Subject": subject + "b"},
        {"Nats-Last-Sequence": None},
        {"Nats-Sequence": "x"},
    ):
        headers = {name: value for name, value in {**said, **changes}.items() if value is not None}
        await nats.publish(out, b"forged", headers=headers or None)
    await eventually(lambda: _all_dropped(history, 6))
    assert [each.data for each in (await client.read("chat:a", at_least=sent)).publications] == [b"x"]


async def _all_dropped(history: HistoryProcess, count: int) -> bool:
    return await dropped(history, "forged") == count


async def test_publications_that_are_no_channels(
    client: HistoryClient, history: HistoryProcess, nats: Client
) -> None:
    """Stored all the same: on a wildcard, which is delivered to nobody, and on another partition than the channel's."""
    before = await publish(nats, "chat:a", b"x")
    subject = in_subject("chat:a", FEW).decode()
    wrong = subject.replace(f"tw.in.{subject.split('.')[2]}", f"tw.in.{1 - int(subject.split('.')[2])}")
    for foreign in (subject[:-1] + "*", wrong, subject[:-1] + "%zz"):
        await nats.request(foreign, b"foreign", PATIENCE)
    after = await publish(nats, "chat:a", b"y")
    await eventually(lambda: _counted(history))
    assert offsets(await client.read("chat:a", at_least=after)) == [before, after]
    _, epoch = await position(client, "chat:a")
    assert await client.recover("chat:a", before, epoch, at_least=after) == ("COMPLETE", [after])


async def _counted(history: HistoryProcess) -> bool:
    return await dropped(history, "wildcard") == 1 and await dropped(history, "no_channel") == 2


async def test_a_channel_that_lived_and_expired_unseen(
    config: dict[str, Any], history: HistoryProcess, nats: Client, tmp_path: Path
) -> None:
    """Its next publication says that there was none before: that proves nothing."""
    async with client_of(history) as warm:
        empty, epoch = await position(warm, "flash:a")
        sent = await publish(nats, "flash:a", b"x")
        assert await warm.recover("flash:a", empty, epoch, at_least=sent) == ("COMPLETE", [sent])
        stream = stream_of("flash:a", "brief")
        await shorten(config, stream, max_age=10**9, duplicate_window=10**9)
        await eventually(lambda: _empty(config, stream))
        with HistoryProcess(tmp_path, config, "cold") as cold:
            async with client_of(cold) as client:
                assert await client.recover("flash:a", empty, epoch) == ("TRIMMED", [])
                assert await client.recover("flash:a", sent, epoch) == ("COMPLETE", [])
                new = await publish(nats, "flash:a", b"y")
                assert await client.recover("flash:a", empty, epoch, at_least=new) == ("TRIMMED", [])
                assert await client.recover("flash:a", sent, epoch, at_least=new) == ("COMPLETE", [new])


async def _empty(config: dict[str, Any], stream: str) -> bool:
    async with jetstream(decode(HistoryConfig, config).nats) as js:
        return not (await js.call(f"STREAM.INFO.{stream}"))["state"]["messages"]


async def test_publications_beyond_the_profiles_limit(
    config: dict[str, Any], history: HistoryProcess, nats: Client, tmp_path: Path
) -> None:
    """What the stream trimmed is told as trimmed, by a process that did not see it, too; so is what nobody can prove."""
    async with client_of(history) as warm:
        _, epoch = await position(warm, "long:a")
    sent = [await publish(nats, "long:a", b"x") for _ in range(103)]
    with HistoryProcess(tmp_path, config, "cold") as cold:
        async with client_of(cold) as client:
            assert await client.recover("long:a", sent[1], epoch) == ("TRIMMED", [])
            assert await client.recover("long:a", sent[3], epoch) == ("COMPLETE", sent[4:])
            assert offsets(await client.read("long:a")) == sent[3:]
            await shorten(config, stream_of("long:a"), max_msgs_per_subject=1000)
            assert await client.recover("long:a", sent[0], epoch) == ("TRIMMED", [])
    async with client_of(history) as warm:
        assert await warm.recover("long:a", sent[50], epoch) == ("COMPLETE", sent[51:])


async def test_a_limit_that_was_raised_proves_nothing_of_before(
    config: dict[str, Any], nats: Client, tmp_path: Path
) -> None:
    """A count below the limit of today."""
    with HistoryProcess(tmp_path, config) as history:
        async with client_of(history) as client:
            start, epoch = await position(client, "long:a")
        await eventually(lambda: _noted(config, stream_of("long:a")))
    sent = [await publish(nats, "long:a", b"x") for _ in range(101)]
    await shorten(config, stream_of("long:a"), max_msgs_per_subject=1000)
    with HistoryProcess(tmp_path, config) as history:
        async with client_of(history) as client:
            assert await client.recover("long:a", start, epoch) == ("TRIMMED", [])
            assert await client.recover("long:a", sent[1], epoch) == ("COMPLETE", sent[2:])


async def _noted(config: dict[str, Any], stream: str) -> bool:
    async with jetstream(decode(HistoryConfig, config).nats) as js:
        state = await js.call("STREAM.INFO.KV_TW_META", {"subjects_filter": f"$KV.TW_META.purges.{stream}"})
        return bool(state["state"].get("subjects"))


async def test_a_stream_whose_folder_was_restored(tmp_path: Path) -> None:
    """It counts anew, and no replica takes its positions for those of before: not even once it has grown past them."""
    server = NatsServer(tmp_path / "nats", config=server_config(), jetstream=True)
    with server:
        config = history_config(server.url)
        await migrated(config)
        async with publisher(server) as nats:
            kept = [await publish(nats, "chat:a", b"x") for _ in range(3)]
        folder = next(server.store.rglob(f"streams/{stream_of('chat:a')}"))
        server.stop()
        shutil.copytree(folder, tmp_path / "copy")
        server.start()
        await migrated(config)  # a server alone forgets its memory streams
        with (
            HistoryProcess(tmp_path, config) as history,
            HistoryProcess(tmp_path, config, "second") as second,
        ):
            async with client_of(history) as client, client_of(second) as other:
                async with publisher(server) as nats:
                    lost = [await publish(nats, "chat:a", b"lost") for _ in range(3)]
                top, epoch = await position(client, "chat:a")
                assert top == lost[-1]
                await asyncio.gather(*(eventually(lambda p=p: _has_noted(p, top)) for p in (history, second)))
                server.stop()
                shutil.rmtree(folder)
                shutil.copytree(tmp_path / "copy", folder)
                server.start()
                await migrated(config)

                fresh = await another_epoch(client, "chat:a", epoch)
                assert await another_epoch(other, "chat:a", epoch) == fresh
                assert await client.recover("chat:a", kept[0], epoch) == ("OTHER_EPOCH", [])
                async with publisher(server) as nats:
                    grown = [await publish(nats, "chat:a", b"new") for _ in range(6)]
                assert grown[:3] == lost
                assert offsets(await client.read("chat:a", at_least=grown[-1])) == [*kept, *grown]
                assert (
                    len(
                        history.logged("history.stream_went_back") + second.logged("history.stream_went_back")
                    )
                    == 1
                )
        with HistoryProcess(tmp_path, config, "third") as third:
            async with client_of(third) as client:
                assert (await position(client, "chat:a"))[1] == fresh
        await migrated(config, new_generation=True)
        with HistoryProcess(tmp_path, config, "fourth") as fourth:
            async with client_of(fourth) as client:
                found = (await position(client, "chat:a"))[1]
                assert found not in {fresh, epoch}


async def _has_noted(process: HistoryProcess, sequence: int) -> bool:
    metrics = await process.metrics()
    return metrics.value("tidewire_history_sequence", stream=stream_of("chat:a")) >= sequence


async def test_a_restored_stream_that_has_grown_past_its_notes(tmp_path: Path) -> None:
    """While no history process ran: another publication is where one was noted."""
    with NatsServer(tmp_path / "nats", config=server_config(), jetstream=True) as server:
        config = history_config(server.url)
        await migrated(config)
        folder = next(server.store.rglob(f"streams/{stream_of('chat:a')}"))
        server.stop()
        shutil.copytree(folder, tmp_path / "copy")
        server.start()
        await migrated(config)  # a server alone forgets its memory streams
        async with publisher(server) as nats:
            lost = [await publish(nats, "chat:a", b"lost") for _ in range(3)]
        with HistoryProcess(tmp_path, config) as history:
            async with client_of(history) as client:
                _, epoch = await position(client, "chat:a")
            await eventually(lambda: _notes(config, stream_of("chat:a")))
        server.stop()
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        server.start()
        await migrated(config)  # a server alone forgets its memory streams
        async with publisher(server) as nats:
            assert [await publish(nats, "chat:a", b"new") for _ in range(9)][:3] == lost
        with HistoryProcess(tmp_path, config) as history:
            async with client_of(history) as client:
                found = (await position(client, "chat:a"))[1]
                assert found != epoch
                assert await client.recover("chat:a", lost[0], epoch) == ("OTHER_EPOCH", [])


async def _notes(config: dict[str, Any], stream: str) -> bool:
    async with jetstream(decode(HistoryConfig, config).nats) as js:
        state = await js.call("STREAM.INFO.KV_TW_META", {"subjects_filter": f"$KV.TW_META.notes.{stream}"})
        return bool(state["state"].get("subjects"))


async def test_a_memory_stream_whose_server_restarted(
    server: NatsServer, config: dict[str, Any], client: HistoryClient
) -> None:
    """It is made again, and counts anew: its channels have another epoch."""
    async with publisher(server) as nats:
        sent = [await publish(nats, "ram:a", b"x") for _ in range(3)]
        _, epoch = await position(client, "ram:a")
        assert offsets(await client.read("ram:a", at_least=sent[-1])) == sent
    server.restart()
    await migrated(config)
    await another_epoch(client, "ram:a", epoch)
    assert offsets(await client.read("ram:a")) == []


async def test_own_lifetimes(client: HistoryClient, nats: Client) -> None:
    """What has ended is not shown, though memory heard it; and nobody is told that it has recovered."""
    kept = await publish(nats, "ttl:a", b"x")
    ending = await publish(nats, "ttl:a", b"y", Nats_TTL="3s")
    last = await publish(nats, "ttl:a", b"z")
    _, epoch = await position(client, "ttl:a")
    assert offsets(await client.read("ttl:a", at_least=last)) == [kept, ending, last]
    assert await client.recover("ttl:a", kept, epoch) == ("TRIMMED", [])

    async def ended() -> bool:
        return offsets(await client.read("ttl:a")) == [kept, last]

    await eventually(ended)
    assert offsets(await client.read("ttl:a", limit=1, reverse=True)) == [last]


async def test_nats_is_away(server: NatsServer, client: HistoryClient, history: HistoryProcess) -> None:
    """UNAVAILABLE, never empty, nor from a memory that may lack something; and all that was missed is there afterwards."""
    async with publisher(server) as nats:
        sent = [await publish(nats, "chat:a", b"x") for _ in range(3)]
    _, epoch = await position(client, "chat:a")
    assert await client.recover("chat:a", sent[0], epoch, at_least=sent[-1]) == ("COMPLETE", sent[1:])
    server.kill()

    async def refused() -> bool:
        try:
            await client.read("chat:a")
        except CallError as error:
            if error.reason is not UNAVAILABLE:
                raise
            return True
        return False

    await eventually(refused)
    try:
        found = await client.position("chat:a", "live:a")
    except CallError as error:  # by now its health may say so for all calls
        found = [error.reason.name, "unknown_channel"]
    assert found == ["unavailable", "unknown_channel"]
    await eventually(lambda: _answers_ready(history, 503))
    server.start()
    await eventually(lambda: _answers_ready(history, 200), 40)
    async with publisher(server) as nats:
        sent.append(await publish(nats, "chat:a", b"y"))
    assert await client.recover("chat:a", sent[0], epoch, at_least=sent[-1]) == ("COMPLETE", sent[1:])


async def _answers_ready(history: HistoryProcess, status: int) -> bool:
    return (await history.ready()).status == status


async def test_publications_that_do_not_come_live(
    server: NatsServer, client: HistoryClient, history: HistoryProcess
) -> None:
    """While the process stands still its NATS link is cut; what it missed is found in the stream."""
    async with publisher(server) as nats:
        sent = [await publish(nats, "chat:a", b"x")]
        _, epoch = await position(client, "chat:a")
        history.send_signal(signal.SIGSTOP)
        server.restart()
    async with publisher(server) as nats:
        sent += [await publish(nats, "chat:a", b"y") for _ in range(50)]
    history.send_signal(signal.SIGCONT)

    async def recovered() -> bool:
        try:
            return await client.recover("chat:a", sent[40], epoch, at_least=sent[-1]) == (
                "COMPLETE",
                sent[41:],
            )
        except CallError as error:
            if error.reason is not UNAVAILABLE:
                raise
            return False

    await eventually(recovered, 40)

    async def repaired() -> bool:
        """The answer came from the stream, perhaps before memory has all of it."""
        return (await history.metrics()).value("tidewire_history_repaired_total", outcome="found") >= 50

    await eventually(repaired)


async def test_an_edge_that_has_seen_more_than_the_stream_has(
    client: HistoryClient, nats: Client, history: HistoryProcess
) -> None:
    """In this very epoch: the stream went back, and the epoch changes; a client alone cannot bring that about."""
    sent = await publish(nats, "chat:a", b"x")
    _, epoch = await position(client, "chat:a")
    assert await client.recover("chat:a", sent + 9, epoch) == ("OTHER_EPOCH", [])
    with pytest.raises(CallError) as caught:
        await client.recover("chat:a", sent, epoch, at_least=sent + 9)
    assert caught.value.reason is UNAVAILABLE
    await another_epoch(client, "chat:a", epoch)
    assert (
        outcome(await client.read("chat:a", (sent, epoch), recover=True, at_least=sent + 9)) == "OTHER_EPOCH"
    )
