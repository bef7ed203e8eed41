"""The state of one client's conversation: every rule of the protocol, no socket and no event loop.

Commands and results go in, effects come out; the dispatcher carries them out and feeds results back. A command that has
to wait (subscribe, publish, rpc) is answered when its result arrives, so replies may overtake each other; the client
matches them by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidewire.edge import history_command, presence_command, requests
from tidewire.edge.admission import Grant
from tidewire.edge.backlog import Backlog
from tidewire.edge.connect_command import (
    CONNECTED_ALREADY,
    greeting,
    join_for,
    must_ask_others,
    one_too_many,
)
from tidewire.edge.credentials import Credentials
from tidewire.edge.effects import AskOthers, Close, Effect, Identified, Opened
from tidewire.edge.intake import Intake
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.routing import carry_out, method_of
from tidewire.edge.session_state import AUTHENTICATED, RETIRING, SessionState
from tidewire.edge.waiting import TokensWanted, standing_of
from tidewire.edge.wire.commands import Command, ConnectRequest
from tidewire.edge.wire.replies import Reply
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.connect_command import Others
    from tidewire.edge.effects import AskPresence, ReadHistory
    from tidewire.edge.limits import Verdict
    from tidewire.edge.places import Place
    from tidewire.edge.ports import Page
    from tidewire.edge.presence_command import PresenceTold
    from tidewire.edge.rules import Rules
    from tidewire.edge.subscriptions import Outcome
    from tidewire.kernel.errors import Unsubscribe
    from tidewire.kernel.ids import ConnectionId


class Session(Intake):
    """One client's conversation, from its connect command to its close."""

    __slots__ = ("_closing", "_connect", "_credentials", "_judged", "_others", "_vouched", "refused_connect")

    def __init__(
        self, client: ConnectionId, rules: Rules, others: Others, *, json: bool, bearer: str = ""
    ) -> None:
        """`bearer` is a token that came with the handshake; one in the connect command beats it."""
        super().__init__(client, rules, json=json)
        self._credentials = Credentials(self.party, bearer)
        self.refused_connect = 0.0
        """When the connect command came that the close answers (monotonic seconds); 0 = another reason."""
        self._others = others
        self._connect = 0
        """The id of the connect command while its reply waits."""
        self._closing: Disconnect | None = None
        self._vouched = True
        """False while it is asked whether the user is connected elsewhere."""
        self._judged: ConnectionClaims | None = None
        """What the token says with which the client waits to be let in."""

    def _handle(self, command: Command) -> Outcome:
        method = method_of(command)
        if self.state is SessionState.CONNECTING:
            if command.connect is None or not command.id:
                return errors.BAD_PROTOCOL.saying("bad request: the first command must be connect")
            return self._begin(command.id, command.connect)
        if not method:
            return errors.BAD_PROTOCOL if command.id else self._pong()
        if method == "connect" or (not command.id and method != "send"):
            return errors.BAD_PROTOCOL
        return carry_out(method, command, self.party, self._credentials, self.subscriptions)

    # The connect command.

    def _begin(self, number: int, request: ConnectRequest) -> Outcome:
        claims = self._judged or self._credentials.judge(request.token)
        self._judged = None
        if isinstance(claims, ReplyError):
            return self._refuse(number, claims)
        if not isinstance(claims, ConnectionClaims):
            return claims
        problem = one_too_many(claims.user, self._others, self._rules)
        if problem is not None:
            self.party.identify(claims)  # the log says whose it was
            return problem
        limited = self._limited(claims)
        if isinstance(limited, ReplyError):
            return self._refuse(number, limited)
        if limited is not None:
            return limited
        expiry = self._credentials.accept(request.token, claims)
        self.party.name = request.name[:16]
        self._become(SessionState.JOINING)
        self._connect = number
        self._backlog = Backlog(self._rules.inflight_limit)
        joins = join_for(claims, request.subs, self.subscriptions, self._rules)
        if not isinstance(joins, list):
            return self._fail(joins)
        self._vouched = not must_ask_others(claims.user, self._rules)
        asks = [] if self._vouched else [AskOthers()]
        return [Identified(claims.user), *expiry, *joins, *asks, *self._greet_when_complete()]

    def vouched(self, *, elsewhere: bool) -> list[Effect]:
        """Take the result of `AskOthers`: whether the user is connected elsewhere."""
        if self.state is not SessionState.JOINING:
            return []
        self._vouched = True
        return self.close(CONNECTED_ALREADY) if elsewhere else self._greet_when_complete()

    def _limited(self, claims: ConnectionClaims) -> Verdict:
        """Judge whether rate limits let the client in; where they do not know yet, its token is not checked again."""
        rules, party = self._rules, self.party
        if rules.limits is None or rules.places is None:
            return None
        party.identify(claims)
        if claims.custom:
            standing_of(party).claims = claims.custom
        verdict = rules.places.judge(party) or rules.limits.judge("connect", party)
        if verdict is None:
            rules.places.enter(party)
        elif isinstance(verdict, TokensWanted):
            self._judged = claims
        return verdict

    def _greet_when_complete(self) -> list[Effect]:
        if self.state is not SessionState.JOINING or not (self.subscriptions.complete and self._vouched):
            return []
        self._become(SessionState.CONNECTED)
        subs, enters = self.subscriptions.connected()
        result = greeting(self.party, self._credentials.ttl, subs)
        answer = self.party.answer("connect", Reply(id=self._connect, connect=result))
        mode = self._rules.single_connection if self.party.user else "off"
        opened = Opened(replaces=mode == "replace", yields=mode == "refuse")
        return [answer, *enters, opened, *self.go_on()]

    def _fail(self, problem: ReplyError | Disconnect) -> list[Effect]:
        """Answer a connect command whose subscriptions cannot be had."""
        self._backlog = None
        if isinstance(problem, Disconnect):
            return self.close(problem)
        return [*self.subscriptions.abandon(), *self._refuse(self._connect, problem)]

    def _refuse(self, number: int, error: ReplyError) -> list[Effect]:
        self._become(SessionState.REFUSED)
        return [self.party.refuse("connect", number, error)]

    # What comes back from the edge.

    def joined(self, channel: str, attempt: int, outcome: int | Place | ReplyError) -> list[Effect]:
        """Take the result of `Join`: the channel's id, a place in it, or the error."""
        if self.state is SessionState.CLOSED:
            return []  # the result was known at once, but a command behind it has closed the connection
        effects = self.subscriptions.joined(channel, attempt, outcome)
        if isinstance(effects, ReplyError):
            return self._fail(effects) if self.state is SessionState.JOINING else []
        return [*effects, *self._greet_when_complete(), *self._retired()]

    def published(
        self,
        numbers: Sequence[int],
        started: float,
        error: ReplyError | None,
        method: str = "publish",
        outcome: str = "stored",
    ) -> list[Effect]:
        """Take the result of `Publish`."""
        effects = requests.published(self.party, numbers, started, error, method, outcome)
        return effects + self._retired() if self.state is RETIRING else effects

    def called(self, number: int, started: float, answer: bytes | ReplyError) -> list[Effect]:
        """Take the result of `Call`."""
        return [requests.called(self.party, number, started, answer), *self._retired()]

    def history_read(self, effect: ReadHistory, result: Page | ReplyError) -> list[Effect]:
        """Take the result of `ReadHistory`."""
        return [history_command.answer(self.party, effect, result), *self._retired()]

    def presence_told(self, effect: AskPresence, result: PresenceTold) -> list[Effect]:
        """Take the result of `AskPresence`."""
        return [presence_command.answer(self.party, effect, result), *self._retired()]

    # What the clock and the operator want.

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

    def attend(self, channel: str) -> list[Effect]:
        """Follow options of presence that have changed; the client is told nothing."""
        return self.subscriptions.attend(channel) if self.connected else []

    def lose(self, channel: str) -> list[Effect]:
        """End a subscription that was promised to miss nothing; the client comes back with its position."""
        subscription = self.subscriptions.find(channel)
        if subscription is None:
            return []
        if subscription.command:
            return self.unsubscribe(channel, errors.INSUFFICIENT_STATE)
        return self.close(errors.INSUFFICIENT_STATE_CLOSE)

    @property
    def connected(self) -> bool:
        """Whether the client is authenticated and not yet on its way out."""
        return self.state in AUTHENTICATED

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
