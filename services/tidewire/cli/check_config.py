"""`tidewire check-config`: is this configuration good, and what could be in it?"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from tidewire.cli.options import ConfigFailure, config_option, load_config, load_section, read_config
from tidewire.cli.rate_bounds import bounds
from tidewire.kernel.config import ConfigError, Problem
from tidewire.kernel.config_changes import changes

if TYPE_CHECKING:
    from tidewire.edge.config import EdgeConfig

S = TypeVar("S")

NEEDS_RESTART = 3
"""Exit code of `--diff` where a reload would be refused."""


@click.command("check-config")
@config_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema (draft 2020-12) of the file and stop.")
@click.option("--reference", is_flag=True, help="Print the configuration reference (Markdown) and stop.")
@click.option(
    "--diff",
    "running",
    type=click.Path(path_type=Path),
    metavar="RUNNING",
    help="Print what a reload would change where the file RUNNING is in force, and stop.",
)
@click.pass_context
def command(
    context: click.Context,
    config_file: Path | None,
    *,
    schema: bool,
    reference: bool,
    running: Path | None,
) -> None:
    """Check a configuration as `tidewire edge`, `history`, `presence` and `ratelimit` would, without starting.

    Reads the file, the TIDEWIRE_* environment and the secret files. Prints by how much each rate limit may be exceeded, and
    `ok: FILE`; or every problem, one line each
    with the path of the setting, and exits with 78. Certificates, ports and NATS are for `tidewire doctor` to check.

    With --diff, both files are checked and each setting that differs is one line, never with a secret. Exits with 0 where
    a reload takes it all, with 3 where something needs a restart.

    \b
    Examples:
      tidewire check-config -c tidewire.yaml
      TIDEWIRE_HTTP_PORT=9999 tidewire check-config
      tidewire check-config -c new.yaml --diff tidewire.yaml
      tidewire check-config --schema > tidewire.schema.json
    """
    if sum((schema, reference, running is not None)) > 1:
        raise click.UsageError("give one of --schema, --reference and --diff")
    if schema:
        click.echo(_schema())
    elif reference:
        click.echo(_reference(), nl=False)
    elif running is not None:
        context.exit(_diff(running, config_file))
    else:
        for line in bounds(_checked(config_file).rate_limits):
            click.echo(line)
        click.echo(f"ok: {config_file or 'defaults and environment (no file)'}")


def _checked(config_file: Path | None) -> EdgeConfig:
    """The configuration of an edge. Raises ConfigFailure with what is wrong for any process, once for each setting."""
    from tidewire.history.config import HistoryConfig
    from tidewire.presence.config import PresenceConfig
    from tidewire.ratelimit.config import RateLimitConfig

    problems: list[Problem] = []
    config = _read(partial(load_config, config_file), problems)
    for service in (HistoryConfig, PresenceConfig, RateLimitConfig):
        _read(partial(load_section, service, config_file), problems)
    if config is None or problems:
        raise ConfigFailure(ConfigError(problems))
    return config


def _read(read: Callable[[], S], problems: list[Problem]) -> S | None:
    told = {problem.path for problem in problems}
    try:
        return read()
    except ConfigFailure as failure:
        problems += [problem for problem in failure.problems if problem.path not in told]
        return None


def _diff(running: Path, config_file: Path | None) -> int:
    after = load_config(config_file)
    try:
        before = read_config(running)
    except ConfigError as error:
        named = [Problem(str(running), str(problem)) for problem in error.problems]
        raise ConfigFailure(ConfigError(named)) from None
    found = changes(before, after)
    for change in found:
        click.echo(f"{change} (needs a restart)" if change.restart else str(change))
    if not found:
        click.echo("no change")
    return NEEDS_RESTART if any(change.restart for change in found) else 0


def _schema() -> str:
    from tidewire.edge.config import EdgeConfig
    from tidewire.kernel.config_schema import json_schema

    return json.dumps(json_schema(EdgeConfig), indent=2, ensure_ascii=False)


def _reference() -> str:
    from tidewire.cli.config_reference import reference
    from tidewire.edge.config import EdgeConfig
    from tidewire.history.config import HistoryConfig
    from tidewire.presence.config import PresenceConfig
    from tidewire.ratelimit.config import RateLimitConfig

    return reference(EdgeConfig, HistoryConfig, PresenceConfig, RateLimitConfig)
