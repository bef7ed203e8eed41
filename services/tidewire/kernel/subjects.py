"""The only place where a channel becomes a NATS subject, and the way back.

`C`, the channel as subject tokens, is `<namespace>.<name>` with `_` for channels without a namespace. In the name a dot
separates tokens, so `stocks:nasdaq.AAPL` is `stocks.nasdaq.AAPL`; every byte of its UTF-8 outside `[A-Za-z0-9_-]`, and a
dot that would make an empty token, is percent-encoded. A private channel has the lone token `%` after its namespace,
which no name can produce. The mapping is reversible for every channel, so no name can inject a wildcard, a space, a line
end or another channel's subject. Test vectors: docs/nats-interop.md.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from tidewire.kernel.channels import WILDCARD, split_channel
from tidewire.kernel.errors import TidewireError
from tidewire.kernel.fnv import fnv1a32

NO_NAMESPACE = "_"
PRIVATE_TOKEN = "%"  # noqa: S105 - a subject token, not a password
NAMESPACE = re.compile(r"[-a-zA-Z0-9_]{2,}")
PROBE = "_tw.chk"
EVERY_NODE = "all"
CONTROL_ALL = f"tw.ctl.{EVERY_NODE}".encode()
SUBJECT_CACHE = 65_536

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_PERCENT = [chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256)]
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_TOKENS = re.compile(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+(?:\.(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+)*")
_LETTERS = [*_PERCENT[: ord(".")], ".", *_PERCENT[ord(".") + 1 :]]
_ODD_DOT = re.compile(r"\A\.|\.\Z|(?<=\.)\.")
"""A dot beside which there would be an empty token."""


class InvalidChannelError(TidewireError):
    """A channel name, or a subject, that has no counterpart on the other side; the message says why."""


def encode_channel(channel: str) -> str:
    """Return `C`, the channel as subject tokens.

    Raises InvalidChannelError for an empty name, a namespace that cannot exist, or text that is not valid Unicode.
    """
    parts = split_channel(channel)
    if parts.namespace is None:
        namespace = NO_NAMESPACE
    elif NAMESPACE.fullmatch(parts.namespace) and not parts.namespace.startswith("_"):
        namespace = parts.namespace
    else:
        raise InvalidChannelError("no namespace can have this name")
    if not parts.name:
        raise InvalidChannelError("the channel's name is empty")
    name = parts.name if _SAFE_NAME.fullmatch(parts.name) else _encode_name(parts.name)
    return f"{namespace}.{PRIVATE_TOKEN}.{name}" if parts.private else f"{namespace}.{name}"


def decode_channel(tokens: str) -> str:
    """Return the channel whose encoding is `tokens`.

    Raises InvalidChannelError for anything that `encode_channel` never returns, so that one channel has one subject.
    """
    namespace, _, rest = tokens.partition(".")
    private = rest.startswith(PRIVATE_TOKEN + ".")
    name = rest[2:] if private else rest
    if not _TOKENS.fullmatch(name):
        raise InvalidChannelError("not the subject of any channel")
    try:
        decoded = unquote_to_bytes(name).decode()
    except UnicodeDecodeError as error:
        raise InvalidChannelError("not the subject of any channel") from error
    prefix = "" if namespace == NO_NAMESPACE else namespace + ":"
    channel = ("$" if private else "") + prefix + decoded
    if encode_channel(channel) != tokens:
        raise InvalidChannelError("not the subject of any channel")
    return channel


def encode_token(text: str) -> str:
    """Return `text` as one subject token: dots and all else outside `[A-Za-z0-9_-]` percent-encoded.

    Raises InvalidChannelError for empty text and for text that is not valid Unicode.
    """
    if not text:
        raise InvalidChannelError("an empty name cannot be a subject token")
    return "".join(map(_PERCENT.__getitem__, _utf8(text)))


def partition_of(tokens: str, partitions: int) -> int:
    """Return the partition (0 to partitions - 1) of a channel given as subject tokens."""
    return _partition(tokens.encode(), partitions)


@lru_cache(maxsize=SUBJECT_CACHE)
def in_subject(channel: str, partitions: int) -> bytes:
    """Return `tw.in.<p>.<C>`, where a channel's publications come in; cached, since the hash costs microseconds.

    Raises InvalidChannelError like `encode_channel`.
    """
    tokens = encode_channel(channel)
    return f"tw.in.{partition_of(tokens, partitions)}.{tokens}".encode()


@lru_cache(maxsize=SUBJECT_CACHE)
def out_subject(channel: str, partitions: int) -> bytes:
    """Return `tw.out.<p>.<C>`, where what was stored of a channel is heard. Raises InvalidChannelError like `encode_channel`."""
    return b"tw.out" + in_subject(channel, partitions).removeprefix(b"tw.in")


def out_pattern(pattern: str) -> bytes:
    """Return `tw.out.*.<C>` for a wildcard subscription to channels that are stored; see `in_pattern`."""
    return b"tw.out" + in_pattern(pattern).removeprefix(b"tw.in")


def in_pattern(pattern: str) -> bytes:
    """Return `tw.in.*.<C>` for a wildcard subscription, in which a name's token that is `*` stands for any one token.

    NATS then delivers from every partition, private channels and forged partitions too: `channel_of` sorts them out.
    Raises InvalidChannelError like `encode_channel`.
    """
    star = _PERCENT[ord(WILDCARD)]
    namespace, *name = encode_channel(pattern).split(".")
    tokens = [namespace, *(WILDCARD if token == star else token for token in name)]
    return f"tw.in.*.{'.'.join(tokens)}".encode()


@lru_cache(maxsize=SUBJECT_CACHE)
def channel_of(subject: bytes, partitions: int) -> str | None:
    """Return the channel of a `tw.in` or `tw.out` subject; None for one that no publisher of that channel can have used.

    That is a subject which encodes no channel, or names another partition than its channel's. Cached: it costs
    microseconds.
    """
    try:
        _, _, partition, tokens = subject.decode().split(".", 3)
        channel = decode_channel(tokens)
    except (InvalidChannelError, ValueError):
        return None
    return channel if partition == str(partition_of(tokens, partitions)) else None


def channel_partition(channel: str, partitions: int) -> int:
    """Return the partition of a channel. Raises InvalidChannelError like `encode_channel`."""
    return int(in_subject(channel, partitions).split(b".", 3)[2])


def presence_event_subject(channel: str, partitions: int) -> bytes:
    """Return `tw.pres.j.<p>.<C>`, where a channel's joins and leaves are told. Raises InvalidChannelError."""
    return b"tw.pres.j" + in_subject(channel, partitions).removeprefix(b"tw.in")


def in_subject_of_tokens(tokens: bytes, partitions: int) -> bytes:
    """Return `tw.in.<p>.<tokens>` for what a native client published: it may be no channel's, and not even UTF-8."""
    return b"tw.in.%d.%b" % (_partition(tokens, partitions), tokens)


@lru_cache(maxsize=1024)
def rpc_subject(method: str) -> bytes:
    """Return `tw.rpc.<method>` with the method as one token. Raises InvalidChannelError like `encode_token`."""
    return f"tw.rpc.{encode_token(method)}".encode()


def control_subject(node: str) -> bytes:
    """Return `tw.ctl.<node>`, on which one edge takes orders. Raises InvalidChannelError like `encode_token`."""
    return f"tw.ctl.{encode_token(node)}".encode()


def _partition(tokens: bytes, partitions: int) -> int:
    return fnv1a32(b"tw.pub." + tokens) % partitions


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidChannelError("the name is not valid Unicode") from error


def _encode_name(name: str) -> str:
    return _ODD_DOT.sub(_PERCENT[ord(".")], "".join(map(_LETTERS.__getitem__, _utf8(name))))
