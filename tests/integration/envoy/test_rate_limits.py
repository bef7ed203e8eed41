"""Limits of a real Envoy that asks the rate-limit service: examples/envoy/ratelimit.yaml with the rules of limits.yaml.

Each test comes from addresses of its own, and so has buckets of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.support.certificates import Authority
from tests.support.envoy import OFTEN, Config, Envoy, example, part, program, running_envoy, text_of
from tests.support.http import HttpAnswer, request
from tests.support.ratelimit import RateLimitProcess
from tests.support.web_app import WebApp, running_app

NOWHERE = 9
LOGINS, CALLS, ADDRESS = 10, 100, 300
"""What limits.yaml allows: logins of an address, calls of a key, and calls of an address."""
OTHER_WORDS = [
    "/login?next=/",
    "/login/",
    "/login;version=2",
    "//login",
    "/./login",
    "/%2e/login",
    "/shop/../login",
    "/shop/%2e%2e/login",
    "/shop\\..\\login",
    "/LOGIN",
    "/%6Cogin",
    "/%4cOGIN",
    "http://elsewhere.example/login",
]
"""What some application takes for /login, and Envoy must, too."""
NO_WORDS = ["/%2flogin", "/shop%2f..%2flogin", "/shop%5c..%5clogin", "/login#top"]
"""What Envoy refuses, as nobody can say what an application would take it for."""


def rules() -> dict[str, Any]:
    """Return limits.yaml with periods that are longer than any test."""
    limits: dict[str, Any] = yaml.safe_load(text_of("limits.yaml"))["rate_limits"]
    for rule in limits["envoy"]:
        rule["period"] = "24h"
    return limits


def replica(folder: Path, **sections: Any) -> RateLimitProcess:
    """A replica with these rules, and more in its configuration."""
    return RateLimitProcess(folder, {"rate_limits": rules(), **sections})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RateLimitProcess]:
    """The replica of tests in which none ends."""
    program()
    with replica(tmp_path_factory.mktemp("ratelimit")) as process:
        yield process


class Gateway(msgspec.Struct, frozen=True):
    """The Envoy of a test, before its web application."""

    envoy: Envoy
    app: WebApp

    async def get(self, path: str, source: str, **headers: str) -> HttpAnswer:
        """Ask for a page; underscores in names of headers are hyphens."""
        url = f"http://127.0.0.1:{self.envoy.port('web')}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await request(url, headers=named, source=source)

    async def statuses(self, path: str, source: str, times: int, **headers: str) -> list[int]:
        """Ask so many times, one after the other, and return the answers."""
        return [(await self.get(path, source, **headers)).status for _ in range(times)]

    async def crowd(self, path: str, source: str, times: int, **headers: str) -> Counter[int]:
        """Ask so many times at once, each with another number in place of `{}` in a header; return how often came what."""
        named = [{name: text.format(n) for name, text in headers.items()} for n in range(times)]
        answers = await asyncio.gather(*(self.get(path, source, **each) for each in named))
        return Counter(answer.status for answer in answers)

    async def has_healthy(self, ports: Collection[int]) -> None:
        """Wait until Envoy holds these replicas, and no others, for healthy."""
        await self.envoy.has_healthy("tidewire-ratelimit", ports)

    async def line(self, target: str, source: str) -> int:
        """Ask with this target as it is, and return the status."""
        port = self.envoy.port("web")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        with contextlib.closing(writer):
            writer.write(f"GET {target} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
            return int((await reader.readuntil(b"\r\n")).split(b" ")[1])


def limiter(config: Config) -> Config:
    """The settings of the filter that asks."""
    settings: Config = part(config, "envoy.filters.http.ratelimit")["typed_config"]
    return settings


def manager(config: Config) -> Config:
    """The settings of the HTTP connection manager."""
    settings: Config = part(config, "envoy.filters.network.http_connection_manager")["typed_config"]
    return settings


def login(config: Config) -> Config:
    """The route of /login."""
    route: Config = manager(config)["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    return route


def by_the_filter(**settings: Any) -> Callable[[Config], None]:
    """Limit /login by the filter's own rules for the route, which have settings that those of a route lack."""

    def change(config: Config) -> None:
        (limit,) = login(config).pop("rate_limits")
        manager(config)["route_config"]["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"] = {
            "envoy.filters.http.ratelimit": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
                "rate_limits": [{**limit, **settings}],
            }
        }

    return change


