"""Rate-limit processes for tests: `python -m tidewire ratelimit` on free ports, and clients of them and of their Envoy API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fakes.log import RecordingLog
from tests.support.edges import merged
from tests.support.history import HistoryProcess
from tests.support.ports import free_ports
from tests.support.wait import PATIENCE
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import decode
from tidewire.platform.rpc_client import RpcClient
from tidewire.platform.rpc_client_options import RpcClientConfig
from tidewire.platform.rpc_library import grpc
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.rpc.envoy.v3 import rls_pb2 as rls
from tidewire.rpc.ratelimit.v1 import ratelimit_pb2 as pb

SERVICE = "/tidewire.rpc.ratelimit.v1.RateLimit"
ENVOY = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
NOBODY = "ipv4:127.0.0.1:9"
"""Where no replica listens."""
SLOW = {"limit": 10, "period": "1h"}
"""A rule under which no token comes back while a test runs."""
CONFIG: dict[str, Any] = {
    "log": {"format": "json"},
    "rate_limits": {
        "replicas": [NOBODY],
        "rules": [
            {"name": "user-publish", "command": "publish", "key": ["user"], **SLOW},
            {"name": "fast", "command": "publish", "key": ["channel"], "limit": 1000, "burst": 100},
        ],
        "connections": [{"name": "per-user", "key": "user", "limit": 2}],
        "envoy": [
            {"name": "login", "domain": "web", "entries": ["path=/login", "remote_address"], **SLOW},
            {"name": "strict", "domain": "web", "entries": ["user=evil"], "limit": 1, "period": "1h"},
            {"name": "any-user", "domain": "web", "entries": ["user"], "limit": 5, "period": "1h"},
            {
                "name": "shadow",
                "domain": "web",
                "entries": ["shadow"],
                "limit": 1,
                "period": "1h",
                "dry_run": True,
            },
        ],
    },
    "rate_limit_service": {
        "internal_port": 0,
        "rpc": {"health_port": 0, "drain_delay": 0, "drain_timeout": "2s"},
    },
}


class RateLimitProcess(HistoryProcess):
    """One rate-limit process, at a port that stays the same at every start."""

    command = "ratelimit"
    section = "rate_limit_service"

    def __init__(self, folder: Path, changes: Mapping[str, Any] | None = None, name: str = "") -> None:
        its_own = {self.section: {"rpc": {"port": free_ports(1)[0]}}}
        super().__init__(folder, merged(merged(CONFIG, its_own), changes or {}), name)

    @property
    def target(self) -> str:
        """What an edge has in `rate_limits.replicas`."""
        return f"ipv4:127.0.0.1:{self.port}"


class RateLimitClient:
    """Calls a process by gRPC as edges do."""

    def __init__(self, process: RateLimitProcess, timeout: str = "10s") -> None:
        settings = {"target": process.target, "timeout": timeout, "close_timeout": 0, "attempts": 1}
        log: Any = RecordingLog()
        self.rpc = RpcClient(decode(RpcClientConfig, settings), [], RpcClientMetrics(), log, SystemClock())
        self.sequence = 0

    async def start(self) -> None:
        """Have the methods."""
        await self.rpc.start()
        self._lease: Any = self.rpc.unary_unary(
            f"{SERVICE}/Lease", lambda request: request.SerializeToString(), pb.LeaseReply.FromString
        )
        self._hold: Any = self.rpc.unary_unary(
            f"{SERVICE}/Hold", lambda request: request.SerializeToString(), pb.HoldReply.FromString
        )

    async def lease(
        self, rule: str, *asks: tuple[bytes, int], unspent: Sequence[pb.Unspent] = ()
    ) -> list[Any]:
        """Ask for tokens of several keys."""
        request = pb.LeaseRequest(
            asks=[pb.Ask(rule=rule, key=key, tokens=tokens) for key, tokens in asks], unspent=unspent
        )
        return list((await self._lease(request)).grants)

    async def tokens(self, rule: str, key: bytes, tokens: int) -> int:
        """Ask for those of one key."""
        (grant,) = await self.lease(rule, (key, tokens))
        return int(grant.tokens)

    async def hold(self, edge: str, *holds: pb.Held, anew: bool = False) -> pb.HoldReply:
        """Say what an edge holds."""
        self.sequence += 1
        request = pb.HoldRequest(edge=edge, sequence=self.sequence, holds=holds, anew=anew)
        return await self._hold(request)  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def client_of(process: RateLimitProcess, timeout: str = "10s") -> AsyncIterator[RateLimitClient]:
    """Yield a client of a process."""
    client = RateLimitClient(process, timeout)
    await client.start()
    try:
        yield client
    finally:
        await client.rpc.close()


class Gateway:
    """Asks as Envoy does, by a plain gRPC channel that knows nothing of us."""

    def __init__(self, process: RateLimitProcess) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{process.port}")
        self._ask = self.channel.unary_unary(
            ENVOY,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=rls.RateLimitResponse.FromString,
        )

    async def ask(
        self, *descriptors: Mapping[str, str], domain: str = "web", hits: int = 0, timeout: float = PATIENCE
    ) -> rls.RateLimitResponse:
        """Ask for a request with these descriptors."""
        made = [
            rls.RateLimitDescriptor(
                entries=[rls.RateLimitDescriptor.Entry(key=key, value=value) for key, value in each.items()]
            )
            for each in descriptors
        ]
        request = rls.RateLimitRequest(domain=domain, descriptors=made, hits_addend=hits)
        return await self._ask(request, timeout=timeout)  # type: ignore[no-any-return]

    async def ask_raw(self, request: rls.RateLimitRequest) -> rls.RateLimitResponse:
        """Ask with a request of the test's own."""
        return await self._ask(request, timeout=PATIENCE)  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def gateway_of(process: RateLimitProcess) -> AsyncIterator[Gateway]:
    """Yield a gateway."""
    gateway = Gateway(process)
    try:
        yield gateway
    finally:
        await gateway.channel.close()
