"""`tidewire check-config`: is this configuration good, and what could be in it?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from tidewire.cli.options import config_option, load_config


@click.command("check-config")
@config_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema (draft 2020-12) of the file and stop.")
@click.option("--reference", is_flag=True, help="Print the configuration reference (Markdown) and stop.")
def command(config_file: Path | None, *, schema: bool, reference: bool) -> None:
    """Check a configuration as `tidewire edge` would, without starting anything.

    Reads the file, the TIDEWIRE_* environment and the secret files. Prints `ok: FILE`; or every problem, one line each
    with the path of the setting, and exits with 78.

    \b
    Examples:
      tidewire check-config -c tidewire.yaml
      TIDEWIRE_HTTP_PORT=9999 tidewire check-config
      tidewire check-config --schema > tidewire.schema.json
    """
    if schema and reference:
        raise click.UsageError("give either --schema or --reference")
    if schema:
        click.echo(_schema())
    elif reference:
        click.echo(_reference(), nl=False)
    else:
        load_config(config_file)
        click.echo(f"ok: {config_file or 'defaults and environment (no file)'}")


def _schema() -> str:
    from tidewire.edge.config import EdgeConfig
    from tidewire.kernel.config_schema import json_schema

    return json.dumps(json_schema(EdgeConfig), indent=2, ensure_ascii=False)


def _reference() -> str:
    from tidewire.cli.config_reference import reference
    from tidewire.edge.config import EdgeConfig

    return reference(EdgeConfig)
