from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import believing, rules
from tests.support.protocol import protocol
from tidewire.edge.credentials import Credentials
from tidewire.edge.effects import Answer, Effect, ExpireIn
from tidewire.edge.party import Party
from tidewire.edge.policies.capabilities import Capabilities, Capability
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.wire.commands import RefreshRequest
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect
from tidewire.kernel.ids import ConnectionId

PUBLISHER = Capabilities.on("chat:a", frozenset([Capability.PUBLISH]))
GRACE = 25


class Holder:
    """Credentials of one connection; the test says what each token is worth, times in seconds from now."""

    def __init__(self, bearer: str = "", *, anonymous: bool = False, **verdicts: Any) -> None:
        self.clock = ManualClock()
        self.now = int(self.clock.wall())
        made = rules(self.clock, client={"allow_anonymous_connect_without_token": anonymous})
        believing(made, **verdicts)
        self.party = Party(ConnectionId("c1"), made, is_json=True)
        self.credentials = Credentials(self.party, bearer)

    def connected(self, token: str = "") -> list[Effect]:
        """Judge and accept."""
        claims = self.credentials.judge(token)
        assert isinstance(claims, ConnectionClaims)
        return self.credentials.accept(token, claims)

    def refresh(self, token: str) -> Any:
        """What a refresh command brings about."""
        return self.credentials.refresh(7, RefreshRequest(token=token))


def claims(user: str = "alice", ends: int | None = None, **fields: Any) -> ConnectionClaims:
    """Claims that end in so many seconds, or never."""
    expires_at = 0 if ends is None else int(ManualClock().wall()) + ends
    return ConnectionClaims(user, expires_at=expires_at, **fields)


# Who it is.


@protocol("connect.anonymous")
def test_without_a_token_clients_are_anonymous_or_closed() -> None:
    """As the configuration says; the reason names the cause."""
    refused = Holder().credentials.judge("")
    assert isinstance(refused, Disconnect)
    assert (refused.code, "token" in refused.reason) == (3501, True)
    assert Holder(anonymous=True).credentials.judge("") == ConnectionClaims("")


def test_token_of_the_handshake_serves_a_connect_command_without_one() -> None:
    """And one in the command beats it, even a bad one."""
    verdicts: dict[str, Any] = {"h": claims("header"), "c": claims("command"), "bad": TokenProblem.INVALID}
    assert Holder("h", **verdicts).credentials.judge("") == claims("header")
    assert Holder("h", **verdicts).credentials.judge("c") == claims("command")
    assert Holder("h", **verdicts).credentials.judge("bad") == errors.INVALID_TOKEN
    assert Holder("bad", anonymous=True, **verdicts).credentials.judge("") == errors.INVALID_TOKEN


@protocol("token.expired", "token.invalid", "error.109", "error.100")
def test_verdicts_of_the_verifier() -> None:
    """Each is what the protocol makes of it; why a token is invalid only the log learns."""
    holder = Holder(
        old=TokenProblem.EXPIRED,
        bad=TokenProblem.INVALID,
        away=TokenProblem.UNAVAILABLE,
        key=KeyWanted("keys"),
        over=claims(ends=0),
        last=claims(ends=1),
    )
    judge = holder.credentials.judge
    assert judge("old") == errors.TOKEN_EXPIRED
    assert judge("over") == errors.TOKEN_EXPIRED
    assert judge("key") == KeyWanted("keys")
    away = judge("away")
    assert isinstance(away, errors.ReplyError)
    assert (away.code, away.temporary) == (100, True)
    assert holder.party.detail == ""
    assert judge("bad") == errors.INVALID_TOKEN
    assert holder.party.detail == "as the test wants"
    assert isinstance(judge("last"), ConnectionClaims)


def test_identity_is_what_the_token_says() -> None:
    """User, info, rights, id, and the moment."""
    holder = Holder(t=claims(info=Raw(b"{}"), id="jti-1", capabilities=PUBLISHER))
    assert holder.connected("t") == []
    party = holder.party
    assert (party.user, party.token_id, party.capabilities) == ("alice", "jti-1", PUBLISHER)
    assert (party.info.user, party.info.client, bytes(party.info.conn_info)) == ("alice", "c1", b"{}")
    assert party.since == int(holder.clock.wall() * 1e6)


# How long it lasts.


@protocol("token.refresh", "disconnect.3005")
def test_token_of_the_command_has_a_grace_time() -> None:
    """The client is told when to refresh, and has that much longer."""
    holder = Holder(t=claims(ends=60))
    assert holder.connected("t") == [ExpireIn(60.0 + GRACE)]
    assert holder.credentials.ttl == 60
    holder.clock.advance(60 + GRACE - 1)
    assert holder.credentials.check() == [ExpireIn(1.0)]
    holder.clock.advance(1)
    assert holder.credentials.check() == errors.CONNECTION_EXPIRED


