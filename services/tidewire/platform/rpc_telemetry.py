"""What is counted of gRPC: calls by method and code, how long they took, and how the replicas are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Histogram, metrics_of

OK: Final = "OK"
UNKNOWN_METHOD: Final = "unknown"
"""The label of whatever method a peer may think of."""
_STATES: Final = ("idle", "connecting", "ready", "transient_failure", "shutdown")


class RpcServerMetrics:
    """The calls that a server was sent. `in_flight` are those that it works on."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.certificate_ends: float | None = None
        """Unix time; None without TLS."""
        self.handled = Counter(
            "tidewire_rpc_server_handled",
            "Calls by method and by the gRPC status that they ended with. CANCELLED: the client no longer waited.",
            ["method", "code"],
        )
        self.duration = Histogram(
            "tidewire_rpc_server_duration_seconds",
            "From a call's request to its reply or error.",
            labels=["method"],
        )

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call."""
        self.handled.inc(1, (method, code))
        self.duration.observe(seconds, (method,))

    def all(self) -> Iterable[Counter | Histogram | Gauge]:
        """Return what a registry takes."""
        yield from metrics_of(self)
        yield Gauge(
            "tidewire_rpc_server_in_flight", "Calls that the server works on.", lambda: self.in_flight
        )
        yield Gauge(
            "tidewire_rpc_server_certificate_expiry_timestamp_seconds",
            "When the gRPC server's certificate, or the first of its chain, ends; Unix time. None without TLS.",
            lambda: {} if self.certificate_ends is None else {(): self.certificate_ends},
            merge=Merge.MIN,
        )


class Measured(Protocol):
    """A client, as far as it is read when somebody scrapes."""

    target: str
    in_flight: int

    @property
    def state(self) -> str:
        """The state of the channel as gRPC names it, in lower case."""

    @property
    def certificate_ends(self) -> float | None:
        """Unix time; None where it has no certificate of its own."""


class RpcClientMetrics:
    """The calls that all clients of a process make."""

    def __init__(self) -> None:
        self.clients: list[Measured] = []
        self.calls = Counter(
            "tidewire_rpc_client_calls",
            "Calls (not attempts) by method and by the gRPC status that they ended with. A call that was refused here, for "
            "the bound of calls in flight, is RESOURCE_EXHAUSTED, too.",
            ["method", "code"],
        )
        self.duration = Histogram(
            "tidewire_rpc_client_duration_seconds",
            "From a call to its reply or error, with its retries and their pauses.",
            labels=["method"],
        )
        self.retries = Counter(
            "tidewire_rpc_client_retries",
            "Attempts that came to nothing and could be repeated, by what followed: another one (retried), or why there "
            "was none (attempts, budget, deadline); elsewhere and not_synced: the replica does not serve it, or does not hold it "
            "yet, and the next one was asked.",
            ["method", "outcome"],
        )

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call."""
        self.calls.inc(1, (method, code))
        self.duration.observe(seconds, (method,))

    def all(self) -> Iterable[Counter | Histogram | Gauge]:
        """Return what a registry takes."""
        yield from metrics_of(self)
        yield Gauge(
            "tidewire_rpc_client_in_flight",
            "Calls that wait for their reply, their next attempt or a connection.",
            lambda: {(client.target,): client.in_flight for client in self.clients},
            ["target"],
        )
        yield Gauge(
            "tidewire_rpc_client_state",
            "1 for the state that the connections to a service are in together: ready, while there is a healthy replica.",
            self._states,
            ["target", "state"],
        )
        yield Gauge(
            "tidewire_rpc_client_certificate_expiry_timestamp_seconds",
            "When our own certificate towards a service, or the first of its chain, ends; Unix time. None without one.",
            self._ends,
            ["target"],
            Merge.MIN,
        )

    def _states(self) -> Mapping[tuple[str, ...], float]:
        return {
            (client.target, state): float(client.state == state)
            for client in self.clients
            for state in _STATES
        }

    def _ends(self) -> Mapping[tuple[str, ...], float]:
        return {
            (client.target,): client.certificate_ends
            for client in self.clients
            if client.certificate_ends is not None
        }
