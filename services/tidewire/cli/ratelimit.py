"""`tidewire ratelimit`: one process of the rate-limit service."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tidewire.cli.options import config_option, load_section


@click.command("ratelimit")
@config_option
def command(config_file: Path | None) -> None:
    """Run one rate-limit process: gRPC for edges and for Envoy, probes and metrics on the internal port. It needs no NATS.

    Several share the keys: edges find them by rate_limits.replicas. Its section of the configuration is
    `rate_limit_service`; rate_limits, log and tracing are those of the edges.

    SIGTERM and Ctrl-C drain it: not serving for rpc.drain_delay, then its calls end. SIGHUP reads the configuration again.
    Exit codes: 0 after a drain, 78 for a configuration error, 69 where a port cannot be had.

    \b
    Examples:
      tidewire ratelimit -c tidewire.yaml
      TIDEWIRE_RATE_LIMIT_SERVICE_RPC_PORT=9643 tidewire ratelimit -c tidewire.yaml
    """
    from tidewire.platform import lifecycle, logs
    from tidewire.platform.settings import load
    from tidewire.ratelimit.config import RateLimitConfig

    lifecycle.hold_reloads()

    def read() -> RateLimitConfig:
        return load(RateLimitConfig, config_file, os.environ)

    config = load_section(RateLimitConfig, config_file)

    from tidewire.ratelimit.app import RateLimitService

    log = logs.configure(config.log.level, config.log.format, service="ratelimit")
    sys.exit(lifecycle.run(lambda: RateLimitService(config, log, read), log))
