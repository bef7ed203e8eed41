"""`tidewire presence`: one process of the presence service."""

from __future__ import annotations

from pathlib import Path

import click

from tidewire.cli.options import config_option
from tidewire.cli.service import launcher


@click.command("presence")
@config_option
def command(config_file: Path | None) -> None:
    """Run one presence process: gRPC for the edges, probes and metrics on the internal port, what edges announce over NATS.

    Several serve the same channels and users, or each a share of the partitions (presence_service.partitions). Nothing is
    stored: a process that starts listens for presence_service.listening_time, has edges tell it all, and then answers. Its
    section of the configuration is `presence_service`; nats, channel, log and tracing are those of the edges.

    SIGTERM and Ctrl-C drain it: not serving for rpc.drain_delay, then its calls end. SIGHUP reads the configuration again.
    Exit codes: 0 after a drain, 70 after one that a mistake in Tidewire began, 78 for a configuration error,
    69 where NATS or a port cannot be had.

    \b
    Examples:
      tidewire presence -c tidewire.yaml
      TIDEWIRE_PRESENCE_SERVICE_RPC_PORT=9545 tidewire presence -c tidewire.yaml
    """
    from tidewire.presence.config import PresenceConfig

    launch = launcher(PresenceConfig, config_file)

    from tidewire.presence.app import Presence

    launch(Presence)
