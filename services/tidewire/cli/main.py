"""The console script `tidewire`: a table of subcommands, each imported only when it is invoked."""

from __future__ import annotations

import importlib
from typing import Final, NamedTuple

import click

from tidewire import __version__


class Entry(NamedTuple):
    """Where a subcommand is (`module:attribute`), and its line in `tidewire --help`."""

    target: str
    help: str


COMMANDS: Final = {
    "dev": Entry("tidewire.cli.dev:command", "Run a whole mesh on this machine: NATS, two edges, services."),
    "edge": Entry("tidewire.cli.edge:command", "Run one edge: clients on one side, NATS on the other."),
    "history": Entry(
        "tidewire.cli.history:command", "Run one history process: what channels with history have kept."
    ),
    "presence": Entry(
        "tidewire.cli.presence:command", "Run one presence process: who is in channels and online."
    ),
    "ratelimit": Entry(
        "tidewire.cli.ratelimit:command", "Run one rate-limit process: limits over all edges."
    ),
    "migrate": Entry(
        "tidewire.cli.migrate:command", "Make the streams of channels with history as configured."
    ),
    "check-config": Entry(
        "tidewire.cli.check_config:command", "Check a configuration and name every problem."
    ),
    "doctor": Entry("tidewire.cli.doctor:command", "Check machine, NATS, keys and ports before production."),
    "token": Entry("tidewire.cli.token:command", "Print a connection or subscription token."),
    "nats-config": Entry(
        "tidewire.cli.nats_config:command", "Print a configuration for your own NATS server."
    ),
    "version": Entry("tidewire.cli.version:command", "Print the version."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and help, so that listing or running one imports no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import the command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`tidewire COMMAND --help` explains one command. A configuration error exits with 78.",
)
@click.version_option(__version__, message="tidewire %(version)s")
def main() -> None:
    """Tidewire: a realtime messaging mesh on NATS.

    Clients connect by WebSocket to any edge, and what one publishes every subscriber receives, across edges, through
    NATS.

    \b
    Try it:
      tidewire dev                      start a mesh on this machine
      tidewire token --user alice       a token to connect with
    """
