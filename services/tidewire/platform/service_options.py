"""Settings that the process of every service has."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Section
from tidewire.platform.log_options import LogConfig
from tidewire.platform.rpc_options import RpcConfig
from tidewire.platform.tracing_options import TracingConfig

InternalPort = Annotated[
    int,
    Meta(
        ge=0,
        le=65535,
        description="Port of the internal listener: `/live`, `/ready`, `/metrics`; 0 = any free port.",
        extra=RESTART,
    ),
]


class ServiceConfig(Section, frozen=True, kw_only=True):
    """A service's own section; each adds what else it takes."""

    reloadable = True

    node_name: Annotated[
        str,
        Meta(
            pattern="^[-a-zA-Z0-9_]*$",
            max_length=64,
            description="Name of this process in logs and traces, and at NATS if it is connected there. Empty: the host name "
            "and a random suffix.",
            extra={"hint": "a name holds letters, digits, - and _ only", **RESTART},
        ),
    ] = ""
    internal_address: Annotated[
        str,
        Meta(
            min_length=1, description="IP address of the internal listener (probes, metrics).", extra=RESTART
        ),
    ] = "127.0.0.1"
    internal_port: InternalPort = 9100
    rpc: Annotated[RpcConfig, Meta(description="The gRPC server that edges (and gateways) call.")] = field(
        default_factory=RpcConfig
    )


class ProcessConfig(Section, frozen=True, kw_only=True):
    """Everything that a service's process is told; each adds its own section, and what it shares with edges."""

    service: ClassVar[str]
    """What the service is called in logs."""
    section: ClassVar[str]
    """The name of its own section."""

    log: Annotated[LogConfig, Meta(description="Logs.")] = field(default_factory=LogConfig)
    tracing: Annotated[TracingConfig, Meta(description="Traces.")] = field(default_factory=TracingConfig)

    @property
    def own(self) -> ServiceConfig:
        """Its own section."""
        own: ServiceConfig = getattr(self, self.section)
        return own
