"""The subscriptions of one connection: how they begin, are refreshed, expire and end. Pure: commands in, effects out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from tidewire.edge import subscribed
from tidewire.edge.admission import Grant, admit_by_server, renew, wish_of_server
from tidewire.edge.attendance import NOBODY, attendance_of
from tidewire.edge.effects import (
    Attend,
    Effect,
    Enter,
    Join,
    Leave,
    Push,
    Renew,
    SubscriptionsExpireIn,
)
from tidewire.edge.places import MAX_REPLY, Place
from tidewire.edge.policies.claims import SubscriptionClaims
from tidewire.edge.policies.tokens import KeyWanted
from tidewire.edge.subscribe_command import Asked, judge
from tidewire.edge.subscription import PLAIN, Subscription, SubscriptionState, traits_of
from tidewire.edge.waiting import TokensWanted
from tidewire.edge.wire import replies
from tidewire.edge.wire.replies import Reply, SubRefreshResult, SubscribeResult, UnsubscribeResult
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.wire.commands import Held, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest
    from tidewire.kernel.errors import Unsubscribe

Outcome = list[Effect] | Disconnect | KeyWanted | TokensWanted
"""What a command brings about, or why the connection is to be closed, or without what it cannot be judged."""


class Subscriptions(Mapping[str, Subscription]):
    """The channels of one connection, by name."""

    __slots__ = ("_attempts", "_by_channel", "_party", "_places")

    def __init__(self, party: Party) -> None:
        self._party = party
        self._by_channel: dict[str, Subscription] = {}
        self._attempts = 0
        self._places: dict[str, Place] | None = {}
        """Where those of the server's have a position that wait for the connect reply; None once it is there."""

    def __getitem__(self, channel: str) -> Subscription:
        return self._by_channel[channel]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_channel)

    def __len__(self) -> int:
        return len(self._by_channel)

    def find(self, channel: str) -> Subscription | None:
        """Return the subscription to a channel. Mapping's `get` would pay an exception for each channel without one."""
        return self._by_channel.get(channel)

    # What the client asks for.

    def subscribe(self, number: int, request: SubscribeRequest) -> Outcome:
        """Carry out a subscribe command; its answer comes from `joined`, unless it is refused."""
        verdict = judge(request, self._party, self)
        if isinstance(verdict, ReplyError):
            return [self._party.refuse("subscribe", number, verdict)]
        if not isinstance(verdict, Asked):
            return verdict
        limits = self._party.rules.limits
        limited = limits.judge("subscribe", self._party, request.channel) if limits is not None else None
        if isinstance(limited, ReplyError):
            return [self._party.refuse("subscribe", number, limited)]
        if limited is not None:
            return limited
        self._party.owed += 1
        return [self._begin(number, request.channel, verdict)]

    def unsubscribe(self, number: int, request: UnsubscribeRequest) -> Outcome:
        """Carry out an unsubscribe command; of a channel that is not subscribed it is a success."""
        if not request.channel:
            return errors.BAD_PROTOCOL
        effects: list[Effect] = []
        subscription = self._by_channel.get(request.channel)
        if subscription is not None:
            if subscription.command and subscription.state is SubscriptionState.JOINING:
                effects.append(self._settle(subscription, subscribed.result(self._party, subscription)))
            effects.append(self._forget(request.channel))
        answer = Reply(id=number, unsubscribe=UnsubscribeResult())
        return [*effects, self._party.answer("unsubscribe", answer)]

    def refresh(self, number: int, request: SubRefreshRequest) -> Outcome:
        """Carry out a sub_refresh command: the subscription lives on as long as the new token says."""
        if not request.token:
            return errors.BAD_PROTOCOL
        verdict = renew(request, self._party)
        if isinstance(verdict, ReplyError):
            return [self._party.refuse("sub_refresh", number, verdict)]
        if not isinstance(verdict, SubscriptionClaims):
            return verdict
        subscription = self._by_channel.get(verdict.channel)
        if subscription is None:
            error = errors.PERMISSION_DENIED.saying("permission denied: not subscribed to this channel")
            return [self._party.refuse("sub_refresh", number, error)]
        before, subscription.grant = (
            subscription.grant.info,
            msgspec.structs.replace(
                subscription.grant,
                info=verdict.info,
                expires_at=verdict.expires_at,
                capabilities=verdict.capabilities,
            ),
        )
        ttl = self._party.ttl(verdict.expires_at)
        reply = Reply(id=number, sub_refresh=SubRefreshResult(expires=ttl > 0, ttl=ttl))
        answer = self._party.answer("sub_refresh", reply)
        attended, info = subscription.attended, bytes(verdict.info)
        if attended.kept and bytes(before) != info:
            return [answer, Renew(verdict.channel, attended, info), *self._watch_expiry()]
        return [answer, *self._watch_expiry()]

    # What the server asks for.

    def add(self, channel: str, grant: Grant, held: Held | None = None) -> list[Effect] | ReplyError:
        """Subscribe the client to a channel; the error says why that cannot be. Nothing happens where it has it.

        `held` is where the client says that it stood in this channel.
        """
        if channel in self._by_channel:
            return []
        problem = admit_by_server(channel, self._party)
        if problem is not None:
            return problem
        if len(self) >= self._party.rules.channel_limit:
            return errors.LIMIT_EXCEEDED
        namespace = self._party.rules.namespaces.find(channel)
        if isinstance(namespace, ReplyError):
            return namespace
        wished = wish_of_server(channel, namespace, grant.override, held)
        attendance = attendance_of(
            channel, namespace, grant.override, wishes=False, announced=self._party.rules.announces
        )
        traits = PLAIN if wished is None else traits_of(False, None, False, True)
        return [self._begin(0, channel, Asked(grant, traits, wished, attendance, wishes=False))]

    def attend(self, channel: str) -> list[Effect]:
        """Follow the namespace's options as they are now in what presence has to do with a subscription."""
        subscription, rules = self._by_channel.get(channel), self._party.rules
        namespace = rules.namespaces.find(channel)
        if subscription is None or isinstance(namespace, ReplyError):
            return []
        before, override = subscription.attended, subscription.grant.override
        after = subscription.attendance = attendance_of(
            channel, namespace, override, wishes=subscription.wishes, announced=rules.announces
        )
        if subscription.state is not SubscriptionState.LIVE or after is before:
            return []
        return [Attend(channel, before, after, bytes(subscription.grant.info))]

    def end(self, channel: str, why: Unsubscribe) -> list[Effect]:
        """End a subscription and tell the client; nothing happens where there is none."""
        subscription = self._by_channel.get(channel)
        if subscription is None:
            return []
        told = Push(Reply(push=replies.Push(channel=channel, unsubscribe=why)))
        if subscription.state is SubscriptionState.LIVE:
            return [self._forget(channel), told]
        if not subscription.command:
            return [self._forget(channel)]
        # The client waits for the answer, and must not be told of an end before the beginning.
        answer = self._settle(subscription, subscribed.result(self._party, subscription))
        return [self._forget(channel), answer, told]

    def expire(self) -> list[Effect]:
        """End the subscriptions whose grace time after expiry is over."""
        now = self._party.rules.clock.wall() - self._party.rules.expired_sub_close_delay
        over = [
            channel
            for channel, each in self._by_channel.items()
            if each.grant.expires_at and each.grant.expires_at <= now
        ]
        effects = [effect for channel in over for effect in self.end(channel, errors.EXPIRED_SUBSCRIPTION)]
        return [*effects, *self._watch_expiry()]

    # What comes back from the edge.

    def joined(
        self, channel: str, attempt: int, outcome: int | Place | ReplyError
    ) -> list[Effect] | ReplyError:
        """Take the result of `Join`: the channel's id, a place, or an error; one that an unsubscribe overtook is ignored.

        Returned as an error is what fails the connect command: a subscription of the server's that belongs to it.
        """
        subscription = self._by_channel.get(channel)
        if subscription is None or subscription.attempt != attempt:
            return []
        if isinstance(outcome, ReplyError):
            del self._by_channel[channel]
            if subscription.command:
                return [self._settle(subscription, outcome)]
            return [] if self._places is None else outcome
        subscription.state = SubscriptionState.READY
        if self._places is not None and not subscription.command:
            if isinstance(outcome, Place):
                self._places[channel] = outcome
            return []
        return self._enter_told(channel, subscription, outcome)

    def _enter_told(self, channel: str, subscription: Subscription, outcome: int | Place) -> list[Effect]:
        """Tell the client that its subscription begins, and let it."""
        begun = subscribed.begin(self._party, channel, subscription, outcome)
        if not subscription.command:
            return self._push_begun(channel, subscription, begun)
        if isinstance(begun, ReplyError):
            return [self._settle(subscription, begun), self._forget(channel)]
        told = self._settle(subscription, begun.result)
        watch = self._watch_expiry() if subscription.grant.expires_at else []
        return [told, self._enter(channel, subscription, begun.base), *watch]

    def _push_begun(
        self, channel: str, subscription: Subscription, begun: subscribed.Begun | ReplyError
    ) -> list[Effect]:
        if isinstance(begun, ReplyError):
            return [self._forget(channel)]
        told = Push(Reply(push=replies.Push(channel=channel, subscribe=subscribed.pushed(begun.result))))
        return [told, self._enter(channel, subscription)]

    @property
    def complete(self) -> bool:
        """Whether the connect command need not wait for a channel of the server's any more."""
        return all(each.state is not SubscriptionState.JOINING for each in self._by_channel.values())

    def connected(self) -> tuple[dict[str, SubscribeResult], list[Effect]]:
        """Return what the connect reply says of the server's subscriptions, and what makes them live behind it."""
        places, self._places = self._places or {}, None
        results: dict[str, SubscribeResult] = {}
        room = MAX_REPLY
        for channel, each in self._by_channel.items():
            begun = subscribed.begin(self._party, channel, each, places.get(channel, 0), room)
            if not isinstance(begun, ReplyError):
                results[channel] = begun.result
                room -= begun.size
        gone = [self._forget(channel) for channel in list(self) if channel not in results]
        return results, [*gone, *[self._enter(channel, each) for channel, each in self._by_channel.items()]]

    def abandon(self) -> list[Leave]:
        """Let go of everything, without a word to the client: the connect command has failed."""
        return [self._forget(channel) for channel in list(self)]

    def _begin(self, number: int, channel: str, asked: Asked) -> Join:
        self._attempts += 1
        started = self._party.started
        self._by_channel[channel] = Subscription(
            number, self._attempts, started, asked.grant, asked.traits, asked.attendance, asked.wishes
        )
        return Join(channel, self._attempts, asked.wish)

    def _enter(self, channel: str, subscription: Subscription, base: bytes | None = None) -> Enter:
        subscription.state = SubscriptionState.LIVE
        attendance = subscription.attendance
        if attendance is NOBODY:
            return Enter(channel, subscription.traits, base)
        return Enter(channel, subscription.traits, base, attendance, bytes(subscription.grant.info))

    def _forget(self, channel: str) -> Leave:
        subscription = self._by_channel.pop(channel)
        attended = subscription.attended
        if attended is NOBODY:
            return Leave(channel, subscription.traits)
        return Leave(channel, subscription.traits, attended, bytes(subscription.grant.info))

    def _settle(self, subscription: Subscription, outcome: SubscribeResult | ReplyError) -> Effect:
        number = subscription.command
        reply = (
            Reply(id=number, error=outcome)
            if isinstance(outcome, ReplyError)
            else Reply(id=number, subscribe=outcome)
        )
        return self._party.settle("subscribe", subscription.started, reply)

    def _watch_expiry(self) -> list[Effect]:
        soonest = min(
            (each.grant.expires_at for each in self._by_channel.values() if each.grant.expires_at), default=0
        )
        if not soonest:
            return []
        rules = self._party.rules
        return [SubscriptionsExpireIn(max(0.0, soonest + rules.expired_sub_close_delay - rules.clock.wall()))]
