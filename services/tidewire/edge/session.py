"""The state of one client's conversation: every rule of the protocol, no socket and no event loop.

Commands and results go in, effects come out; the dispatcher carries them out and feeds results back. A command that has
to wait (subscribe, publish, rpc) is answered when its result arrives, so replies may overtake each other; the client
matches them by id.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from tidewire.edge.effects import (
    Answer,
    Call,
    Close,
    Dropped,
    Effect,
    ExpireIn,
    Join,
    Leave,
    Opened,
    Ping,
    Publish,
    Send,
)
from tidewire.edge.policies.tokens import ConnectionClaims, TokenProblem
from tidewire.edge.subscriptions import Subscription, SubscriptionState, admit
from tidewire.edge.wire.commands import (
    Command,
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SendRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from tidewire.edge.wire.json_codec import clean_json
from tidewire.edge.wire.replies import (
    ClientInfo,
    ConnectResult,
    PublishResult,
    RefreshResult,
    Reply,
    RpcResult,
    SubscribeResult,
    UnsubscribeResult,
)
from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.rules import Rules
    from tidewire.kernel.errors import Disconnect, ReplyError
    from tidewire.kernel.ids import ConnectionId

PONG = Command()
NOT_JSON = errors.ReplyError(errors.INTERNAL.code, "the method's answer is not JSON")
MAX_TTL = 2**31 - 1
METHODS = Command.__struct_fields__[1:]


class SessionState(enum.Enum):
    """Where the conversation stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    RETIRING = "retiring"
    CLOSED = "closed"