@protocol("disconnect.3005")
def test_token_of_the_handshake_has_none() -> None:
    """The client cannot renew it but by connecting again, so it is told nothing and closed in time."""
    holder = Holder("t", t=claims(ends=60))
    assert holder.connected() == [ExpireIn(60.0)]
    assert holder.credentials.ttl == 0
    holder.clock.advance(59)
    assert holder.credentials.check() == [ExpireIn(1.0)]
    holder.clock.advance(1)
    assert holder.credentials.check() == errors.CONNECTION_EXPIRED


@protocol("token.refresh")
def test_refresh_makes_a_connection_of_the_handshake_refreshable() -> None:
    """Whoever brings a token once can do it again."""
    holder = Holder("t", t=claims(ends=60), new=claims(ends=90))
    holder.connected()
    assert holder.refresh("new")[1] == ExpireIn(90.0 + GRACE)
    assert holder.credentials.ttl == 90


@protocol("token.refresh")
def test_refresh_gives_the_new_tokens_rights_and_time() -> None:
    """With a reply that older SDKs can read."""
    holder = Holder(t=claims(ends=60, capabilities=PUBLISHER, id="1"), new=claims(ends=90, id="2"))
    holder.connected("t")
    holder.clock.advance(10)
    answer, timer = holder.refresh("new")
    assert isinstance(answer, Answer)
    assert answer.reply.refresh is not None
    assert (answer.reply.id, answer.reply.refresh.client) == (7, "c1")
    assert (answer.reply.refresh.expires, answer.reply.refresh.ttl) == (True, 80)
    assert timer == ExpireIn(80.0 + GRACE)
    assert holder.party.capabilities.entries == ()
    assert holder.party.token_id == "2"


def test_refresh_with_a_token_without_end_takes_the_expiry_away() -> None:
    """The old timer finds nothing to do."""
    holder = Holder(t=claims(ends=60), new=claims())
    holder.connected("t")
    (answer,) = holder.refresh("new")
    assert (answer.reply.refresh.expires, answer.reply.refresh.ttl) == (False, 0)
    holder.clock.advance(1000)
    assert holder.credentials.check() == []


@protocol("token.refresh", "token.expired", "token.invalid")
def test_refresh_that_fails() -> None:
    """Each in its own way, and the connection is what it was."""
    holder = Holder(
        t=claims(ends=60, capabilities=PUBLISHER),
        old=TokenProblem.EXPIRED,
        over=claims(ends=0),
        bad=TokenProblem.INVALID,
        bob=claims("bob"),
        nobody=claims(""),
        away=TokenProblem.UNAVAILABLE,
        key=KeyWanted("keys"),
    )
    holder.connected("t")
    assert holder.refresh("") == errors.BAD_PROTOCOL
    assert holder.refresh("old") == errors.CONNECTION_EXPIRED
    assert holder.refresh("over") == errors.CONNECTION_EXPIRED
    assert holder.refresh("bad") == errors.INVALID_TOKEN
    assert holder.refresh("bob") == errors.INVALID_TOKEN
    assert "another user" in holder.party.detail
    assert holder.refresh("nobody") == errors.INVALID_TOKEN
    assert holder.refresh("key") == KeyWanted("keys")
    (answer,) = holder.refresh("away")
    assert (answer.reply.error.code, answer.reply.error.temporary) == (100, True)
    assert (holder.party.user, holder.party.capabilities) == ("alice", PUBLISHER)
    assert holder.credentials.check() == [ExpireIn(60.0 + GRACE)]


def test_anonymous_connection_is_nobody_elses_to_refresh() -> None:
    """A token of a user does not name it."""
    holder = Holder(anonymous=True, t=claims("alice"), none=claims("", ends=5))
    holder.connected()
    assert holder.refresh("t") == errors.INVALID_TOKEN
    assert holder.refresh("none")[1] == ExpireIn(5.0 + GRACE)


@pytest.mark.parametrize(("ends", "seconds"), [(100, 125.0), (-10, 15.0), (-25, 0.0), (-100, 0.0)])
def test_expiry_set_from_outside(ends: int, seconds: float) -> None:
    """Also in the past; the timer is never less than none."""
    holder = Holder(t=claims())
    holder.connected("t")
    assert holder.credentials.check() == []
    assert holder.credentials.expire_at(holder.now + ends) == [ExpireIn(seconds)]
    holder.clock.advance(seconds)
    assert holder.credentials.check() == errors.CONNECTION_EXPIRED
    assert holder.credentials.expire_at(0) == []
    assert holder.credentials.check() == []
