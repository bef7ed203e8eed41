"""`tidewire edge`: one edge, or several on one port."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from tidewire.cli.options import config_option, load_config, read_config, worker_count
from tidewire.platform.settings import variable


@click.command("edge")
@config_option
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    metavar="N",
    help="Edge processes on the public port; 0 = one for each processor.  [default: the setting `workers`, else 1]",
)
def command(config_file: Path | None, workers: int | None) -> None:
    """Run one edge: WebSocket clients on the public port, probes and metrics on the internal one, NATS behind both.

    SIGTERM and Ctrl-C drain it: not ready, still accepting for drain.delay, then every client is told to reconnect
    (3001) over drain.window. A second signal ends it at once. Exit codes: 0 after a drain, 78 for a configuration
    error, 69 where NATS, a port or the certificate cannot be had.

    SIGHUP reads the configuration again, secret files and the certificate included, and no client notices. One that is invalid, or changes
    what needs a restart, is refused as a whole; the log says why.

    With --workers, N edges share the public port and the configuration's limits (Linux only). Signals to the first process
    reach all of them, it starts again those that end, and one internal port answers for all.

    \b
    Examples:
      tidewire edge -c tidewire.yaml
      tidewire edge -c tidewire.yaml --workers 0
      TIDEWIRE_HTTP_PORT=8001 TIDEWIRE_HTTP_INTERNAL_PORT=9001 tidewire edge -c tidewire.yaml
    """
    from tidewire.platform import lifecycle, logs

    lifecycle.hold_reloads()
    options = {} if workers is None else {variable(("workers",)): str(workers)}
    load = partial(read_config, config_file, options)
    config = load_config(config_file, options)

    from tidewire.cli.edge_workers import run_workers
    from tidewire.edge.app import Edge

    log = logs.configure(config.log.level, config.log.format, service="edge")
    if worker_count(config) == 1:
        sys.exit(lifecycle.run(lambda: Edge(config, log, load), log))
    sys.exit(run_workers(config, load))