@contextlib.asynccontextmanager
async def gateway(
    folder: Path,
    replicas: tuple[int, int],
    change: Callable[[Config], None] = lambda _config: None,
    *,
    healthy: Collection[int] | None = None,
) -> AsyncIterator[Gateway]:
    """Run the example with replicas at these ports, and more time for their answers: the machine may be busy.

    Envoy may listen before it has found out who is healthy, and asks anybody until then: this waits until it knows that
    those are (by default all that are anywhere).
    """
    async with running_app() as app:
        names = [f"ratelimit-{number}.ratelimit:9643" for number in (0, 1)]
        places = {"app.internal:8000": app.port, **dict(zip(names, replicas, strict=True))}
        config = example("ratelimit.yaml", places)
        limiter(config)["timeout"] = "10s"
        part(config, "tidewire-ratelimit")["health_checks"][0].update(OFTEN)
        change(config)
        async with running_envoy(folder / "envoy", config) as envoy:
            run = Gateway(envoy, app)
            await run.has_healthy(set(replicas) - {NOWHERE} if healthy is None else healthy)
            yield run


async def test_what_is_over_the_rule_gets_429(service: RateLimitProcess, tmp_path: Path) -> None:
    """With headers that tell the limit; other addresses and other pages pass."""
    before = await refused(service)
    async with gateway(tmp_path, (service.port, NOWHERE)) as run:
        first = await run.get("/login", "127.0.1.1")
        assert (first.status, first.headers["x-ratelimit-remaining"]) == (200, str(LOGINS - 1))
        assert first.headers["x-ratelimit-limit"] == f'{LOGINS}, {LOGINS};w=86400;name="login"'
        assert "x-envoy-ratelimited" not in first.headers
        assert await run.statuses("/login", "127.0.1.1", LOGINS - 1) == [200] * (LOGINS - 1)
        over = await run.get("/login", "127.0.1.1")
        assert (over.status, over.headers["x-envoy-ratelimited"]) == (429, "true")
        assert over.headers["x-ratelimit-remaining"] == "0"
        assert 8000 < int(over.headers["x-ratelimit-reset"]) <= 8640, "when the next one passes"
        assert len(run.app.requests) == LOGINS, "what is refused does not reach the application"
        assert await run.statuses("/login", "127.0.1.2", 1) == [200]
        page = await run.get("/", "127.0.1.1")
        assert (page.status, "x-ratelimit-limit" in page.headers) == (200, False)
    assert await refused(service) == before + 1


async def refused(service: RateLimitProcess) -> float:
    """How many logins the service has refused."""
    metrics = await service.metrics()
    return metrics.value("tidewire_ratelimit_decisions_total", rule="login", outcome="refused")


async def test_another_spelling_of_the_path_is_the_same_page(
    service: RateLimitProcess, tmp_path: Path
) -> None:
    """The example of before had a rule for `:path`, which `/login?1` was not under."""
    async with gateway(tmp_path, (service.port, NOWHERE)) as run:
        await run.statuses("/login", "127.0.2.1", LOGINS)
        answers = await asyncio.gather(*(run.line(target, "127.0.2.1") for target in OTHER_WORDS + NO_WORDS))
        assert answers == [429] * len(OTHER_WORDS) + [400] * len(NO_WORDS)
        assert len(run.app.requests) == LOGINS


@pytest.mark.parametrize("trusting", [False, True], ids=["as it is", "without use_remote_address"])
async def test_forged_addresses_open_no_new_bucket(
    service: RateLimitProcess, tmp_path: Path, trusting: bool
) -> None:
    """Whatever a client says of itself; without `use_remote_address`, Envoy's default, it would be believed."""
    source = f"127.0.3.{1 + trusting}"
    names = ["X_Forwarded_For", "X_Envoy_External_Address", "X_Real_IP", "True_Client_IP", "Forwarded"]
    async with gateway(
        tmp_path,
        (service.port, NOWHERE),
        lambda config: manager(config).update(use_remote_address=not trusting),
    ) as run:
        for number in range(LOGINS):
            forged = dict.fromkeys(names, f"203.0.{113 + trusting}.{number}")
            assert (await run.get("/login", source, **forged)).status == 200
        forged = dict.fromkeys(names, f"203.0.{113 + trusting}.99")
        assert (await run.get("/login", source, **forged)).status == (200 if trusting else 429)


