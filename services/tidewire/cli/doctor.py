"""`tidewire doctor`: is this machine, with this configuration and this NATS, ready for production?"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from tidewire.cli.options import config_option, load_config
from tidewire.doctor.findings import Finding, Level, worst

EX_UNAVAILABLE: Final = 69
EXIT_CODES: Final = {Level.OK: 0, Level.SKIP: 0, Level.WARN: 3, Level.FAIL: EX_UNAVAILABLE}
"""69 and 78 as of an edge; 3, as of `check-config --diff`: it works, and there is something to do."""
COLOURS: Final = {Level.OK: "green", Level.SKIP: "blue", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command("doctor")
@config_option
@click.option(
    "--connections",
    type=click.IntRange(1, 10_000_000),
    metavar="NUMBER",
    help="How many connections one edge shall have here.  [default: client.connection_limit]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
@click.pass_context
def command(
    context: click.Context, config_file: Path | None, connections: int | None, *, as_json: bool
) -> None:
    """Check what an edge needs of this machine, its NATS servers, keys, certificates and ports, and change nothing.

    One line for each check: ok, warn (works, but not in every weather), fail (an edge would not start, not carry the
    connections, or not be safe) or skip (could not be checked), and below it why, and what to do. Run it as the edges run:
    the same user, limits, container and environment.

    NATS is asked with the edge's own user. Rights are tried on subjects that nobody uses; a refused one is a line in
    nats-server's log. Every question has a timeout.

    Exit codes: 0 all good, 3 warnings, 69 something fails, 78 a configuration error.

    \b
    Examples:
      tidewire doctor -c tidewire.yaml
      tidewire doctor -c tidewire.yaml --connections 50000
      tidewire doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    from tidewire.doctor.advice import advise
    from tidewire.doctor.examination import examine

    config = load_config(config_file)
    wanted = connections or config.client.connection_limit
    findings = advise(asyncio.run(examine(config, config_file, os.environ)), wanted)
    click.echo(_json(findings, wanted) if as_json else _text(findings, wanted))
    context.exit(EXIT_CODES[worst(findings)])


def _json(findings: Sequence[Finding], connections: int) -> str:
    answer = {"connections": connections, "worst": worst(findings), "findings": findings}
    return json.dumps(msgspec.to_builtins(answer), indent=2, ensure_ascii=False)


def _text(findings: Sequence[Finding], connections: int) -> str:
    width = max(len(finding.check) for finding in findings)
    counts = [f"{sum(one.level is level for one in findings)} {level.value}" for level in Level]
    lines = [line for finding in findings for line in _lines(finding, width)]
    return "\n".join([*lines, f"{', '.join(counts)}, for {connections} connections of one edge"])


def _lines(finding: Finding, width: int) -> list[str]:
    level = click.style(f"{finding.level.value:4}", fg=COLOURS[finding.level])
    below = [f"why: {finding.why}"] if finding.why else []
    below += [f"do:  {step}" for step in finding.do]
    return [f"{level}  {finding.check:{width}}  {finding.found}", *(f"{'':8}{line}" for line in below)]