class Session:
    """One client's conversation, from its connect command to its close."""

    __slots__ = (
        "_attempts",
        "_awaiting_pong",
        "_closing",
        "_expires_at",
        "_info",
        "_rules",
        "_spare_pong",
        "_started",
        "client",
        "detail",
        "is_json",
        "name",
        "owed",
        "refused_connect",
        "state",
        "subscriptions",
        "user",
    )

    def __init__(self, client: ConnectionId, rules: Rules, *, json: bool) -> None:
        self.client = client
        self.state = SessionState.CONNECTING
        self.user = ""
        self.detail = ""
        """What the log says beyond the close reason."""
        self.name = ""
        self.owed = 0
        """Commands whose result has not come yet."""
        self.refused_connect = 0.0
        """When the connect command came that the close answers (monotonic seconds); 0 = another reason."""
        self.subscriptions: dict[str, Subscription] = {}
        self._rules = rules
        self.is_json = json
        self._info = ClientInfo(user="", client=client)
        self._attempts = 0
        self._awaiting_pong = False
        self._spare_pong: bool | None = None  # None before the first ping, False once used
        self._expires_at = 0
        self._closing: Disconnect | None = None
        self._started = 0.0

    # What comes from the client.

    def receive(self, commands: Sequence[Command]) -> list[Effect]:
        """Take the commands of one frame, in order, and return what they bring about."""
        if self.state is SessionState.REFUSED:
            return self.close(errors.BAD_PROTOCOL)
        effects: list[Effect] = []
        for index, command in enumerate(commands):
            if self.state not in {SessionState.CONNECTING, SessionState.CONNECTED}:
                # After an error reply to connect, what stands behind it in the frame is dropped silently: it was sent
                # before the refusal could be known.
                return effects + ([] if self._is(SessionState.REFUSED) else self._drop(commands[index:]))
            effects += self._handle(command)
        return effects

    def _drop(self, commands: Sequence[Command]) -> list[Effect]:
        """Carry out none of the commands; a pong is no command, and still counts."""
        pongs = sum(command == PONG for command in commands)
        if pongs:
            self._awaiting_pong = False
        return [Dropped(len(commands) - pongs)] if len(commands) > pongs else []

    def _is(self, state: SessionState) -> bool:
        return self.state is state

    def _handle(self, command: Command) -> list[Effect]:
        self._started = self._rules.clock.monotonic()
        method = next((name for name in METHODS if getattr(command, name) is not None), "")
        if self.state is SessionState.CONNECTING:
            if command.connect is None or not command.id:
                return self.close(
                    errors.BAD_PROTOCOL.saying("bad request: the first command must be connect")
                )
            return self._connect(command.id, command.connect)
        if not method:
            return self._pong() if not command.id else self.close(errors.BAD_PROTOCOL)
        if method == "connect" or (not command.id and method != "send"):
            return self.close(errors.BAD_PROTOCOL)
        return self._dispatch(method, command)

    def _dispatch(self, method: str, command: Command) -> list[Effect]:
        number = command.id
        match getattr(command, method):
            case PublishRequest() as request:
                return self._publish(number, request)
            case SubscribeRequest() as request:
                return self._subscribe(number, request)
            case UnsubscribeRequest() as request:
                return self._unsubscribe(number, request)
            case RpcRequest() as request:
                return self._call(number, request)
            case SendRequest() as request:
                return self._send(request)
            case RefreshRequest() as request:
                return self._refresh(number, request)
            case request:
                if getattr(request, "channel", None) == "":
                    return self.close(errors.BAD_PROTOCOL)
                return [self._refuse(method, number, errors.NOT_AVAILABLE)]

    def _connect(self, number: int, request: ConnectRequest) -> list[Effect]:
        claims = self._authenticate(request.token)
        if claims is TokenProblem.EXPIRED:
            self._become(SessionState.REFUSED)
            return [self._refuse("connect", number, errors.TOKEN_EXPIRED)]
        if isinstance(claims, TokenProblem):
            return self._close_for_token()
        if claims is None:
            return self.close(errors.BAD_PROTOCOL.saying("bad request: connect needs a token"))
        self.user = claims.user
        self.name = request.name[:16]
        self._info = ClientInfo(user=claims.user, client=self.client, conn_info=claims.info)
        ttl, effects = self._live_until(claims.expires_at)
        if claims.expires_at and not ttl:
            self._become(SessionState.REFUSED)
            return [self._refuse("connect", number, errors.TOKEN_EXPIRED)]
        self._become(SessionState.CONNECTED)
        result = ConnectResult(
            client=self.client,
            version=self._rules.version,
            expires=ttl > 0,
            ttl=ttl,
            ping=self._rules.ping_seconds,
            pong=True,
        )
        return [self._answer("connect", Reply(id=number, connect=result)), Opened(), *effects]

    def _authenticate(self, token: str) -> ConnectionClaims | TokenProblem | None:
        if token:
            return self._rules.tokens.connection(token)
        return ConnectionClaims("") if self._rules.allow_anonymous else None

    def _live_until(self, expires_at: int) -> tuple[int, list[Effect]]:
        """Note when the connection expires; return the ttl for the client (0 = never, or past) and the timer to set."""
        self._expires_at = expires_at
        if not expires_at:
            return 0, []
        left = expires_at - self._rules.clock.wall()
        # Not 0 in the last second, as that would mean "past"; and what an SDK's timer can hold.
        ttl = min(MAX_TTL, max(1, int(left))) if left > 0 else 0
        return ttl, [ExpireIn(left + self._rules.expired_close_delay)]

    def _subscribe(self, number: int, request: SubscribeRequest) -> list[Effect]:
        verdict = admit(request, self, self._rules)
        if isinstance(verdict, errors.Disconnect):
            return self.close(verdict)
        if isinstance(verdict, errors.ReplyError):
            return [self._refuse("subscribe", number, verdict)]
        if self._crowded():
            return [self._refuse("subscribe", number, errors.TOO_MANY_REQUESTS)]
        self._attempts += 1
        self.owed += 1
        subscription = Subscription(number, self._attempts, self._started, verdict.info)
        self.subscriptions[request.channel] = subscription
        return [Join(request.channel, self._attempts)]

    def _unsubscribe(self, number: int, request: UnsubscribeRequest) -> list[Effect]:
        if not request.channel:
            return self.close(errors.BAD_PROTOCOL)
        effects: list[Effect] = []
        subscription = self.subscriptions.pop(request.channel, None)
        if subscription is not None:
            if subscription.state is SubscriptionState.JOINING:
                effects.append(self._settle("subscribe", subscription.started, _subscribed(subscription)))
            effects.append(Leave(request.channel))
        return [*effects, self._answer("unsubscribe", Reply(id=number, unsubscribe=UnsubscribeResult()))]

    def _publish(self, number: int, request: PublishRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return self.close(errors.BAD_PROTOCOL)
        problem = self._may_publish(channel, request.data)
        if problem is not None:
            return [self._refuse("publish", number, problem)]
        if self._crowded():
            return [self._refuse("publish", number, errors.TOO_MANY_REQUESTS)]
        self.owed += 1
        info = msgspec.json.encode(self._info_in(channel))
        return [Publish(number, channel, bytes(request.data), info, self._started)]

    def _may_publish(self, channel: str, data: Raw) -> ReplyError | None:
        namespace = self._rules.namespaces.find(channel)
        if isinstance(namespace, errors.ReplyError):
            return namespace
        problem = namespace.may_publish(channel, self.user, subscribed=channel in self.subscriptions)
        if problem is not None:
            return problem
        if not bytes(data):
            return errors.BAD_REQUEST.saying("bad request: publish needs data")
        if not self.is_json and not namespace.binary and clean_json(bytes(data)) is None:
            return errors.BAD_REQUEST.saying("bad request: this namespace carries JSON data only")
        return None

    def _info_in(self, channel: str) -> ClientInfo:
        subscription = self.subscriptions.get(channel)
        if subscription is None or not bytes(subscription.info):
            return self._info
        return msgspec.structs.replace(self._info, chan_info=subscription.info)

    def _call(self, number: int, request: RpcRequest) -> list[Effect]:
        problem = self._rules.rpc.may_call(request.method, self.user)
        if problem is None and self._crowded():
            problem = errors.TOO_MANY_REQUESTS
        if problem is not None:
            return [self._refuse("rpc", number, problem)]
        self.owed += 1
        return [Call(number, request.method, bytes(request.data), self._started)]

    def _send(self, request: SendRequest) -> list[Effect]:
        if not self._rules.may_send(self.user):
            return self.close(errors.NOT_AVAILABLE_CLOSE)
        return [Send(bytes(request.data))]

    def _close_for_token(self) -> list[Effect]:
        """Close with 3500; why is for the log alone, since it would help who guesses."""
        self.detail = self._rules.tokens.why
        return self.close(errors.INVALID_TOKEN)

    def _refresh(self, number: int, request: RefreshRequest) -> list[Effect]:
        if not request.token:
            return self.close(errors.BAD_PROTOCOL)
        claims = self._rules.tokens.connection(request.token)
        if claims is TokenProblem.EXPIRED:
            return self.close(errors.CONNECTION_EXPIRED)
        if isinstance(claims, TokenProblem):
            return self._close_for_token()
        if claims.user != self.user:
            self.detail = "a refresh with another user's token"
            return self.close(errors.INVALID_TOKEN)
        ttl, effects = self._live_until(claims.expires_at)
        if claims.expires_at and not ttl:
            return self.close(errors.CONNECTION_EXPIRED)
        result = RefreshResult(client=self.client, version=self._rules.version, expires=ttl > 0, ttl=ttl)
        return [self._answer("refresh", Reply(id=number, refresh=result)), *effects]

    def _pong(self) -> list[Effect]:
        if self._awaiting_pong:
            self._awaiting_pong = False
        elif self._spare_pong:
            self._spare_pong = False
        else:
            return self.close(errors.BAD_PROTOCOL.saying("bad request: a pong without a ping"))
        return []

    # What comes back from the edge.

    def joined(self, channel: str, attempt: int, error: ReplyError | None) -> list[Effect]:
        """Take the result of `Join`; a result that an unsubscribe overtook is ignored."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or subscription.attempt != attempt:
            return []
        if error is None:
            subscription.state = SubscriptionState.LIVE
            reply = _subscribed(subscription)
        else:
            del self.subscriptions[channel]
            reply = Reply(id=subscription.command, error=error)
        return [self._settle("subscribe", subscription.started, reply), *self._retired()]

    def published(self, number: int, started: float, error: ReplyError | None) -> list[Effect]:
        """Take the result of `Publish`."""
        reply = Reply(id=number, publish=PublishResult()) if error is None else Reply(id=number, error=error)
        return [self._settle("publish", started, reply), *self._retired()]

    def called(self, number: int, started: float, answer: bytes | ReplyError) -> list[Effect]:
        """Take the result of `Call`; a JSON client can only be given an answer that is JSON."""
        if isinstance(answer, bytes) and self.is_json:
            answer = clean_json(answer or b"null") or NOT_JSON
        if isinstance(answer, errors.ReplyError):
            reply = Reply(id=number, error=answer)
        else:
            reply = Reply(id=number, rpc=RpcResult(data=Raw(answer)))
        return [self._settle("rpc", started, reply), *self._retired()]

    # What the clock and the operator want.

    def ping(self) -> list[Effect]:
        """Ask for a pong; on schedule, whether or not other data flows."""
        if self.state is not SessionState.CONNECTED:
            return []
        self._awaiting_pong = True
        if self._spare_pong is None:
            self._spare_pong = True
        return [Ping()]

    def check_pong(self) -> list[Effect]:
        """The time for a pong is over."""
        return self.close(errors.NO_PONG) if self._awaiting_pong else []

    def check_stale(self) -> list[Effect]:
        """The time to authenticate is over."""
        unconnected = self.state in {SessionState.CONNECTING, SessionState.REFUSED}
        return self.close(errors.STALE) if unconnected else []

    def check_expiry(self) -> list[Effect]:
        """The connection may have expired: close it once the grace time is over, look again later otherwise."""
        left = self._expires_at + self._rules.expired_close_delay - self._rules.clock.wall()
        if not self._expires_at:
            return []
        return [ExpireIn(left)] if left > 0 else self.close(errors.CONNECTION_EXPIRED)

    def retire(self, disconnect: Disconnect) -> list[Effect]:
        """Close as soon as no reply is owed; commands that arrive from now on are dropped."""
        if self.state is SessionState.CONNECTED:
            self._become(SessionState.RETIRING)
            self._closing = disconnect
            return self._retired()
        return self.close(disconnect) if self.state is not SessionState.RETIRING else []

    def close(self, disconnect: Disconnect) -> list[Effect]:
        """Close now; results that are still to come are dropped."""
        if self.state is SessionState.CLOSED:
            return []
        self.refused_connect = self._started if self.state is SessionState.CONNECTING else 0.0
        self._become(SessionState.CLOSED)
        return [Close(disconnect)]

    def _retired(self) -> list[Effect]:
        if self.state is SessionState.RETIRING and not self.owed and self._closing is not None:
            return self.close(self._closing)
        return []

    def _crowded(self) -> bool:
        return self.owed >= self._rules.inflight_limit

    def _settle(self, method: str, started: float, reply: Reply) -> Answer:
        self.owed -= 1
        return Answer(method, reply, started)

    def _answer(self, method: str, reply: Reply) -> Answer:
        return Answer(method, reply, self._started)

    def _refuse(self, method: str, number: int, error: ReplyError) -> Answer:
        return self._answer(method, Reply(id=number, error=error))

    def _become(self, state: SessionState) -> None:
        self.state = state


def _subscribed(subscription: Subscription) -> Reply:
    return Reply(id=subscription.command, subscribe=SubscribeResult())
