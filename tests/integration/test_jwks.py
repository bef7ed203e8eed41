"""Token checks against a real issuer's server that rotates, hangs, lies and goes away. Time is moved, not waited for."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.typing import FilteringBoundLogger

from tests.fakes.clock import ManualClock
from tests.fakes.edge import KEY, CountingMetrics, edge_config
from tests.fakes.log import RecordingLog
from tests.support.jwks_server import JwksServer, serving
from tests.support.keys import KINDS, jwk, jwks, signed
from tests.support.protocol import protocol
from tests.support.wait import PATIENCE, eventually
from tidewire.edge.adapters.jwks import TOLD_AT_ONCE, JwksFetcher
from tidewire.edge.policies import key_cache
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem, TokenVerifier
from tidewire.edge.ports import KeyMetrics

TLS = Path(__file__).parents[1] / "support" / "tls"
INVALID, UNAVAILABLE = TokenProblem.INVALID, TokenProblem.UNAVAILABLE
ONE, TWO = jwk("P-256", "one"), jwk("P-256", "two", 1)
TOKEN, ROTATED = signed("ES256", "one"), signed("ES256", "two", 1)


class Edge:
    """Verifier, cache and fetcher as an edge has them, on a clock that is moved."""

    def __init__(self, *urls: str, **settings: Any) -> None:
        self.clock = ManualClock()
        self.log = RecordingLog()
        self.metrics = CountingMetrics()
        self.cache = KeyCache(lambda: 0.0)
        self.tokens = self.verifier(*urls, **settings)
        self.fetcher = JwksFetcher(
            self.cache,
            self.clock,
            cast("KeyMetrics", self.metrics),
            cast("FilteringBoundLogger", self.log),
        )

    def verifier(self, *urls: str, **settings: Any) -> TokenVerifier:
        """A verifier for these key sets, with the edge's cache."""
        sources = [{"url": url, "issuer": "i" if len(urls) > 1 else "", **settings} for url in urls]
        config = edge_config(client={"token": {"hmac_secret_key": KEY, "jwks": sources}})
        return TokenVerifier(config.client, self.clock, self.cache)

    async def judge(self, text: str) -> str | TokenProblem:
        """Judge a token as a session does, with one wait for its key; a second one is a mistake."""
        claims = self.tokens.connection(text)
        if isinstance(claims, KeyWanted):
            done = asyncio.Event()
            self.fetcher.fetch(claims.source, done.set)
            assert not done.is_set()
            await asyncio.wait_for(done.wait(), PATIENCE)
            claims = self.tokens.connection(text)
            assert not isinstance(claims, KeyWanted)
        return claims.user if isinstance(claims, ConnectionClaims) else claims

    async def tick(self, seconds: float = 0) -> None:
        """Let time pass, and whatever fetch it brings end."""
        self.clock.advance(seconds)
        self.fetcher.tick()
        await self.idle()

    async def idle(self) -> None:
        """Wait until no fetch is under way."""
        await eventually(lambda: not self.fetcher._fetches)

    @property
    def outcomes(self) -> list[str]:
        """How fetches ended."""
        return [arguments[1] for name, arguments in self.metrics.events if name == "keys_fetched"]


@asynccontextmanager
async def edge_of(*servers: JwksServer, **settings: Any) -> AsyncIterator[Edge]:
    """An edge whose issuers are these servers."""
    edge = Edge(*(server.url for server in servers), **settings)
    try:
        yield edge
    finally:
        await edge.fetcher.close()


@protocol("token.jwks")
@pytest.mark.parametrize("algorithm", KINDS)
async def test_every_algorithm(algorithm: str) -> None:
    """With a key that is fetched when the first token wants it."""
    async with serving(jwks(jwk(KINDS[algorithm], "k"))) as server, edge_of(server) as edge:
        assert await edge.judge(signed(algorithm, "k")) == "alice"
        assert await edge.judge(signed(algorithm, "k", 1)) is INVALID
        assert server.requests == 1


