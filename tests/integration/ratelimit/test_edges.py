"""Edges and replicas in processes of their own: what clients are told, and how much they get together."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.edges import EdgeProcess, edge_config, mapping, merged, token
from tests.support.nats_server import NatsServer
from tests.support.ratelimit import NOBODY, RateLimitProcess
from tests.support.raw_client import RawClient, Refused, joined
from tests.support.wait import PATIENCE, eventually
from tidewire.edge.adapters.grpc_ratelimit import RETRY_WITHIN
from tidewire.kernel.config import decode
from tidewire.kernel.rate_bound import excess, lease_excess
from tidewire.kernel.token_bucket import Allowance
from tidewire.options.rate_limit_rules import RateLimitRule

Rules = list[dict[str, Any]]
PUBLISH = {"channel": "live:x", "data": 1}
KEPT = {"period": "1h", "lease_time": "1m"}
"""Of rules whose tokens are counted to the last one: none comes back while a test runs, nor is lost by an edge that stands
still with a lease in its hand."""
SLOW = {"limit": 20, **KEPT}
PER_USER: Rules = [{"name": "per-user", "command": "publish", "key": ["user"], **SLOW, "close_after": 0}]


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with the mapping."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


class Mesh:
    """Replicas, and edges that ask them, by one configuration of limits."""

    def __init__(self, nats: NatsServer, folder: Path, limits: dict[str, Any], replicas: int) -> None:
        self._nats = nats
        self._folder = folder
        self._limits = limits
        self.replicas = [
            RateLimitProcess(folder, {"rate_limits": {**self.empty, **limits}}, f"replica-{index}")
            for index in range(replicas)
        ]
        self.edges: list[EdgeProcess] = []

    async def all_up(self) -> bool:
        """Whether every edge is answered by every replica."""
        up = [(await edge.metrics()).value("tidewire_rate_limit_replica_up") for edge in self.edges]
        return up == [len(self.replicas)] * len(self.edges)

    async def one_is_away(self) -> bool:
        """Whether every edge has noticed that one replica is gone."""
        up = [(await edge.metrics()).value("tidewire_rate_limit_replica_up") for edge in self.edges]
        return up == [len(self.replicas) - 1] * len(self.edges)

    @property
    def empty(self) -> dict[str, Any]:
        """No rule at all."""
        return {"rules": [], "connections": [], "envoy": []}

    def edge(self, changes: dict[str, Any] | None = None, **limits: Any) -> EdgeProcess:
        """Return another edge, which does not run yet."""
        targets = [replica.target for replica in self.replicas] or [NOBODY]
        config = {
            "rate_limits": {"replicas": targets, "timeout": "2s", "wait": "3s", **self._limits, **limits},
            "rpc": {"enabled": True},
        }
        name = f"edge-{len(self.edges)}"
        made = EdgeProcess(
            self._folder, merged(edge_config(self._nats.url, config), changes or {}), name=name
        )
        self.edges.append(made)
        return made


@asynccontextmanager
async def mesh(
    nats: NatsServer, folder: Path, *, edges: int = 1, replicas: int = 1, **limits: Any
) -> AsyncIterator[Mesh]:
    """A mesh that runs."""
    made = Mesh(nats, folder, limits, replicas)
    async with AsyncExitStack() as stack:
        for replica in made.replicas:
            stack.enter_context(replica)
        for _ in range(edges):
            stack.enter_context(made.edge())
        yield made


def codes(replies: list[dict[str, Any]]) -> list[int]:
    """The error code of each reply, 0 for success."""
    return [reply.get("error", {}).get("code", 0) for reply in replies]


async def publish(client: RawClient, times: int, **fields: Any) -> list[dict[str, Any]]:
    """Publish so often at once; return the replies."""
    return await asyncio.gather(*(client.command(publish={**PUBLISH, **fields}) for _ in range(times)))


async def decisions(edge: EdgeProcess, rule: str, outcome: str) -> float:
    """How often the edge decided so."""
    return (await edge.metrics()).value("tidewire_rate_limit_decisions_total", rule=rule, outcome=outcome)


async def test_a_user_has_one_limit_on_two_edges(nats: NatsServer, tmp_path: Path) -> None:
    """Whatever is over it is told when to try again, and another user has its own."""
    async with mesh(nats, tmp_path, edges=2, rules=PER_USER) as run:
        clients = [await joined(edge.ws_url, token("alice")) for edge in run.edges]
        replies = [reply for client in clients for reply in await publish(client, 20)]
        assert codes(replies).count(0) == 20
        assert set(codes(replies)) == {0, 111}
        messages = {reply["error"]["message"] for reply in replies if "error" in reply}
        assert all(message.startswith("too many requests: try again in ") for message in messages)
        assert all(reply["error"]["temporary"] for reply in replies if "error" in reply)
        bob = await joined(run.edges[0].ws_url, token("bob"))
        assert codes(await publish(bob, 3)) == [0, 0, 0]
        metrics = await run.edges[1].metrics()
        assert metrics.value("tidewire_commands_total", method="publish", code="111") > 0
        assert metrics.value("tidewire_rate_limit_replica_up") == 1


async def test_commands_that_wait_for_the_first_tokens_are_carried_out_in_order(
    nats: NatsServer, tmp_path: Path
) -> None:
    """One after the other, though each asks for tokens that nobody has yet."""
    rules: Rules = [{"name": "r", "command": "publish", "key": ["channel"], "limit": 1000, "lease_size": 1}]
    async with mesh(nats, tmp_path, rules=rules) as run:
        pushes: list[bytes] = []
        client = RawClient(run.edges[0].ws_url, pushes.append)
        await client.open()
        await client.command(connect={"token": token("alice")})
        await client.command(subscribe={"channel": "live:x"})
        replies = await asyncio.gather(
            *(client.command(publish={"channel": "live:x", "data": number}) for number in range(50))
        )
        assert set(codes(replies)) == {0}
        await eventually(lambda: len(pushes) == 50)
        assert [json.loads(push)["push"]["pub"]["data"] for push in pushes] == list(range(50))


async def test_what_each_command_is_limited_by(nats: NatsServer, tmp_path: Path) -> None:
    """Subscriptions by namespace, calls by method, connects by address, and publications by a claim."""
    rules: Rules = [
        {"name": "subs", "command": "subscribe", "key": ["user", "namespace"], "limit": 2, **KEPT},
        {"name": "calls", "command": "rpc", "key": ["method", "user"], "limit": 1, **KEPT},
        {"name": "plan", "command": "publish", "key": ["claim:plan"], "limit": 3, **KEPT},
        {"name": "connects", "command": "connect", "key": ["ip"], "limit": 5, **KEPT},
    ]
    changes = {"rpc": {"enabled": True, "methods": [{"name": "*"}], "timeout": "100ms"}}
    async with mesh(nats, tmp_path, rules=rules) as run:
        edge = run.edges[0]
        edge.configure(changes)
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        alice = await joined(edge.ws_url, token("alice", plan="free"))
        subscriptions = [
            await alice.command(subscribe={"channel": name}) for name in ("live:1", "live:2", "live:3", "x")
        ]
        assert codes(subscriptions) == [0, 0, 111, 0], "x is of no namespace"
        calls = [await alice.command(rpc={"method": name}) for name in ("a", "a", "b")]
        assert [code == 111 for code in codes(calls)] == [False, True, False]
        bob = await joined(edge.ws_url, token("bob", plan="free"))
        assert codes([*await publish(alice, 2), *await publish(bob, 2)]).count(0) == 3
        carol = await joined(edge.ws_url, token("carol"))
        assert codes(await publish(carol, 5)) == [0] * 5, "without the claim the rule is not for her"
        for user in ("dave", "erin"):
            await joined(edge.ws_url, token(user))
        late = await RawClient(edge.ws_url).open()
        reply = await late.command(connect={"token": token("frank")})
        assert codes([reply]) == [111]
        assert "try again in" in reply["error"]["message"]


async def test_who_goes_on_is_closed(nats: NatsServer, tmp_path: Path) -> None:
    """After so many refusals in a minute, with a code after which SDKs come back."""
    rules: Rules = [
        {"name": "r", "command": "publish", "key": ["user"], "limit": 1, "period": "1h", "close_after": 5}
    ]
    async with mesh(nats, tmp_path, rules=rules) as run:
        client = await joined(run.edges[0].ws_url, token("alice"))
        for _ in range(6):
            assert codes(await publish(client, 1))[0] in {0, 111}
        call = asyncio.ensure_future(client.command(publish=PUBLISH))
        await asyncio.wait_for(client.gone.wait(), PATIENCE)
        assert client.close_code == 3013
        await asyncio.gather(call, return_exceptions=True)


async def test_a_dry_run_only_counts(nats: NatsServer, tmp_path: Path) -> None:
    """Nothing is refused, and the counts say what would have been."""
    rules: Rules = [
        {"name": "r", "command": "publish", "key": ["user"], "limit": 5, "period": "1h", "dry_run": True}
    ]
    async with mesh(nats, tmp_path, rules=rules) as run:
        client = await joined(run.edges[0].ws_url, token("alice"))
        for _ in range(20):
            assert codes(await publish(client, 1)) == [0]

        async def counted() -> bool:
            kinds = ("allowed", "would_be_refused", "unjudged")
            counts = [await decisions(run.edges[0], "r", kind) for kind in kinds]
            return sum(counts) == 20 and counts[0] <= 5 and counts[1] > 0

        await eventually(counted)


async def test_with_no_replica_each_edge_may_keep_the_rule_by_itself(
    nats: NatsServer, tmp_path: Path
) -> None:
    """All edges together the rule once for each of them; that is counted by rule."""
    rule = {"name": "r", "command": "publish", "key": ["user"], "limit": 5, "period": "1h"}
    rules: Rules = [{**rule, "when_down": "local", "close_after": 0}]
    made = Mesh(nats, tmp_path, {"rules": rules}, 0)
    with made.edge() as one, made.edge() as two:
        for edge in (one, two):
            client = await joined(edge.ws_url, token("alice"))
            assert sorted(codes(await publish(client, 20))) == [0] * 5 + [111] * 15
            assert sorted(codes(await publish(client, 5))) == [111] * 5
            assert await decisions(edge, "r", "passed") == 5
            assert await decisions(edge, "r", "refused") == 20
            assert (await edge.metrics()).value("tidewire_rate_limit_local_keys", rule="r") == 1


@pytest.mark.parametrize("when_down", ["allow", "deny"])
async def test_with_no_replica_each_rule_says_what_happens(
    nats: NatsServer, tmp_path: Path, when_down: str
) -> None:
    """Commands pass, or get a temporary error; both are counted, and soon nobody waits for it."""
    rules: Rules = [
        {
            "name": "r",
            "command": "publish",
            "key": ["user"],
            "limit": 5,
            "period": "1h",
            "when_down": when_down,
        }
    ]
    made = Mesh(nats, tmp_path, {"rules": rules}, 0)
    with made.edge() as edge:
        client = await joined(edge.ws_url, token("alice"))
        replies = await publish(client, 20)
        assert set(codes(replies)) == {0 if when_down == "allow" else 100}
        if when_down == "deny":
            assert all(reply["error"]["temporary"] for reply in replies)
        outcome = "passed" if when_down == "allow" else "denied"
        assert await decisions(edge, "r", outcome) == 20
        assert edge.logged("ratelimit.away")
        assert (await edge.metrics()).value("tidewire_rate_limit_replica_up") == 0


async def test_the_next_replica_takes_over_and_the_bound_holds(nats: NatsServer, tmp_path: Path) -> None:
    """One after the other is killed and comes back while two edges publish as much as they can; and no command fails."""
    rule = {"name": "r", "command": "publish", "key": ["user"], "limit": 40, "period": "2s", "close_after": 0}
    terms = decode(RateLimitRule, rule).terms
    async with mesh(nats, tmp_path, edges=2, replicas=2, rules=[rule]) as run:
        await eventually(run.all_up)
        load = Load([await joined(edge.ws_url, token("alice")) for edge in run.edges])
        for replica in run.replicas:
            before = len(load.taken)
            replica.kill()
            await eventually(lambda before=before: len(load.taken) > before + 40)
            await eventually(run.one_is_away)
            await asyncio.to_thread(replica.start)
            await eventually(run.all_up)
        await load.end()
        assert sum([await decisions(edge, "r", "passed") for edge in run.edges]) == 0, "a test of when_down"
        assert load.failed == set()
        moves = 4
        assert load.most_over(terms.allowance) <= excess(terms, edges=2, anew=moves)
        assert load.most_over(terms.allowance) > lease_excess(terms, edges=2), (
            "a move that nobody notices tests nothing"
        )


async def test_a_replica_that_is_away_is_tried_again_each_second(tmp_path: Path, nats: NatsServer) -> None:
    """While edges do not agree on whether it is there, its keys have two limits: gRPC's pauses would grow to five seconds."""
    tried: list[float] = []

    async def turn_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
    target = f"ipv4:127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = Mesh(nats, tmp_path, {"rules": PER_USER}, 0)
    with await asyncio.to_thread(made.edge(replicas=[target]).start):
        await eventually(lambda: len(tried) >= 10, 30)
    server.close()
    assert max(late - early for early, late in itertools.pairwise(tried)) < 2 * RETRY_WITHIN


