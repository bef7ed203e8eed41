"""The state of one client's conversation: every rule of the protocol, no socket and no event loop.

Commands and results go in, effects come out; the dispatcher carries them out and feeds results back. A command that has
to wait (subscribe, publish, rpc) is answered when its result arrives, so replies may overtake each other; the client
matches them by id. Three things make all that follows wait in line (`Backlog`): a connect command whose subscriptions are
not complete, a token whose key has to be fetched, and many tokens in one frame.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from tidewire.edge import methods, requests
from tidewire.edge.admission import PLAIN_GRANT, Grant
from tidewire.edge.backlog import Backlog
from tidewire.edge.credentials import Credentials
from tidewire.edge.effects import (
    Answer,
    Close,
    Dropped,
    Effect,
    FetchKeys,
    Identified,
    Opened,
    Ping,
    Throttled,
    Yield,
)
from tidewire.edge.party import Party
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.tokens import KeyWanted
from tidewire.edge.policies.verdicts import shown
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.throttle import PONG, Throttle, has_token
from tidewire.edge.wire.commands import (
    Command,
    ConnectRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
)
from tidewire.edge.wire.replies import ConnectResult, Reply
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from typing import Protocol

    from tidewire.edge.rules import Rules
    from tidewire.edge.subscriptions import Outcome
    from tidewire.kernel.errors import Unsubscribe
    from tidewire.kernel.ids import ConnectionId
    from tidewire.kernel.token_bucket import Allowance

    class Others(Protocol):
        """The other connections of this edge."""

        def serves(self, user: str, connections: int = 1) -> bool:
            """Return whether the user has so many connections here already."""


METHODS = Command.__struct_fields__[1:]
TOKENS_AT_ONCE = 8
"""Tokens of one connection that are checked in one go: 5 ms with the slowest signatures (ES512)."""


class SessionState(enum.Enum):
    """Where the conversation stands. JOINING: authenticated, and the connect reply waits for subscriptions."""

    CONNECTING = "connecting"
    JOINING = "joining"
    CONNECTED = "connected"
    REFUSED = "refused"
    RETIRING = "retiring"
    CLOSED = "closed"


# Tuples, since a set asks for hashes, which are slow for enums.
TAKING_COMMANDS = (SessionState.CONNECTING, SessionState.CONNECTED)
AUTHENTICATED = (SessionState.JOINING, SessionState.CONNECTED)
THROTTLED = (SessionState.CONNECTING, SessionState.JOINING, SessionState.CONNECTED)


class Session:
    """One client's conversation, from its connect command to its close."""

    __slots__ = (
        "_awaiting_pong",
        "_backlog",
        "_closing",
        "_connect",
        "_credentials",
        "_others",
        "_rules",
        "_spare_pong",
        "_throttle",
        "party",
        "refused_connect",
        "state",
        "subscriptions",
    )

    def __init__(
        self, client: ConnectionId, rules: Rules, others: Others, *, json: bool, bearer: str = ""
    ) -> None:
        """`bearer` is a token that came with the handshake; one in the connect command beats it."""
        self.state = SessionState.CONNECTING
        self.party = Party(client, rules, is_json=json)
        self.subscriptions = Subscriptions(self.party)
        self._credentials = Credentials(self.party, bearer)
        self.refused_connect = 0.0
        """When the connect command came that the close answers (monotonic seconds); 0 = another reason."""
        self._rules = rules
        self._others = others
        self._connect = 0
        """The id of the connect command while its reply waits."""
        self._backlog: Backlog | None = None
        self._awaiting_pong = False
        self._spare_pong: bool | None = None  # None before the first ping, False once used
        self._closing: Disconnect | None = None
        self._throttle: Throttle | None = None

    # What comes from the client.

    def receive(self, commands: Sequence[Command], size: int = 0) -> list[Effect]:
        """Take the commands of one frame of `size` bytes, in order, and return what they bring about."""
        if self.state is SessionState.REFUSED:
            return self.close(errors.BAD_PROTOCOL)
        allowance = self._rules.command_rate
        if allowance is not None and self.state in THROTTLED:
            return self._throttled(commands, size, allowance)
        return self._take(commands, size)

    def _take(self, commands: Sequence[Command], size: int) -> list[Effect]:
        return self._hold(commands, size) if self._backlog is not None else self._work_off(commands)

    def _throttled(self, commands: Sequence[Command], size: int, allowance: Allowance) -> list[Effect]:
        """Take what the connection may send by now, and refuse the rest; close it when it goes on like that."""
        if self._throttle is None:
            self._throttle = Throttle()
        sifted = self._throttle.sift(commands, allowance, self._rules.clock.monotonic())
        if not sifted.refused:
            return self._take(commands, size)
        if sifted.abuse:
            return [Throttled("closed", len(commands)), *self.close(errors.TOO_MANY_REQUESTS_CLOSE)]
        effects = self._take(sifted.admitted, size) if sifted.admitted else []
        if self.state not in THROTTLED:  # a command among those has ended it
            return effects + self._pass_over(sifted.refused)
        error = errors.TOO_MANY_REQUESTS.saying(
            f"too many requests: try again in {ceil(sifted.wait * 10) / 10} s"
        )
        answers = [self._turn_away(command, error) for command in sifted.refused]
        return [*effects, *answers, Throttled("refused", len(answers))]

    def _work_off(self, commands: Sequence[Command], size: int = 0) -> list[Effect]:
        """Carry out commands in order; `size` is what they counted in the line from which they come."""
        effects: list[Effect] = []
        tokens = 0
        self.party.started = self._rules.clock.monotonic()
        many = len(commands) > TOKENS_AT_ONCE
        for index, command in enumerate(commands):
            if self._backlog is not None:
                return effects + self._hold(commands[index:], size)
            if self.state not in TAKING_COMMANDS:
                return effects + self._pass_over(commands[index:])
            tokens += many and has_token(command)
            if tokens > TOKENS_AT_ONCE:
                self._backlog = Backlog(self._rules.inflight_limit)
                return [*effects, Yield(), *self._hold(commands[index:], size)]
            effects += self._handle(command)
        return effects

    def _hold(self, commands: Sequence[Command], size: int) -> list[Effect]:
        """Let commands wait behind the one that waits; pongs do not, and what does not fit is refused for the moment."""
        waiting = [command for command in commands if command != PONG]
        effects: list[Effect] = []
        for _ in range(len(commands) - len(waiting)):
            effects += self._pong()
        if self._backlog is None:  # a pong too many has closed the connection
            return effects + self._drop(waiting)
        return effects + [self._turn_away(command) for command in self._backlog.add(waiting, size)]

    def _turn_away(self, command: Command, error: ReplyError = errors.TOO_MANY_REQUESTS) -> Effect:
        """Answer a command that is too much; one without an id gets no answer, since a reply without an id is a ping."""
        method = _method(command)
        if not method or not command.id:
            return Dropped(1)
        reply = Reply(id=command.id, error=error)
        return Answer(method, reply, self._rules.clock.monotonic())

    def _resume(self) -> list[Effect]:
        """Go on with what waited."""
        if self._backlog is None:
            return []
        waiting, size = self._backlog.take()
        self._backlog = None
        return self._work_off(waiting, size)

    def _pass_over(self, commands: Sequence[Command]) -> list[Effect]:
        """Carry out none of the commands of a frame whose others have ended the conversation.

        Behind an error reply to connect silently: they were sent before the refusal could be known.
        """
        return [] if self._is(SessionState.REFUSED) else self._drop(commands)

    def _drop(self, commands: Sequence[Command]) -> list[Effect]:
        """Carry out none of the commands; a pong is no command, and still counts."""
        pongs = sum(command == PONG for command in commands)
        if pongs:
            self._awaiting_pong = False
        return [Dropped(len(commands) - pongs)] if len(commands) > pongs else []

    def _is(self, state: SessionState) -> bool:
        return self.state is state

    def _handle(self, command: Command) -> list[Effect]:
        method = _method(command)
        if self.state is SessionState.CONNECTING:
            if command.connect is None or not command.id:
                return self.close(
                    errors.BAD_PROTOCOL.saying("bad request: the first command must be connect")
                )
            return self._outcome(command, self._begin(command.id, command.connect))
        if not method:
            return self._pong() if not command.id else self.close(errors.BAD_PROTOCOL)
        if method == "connect" or (not command.id and method != "send"):
            return self.close(errors.BAD_PROTOCOL)
        outcome = self._dispatch(method, command)
        return outcome if isinstance(outcome, list) else self._outcome(command, outcome)

    def _outcome(self, command: Command, outcome: Outcome) -> list[Effect]:
        if isinstance(outcome, Disconnect):
            return self.close(outcome)
        if isinstance(outcome, KeyWanted):
            backlog = Backlog(self._rules.inflight_limit)
            if backlog.add([command], 0):
                return [self._turn_away(command)]
            self._backlog = backlog
            return [FetchKeys(outcome.source)]
        return outcome

    def _dispatch(self, method: str, command: Command) -> Outcome:
        number, party, subscriptions = command.id, self.party, self.subscriptions
        outcome: Outcome
        match getattr(command, method):
            case PublishRequest() as request:
                outcome = requests.publish(number, request, party, subscriptions)
            case SubscribeRequest() as request:
                outcome = subscriptions.subscribe(number, request)
            case UnsubscribeRequest() as request:
                outcome = subscriptions.unsubscribe(number, request)
            case RpcRequest() as request:
                outcome = methods.call(number, request, party, subscriptions)
            case SendRequest() as request:
                outcome = requests.send(request, party)
            case RefreshRequest() as request:
                outcome = self._credentials.refresh(number, request)
            case SubRefreshRequest() as request:
                outcome = subscriptions.refresh(number, request)
            case request if getattr(request, "channel", None) == "":
                outcome = errors.BAD_PROTOCOL
            case _:
                outcome = [party.refuse(method, number, errors.NOT_AVAILABLE)]
        return outcome

    # The connect command.

    def _begin(self, number: int, request: ConnectRequest) -> Outcome:
        claims = self._credentials.judge(request.token)
        if isinstance(claims, ReplyError):
            return self._refuse(number, claims)
        if not isinstance(claims, ConnectionClaims):
            return claims
        problem = self._one_too_many(claims.user)
        if problem is not None:
            self.party.identify(claims)  # the log says whose it was
            return problem
        expiry = self._credentials.accept(request.token, claims)
        self.party.name = request.name[:16]
        self._become(SessionState.JOINING)
        self._connect = number
        self._backlog = Backlog(self._rules.inflight_limit)
        joins = self._join_for(claims)
        if not isinstance(joins, list):
            return self._fail(joins)
        return [Identified(claims.user), *expiry, *joins, *self._greet_when_complete()]

    def _one_too_many(self, user: str) -> Disconnect | None:
        """Judge whether the user may have another connection on this edge."""
        if self._rules.single_connection == "refuse" and self._others.serves(user):
            return errors.CONNECTION_LIMIT.saying("connection limit: the user is connected already")
        limit = self._rules.user_connection_limit
        if limit and self._others.serves(user, limit):
            return errors.CONNECTION_LIMIT.saying(f"connection limit: the user has {limit} on this edge")
        return None

    def _join_for(self, claims: ConnectionClaims) -> list[Effect] | ReplyError | Disconnect:
        """Begin the subscriptions that come with the connection."""
        # Without an end of their own: what the token gives lives as long as the connection.
        grants = {channel: Grant(each.info, data=each.data) for channel, each in claims.subs.items()}
        personal = self._rules.personal_channel(claims.user)
        if isinstance(personal, ReplyError):
            return personal
        if personal is not None:
            grants.setdefault(personal, PLAIN_GRANT)
        if len(grants) > self._rules.channel_limit:
            return errors.CHANNEL_LIMIT
        effects: list[Effect] = []
        for channel, grant in grants.items():
            begun = self.subscriptions.add(channel, grant)
            if isinstance(begun, ReplyError):
                return begun.saying(f"{begun.message} (the server-side subscription {shown(channel)})")
            effects += begun
        return effects

    def _greet_when_complete(self) -> list[Effect]:
        if self.state is not SessionState.JOINING or not self.subscriptions.complete:
            return []
        self._become(SessionState.CONNECTED)
        subs, enters = self.subscriptions.connected()
        ttl = self._credentials.ttl
        result = ConnectResult(
            client=self.party.client,
            version=self._rules.version,
            expires=ttl > 0,
            ttl=ttl,
            subs=subs,
            ping=self._rules.ping_seconds,
            pong=True,
        )
        answer = self.party.answer("connect", Reply(id=self._connect, connect=result))
        opened = Opened(replaces=self._rules.single_connection == "replace" and bool(self.party.user))
        return [answer, *enters, opened, *self._resume()]

    def _fail(self, problem: ReplyError | Disconnect) -> list[Effect]:
        """Answer a connect command whose subscriptions cannot be had."""
        self._backlog = None
        if isinstance(problem, Disconnect):
            return self.close(problem)
        return [*self.subscriptions.abandon(), *self._refuse(self._connect, problem)]

    def _refuse(self, number: int, error: ReplyError) -> list[Effect]:
        self._become(SessionState.REFUSED)
        return [self.party.refuse("connect", number, error)]

    def _pong(self) -> list[Effect]:
        if self._awaiting_pong:
            self._awaiting_pong = False
        elif self._spare_pong:
            self._spare_pong = False
        else:
            return self.close(errors.BAD_PROTOCOL.saying("bad request: a pong without a ping"))
        return []

    # What comes back from the edge.

    def go_on(self) -> list[Effect]:
        """Take the end of `FetchKeys` or `Yield`: what waited is worked off, the command at whose token it stopped first."""
        return self._resume()

    def joined(self, channel: str, attempt: int, outcome: int | ReplyError) -> list[Effect]:
        """Take the result of `Join`: the channel's id, or the error."""
        if self.state is SessionState.CLOSED:
            return []  # the result was known at once, but a command behind it has closed the connection
        effects = self.subscriptions.joined(channel, attempt, outcome)
        if isinstance(effects, ReplyError):
            return self._fail(effects) if self.state is SessionState.JOINING else []
        return [*effects, *self._greet_when_complete(), *self._retired()]

    def published(
        self, number: int, started: float, error: ReplyError | None, method: str = "publish"
    ) -> list[Effect]:
        """Take the result of `Publish`."""
        return [requests.published(self.party, number, started, error, method), *self._retired()]

    def called(self, number: int, started: float, answer: bytes | ReplyError) -> list[Effect]:
        """Take the result of `Call`."""
        return [requests.called(self.party, number, started, answer), *self._retired()]

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
        connected = self.state in {SessionState.CONNECTED, SessionState.RETIRING}
        return [] if connected else self.close(errors.STALE)

    def check_expiry(self) -> list[Effect]:
        """The connection may have expired."""
        verdict = self._credentials.check()
        return self.close(verdict) if isinstance(verdict, Disconnect) else verdict

    def check_subscriptions(self) -> list[Effect]:
        """Subscriptions may have expired."""
        return self.subscriptions.expire() if self.state is SessionState.CONNECTED else []

    def expire_at(self, expires_at: int) -> list[Effect]:
        """Let the connection expire at another time (Unix seconds, 0 = never)."""
        return self._credentials.expire_at(expires_at) if self.connected else []

    def subscribe(self, channel: str, grant: Grant) -> list[Effect] | ReplyError:
        """Subscribe the client to a channel, whatever its rights; the error says why that cannot be."""
        return self.subscriptions.add(channel, grant) if self.connected else []

    def unsubscribe(self, channel: str, why: Unsubscribe) -> list[Effect]:
        """End a subscription, and tell the client why."""
        return [*self.subscriptions.end(channel, why), *self._greet_when_complete()] if self.connected else []

    @property
    def connected(self) -> bool:
        """Whether the client is authenticated and not yet on its way out."""
        return self.state in AUTHENTICATED

    @property
    def throttled(self) -> int:
        """Commands that were refused since they came too fast."""
        return self._throttle.refused if self._throttle is not None else 0

    @property
    def greeted(self) -> bool:
        """Whether the client has its connect reply, and is not on its way out."""
        return self.state is SessionState.CONNECTED

    def retire(self, disconnect: Disconnect) -> list[Effect]:
        """Close as soon as no reply is owed; commands that arrive from now on are dropped, and so is what waits."""
        if self.state is not SessionState.CONNECTED:
            return self.close(disconnect) if self.state is not SessionState.RETIRING else []
        self._become(SessionState.RETIRING)
        self._closing = disconnect
        waiting, _ = self._backlog.take() if self._backlog is not None else ([], 0)
        self._backlog = None
        return [*self._drop(waiting), *self._retired()]

    def close(self, disconnect: Disconnect) -> list[Effect]:
        """Close now; results that are still to come are dropped."""
        if self.state is SessionState.CLOSED:
            return []
        self.refused_connect = self.party.started if self.state is SessionState.CONNECTING else 0.0
        self._become(SessionState.CLOSED)
        self._backlog = None
        return [Close(disconnect)]

    def _retired(self) -> list[Effect]:
        if self.state is SessionState.RETIRING and not self.party.owed and self._closing is not None:
            return self.close(self._closing)
        return []

    def _become(self, state: SessionState) -> None:
        self.state = state


def _method(command: Command) -> str:
    """Return the name of the first field that is set (the protocol has no oneof), "" for none."""
    for name in METHODS:
        if getattr(command, name) is not None:
            return name
    return ""
