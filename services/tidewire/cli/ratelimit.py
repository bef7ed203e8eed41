"""`tidewire ratelimit`: one process of the rate-limit service."""

from __future__ import annotations

from pathlib import Path

import click

from tidewire.cli.options import config_option
from tidewire.cli.service import launcher


@click.command("ratelimit")
@config_option
def command(config_file: Path | None) -> None:
    """Run one rate-limit process: gRPC for edges and for Envoy, probes and metrics on the internal port. It needs no NATS.

    Several share the keys: edges find them by rate_limits.replicas. Its section of the configuration is
    `rate_limit_service`; rate_limits, log and tracing are those of the edges.

    SIGTERM and Ctrl-C drain it: not serving for rpc.drain_delay, then its calls end. SIGHUP reads the configuration again.
    Exit codes: 0 after a drain, 70 after one that a mistake in Tidewire began, 78 for a configuration error,
    69 where a port cannot be had.

    \b
    Examples:
      tidewire ratelimit -c tidewire.yaml
      TIDEWIRE_RATE_LIMIT_SERVICE_RPC_PORT=9645 tidewire ratelimit -c tidewire.yaml
    """
    from tidewire.ratelimit.config import RateLimitConfig

    launch = launcher(RateLimitConfig, config_file)

    from tidewire.ratelimit.app import RateLimit

    launch(RateLimit)
