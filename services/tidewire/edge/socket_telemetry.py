"""Metrics of the sockets on the public port, and the log lines of handshakes and connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Registry, metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.connection import Connection
    from tidewire.edge.gate import Gate, TransportMetrics
    from tidewire.edge.transport import WebSocketTransport

STANDARD_CODES = range(1000, 1016)
"""Close codes of RFC 6455; a client may send any up to 4999, and must not choose our label values."""
MAX_ORIGIN = 256
TLS_USUAL = frozenset({"ok", "closed", "timeout", "gone"})
PROXY_REFUSED = frozenset({"untrusted", "malformed"})


class SocketTelemetry:
    """Implements gate.TransportMetrics, and writes the one log line of each connection."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._monotonic = monotonic
        self._seldom = Seldom(monotonic)
        self._handshakes = Counter(
            "tidewire_handshakes",
            "Requests to the WebSocket path by outcome: accepted, or why not (origin, token_in_url, broker_away, "
            "connection_limit, address_limit, connection_rate, overload, gone: the client was away before its turn, timeout, "
            "head_too_large, bad_request, bad_upgrade; not_found: another path; before any request: sockets, address_sockets).",
            ["outcome"],
        )
        self._tls = Counter(
            "tidewire_tls_handshakes",
            "TLS handshakes that had begun on the public port by outcome: ok, closed (by the client), timeout, gone (the "
            "client was away before its turn), overload (its turn came too late), or why not (http: no TLS, version, cipher, "
            "client_certificate, rejected: by an alert of the client, malformed); broken: after an ok, a record that cannot "
            "be read.",
            ["outcome"],
        )
        self._proxy_headers = Counter(
            "tidewire_proxy_headers",
            "PROXY headers on the public port by outcome: used, local (the proxy's own connection), or why the socket was "
            "closed (untrusted, malformed, incomplete).",
            ["outcome"],
        )
        self._forwarded = Counter(
            "tidewire_forwarded_addresses",
            "Requests to the WebSocket path whose http.client_address_header was used, ignored (not from one of "
            "http.trusted_proxies) or malformed (an entry that is no address: the nearest one that is counts).",
            ["outcome"],
        )
        self._closed = Counter(
            "tidewire_connections_closed",
            "Accepted connections that ended, by close code (3xxx: the edge's own, see the protocol table; 1000 and 1001: "
            "the client went; 1006: the network; other: a code of the client's own).",
            ["code"],
        )
        self._turns_over = Counter(
            "tidewire_turns_over",
            "Turns of the loop in which more had come than it works off (2 ms for handshakes, 2 ms for connections that sent over 4 KiB): a flood, or an overloaded edge.",
        )
        self._bytes_in = Counter("tidewire_received_bytes", "Bytes read from WebSocket connections.")
        self._bytes_out = Counter("tidewire_sent_bytes", "Bytes written to WebSocket connections.")

    def register(self, registry: Registry, gate: Gate) -> None:
        """Expose everything, with gauges read from the live parts."""
        registry.add(metrics_of(self))
        registry.add(
            [
                Gauge(
                    "tidewire_sockets",
                    "Sockets on the public port, handshakes included.",
                    lambda: float(gate.sockets),
                ),
                Gauge(
                    "tidewire_handshakes_waiting",
                    "TLS handshakes, and requests to the WebSocket path, that wait for their turn. For long above 0: more come than are "
                    "taken in.",
                    lambda: float(len(gate.handshakes)),
                ),
                Gauge(
                    "tidewire_connection_limit",
                    "client.connection_limit, or less where the open-file limit allows no more.",
                    lambda: float(gate.limits.connections),
                ),
                Gauge(
                    "tidewire_client_addresses",
                    "Addresses that have a socket on the public port (of IPv6: /64 networks); several workers may have the same.",
                    lambda: float(len(gate.shedder.addresses)),
                ),
                Gauge(
                    "tidewire_event_loop_lag_median_seconds",
                    "The median of the last nine ticks' lag: above client.max_loop_lag handshakes are refused.",
                    lambda: gate.shedder.lag.seconds,
                    merge=Merge.MAX,
                ),
                Gauge(
                    "tidewire_pending_bytes",
                    "Bytes that wait for slow connections.",
                    lambda: float(sum(transport.pending for transport in gate.transports)),
                ),
            ]
        )

    def handshake(self, outcome: str) -> None:
        """See gate.TransportMetrics."""
        self._handshakes.inc(1, (outcome,))

    def refused(self, outcome: str, origin: str, peer: str) -> None:
        """See gate.TransportMetrics. One of a kind is logged in a minute: browsers hide the reason from a page.

        Balancers and scanners ask for other paths all day, which is no line.
        """
        if outcome != "not_found" and self._seldom.allows(outcome):
            self._log.warning("handshake.refused", outcome=outcome, origin=origin[:MAX_ORIGIN], peer=peer)

    def tls_handshake(self, outcome: str, peer: str) -> None:
        """See gate.TransportMetrics. One of a kind is logged in a minute, and none of what balancers do all day."""
        self._tls.inc(1, (outcome,))
        if outcome not in TLS_USUAL and self._seldom.allows(f"tls {outcome}"):
            self._log.warning("tls.failed", outcome=outcome, peer=peer)

    def proxy_header(self, outcome: str, peer: str) -> None:
        """See gate.TransportMetrics. One of a kind is logged in a minute."""
        self._proxy_headers.inc(1, (outcome,))
        if outcome in PROXY_REFUSED and self._seldom.allows(f"proxy {outcome}"):
            self._log.warning("proxy.refused", outcome=outcome, peer=peer)

    def forwarded(self, outcome: str, peer: str) -> None:
        """See gate.TransportMetrics. One of a kind is logged in a minute: a stranger's, or a proxy that is not listed."""
        if outcome == "absent":
            return
        self._forwarded.inc(1, (outcome,))
        if outcome != "used" and self._seldom.allows(f"forwarded {outcome}"):
            self._log.warning("proxy.address_not_used", outcome=outcome, peer=peer)

    def turn_over(self) -> None:
        """See gate.TransportMetrics."""
        self._turns_over.inc()

    def bytes_in(self, count: int) -> None:
        """See gate.TransportMetrics."""
        self._bytes_in.inc(count)

    def bytes_out(self, count: int) -> None:
        """See gate.TransportMetrics."""
        self._bytes_out.inc(count)

    def ended(self, connection: Connection, transport: WebSocketTransport) -> None:
        """See gate.TransportMetrics: count, and write the canonical line of the connection."""
        session, ours = connection.session, connection.disconnect
        code = ours.code if ours is not None else transport.close_code
        self._closed.inc(1, (str(code) if ours is not None or code in STANDARD_CODES else "other",))
        self._log.info(
            "connection.closed",
            client=session.party.client,
            user=session.party.user,
            jti=session.party.token_id,
            sdk=session.party.name,
            format=transport.framing.codec.name,
            compression=transport.framing.compression,
            peer=transport.peer,
            tls=transport.tls_version,
            seconds=round(self._monotonic() - connection.opened_at, 3),
            code=code,
            reason=ours.reason if ours is not None else "",
            detail=session.party.detail,
            closed_by="edge" if ours is not None else "peer",
            commands=connection.commands,
            throttled=session.throttled,
            bytes_in=transport.bytes_in,
            bytes_out=transport.bytes_out,
        )


if TYPE_CHECKING:
    _: type[TransportMetrics] = SocketTelemetry
