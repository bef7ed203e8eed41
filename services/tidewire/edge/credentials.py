"""The token of a connection: where it comes from, what it gives, and how long it lasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge.admission import KEYS_AWAY
from tidewire.edge.effects import Effect, ExpireIn
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
from tidewire.edge.waiting import standing_of
from tidewire.edge.wire.replies import RefreshResult, Reply
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect, ReplyError

if TYPE_CHECKING:
    from tidewire.edge.party import Party
    from tidewire.edge.wire.commands import RefreshRequest

Verdict = ConnectionClaims | ReplyError | Disconnect | KeyWanted


class Credentials:
    """What the client of one connection has shown. A token in the connect command beats one of the handshake."""

    __slots__ = ("_bearer", "_expires_at", "_party", "_refreshable")

    def __init__(self, party: Party, bearer: str) -> None:
        self._party = party
        self._bearer = bearer
        self._expires_at = 0
        self._refreshable = False
        """Whether the client brings new tokens itself: one that came with the handshake it cannot renew."""

    def judge(self, token: str) -> Verdict:
        """Judge what a connect command shows: who it is, the error to answer, or why to close the connection."""
        rules = self._party.rules
        if not token and not self._bearer:
            if rules.allow_anonymous:
                return ConnectionClaims("")
            return errors.BAD_PROTOCOL.saying("bad request: connect needs a token")
        claims = rules.tokens.connection(token or self._bearer)
        match claims:
            case TokenProblem.EXPIRED:
                return errors.TOKEN_EXPIRED
            case TokenProblem.UNAVAILABLE:
                return KEYS_AWAY
            case TokenProblem.INVALID:
                return self._invalid(rules.tokens.why)
            case ConnectionClaims() if self._party.is_over(claims.expires_at):
                return errors.TOKEN_EXPIRED
        return claims

    def accept(self, token: str, claims: ConnectionClaims) -> list[Effect]:
        """Take on what was judged, and return the timer of its expiry."""
        self._refreshable = bool(token)
        self._bearer = ""
        self._party.identify(claims)
        return self.expire_at(claims.expires_at)

    @property
    def ttl(self) -> int:
        """The seconds after which the client should refresh its token; 0: it never need."""
        return self._party.ttl(self._expires_at) if self._refreshable else 0

    def refresh(self, number: int, request: RefreshRequest) -> list[Effect] | Disconnect | KeyWanted:
        """Carry out a refresh command: the connection lives on as long as the new token says."""
        if not request.token:
            return errors.BAD_PROTOCOL
        tokens = self._party.rules.tokens
        claims = tokens.connection(request.token)
        match claims:
            case TokenProblem.EXPIRED:
                return errors.CONNECTION_EXPIRED
            case TokenProblem.UNAVAILABLE:
                return [self._party.refuse("refresh", number, KEYS_AWAY)]
            case TokenProblem.INVALID:
                return self._invalid(tokens.why)
            case ConnectionClaims():
                return self._renew(number, claims)
        return claims

    def _renew(self, number: int, claims: ConnectionClaims) -> list[Effect] | Disconnect:
        party = self._party
        if claims.user != party.user:
            return self._invalid("a refresh with another user's token")
        if party.is_over(claims.expires_at):
            return errors.CONNECTION_EXPIRED
        ttl = party.ttl(claims.expires_at)
        self._refreshable = True
        party.capabilities = claims.capabilities
        party.token_id = claims.id
        if claims.custom or party.standing is not None:
            standing_of(party).claims = claims.custom
        result = RefreshResult(client=party.client, version=party.rules.version, expires=ttl > 0, ttl=ttl)
        answer = party.answer("refresh", Reply(id=number, refresh=result))
        return [answer, *self.expire_at(claims.expires_at)]

    def expire_at(self, expires_at: int) -> list[Effect]:
        """Note when the connection expires (Unix seconds, 0 = never) and return the timer to set."""
        self._expires_at = expires_at
        return [ExpireIn(max(0.0, self._left()))] if expires_at else []

    def check(self) -> list[Effect] | Disconnect:
        """The connection may have expired: close it once the grace time is over, look again later otherwise."""
        if not self._expires_at:
            return []
        left = self._left()
        return [ExpireIn(left)] if left > 0 else errors.CONNECTION_EXPIRED

    def _left(self) -> float:
        rules = self._party.rules
        grace = rules.expired_close_delay if self._refreshable else 0.0
        return self._expires_at + grace - rules.clock.wall()

    def _invalid(self, why: str) -> Disconnect:
        """Close with 3500; why is for the log alone, since it would help who guesses."""
        self._party.detail = why
        return errors.INVALID_TOKEN
