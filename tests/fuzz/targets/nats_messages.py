"""What others write on NATS, up to what subscribers read. Input: the length of the header block, that, then the payload."""

from __future__ import annotations

import json
from typing import Any, cast

from centrifuge.protocol import client_pb2 as sdk  # type: ignore[import-untyped]
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics
from tests.fakes.nats import FakeLink
from tidewire.edge.adapters.nats_broker import APPLICATION_CODES, MAX_APPLICATION_MESSAGE, NatsBroker
from tidewire.edge.ports import Publication
from tidewire.edge.wire.json_codec import JSON, clean_json
from tidewire.edge.wire.protobuf_codec import PROTOBUF
from tidewire.kernel.errors import INTERNAL, METHOD_NOT_FOUND, ReplyError
from tidewire.kernel.trace_context import header_line, sampled_context
from tidewire.platform.nats_link import NatsLink

LONGEST = 300
PATTERN = "chat:*"
SUBJECT = b"tw.in.0.chat.a"


class Sink:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.heard: list[Publication] = []

    def receive(self, publication: Publication) -> None:
        """See ports.Sink."""
        self.heard.append(publication)


def check(data: bytes) -> None:
    """Demand that every subscriber's SDK can read what becomes of a message, and every caller what becomes of an answer."""
    size = data[0] if data else 0
    header, payload = data[1 : 1 + size], data[1 + size :]
    link, sink, answers = FakeLink(), Sink(), list[bytes | ReplyError]()
    metrics = CountingMetrics()
    broker = NatsBroker(
        cast("NatsLink", link), 1, 1.0, 1.0, ManualClock(), metrics, lambda done, error: done(error)
    )
    broker.subscribe_pattern(PATTERN, sink, lambda _error: None)
    link.deliver(SUBJECT, payload, header)
    assert len(sink.heard) + len(metrics.of("publication_dropped")) == 1
    for publication in sink.heard:
        _check_publication(publication, payload)
    broker.call("m", "u", "c", b"", answers.append)
    link.requests[0][2](header, payload)
    _check_answer(answers[0], payload)
    _check_context(header)


def _check_publication(heard: Publication, payload: bytes) -> None:
    assert (heard.data, heard.channel) == (payload, "chat:a")
    assert 0 <= heard.sent_us < 10**20
    tags = dict(heard.tags or {})
    item = PROTOBUF.publication(PATTERN, payload, heard.info, tags, heard.channel)
    push = sdk.Reply.FromString(item[_DecodeVarint(item, 0)[1] :]).push
    assert (push.channel, push.pub.data, push.pub.channel) == (PATTERN, payload, "chat:a")
    assert dict(push.pub.tags) == tags
    data = clean_json(payload)
    if data is None:
        return
    line = JSON.publication(7, data, heard.info, tags, heard.channel)
    assert b"\n" not in line
    said = json.loads(line)["push"]
    assert (said["id"], said["pub"]["channel"], said["pub"].get("tags", {})) == (7, "chat:a", tags)
    assert repr(said["pub"]["data"]) == repr(json.loads(data))
    assert push.pub.HasField("info") == ("info" in said["pub"])
    if "info" in said["pub"]:
        _check_sender(said["pub"]["info"], push.pub.info)


def _check_sender(said: Any, sent: Any) -> None:
    assert (said["user"], said["client"]) == (sent.user, sent.client)
    for name in ("conn_info", "chan_info"):
        raw = getattr(sent, name)
        assert repr(said.get(name)) == repr(json.loads(raw) if raw else None)


def _check_answer(answer: bytes | ReplyError, payload: bytes) -> None:
    if isinstance(answer, bytes):
        assert answer == payload
    elif answer not in {METHOD_NOT_FOUND, INTERNAL}:
        assert answer.code in APPLICATION_CODES
        assert 0 < len(answer.message) <= MAX_APPLICATION_MESSAGE


def _check_context(header: bytes) -> None:
    context = sampled_context(header)
    if context is not None:
        again = sampled_context(b"NATS/1.0\r\n" + header_line(context) + b"\r\n")
        assert again is not None
        assert (again.trace_id, again.span_id) == (context.trace_id, context.span_id)
        assert context.state.isascii()


def _seed(payload: bytes, *fields: bytes) -> bytes:
    header = b"".join(line + b"\r\n" for line in (b"NATS/1.0", *fields, b"")) if fields else b""
    return bytes((len(header),)) + header + payload


_TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SEEDS = [
    _seed(b'{"x": [1, 2]}'),
    _seed(b"\xff"),
    _seed(b'{"x":1}\r\n', b"Tw-V: 1", b"Tw-Time: 1800000000000000", b'Tw-Info: {"user":"42","client":"c"}'),
    _seed(b"1", b'Tw-Info: {"user":"","client":"","conn_info":{"a": 1},"chan_info":[1,"\\ud83d"]}'),
    _seed(b"1", b"Tw-Time: " + b"9" * 25),
    _seed(b"1", b'Tw-Info: {"user":42,"client":"c"}', b"Tw-V: 2"),
    _seed(b"null", b'Tw-Tags: {"k":"v","\\u20ac":""}', _TRACE, b"tracestate: a=b"),
    _seed(b"null", b'Tw-Tags: {"k":1}'),
    _seed(b"", b"Nats-Service-Error-Code: 404", b"Nats-Service-Error: not found"),
    _seed(b"", b"Nats-Service-Error-Code: 99999999999", b"Nats-Service-Error: \xff"),
    b"\x10NATS/1.0 503\r\n\r\n",
    _seed(b"[1e999]", b"Traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"),
]
