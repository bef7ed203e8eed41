"""What several subcommands share: the option `--config`, and how a configuration error ends the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final, TypeVar

import click

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import ConfigError, Problem, Section
from tidewire.kernel.config_share import share
from tidewire.platform.cpus import usable_cpus
from tidewire.platform.settings import CONFIG_VARIABLE, load

EX_CONFIG: Final = 78
"""Exit code of a configuration error (sysexits.h)."""

DEFAULT_FILE: Final = Path("tidewire.yaml")
NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Section)


class ConfigFailure(click.ClickException):
    """Ends the command with exit code 78 and one line per problem on standard error."""

    exit_code = EX_CONFIG

    def __init__(self, error: ConfigError) -> None:
        """Report the problems of `error`."""
        super().__init__(str(error))
        self.problems = error.problems

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the lines."""
        for problem in self.problems:
            click.echo(str(problem), file=file, err=file is None)


def config_option(function: F) -> F:
    """Add `--config/-c`; the command gets `config_file`: a Path, or None for defaults and environment alone."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=lambda _context, _parameter, value: value or default_file(),
        help=f"Configuration file (YAML).  [default: ${CONFIG_VARIABLE}, else {DEFAULT_FILE} if it exists]",
    )(function)


def default_file() -> Path | None:
    """The configuration file when none is named on the command line."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_config(config_file: Path | None, options: Mapping[str, str] = NO_OPTIONS) -> EdgeConfig:
    """The checked configuration, whose limits its workers can divide. Raises ConfigError with every problem.

    `options` are variables that override the environment's: what the command line says of settings.
    """
    config = load(EdgeConfig, config_file, {**os.environ, **options})
    share(config, 0, worker_count(config))
    return config


def worker_count(config: EdgeConfig) -> int:
    """How many workers a configuration asks for on this machine."""
    return config.workers or usable_cpus()


def load_config(config_file: Path | None, options: Mapping[str, str] = NO_OPTIONS) -> EdgeConfig:
    """The checked configuration, for the start of a command. Raises ConfigFailure with every problem."""
    try:
        return read_config(config_file, options)
    except ConfigError as error:
        raise ConfigFailure(error) from None


def load_section(config_type: type[S], config_file: Path | None) -> S:
    """The checked configuration of another process than an edge. Raises ConfigFailure with every problem."""
    try:
        return load(config_type, config_file, os.environ)
    except ConfigError as error:
        raise ConfigFailure(error) from None


def config_failure(path: str, message: str) -> ConfigFailure:
    """The exception to raise for one more problem that a command found."""
    return ConfigFailure(ConfigError([Problem(path, message)]))
