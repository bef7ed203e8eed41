from __future__ import annotations

from tidewire.platform.metrics import Registry
from tidewire.platform.rpc_telemetry import RpcClientMetrics, RpcServerMetrics


class Link:
    """A client to read."""

    def __init__(self, target: str, state: str, ends: float | None) -> None:
        self.target = target
        self.in_flight = 3
        self.state = state
        self.certificate_ends = ends


def test_a_process_that_serves_and_calls() -> None:
    """Both sides in one registry, each client under its target."""
    serving, calling, registry = RpcServerMetrics(), RpcClientMetrics(), Registry()
    registry.add([*serving.all(), *calling.all()])
    serving.ended("/a.B/C", "OK", 0.003)
    serving.certificate_ends = 5.0
    calling.ended("/a.B/C", "UNAVAILABLE", 0.003)
    calling.clients += [Link("dns:///a:1", "ready", 7.0), Link("dns:///b:1", "idle", None)]
    lines = registry.exposition().decode().splitlines()
    for line in (
        'tidewire_rpc_server_handled_total{code="OK",method="/a.B/C"} 1.0',
        'tidewire_rpc_server_duration_seconds_count{method="/a.B/C"} 1.0',
        "tidewire_rpc_server_in_flight 0.0",
        "tidewire_rpc_server_certificate_expiry_timestamp_seconds 5.0",
        'tidewire_rpc_client_calls_total{code="UNAVAILABLE",method="/a.B/C"} 1.0',
        'tidewire_rpc_client_in_flight{target="dns:///b:1"} 3.0',
        'tidewire_rpc_client_state{state="ready",target="dns:///a:1"} 1.0',
        'tidewire_rpc_client_state{state="idle",target="dns:///a:1"} 0.0',
        'tidewire_rpc_client_state{state="idle",target="dns:///b:1"} 1.0',
        'tidewire_rpc_client_certificate_expiry_timestamp_seconds{target="dns:///a:1"} 7.0',
    ):
        assert line in lines
    assert len([line for line in lines if line.startswith("tidewire_rpc_client_certificate_")]) == 1


def test_without_tls_no_certificate_ends() -> None:
    """A date of 1970, or of never, would be an alert or none."""
    registry = Registry()
    registry.add([*RpcServerMetrics().all(), *RpcClientMetrics().all()])
    assert b"expiry_timestamp_seconds{" not in registry.exposition()
    assert b"\ntidewire_rpc_server_certificate_expiry_timestamp_seconds " not in registry.exposition()
