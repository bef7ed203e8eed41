"""`tidewire edge`: one edge process."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from tidewire.cli.options import config_option, load_config, read_config


@click.command("edge")
@config_option
def command(config_file: Path | None) -> None:
    """Run one edge: WebSocket clients on the public port, probes and metrics on the internal one, NATS behind both.

    SIGTERM and Ctrl-C drain it: not ready, still accepting for drain.delay, then every client is told to reconnect
    (3001) over drain.window. A second signal ends it at once. Exit codes: 0 after a drain, 78 for a configuration
    error, 69 where NATS or a port cannot be had.

    SIGHUP reads the configuration again, secret files included, and no client notices. One that is invalid, or changes
    what needs a restart, is refused as a whole; the log says why.

    \b
    Examples:
      tidewire edge -c tidewire.yaml
      TIDEWIRE_HTTP_PORT=8001 TIDEWIRE_HTTP_INTERNAL_PORT=9001 tidewire edge -c tidewire.yaml
    """
    from tidewire.platform import lifecycle, logs

    lifecycle.hold_reloads()
    config = load_config(config_file)

    from tidewire.edge.app import Edge

    log = logs.configure(config.log.level, config.log.format, service="edge")
    sys.exit(lifecycle.run(lambda: Edge(config, log, partial(read_config, config_file)), log))
