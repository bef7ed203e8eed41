"""Stand-ins for the edge's ports, for unit tests of the parts between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jwt

from tests.fakes.clock import ManualClock
from tidewire.edge.config import EdgeConfig
from tidewire.edge.framing import WEBSOCKET_JSON, Framing
from tidewire.edge.policies.tokens import TokenVerifier
from tidewire.edge.ports import Done, Sink
from tidewire.edge.rules import Rules
from tidewire.kernel import errors
from tidewire.kernel.config import decode
from tidewire.kernel.errors import Disconnect, ReplyError

KEY = "k" * 64
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "chat", **OPEN},
    {"name": "closed"},
    {"name": "readers", "allow_subscribe_for_client": True, "allow_publish_for_subscriber": True},
    {"name": "public", **OPEN, "allow_subscribe_for_anonymous": True, "allow_publish_for_anonymous": True},
    {"name": "users", **OPEN, "allow_user_limited_channels": True},
    {"name": "digits", **OPEN, "channel_regex": "^[0-9]+$"},
    {"name": "raw", **OPEN, "publication_data_format": "binary"},
    {"name": "stocks", **OPEN, "allow_wildcards": True, "allow_tags_filter": True},
    {"name": "edits", **OPEN, "allowed_delta_types": ["fossil"], "delta_publish": True},
    {"name": "locked", "allow_wildcards": True, "allow_user_limited_channels": True},
]


def edge_config(**changes: Any) -> EdgeConfig:
    """A configuration with the namespaces above; `changes` replace top-level sections, client settings are merged."""
    client = {"token": {"hmac_secret_key": KEY}, **changes.pop("client", {})}
    mapping = {
        "client": client,
        "channel": {"namespaces": NAMESPACES, "without_namespace": OPEN},
        "history": {"target": "ipv4:127.0.0.1:9"},
        **changes,
    }
    return decode(EdgeConfig, mapping)


def rules(clock: ManualClock, **changes: Any) -> Rules:
    """Rules of `edge_config(**changes)`."""
    return Rules(edge_config(**changes), clock, "1.2.3")


def token(
    user: str = "alice", key: str = KEY, algorithm: str = "HS256", kid: str | None = None, **claims: Any
) -> str:
    """A signed token."""
    headers = {"kid": kid} if kid is not None else None
    return jwt.encode({"sub": user, **claims}, key, algorithm=algorithm, headers=headers)


def at_once(_seconds: float, turn: Callable[[], None]) -> None:
    """A loop whose next turn is now."""
    turn()


class ManualTimer:
    """A loop's timers, which the test lets come; at most one is set at a time by those that this stands for."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, turn: Callable[[], None]) -> ManualTimer:
        self.calls.append((self._clock.now + seconds, turn))
        return self

    def cancel(self) -> None:
        """Forget the one that is set."""
        self.calls.clear()

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        end = self._clock.now + seconds
        while self.calls and self.calls[0][0] <= end:
            due, turn = self.calls.pop(0)
            self._clock.now = max(due, self._clock.now)
            turn()
        self._clock.now = end


def now(turn: Callable[[], None]) -> None:
    """The same for a `Rotation`."""
    turn()


class FakeTokens:
    """A verifier whose verdicts the test gives, by token."""

    why = "as the test wants"

    def __init__(self, verdicts: Mapping[str, Any]) -> None:
        self.verdicts = dict(verdicts)

    def connection(self, token: str) -> Any:
        return self.verdicts[token]

    def subscription(self, token: str) -> Any:
        return self.verdicts[token]


def believing(made: Rules, **verdicts: Any) -> FakeTokens:
    """Let rules judge tokens as the test says: each name is a token."""
    tokens = FakeTokens(verdicts)
    made.tokens = cast("TokenVerifier", tokens)
    return tokens


def _unconfirmed(_error: ReplyError | None) -> None:
    """Stand beside a publication that is answered with another one of its turn."""
    raise AssertionError("nobody waits for this publication by itself")