@protocol("token.jwks")
async def test_https_with_the_issuers_own_ca() -> None:
    """And not without it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")
    async with serving(jwks(ONE), context) as server:
        async with edge_of(server, ca_file=str(TLS / "ca.pem")) as edge:
            assert await edge.judge(TOKEN) == "alice"
        async with edge_of(server) as edge:
            assert await edge.judge(TOKEN) is UNAVAILABLE


@protocol("token.jwks")
async def test_keys_are_cached_and_refreshed_ahead_of_time() -> None:
    """Tokens never wait for a refresh, and none of them causes one."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        await edge.tick()
        for _ in range(100):
            assert isinstance(edge.tokens.connection(TOKEN), ConnectionClaims)
        assert server.requests == 1
        await edge.tick(599)
        assert server.requests == 1
        server.answering.clear()
        edge.clock.advance(1)
        edge.fetcher.tick()
        await eventually(lambda: server.requests == 2)
        edge.fetcher.tick()
        assert isinstance(edge.tokens.connection(TOKEN), ConnectionClaims)
        server.answering.set()
        await edge.idle()
        assert server.requests == 2


@protocol("token.jwks")
async def test_rotation() -> None:
    """A new key is had at once, and the old one is refused once the set is without it."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        assert await edge.judge(TOKEN) == "alice"
        server.body = jwks(ONE, TWO)
        edge.clock.advance(10)
        assert await edge.judge(ROTATED) == "alice"
        assert await edge.judge(TOKEN) == "alice"
        server.body = jwks(TWO)
        await edge.tick(600)
        assert await edge.judge(TOKEN) is UNAVAILABLE  # the issuer has not been asked for it yet
        edge.clock.advance(10)
        assert await edge.judge(TOKEN) is INVALID
        assert await edge.judge(ROTATED) == "alice"
        assert server.requests == 4


@protocol("token.jwks")
async def test_flood_of_unknown_kids_is_one_fetch_at_a_time_and_in_each_interval() -> None:
    """While it goes on the tokens of known keys pass at once."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        assert await edge.judge(TOKEN) == "alice"
        for _ in range(5):
            edge.clock.advance(10)
            server.answering.clear()
            flood = [
                asyncio.create_task(edge.judge(signed("ES256", f"nonsense-{number}")))
                for number in range(200)
            ]
            before = server.requests
            await eventually(lambda before=before: server.requests == before + 1)
            assert edge.cache.sources[server.url].waiting == 200
            assert isinstance(edge.tokens.connection(TOKEN), ConnectionClaims)
            server.answering.set()
            assert set(await asyncio.gather(*flood)) == {INVALID}
            assert await edge.judge(signed("ES256", "nonsense-1")) is INVALID
            assert await edge.judge(signed("ES256", "late")) is UNAVAILABLE
        assert server.requests == 6
        assert edge.cache.sources[server.url].waiting == 0


@protocol("token.jwks", "token.unavailable")
async def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told to come again."""
    monkeypatch.setattr(key_cache, "MOST_WAITING", 5)
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        server.answering.clear()
        waiting = [asyncio.create_task(edge.judge(TOKEN)) for _ in range(5)]
        await eventually(lambda: server.requests == 1)
        assert edge.tokens.connection(TOKEN) is UNAVAILABLE
        server.answering.set()
        assert await asyncio.gather(*waiting) == ["alice"] * 5
        assert edge.tokens.connection(TOKEN) is not UNAVAILABLE


@protocol("token.unavailable")
async def test_issuer_that_is_away_at_the_start() -> None:
    """Tokens are put off, not refused, and are good as soon as it is there."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        await server.stop()
        assert await edge.judge(TOKEN) is UNAVAILABLE
        assert await edge.judge(TOKEN) is UNAVAILABLE
        assert edge.outcomes == ["connection"]
        level, event, fields = edge.log.lines[-1]
        assert (level, event, fields["keys"], fields["age"]) == ("warning", "jwks.fetch_failed", 0, None)
        assert "s3cr3t" not in str(edge.log.lines)
        await server.start()
        await edge.tick(10)
        assert edge.tokens.connection(TOKEN) == ConnectionClaims("alice")
        assert edge.log.lines[-1][1:] == (
            "jwks.fetched",
            {"url": server.url.partition("?")[0], "keys": 1, "ignored": [], "back": True},
        )


@protocol("token.unavailable", "token.jwks")
async def test_issuer_that_goes_away_later() -> None:
    """Keys that are held are used until max_stale; an unknown kid may be a new one."""
    async with serving(jwks(ONE)) as server, edge_of(server, max_stale="1h") as edge:
        await edge.tick()
        await server.stop()
        await edge.tick(1800)
        assert edge.outcomes == ["ok", "connection"]
        assert await edge.judge(TOKEN) == "alice"
        assert await edge.judge(ROTATED) is UNAVAILABLE
        await edge.tick(1800)
        assert edge.tokens.connection(TOKEN) == ConnectionClaims("alice")
        edge.clock.advance(1)
        assert await edge.judge(TOKEN) is UNAVAILABLE
        await server.start()
        await edge.tick(600)
        assert await edge.judge(TOKEN) == "alice"


