"""What rate limits cost an edge by itself: CPU of a publication with no rule, one and two.

Real edge cores, one for each setting, real WebSocket transports on sockets that are none, a real nats-server and one replica of
the rate-limit service. On each edge 100 connections keep one acknowledged publication under way, or 16 that come in one read,
each on a channel of its own; no rule refuses any. `one rule`: by user, in leases of 1,000 tokens for a minute, so that nearly
every publication finds one. `two rules`: and by channel. `leases of 10`: one rule, of which tokens are asked for with every tenth
publication; 16 in one read are more than a lease, so that some wait. Prints CPU microseconds of the process, gRPC's threads
included, for each publication, alternated: the median, the least and the greatest of the rounds, and what a setting adds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog
import uvloop

from bench.publish import CLIENTS, WINDOWS, Publisher, connected, publishes
from tests.support.edges import OPEN, mapping, token
from tests.support.edges import edge_config as written_config
from tests.support.nats_server import NatsServer
from tests.support.ratelimit import RateLimitProcess
from tidewire.edge.app import Edge
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode

ROUNDS = 25
PLENTY: dict[str, Any] = {
    "command": "publish",
    "limit": 1_000_000_000,
    "burst": 1_000_000_000,
    "lease_time": "1m",
}
BY_USER = {"name": "by-user", "key": ["user"], "lease_size": 1_000, **PLENTY}
BY_CHANNEL = {"name": "by-channel", "key": ["channel"], "lease_size": 1_000, **PLENTY}
FEW = {"name": "few", "key": ["user"], "lease_size": 10, **PLENTY}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "no rule": [],
    "one rule": [BY_USER],
    "two rules": [BY_USER, BY_CHANNEL],
    "leases of 10": [FEW],
}


def edge_of(rules: list[dict[str, Any]], url: str, replica: RateLimitProcess) -> Edge:
    """Return an edge with these rules."""
    written = written_config(
        url,
        {
            "channel": {"namespaces": [{"name": "live", **OPEN}]},
            "client": {"command_rate_limit": 0, "connection_rate_limit": 0, "ping_interval": "10m"},
            "rate_limits": {"replicas": [f"ipv4:127.0.0.1:{replica.port}"], "rules": rules},
        },
    )
    config = decode(EdgeConfig, written)
    log = structlog.wrap_logger(
        structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(30)
    )
    return Edge(config, log, lambda: config)


async def publishers_of(edge: Edge) -> list[Publisher]:
    """Return clients of an edge that has started."""
    return [Publisher(await connected(edge, token(f"user-{number}")), number) for number in range(CLIENTS)]


async def measured(publishers: list[Publisher], window: int) -> float:
    """Return CPU microseconds for each publication."""
    began = time.process_time()
    count = await publishes(publishers, "live", window)
    return (time.process_time() - began) / count * 1e6


async def bench(edges: dict[str, Edge], rounds: int) -> None:
    """Measure, and print."""
    clients: dict[str, list[Publisher]] = {}
    for name, edge in edges.items():
        await edge.start()
        clients[name] = await publishers_of(edge)
    cases = [(name, window) for window in WINDOWS for name in edges]
    for name, window in cases:
        await measured(clients[name], window)  # what is made once, and the first tokens of each key
    spent: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, costs in spent.items():
            costs.append(await measured(clients[case[0]], case[1]))
    for (name, window), costs in spent.items():
        over = statistics.median(
            cost - none for cost, none in zip(costs, spent["no rule", window], strict=True)
        )
        print(
            f"{name + f', {window} in flight':28} {statistics.median(costs):6.2f} us  "
            f"({min(costs):.2f} to {max(costs):.2f}), {over:5.2f} us over no rule",
            flush=True,
        )
    for edge in edges.values():
        await edge.stop()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nats = stack.enter_context(NatsServer(folder / "nats", config=mapping()))
        rules = [BY_USER, BY_CHANNEL, FEW]
        replica = stack.enter_context(
            RateLimitProcess(folder, {"rate_limits": {"rules": rules, "connections": [], "envoy": []}})
        )
        edges = {name: edge_of(each, nats.url, replica) for name, each in SETTINGS.items()}
        uvloop.run(bench(edges, options.rounds))


if __name__ == "__main__":
    main()
