"""`tidewire version`."""

from __future__ import annotations

import platform

import click

from tidewire import __version__


@click.command("version")
def command() -> None:
    """Print the version of Tidewire and of the Python that runs it.

    \b
    Example:
      tidewire version
    """
    click.echo(f"tidewire {__version__} (Python {platform.python_version()})")
