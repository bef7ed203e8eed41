"""`tidewire migrate`: makes the streams in the cluster as the configuration wants them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tidewire.cli.options import config_option, load_section
from tidewire.kernel.errors import TidewireError

if TYPE_CHECKING:
    from tidewire.storage.config import MigrateConfig
    from tidewire.storage.plan import Orders
    from tidewire.storage.steps import Step

EX_UNAVAILABLE: Final = 69
SOMETHING_TO_DO: Final = 3
"""Exit code of `--dry-run` where the cluster is not as configured; as of `check-config --diff`."""
REFUSED: Final = 1


class Unavailable(click.ClickException):
    """NATS, or a stream, cannot be had."""

    exit_code = EX_UNAVAILABLE


@click.command("migrate")
@config_option
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@click.option("--force", is_flag=True, help="Do also what throws stored publications away.")
@click.option(
    "--move",
    "moves",
    multiple=True,
    metavar="NAMESPACE",
    help="Let this namespace (_ : channels without one) give up what is stored of it to change its profile. May be repeated.",
)
@click.option(
    "--new-generation",
    is_flag=True,
    help="Say that streams hold another history than before: part of every restore. Clients do not recover across it.",
)
@click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="With --new-generation: only these profiles."
)
@click.option(
    "--settle",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    help="How long edges get to stop publishing to what moves. Shorter only where no edge runs.  [default: as they need]",
)
@click.pass_context
def command(
    context: click.Context,
    config_file: Path | None,
    moves: tuple[str, ...],
    profiles: tuple[str, ...],
    settle: float | None,
    *,
    dry_run: bool,
    force: bool,
    new_generation: bool,
) -> None:
    """Create and update the streams of all namespaces with history, and what all processes must agree on (TW_META).

    Prints the plan and carries it out. It may be run at any time, again, and after it was cut short: what is as it should
    be stays, and what was begun is finished. Publications and clients go on, but for a namespace that changes its profile:
    nobody can publish to it for about a minute.

    Its NATS user needs the rights of `tidewire nats-config --migrate-user`; of the configuration it reads nats, channel
    and storage alone.

    Exit codes: 0 done, or nothing to do; 1 refused, since it would lose what is stored or JetStream cannot do it; 3 with
    --dry-run, there is something to do; 69 NATS or JetStream (which only history needs) does not answer, or cannot do it; 78 a
    configuration error.

    \b
    Examples:
      tidewire migrate -c tidewire.yaml --dry-run
      TIDEWIRE_NATS_USER=migrate TIDEWIRE_NATS_PASSWORD=... tidewire migrate -c tidewire.yaml
      tidewire migrate --move chat
      tidewire migrate --new-generation
    """
    from tidewire.storage.config import MigrateConfig
    from tidewire.storage.migration import orders

    config = load_section(MigrateConfig, config_file)
    known = {profile.name for profile in config.storage.profiles}
    if profiles and not new_generation:
        raise click.UsageError("--profile goes with --new-generation")
    if unknown := set(profiles) - known:
        raise click.UsageError(f"--profile: there is no profile {min(unknown)!r} in storage.profiles")
    renewed = (profiles or known) if new_generation else ()
    given = orders(moves=moves, renewed=renewed, settle=settle)
    try:
        context.exit(asyncio.run(_migrate(config, given, dry_run=dry_run, force=force)))
    except TidewireError as error:
        raise Unavailable(str(error)) from error


async def _migrate(config: MigrateConfig, given: Orders, *, dry_run: bool, force: bool) -> int:
    from tidewire.storage.migration import connected, prepare
    from tidewire.storage.report import lines

    async with connected(config.nats) as js:
        migration = await prepare(js, config, given)
        plan = migration.plan
        for line in lines(plan.steps):
            click.echo(line)
        if against := plan.against(force=force):
            for line in against:
                click.echo(f"refused {line}", err=True)
            return REFUSED
        if not plan.work:
            click.echo("nothing to do")
            return 0
        if dry_run:
            return SOMETHING_TO_DO
        await migration.carry_out(js, _say_waits)
    click.echo("done")
    return 0


def _say_waits(step: Step) -> None:
    from tidewire.storage.steps import Settle

    if isinstance(step, Settle):
        click.echo(f"waiting {step.seconds:g} s")
