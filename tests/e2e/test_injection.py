"""What clients name is seen from the side of NATS: no channel, user or data of theirs reaches another subject or header."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg

from tests.support.edges import Mesh, running_mesh, token
from tests.support.raw_client import RawClient, Reply, joined, publication
from tests.support.wait import eventually

NAMES: dict[str, str | int] = {
    ">": "_.%3E",
    "*": "_.%2A",
    "a.*": "_.a.%2A",
    "a.>": "_.a.%3E",
    "live:>": "live.%3E",
    "live:*": "live.%2A",
    "live:a.*.b": "live.a.%2A.b",
    "tw.in.3.live.x": "_.tw.in.3.live.x",
    "tw.ctl.all": "_.tw.ctl.all",
    "$JS.API.STREAM.LIST": 103,
    "$SYS.REQ": 103,
    "_INBOX.x": "_._INBOX.x",
    "a b": "_.a%20b",
    "a\tb": "_.a%09b",
    "a\r\nPUB tw.ctl.all 2\r\n{}": "_.a%0D%0APUB%20tw.ctl.all%202%0D%0A%7B%7D",
    "a\r\n\r\n": "_.a%0D%0A%0D%0A",
    "a\0b": "_.a%00b",
    ".": "_.%2E",
    "..": "_.%2E%2E",
    "a..b": "_.a.%2Eb",
    "a.": "_.a%2E",
    "live:": 107,
    "other:x": 102,
    "%2E": "_.%252E",
    "a%2Eb": "_.a%252Eb",
    "%": "_.%25",
    "live:%.x": "live.%25.x",
    "_": "_._",
    "é\u2028": "_.%C3%A9%E2%80%A8",
}
"""Names of channels, with the subject tokens behind `tw.in.<p>.` that their publications have, or the error's code."""
KEYS = {
    "k": 0,
    "a b": 0,
    "Tw-V: 9": 0,
    "é😀\u2028\u0085": 0,
    "x" * 256: 0,
    "x" * 257: 107,
    "a\r\nTw-V: 9": 107,
    "a\r\n\r\n": 107,
    "a\nTw-Info: {}": 107,
    "a\rb": 107,
    "a\0b": 107,
    "a\x7f": 107,
    "\tk": 107,
    " k": 107,
    "k ": 107,
    "": 107,
}
"""Keys of publications, with the error's code, 0 for none."""
ELSEWHERE = ("secret", "live:secret", "live:a.secret.b", "a.secret")
"""Channels on which nobody listens, and that the names above would cover if one of them were a wildcard."""
OURS = {"Tw-V", "Tw-Time", "Tw-Info"}
USER = 'eve\r\nNats-Msg-Id: 1\r\n"}\r\n\r\nPUB tw.ctl.all 2\r\n{}\r\n'
SUBJECT = re.compile(r"tw\.in\.\d+\.(.+)")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """One edge."""
    with running_mesh(tmp_path, edges=1) as running:
        yield running


async def test_no_name_reaches_another_subject_and_no_user_another_header(mesh: Mesh) -> None:
    """A subscriber on `>` sees one publication for each name, under its own subject, with the edge's headers only."""
    seen: list[Msg] = []

    async def note(message: Msg) -> None:
        seen.append(message)

    native = await nats.connect(mesh.nats.url)
    await native.subscribe(">", cb=note)
    await native.flush()
    client = await joined(mesh.edges[0].ws_url, token(USER))
    codes = {name: (await publish(client, name)).get("error", {}).get("code", 0) for name in NAMES}
    expected = {tokens for tokens in NAMES.values() if isinstance(tokens, str)}
    assert codes == {name: 0 if isinstance(tokens, str) else tokens for name, tokens in NAMES.items()}
    await publish(client, "fence")
    await eventually(lambda: any(message.subject.endswith("._.fence") for message in seen))
    found = [
        SUBJECT.fullmatch(message.subject) for message in seen if not message.subject.startswith("_INBOX")
    ]
    assert sorted(match[1] if match else "" for match in found) == sorted([*expected, "_.fence"])
    assert all(set(message.headers or {}) == OURS for message in seen)
    assert (await mesh.edges[0].metrics()).value("tidewire_nats_disconnects_total") == 0
    await client.close()
    await native.close()


async def test_no_key_reaches_another_header(mesh: Mesh) -> None:
    """A key that could end a header, or lose a part in one, is refused; any other arrives as it is."""
    seen: list[Msg] = []

    async def note(message: Msg) -> None:
        seen.append(message)

    native = await nats.connect(mesh.nats.url)
    await native.subscribe("tw.in.*.live.keys", cb=note)
    await native.flush()
    client = await joined(mesh.edges[0].ws_url, token(USER))
    for key, code in KEYS.items():
        said = {"channel": "live:keys", "data": key, "key": key}
        reply = await client.command(rpc={"method": "tw.publish", "data": said})
        assert reply.get("error", {}).get("code", 0) == code, key
    fit = [key for key, code in KEYS.items() if not code]
    await eventually(lambda: len(seen) == len(fit))
    assert [json.loads(message.data) for message in seen] == fit
    for message, key in zip(seen, fit, strict=True):
        assert message.headers is not None
        assert set(message.headers) == {*OURS, "Tw-Key"}
        assert message.headers["Tw-Key"] == key
    assert (await mesh.edges[0].metrics()).value("tidewire_nats_disconnects_total") == 0
    await client.close()
    await native.close()


async def test_no_name_hears_another_channel(mesh: Mesh) -> None:
    """A client that subscribed to every name hears of each what was published there, and nothing else."""
    heard: list[tuple[str, str]] = []

    def on_push(line: bytes) -> None:
        found = publication(line)
        assert found is not None
        heard.append((found[0], found[1]["data"]))

    listener = await joined(mesh.edges[0].ws_url, token("eve"), on_push=on_push)
    names = [name for name, tokens in NAMES.items() if isinstance(tokens, str)]
    for name in names:
        assert "subscribe" in await listener.command(subscribe={"channel": name}), name
    for name in NAMES.keys() - set(names):
        assert "error" in await listener.command(subscribe={"channel": name}), name
    for name in [*ELSEWHERE, *names]:
        await publish(listener, name)
    await eventually(lambda: len(heard) >= len(names))
    assert sorted(heard) == sorted((name, name) for name in names)
    await listener.close()


async def publish(client: RawClient, name: str) -> Reply:
    """Publish a channel's name on it."""
    return await client.command(publish={"channel": name, "data": name})
