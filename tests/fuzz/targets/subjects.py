"""Channels as subjects and back. Input: a channel in UTF-8 (surrogates too), a method, or what stands on a subject."""

from __future__ import annotations

import re
from urllib.parse import unquote

from tests.support.channels import foreign, refused, vectors
from tidewire.kernel.channels import is_pattern, is_restricted, limited_users, split_channel
from tidewire.kernel.subjects import (
    InvalidChannelError,
    channel_of,
    control_subject,
    decode_channel,
    encode_channel,
    encode_token,
    in_pattern,
    in_subject,
    in_subject_of_tokens,
    partition_of,
    rpc_subject,
)

LONGEST = 60
PARTITIONS = 16
SUBJECT = re.compile(rb"[-A-Za-z0-9_%]+(?:\.[-A-Za-z0-9_%]+)*")
"""One or more tokens without a wildcard, a space, a line end or anything else that means something to NATS."""


def check(data: bytes) -> None:
    """Demand that each name has one subject and each subject at most one name, and that nothing else gets through."""
    text = data.decode("utf-8", "surrogatepass" if _has_surrogates(data) else "replace")
    _check_channel(text)
    _check_token(text)
    _check_tokens(data.decode("latin-1"))
    _check_subject(data)


def _has_surrogates(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _check_channel(channel: str) -> None:
    parts = split_channel(channel)
    boundary = "" if parts.namespace is None else f"{parts.namespace}:"
    assert "$" * parts.private + boundary + parts.name == channel
    assert is_restricted(channel) == (parts.private or limited_users(channel) is not None)
    try:
        tokens = encode_channel(channel)
    except InvalidChannelError:
        return
    assert SUBJECT.fullmatch(tokens.encode())
    assert decode_channel(tokens) == channel
    partition = _fnv1a(f"tw.pub.{tokens}".encode()) % PARTITIONS
    assert partition_of(tokens, PARTITIONS) == partition
    subject = b"tw.in.%d.%b" % (partition, tokens.encode())
    assert in_subject(channel, PARTITIONS) == in_subject_of_tokens(tokens.encode(), PARTITIONS) == subject
    assert channel_of(subject, PARTITIONS) == channel
    _check_pattern(channel, tokens)


def _check_pattern(channel: str, tokens: str) -> None:
    pattern = in_pattern(channel)
    assert SUBJECT.fullmatch(pattern.removeprefix(b"tw.in.*.").replace(b".*", b".x"))
    assert (b".*" in pattern[8:]) == ("%2A" in tokens.split(".")[1:])
    assert not is_pattern(channel) or b".*" in pattern[8:]


def _check_token(text: str) -> None:
    try:
        token = encode_token(text)
    except InvalidChannelError:
        assert not text or any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert SUBJECT.fullmatch(token.encode())
    assert "." not in token
    assert unquote(token) == text
    assert (rpc_subject(text), control_subject(text)) == (
        f"tw.rpc.{token}".encode(),
        f"tw.ctl.{token}".encode(),
    )


def _check_tokens(tokens: str) -> None:
    try:
        channel = decode_channel(tokens)
    except InvalidChannelError:
        return
    assert encode_channel(channel) == tokens


def _check_subject(subject: bytes) -> None:
    channel = channel_of(subject, PARTITIONS)
    assert channel is None or in_subject(channel, PARTITIONS).split(b".")[2:] == subject.split(b".")[2:]


def _fnv1a(data: bytes) -> int:
    """The 32-bit hash as its authors define it; the page's vectors, which are seeds, come from nats-server."""
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 % 2**32
    return value


SEEDS = [
    *(vector.channel.encode()[:LONGEST] for vector in vectors()),
    *(vector.tokens.encode()[:LONGEST] for vector in vectors()),
    *(name.encode("utf-8", "surrogatepass") for name in refused()),
    *(tokens.encode() for tokens in foreign()),
    *(in_subject(vector.channel, PARTITIONS)[:LONGEST] for vector in vectors()),
    b"stocks:*.AAPL",
    b"stocks:a.*",
    b"$chat:a#1,2",
]