async def test_behind_a_proxy_of_ones_own_the_last_address_counts(
    service: RateLimitProcess, tmp_path: Path
) -> None:
    """With `xff_num_trusted_hops`, and of IPv6 the /64: what the client has put to the left of it is nothing."""
    async with gateway(
        tmp_path, (service.port, NOWHERE), lambda config: manager(config).update(xff_num_trusted_hops=1)
    ) as run:
        for number in range(LOGINS + 1):
            seen = f"203.0.113.{number}, 2001:db8:0:1::{number}"
            answer = await run.get("/login", "127.0.4.1", X_Forwarded_For=seen)
            assert answer.status == (200 if number < LOGINS else 429), number
        other = await run.get("/login", "127.0.4.1", X_Forwarded_For="2001:db8:0:2::1")
        assert other.status == 200


async def test_a_key_in_a_header_is_limited_beside_the_address(
    service: RateLimitProcess, tmp_path: Path
) -> None:
    """A key from everywhere has its own limit; keys that are made up, or left out, have that of their address."""
    async with gateway(tmp_path, (service.port, NOWHERE)) as run:
        for source in ("127.0.5.1", "127.0.5.2"):
            assert await run.crowd("/api/a", source, CALLS // 2, X_Api_Key="known") == {200: CALLS // 2}
        for source in ("127.0.5.1", "127.0.5.3"):
            assert await run.statuses("/api/a", source, 1, X_Api_Key="known") == [429]
        assert await run.crowd("/api/a", "127.0.5.4", ADDRESS - 10, X_Api_Key="made-up-{}") == {
            200: ADDRESS - 10
        }
        assert await run.statuses("/api/a", "127.0.5.4", 12) == [200] * 10 + [429] * 2
        assert await run.statuses("/api/a", "127.0.5.4", 5, X_Api_Key="other") == [429] * 5
        other = await run.get("/api/a", "127.0.5.5", X_Api_Key="other")
        assert other.headers["x-ratelimit-remaining"] == str(CALLS - 1), (
            "what one refused cost the other nothing"
        )


async def test_hits_of_a_request(service: RateLimitProcess, tmp_path: Path) -> None:
    """What costs more than is left is refused, and costs nothing; no request gives anything back."""
    hits: Config = {"number": 4}
    for negative, source, expected in (
        (False, "127.0.6.1", [("6", 200), ("2", 200), ("2", 429), ("2", 429)]),
        (True, "127.0.6.2", [(None, 200)] * 4),
    ):
        hits["is_negative_hits"] = negative
        async with gateway(tmp_path, (service.port, NOWHERE), by_the_filter(hits_addend=hits)) as run:
            answers = [await run.get("/login", source) for _ in range(4)]
            assert [(each.headers.get("x-ratelimit-remaining"), each.status) for each in answers] == expected
            assert await run.envoy.stat("cluster.app.ratelimit.error") == 4 * negative, "refused, and let in"


async def test_hits_that_envoy_does_not_count(service: RateLimitProcess, tmp_path: Path) -> None:
    """Those of a route's own limits it overlooks, and where a client's header is to say them, the limit with them."""

    def of_the_route(config: Config) -> None:
        login(config)["rate_limits"][0]["hits_addend"] = {"number": 4}

    async with gateway(tmp_path, (service.port, NOWHERE), of_the_route) as run:
        first = await run.get("/login", "127.0.12.1")
        assert first.headers["x-ratelimit-remaining"] == str(LOGINS - 1)
    by_header = by_the_filter(hits_addend={"format": "%REQ(X-Cost)%"})
    async with gateway(tmp_path, (service.port, NOWHERE), by_header) as run:
        for cost, remaining in (("4", str(LOGINS - 5)), ("four", None), ("-4", None)):
            answer = await run.get("/login", "127.0.12.1", X_Cost=cost)
            assert answer.headers.get("x-ratelimit-remaining") == remaining


async def test_what_is_counted_afterwards_is_counted_only_where_there_is_room(
    service: RateLimitProcess, tmp_path: Path
) -> None:
    """`apply_on_stream_done`: the answer has gone out, whatever it cost, so it is no limit."""
    change = by_the_filter(hits_addend={"number": LOGINS + 1}, apply_on_stream_done=True)
    async with gateway(tmp_path, (service.port, NOWHERE), change) as run:
        assert await run.statuses("/login", "127.0.10.1", 3) == [200] * 3
    async with gateway(tmp_path, (service.port, NOWHERE)) as run:
        first = await run.get("/login", "127.0.10.1")
        assert first.headers["x-ratelimit-remaining"] == str(LOGINS - 1)


async def test_what_no_rule_is_for_passes(service: RateLimitProcess, tmp_path: Path) -> None:
    """Another domain has no rules of ours."""
    async with gateway(
        tmp_path, (service.port, NOWHERE), lambda config: limiter(config).update(domain="elsewhere")
    ) as run:
        answers = [await run.get("/login", "127.0.7.1") for _ in range(LOGINS + 1)]
        assert {answer.status for answer in answers} == {200}
        assert not any("x-ratelimit-limit" in answer.headers for answer in answers)
        assert await run.envoy.stat("cluster.app.ratelimit.ok") == LOGINS + 1, "it was asked"


@pytest.mark.parametrize(("deny", "status"), [(False, 200), (True, 500)])
async def test_without_an_answer_the_filter_decides(tmp_path: Path, deny: bool, status: int) -> None:
    """`failure_mode_deny`: of a service that says nothing in time, and of one that is not there."""
    settings = {"failure_mode_deny": deny, "timeout": "0.5s"}
    with replica(tmp_path) as process:
        async with gateway(
            tmp_path, (process.port, NOWHERE), lambda config: limiter(config).update(settings)
        ) as run:
            process.send_signal(signal.SIGSTOP)
            assert await run.statuses("/login", "127.0.8.1", 1) == [status]
            assert await run.envoy.stat("cluster.tidewire-ratelimit.upstream_rq_timeout") == 1
            process.kill()
            await run.has_healthy(())
            assert await run.statuses("/login", "127.0.8.1", 2) == [status] * 2
            assert await run.envoy.stat("cluster.app.ratelimit.error") == 3
            assert await run.statuses("/", "127.0.8.1", 1) == [200], "what has no limit needs no answer"
            assert len(run.app.requests) == (1 if deny else 4)


async def test_the_second_replica_counts_while_the_first_is_away(
    service: RateLimitProcess, tmp_path: Path
) -> None:
    """And never beside it, or there would be two limits. One that comes back begins with full buckets."""
    spent = [200] * LOGINS + [429] * 2
    with replica(tmp_path) as first:
        async with gateway(tmp_path, (first.port, service.port)) as run:
            for healthy in ({first.port, service.port}, {service.port}, {first.port, service.port}):
                if first.port not in healthy:
                    first.kill()
                elif not first.running:
                    first.start()
                await run.has_healthy(healthy)
                assert await run.statuses("/login", "127.0.9.1", LOGINS + 2) == spent, healthy


@pytest.mark.parametrize(
    ("server", "client", "counted", "denied"),
    [
        ("ratelimit", "gateway", True, False),
        ("ratelimit", "edge", False, True),
        ("edge", "gateway", False, False),
    ],
    ids=["as they should", "a client of another name", "a server of another name"],
)
async def test_with_mutual_tls_both_sides_look_at_names(
    tmp_path: Path, server: str, client: str, counted: bool, denied: bool
) -> None:
    """`client_names` in the service, of health checks, too; and in Envoy what ratelimit-tls.yaml says of the service's."""
    authority = Authority(tmp_path / "ca")
    cert_file, key_file = authority.issue(server, server)
    tls = {"cert_file": cert_file, "key_file": key_file, "client_ca_file": str(authority.file)}
    papers = (*authority.issue(client, client), str(authority.file))
    text = text_of("ratelimit-tls.yaml")
    for name, file in zip(("tls.crt", "tls.key", "ca.crt"), papers, strict=True):
        text = text.replace(f"/etc/envoy/tls/{name}", file)
    with replica(
        tmp_path, rate_limit_service={"rpc": {"tls": {**tls, "client_names": ["gateway"]}}}
    ) as process:
        async with gateway(
            tmp_path,
            (process.port, NOWHERE),
            lambda config: part(config, "tidewire-ratelimit").update(yaml.safe_load(text)),
            healthy={process.port} if counted else (),
        ) as run:
            answer = await run.get("/login", "127.0.11.1")
            assert (answer.status, "x-ratelimit-limit" in answer.headers) == (200, counted)
            assert await run.envoy.stat("cluster.app.ratelimit.error") == (not counted)
        handled = await process.metrics()
        assert denied == bool(handled.value("tidewire_rpc_server_handled_total", code="PERMISSION_DENIED"))
