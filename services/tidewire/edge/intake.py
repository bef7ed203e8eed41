"""How a client's commands come in: in order, no faster than they may, and in line behind one that has to wait.

Four things make all that follows wait in line (`Backlog`): a connect command whose subscriptions are not complete, a
token whose key has to be fetched, many tokens in one frame, and a rate limit of which nothing is known yet. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from tidewire.edge import requests
from tidewire.edge.backlog import Backlog
from tidewire.edge.effects import (
    Answer,
    AwaitTokens,
    Dropped,
    Effect,
    FetchKeys,
    Ping,
    Publish,
    Throttled,
    Yield,
)
from tidewire.edge.party import Party
from tidewire.edge.routing import method_of
from tidewire.edge.session_state import CONNECTED, TAKING_COMMANDS, THROTTLED, SessionState
from tidewire.edge.subscriptions import Subscriptions
from tidewire.edge.throttle import PONG, Throttle, has_token
from tidewire.edge.waiting import TokensWanted
from tidewire.edge.wire.commands import Command
from tidewire.edge.wire.replies import Reply
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.policies.tokens import KeyWanted
    from tidewire.edge.rules import Rules
    from tidewire.edge.subscriptions import Outcome
    from tidewire.kernel.ids import ConnectionId
    from tidewire.kernel.token_bucket import Allowance

TOKENS_AT_ONCE = 8
"""Tokens of one connection that are checked in one go: 5 ms with the slowest signatures (ES512)."""


class Intake(ABC):
    """Takes the commands and pongs of one connection. What a command brings about, `Session` says.

    A base rather than a part, so that a command costs no call more and a connection no object more.
    """

    __slots__ = (
        "_awaiting_pong",
        "_backlog",
        "_rules",
        "_spare_pong",
        "_throttle",
        "party",
        "state",
        "subscriptions",
    )

    def __init__(self, client: ConnectionId, rules: Rules, *, json: bool) -> None:
        self.state = SessionState.CONNECTING
        self.party = Party(client, rules, is_json=json)
        self.subscriptions = Subscriptions(self.party)
        self._rules = rules
        self._backlog: Backlog | None = None
        self._awaiting_pong = False
        self._spare_pong: bool | None = None  # None before the first ping, False once used
        self._throttle: Throttle | None = None

    @abstractmethod
    def close(self, disconnect: Disconnect) -> list[Effect]:
        """Close now."""

    @abstractmethod
    def _handle(self, command: Command) -> Outcome:
        """Carry out one command, in whose turn nothing waits."""

    # Commands.

    def receive(self, commands: Sequence[Command], size: int = 0) -> list[Effect]:
        """Take the commands of one frame of `size` bytes, in order, and return what they bring about."""
        if self.state is SessionState.REFUSED:
            return self.close(errors.BAD_PROTOCOL)
        allowance = self._rules.command_rate
        if allowance is not None and self.state in THROTTLED:
            return self._throttled(commands, size, allowance)
        return self._take(commands, size)

    def publish_all(self, commands: Sequence[Command]) -> list[Publish] | None:
        """Take commands of one read that all publish, where nothing stands in their way.

        None, and nothing has happened, where something does or they are others: then `receive` wants them frame by frame.
        """
        if self.state is not CONNECTED or self._backlog is not None:
            return None
        self.party.started = self._rules.clock.monotonic()
        effects = requests.publish_all(commands, self.party, self.subscriptions)
        if effects is None:
            return None
        limits = self._rules.limits
        plan = limits.plan(self.party, effects) if limits is not None else {}
        if plan is None or not self._affords(len(commands)):
            return None
        if limits is not None:
            limits.carry_out(plan)
        self.party.owed += len(commands)
        return effects

    def _affords(self, commands: int) -> bool:
        """Take so many commands out of what may come now; False, and none is taken, where those are too many."""
        allowance = self._rules.command_rate
        if allowance is None:
            return True
        if self._throttle is None:
            self._throttle = Throttle()
        return self._throttle.admits(commands, allowance, self.party.started)

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
            outcome = self._handle(command)
            effects += outcome if isinstance(outcome, list) else self._unfinished(command, outcome)
        return effects

    def _unfinished(self, command: Command, outcome: Disconnect | KeyWanted | TokensWanted) -> list[Effect]:
        """Close the connection for a command, or let the command wait for that without which it cannot be judged."""
        if isinstance(outcome, Disconnect):
            return self.close(outcome)
        backlog = Backlog(self._rules.inflight_limit)
        if backlog.add([command], 0):
            return [self._turn_away(command)]
        self._backlog = backlog
        if isinstance(outcome, TokensWanted):
            return [AwaitTokens(outcome)]
        return [FetchKeys(outcome.source)]

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
        method = method_of(command)
        if not method or not command.id:
            return Dropped(1)
        reply = Reply(id=command.id, error=error)
        return Answer(method, reply, self._rules.clock.monotonic())

    def go_on(self) -> list[Effect]:
        """Take the end of `FetchKeys`, `AwaitTokens` or `Yield`: what waited is worked off, the command at which it stopped first."""
        if self._backlog is None:
            return []
        waiting, size = self._backlog.take()
        self._backlog = None
        return self._work_off(waiting, size)

    def _pass_over(self, commands: Sequence[Command]) -> list[Effect]:
        """Carry out none of the commands of a frame whose others have ended the conversation.

        Behind an error reply to connect silently: they were sent before the refusal could be known.
        """
        return [] if self.state is SessionState.REFUSED else self._drop(commands)

    def _drop(self, commands: Sequence[Command]) -> list[Effect]:
        """Carry out none of the commands; a pong is no command, and still counts."""
        pongs = sum(command == PONG for command in commands)
        if pongs:
            self._awaiting_pong = False
        return [Dropped(len(commands) - pongs)] if len(commands) > pongs else []

    @property
    def throttled(self) -> int:
        """Commands that were refused since they came too fast."""
        return self._throttle.refused if self._throttle is not None else 0

    # Pings.

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

    def _pong(self) -> list[Effect]:
        if self._awaiting_pong:
            self._awaiting_pong = False
        elif self._spare_pong:
            self._spare_pong = False
        else:
            return self.close(errors.BAD_PROTOCOL.saying("bad request: a pong without a ping"))
        return []