class Load:
    """Clients that publish as fast as they are answered; when each publication that was taken was sent and answered."""

    def __init__(self, clients: list[RawClient]) -> None:
        self.taken: list[tuple[float, float]] = []
        self.failed: set[int] = set()
        self._goes_on = True
        self._work = [asyncio.ensure_future(self._publish(client)) for client in clients]

    async def _publish(self, client: RawClient) -> None:
        while self._goes_on:
            sent = time.monotonic()
            replies = codes(await publish(client, 4))
            done = time.monotonic()
            self.taken += [(sent, done)] * replies.count(0)
            self.failed |= set(replies) - {0, 111}
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Send no more."""
        self._goes_on = False
        await asyncio.gather(*self._work)

    def most_over(self, allowance: Allowance) -> float:
        """Return by how much the rule was exceeded at most over any window; a publication is as late or early as it may have been."""
        taken = sorted(self.taken)
        return max(
            count - allowance.burst - allowance.rate * (done - taken[first][0])
            for first in range(len(taken))
            for count, (_, done) in enumerate(taken[first:], 1)
        )


async def test_a_reload_takes_a_change_of_one_of_two_rules_with_the_same_number(
    nats: NatsServer, tmp_path: Path
) -> None:
    """The one that only counted refuses from then on."""
    other = {"name": "other", "command": "subscribe", "key": ["user"], **SLOW}
    (rule,) = PER_USER
    async with mesh(nats, tmp_path, rules=[{**rule, "dry_run": True}, other]) as run:
        (edge,) = run.edges
        client = await joined(edge.ws_url, token("alice"))
        assert codes(await publish(client, 30)) == [0] * 30
        edge.configure({"rate_limits": {"rules": [rule, other]}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        assert 111 in codes(await publish(client, 30))


async def test_a_reload_brings_rules_and_takes_them_away(nats: NatsServer, tmp_path: Path) -> None:
    """At the edge and at the service, while clients go on."""
    async with mesh(nats, tmp_path, rules=[]) as run:
        edge, replica = run.edges[0], run.replicas[0]
        client = await joined(edge.ws_url, token("alice"))
        assert codes(await publish(client, 30)) == [0] * 30
        for process in (replica, edge):
            process.configure({"rate_limits": {"rules": PER_USER}})
        replica.send_signal(signal.SIGHUP)
        await eventually(lambda: replica.logged("config.reloaded"))
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        assert codes(await publish(client, 30)).count(0) == 20
        edge.configure({"rate_limits": {"rules": []}})
        edge.hang_up()
        await eventually(lambda: len(edge.logged("config.reloaded")) == 2)
        assert codes(await publish(client, 30)) == [0] * 30


async def test_a_replica_that_has_other_rules_is_told_of(nats: NatsServer, tmp_path: Path) -> None:
    """The edge was reloaded and the service was not: when_down decides, and a line says why."""
    async with mesh(nats, tmp_path, rules=[]) as run:
        edge = run.edges[0]
        edge.configure({"rate_limits": {"rules": [{**PER_USER[0], "when_down": "deny"}]}})
        edge.hang_up()
        await eventually(lambda: edge.logged("config.reloaded"))
        client = await joined(edge.ws_url, token("alice"))
        assert codes(await publish(client, 2)) == [100, 100]
        (line,) = edge.logged("ratelimit.unknown_rule")
        assert line["rule"] == "per-user"


# Connections at the same time.

PLACES: Rules = [{"name": "per-user", "key": "user", "limit": 2, "when_down": "deny"}]


async def connect(url: str, user: str) -> RawClient | int:
    """Return a client that is in, or the code that it was refused with."""
    client = await RawClient(url).open()
    call = asyncio.ensure_future(client.command(connect={"token": token(user)}))
    gone = asyncio.ensure_future(client.gone.wait())
    await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not call.done():
        call.cancel()
        return client.close_code or 0
    if call.exception() is not None:
        return client.close_code or 0
    reply = call.result()
    if "error" in reply:
        await client.close()
        return int(reply["error"]["code"])
    return client


async def come_in(url: str, user: str) -> RawClient:
    """Connect, as soon as there is a place."""

    async def ask() -> RawClient | None:
        found = await connect(url, user)
        return found if isinstance(found, RawClient) else None

    return await eventually(ask)  # type: ignore[return-value]


async def test_a_user_has_so_many_connections_on_all_edges(nats: NatsServer, tmp_path: Path) -> None:
    """One more gets error 111; when one ends there is a place; a killed edge frees its own in some seconds."""
    async with mesh(nats, tmp_path, edges=2, connections=PLACES) as run:
        one, two = run.edges
        first = await come_in(one.ws_url, "alice")
        await come_in(two.ws_url, "alice")
        assert await connect(one.ws_url, "alice") == 111
        assert await connect(two.ws_url, "alice") == 111
        assert isinstance(await connect(two.ws_url, "bob"), RawClient)
        await first.close()
        await come_in(two.ws_url, "alice")
        assert await connect(one.ws_url, "alice") == 111
        two.kill()
        await come_in(one.ws_url, "alice")
        await come_in(one.ws_url, "alice")
        assert await connect(one.ws_url, "alice") == 111


async def test_an_address_has_so_many_connections_on_all_edges(nats: NatsServer, tmp_path: Path) -> None:
    """One more is told to come again; then handshakes are refused, as by the edge's own limit."""
    places: Rules = [{"name": "per-ip", "key": "ip", "limit": 2, "when_down": "deny"}]
    async with mesh(nats, tmp_path, edges=2, connections=places) as run:
        one, two = run.edges
        await come_in(one.ws_url, "alice")
        await come_in(two.ws_url, "bob")

        async def refused() -> int:
            """It is known for a second that there is no place; then the next one is asked about anew."""
            try:
                assert await connect(one.ws_url, "carol") == 3013
            except Refused as answer:
                return answer.response.status_code
            return 0

        assert await eventually(refused) == 429