class FakeBroker:
    """A broker whose answers the test gives, by calling the collected `done`s."""

    def __init__(self) -> None:
        self.available = True
        self.refuses: ReplyError | None = None
        self.too_large = b"too large"
        """The payload that is never taken."""
        self.published: list[tuple[str, bytes, bytes, Done]] = []
        self.subscribed: dict[int, tuple[str, Sink, Done]] = {}
        self.patterns: list[str] = []
        self.unsubscribed: list[str] = []
        self.orders: list[tuple[str, bytes]] = []
        self.calls: list[tuple[str, str, bytes, Callable[[bytes | ReplyError], None]]] = []
        self.sent: list[bytes] = []
        self.traces: list[bytes] = []
        self.keys: list[str] = []
        self.same_turn: int | None = None

    def publish(
        self, channel: str, data: Sequence[bytes], info: bytes, trace: bytes = b"", key: str = ""
    ) -> ReplyError | None:
        self.traces.append(trace)
        self.keys.append(key)
        if self.too_large in data:
            return errors.BAD_REQUEST
        if self.refuses is None:
            self.published += [(channel, each, info, _unconfirmed) for each in data]
        return self.refuses

    @property
    def turn(self) -> int:
        """Each publication has a turn of its own, unless the test says otherwise."""
        return len(self.published) if self.same_turn is None else self.same_turn

    def acknowledge(self, done: Done) -> None:
        """`done` stands beside the newest publication; others of its turn have none of their own."""
        self.published[-1] = (*self.published[-1][:3], done)

    def confirm_published(self) -> None:
        """Answer everything that was published."""
        for *_, done in self.published:
            if done is not _unconfirmed:
                done(None)

    def subscribe(self, channel: str, sink: Sink, done: Done) -> int:
        handle = len(self.subscribed) + 1
        self.subscribed[handle] = (channel, sink, done)
        return handle

    def subscribe_pattern(self, pattern: str, sink: Sink, done: Done) -> int:
        self.patterns.append(pattern)
        return self.subscribe(pattern, sink, done)

    def order(self, node: str, order: bytes) -> bool:
        self.orders.append((node, order))
        return self.refuses is None

    def unsubscribe(self, handle: int) -> None:
        self.unsubscribed.append(self.subscribed[handle][0])

    def call(
        self,
        method: str,
        user: str,
        client: str,
        data: bytes,
        done: Callable[[bytes | ReplyError], None],
        trace: bytes = b"",
    ) -> ReplyError | None:
        self.traces.append(trace)
        if self.refuses is None:
            self.calls.append((method, user, data, done))
        return self.refuses

    def send(self, user: str, client: str, data: bytes) -> bool:
        self.sent.append(data)
        return self.refuses is None

    def sink(self, channel: str) -> Sink:
        """The newest sink of a channel."""
        return next(sink for name, sink, _ in reversed(self.subscribed.values()) if name == channel)

    def confirm(self, channel: str, error: ReplyError | None = None) -> None:
        """Answer the newest subscription to a channel."""
        next(done for name, _, done in reversed(self.subscribed.values()) if name == channel)(error)


class FakeKeys:
    """A key fetcher whose fetches the test ends."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, Callable[[], None]]] = []

    def fetch(self, source: str, done: Callable[[], None]) -> None:
        self.wanted.append((source, done))


class RecordingTransport:
    """Keeps what was written; `full` makes it refuse, `congested` says that the socket is full."""

    def __init__(self, framing: Framing = WEBSOCKET_JSON) -> None:
        self.framing = framing
        self.frames: list[bytes] = []
        self.closed: Disconnect | None = None
        self.full = False
        self.congested = False

    def send(self, frame: bytes) -> bool:
        if not self.full:
            self.frames.append(frame)
        return not self.full

    def authenticated(self) -> None:
        pass

    def close(self, disconnect: Disconnect) -> None:
        self.closed = disconnect


class CountingMetrics:
    """Counts every call by name, and keeps the arguments."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.events.append((name, arguments))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of each call of `name`."""
        return [arguments for event, arguments in self.events if event == name]
