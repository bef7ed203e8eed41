"""`tidewire history`: one process of the history service."""

from __future__ import annotations

from pathlib import Path

import click

from tidewire.cli.options import config_option
from tidewire.cli.service import launcher


@click.command("history")
@config_option
def command(config_file: Path | None) -> None:
    """Run one history process: gRPC for the edges, probes and metrics on the internal port, JetStream behind both.

    Several serve the same channels, or each a share of the partitions (history_service.partitions). Its section of the
    configuration is `history_service`; nats, storage, channel, log and tracing are those of the edges.

    SIGTERM and Ctrl-C drain it: not serving for rpc.drain_delay, then its calls end. SIGHUP reads the configuration again.
    Exit codes: 0 after a drain, 70 after one that a mistake in Tidewire began, 78 for a configuration error,
    69 where NATS, a stream or a port cannot be had.

    \b
    Examples:
      tidewire history -c tidewire.yaml
      TIDEWIRE_HISTORY_SERVICE_RPC_PORT=9445 tidewire history -c tidewire.yaml
    """
    from tidewire.history.config import HistoryConfig

    launch = launcher(HistoryConfig, config_file)

    from tidewire.history.app import History

    launch(History)