BAD = {
    "timeout": lambda server: server.answering.clear(),
    "status": lambda server: setattr(server, "status", 500),
    "too_large": lambda server: setattr(server, "body", b" " * 300_000),
    "malformed": lambda server: setattr(server, "body", b"<html>sign in</html>"),
    "encoding": lambda server: setattr(server, "headers", {"Content-Encoding": "gzip"}),
}


@protocol("token.unavailable")
@pytest.mark.parametrize("outcome", BAD)
async def test_bad_answer_leaves_what_is_held(outcome: str) -> None:
    """Each is told in log and metrics, and nothing of it is believed."""
    async with serving(jwks(ONE)) as server, edge_of(server, timeout="2s") as edge:
        await edge.tick()
        BAD[outcome](server)
        await edge.tick(600)
        assert edge.outcomes == ["ok", outcome]
        assert edge.tokens.connection(TOKEN) == ConnectionClaims("alice")
        assert edge.cache.sources[server.url].problem


@protocol("token.jwks")
async def test_redirect_is_not_followed() -> None:
    """Not even to the same keys."""
    async with serving(jwks(ONE)) as other, serving(b"") as server, edge_of(server) as edge:
        server.redirect(other.url)
        assert await edge.judge(TOKEN) is UNAVAILABLE
        assert (edge.outcomes, other.requests) == (["status"], 0)


@protocol("token.jwks")
async def test_two_sets_of_an_issuer_are_waited_for_together() -> None:
    """Done comes once, when both have ended, and one that is away takes nothing from the other."""
    token = signed("ES256", "two", 1, iss="i")
    async with serving(jwks(ONE)) as first, serving(jwks(TWO)) as second, edge_of(first, second) as edge:
        await first.stop()
        assert await edge.judge(token) == "alice"
        assert sorted(edge.outcomes) == ["connection", "ok"]


async def test_done_comes_once_and_never_at_once() -> None:
    """Also where there is nothing to fetch: too early, or no such source any more."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        await edge.tick()
        calls: list[str] = []
        for source in (server.url, "https://gone.example/", f"{server.url} https://gone.example/"):
            edge.fetcher.fetch(source, lambda source=source: calls.append(source))
        assert calls == []
        await eventually(lambda: len(calls) == 3)
        assert server.requests == 1


async def test_loop_serves_others_while_very_many_are_told() -> None:
    """Thousands of tokens may wait for one fetch, and each of them takes its time to be judged."""
    async with serving(jwks(ONE)) as issuer:
        edge = Edge(issuer.url)
        turns: list[int] = []
        turn, all_told = 0, asyncio.Event()

        def told() -> None:
            turns.append(turn)
            if len(turns) == 5 * TOLD_AT_ONCE:
                all_told.set()

        for _ in range(5 * TOLD_AT_ONCE):
            edge.fetcher.fetch(issuer.url, told)
        async with asyncio.timeout(PATIENCE):
            while not all_told.is_set():
                turn += 1
                await asyncio.sleep(0)
        assert max(Counter(turns).values()) <= TOLD_AT_ONCE


async def test_keys_outlive_a_change_of_configuration() -> None:
    """The same URL is not fetched again; one that is gone is not asked for ever, also by who still has the old rules."""
    async with serving(jwks(ONE)) as server, serving(jwks(TWO)) as gone, edge_of(server) as edge:
        await edge.tick()
        old = edge.verifier(server.url, gone.url)
        edge.tokens = edge.verifier(server.url, refresh_interval="20m")
        await edge.tick(1199)
        assert await edge.judge(TOKEN) == "alice"
        assert server.requests == 1
        edge.tokens = old
        assert await edge.judge(signed("ES256", "two", 1, iss="i")) is UNAVAILABLE
        assert gone.requests == 0


async def test_close_ends_a_fetch_and_tells_who_waits() -> None:
    """No task and no waiter is left behind."""
    async with serving(jwks(ONE)) as server, edge_of(server) as edge:
        server.answering.clear()
        waiting = asyncio.create_task(edge.judge(TOKEN))
        await eventually(lambda: server.requests == 1)
        await edge.fetcher.close()
        assert await waiting is UNAVAILABLE
        assert edge.outcomes == ["interrupted"]
        assert edge.fetcher._fetches == {}