async def test_a_replica_that_was_killed_learns_before_it_judges(nats: NatsServer, tmp_path: Path) -> None:
    """Clients that are there stay and keep their places; no third one slips in."""
    async with mesh(nats, tmp_path, edges=2, connections=PLACES) as run:
        one, two = run.edges
        held = [await come_in(one.ws_url, "alice"), await come_in(two.ws_url, "alice")]
        replica = run.replicas[0]
        replica.kill()
        assert await connect(one.ws_url, "alice") == 100, "nobody can count, and the rule says deny"
        replica.start()

        async def judged() -> bool:
            found = await connect(one.ws_url, "alice")
            assert not isinstance(found, RawClient), "a third one"
            return found == 111

        await eventually(judged, 30)
        assert not any(client.gone.is_set() for client in held)
        metrics = await replica.metrics()
        assert metrics.value("tidewire_ratelimit_connections", rule="per-user") == 2


async def test_another_replica_takes_places_over(nats: NatsServer, tmp_path: Path) -> None:
    """It knows soon who is there, and refuses a third one as the first would have."""
    async with mesh(nats, tmp_path, edges=2, replicas=2, connections=PLACES) as run:
        one, two = run.edges
        for user in ("alice", "bob", "carol", "dave"):
            await come_in(one.ws_url, user)
            await come_in(two.ws_url, user)
        run.replicas[0].kill()

        async def all_judged() -> bool:
            found = [await connect(one.ws_url, user) for user in ("alice", "bob", "carol", "dave")]
            assert not any(isinstance(each, RawClient) for each in found), "a third one"
            return found == [111] * 4

        await eventually(all_judged, 30)
