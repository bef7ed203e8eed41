"""`tidewire token`: signs one token with a configured key, as a backend would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tidewire.cli.options import config_failure, config_option, load_config
from tidewire.edge.policies.issuer import NoKeyError, TokenIssuer
from tidewire.kernel.config import Duration


class _Ttl(click.ParamType[Duration]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Info(click.ParamType[Any]):
    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return json.loads(str(value))
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


@click.command("token")
@config_option
@click.option("--user", required=True, metavar="ID", help="The user id (`sub`).")
@click.option(
    "--channel", metavar="NAME", help="Make a subscription token for this channel, not a connection token."
)
@click.option(
    "--ttl", type=_Ttl(), default="24h", show_default=True, help="How long it is valid; 0 = without an end."
)
@click.option("--kid", metavar="KID", help="Sign with this key of client.token.hmac_keys.")
@click.option("--info", type=_Info(), help="JSON that other clients see in presence, join and leave.")
def command(
    config_file: Path | None, user: str, channel: str | None, ttl: Duration, kid: str | None, info: object
) -> None:
    """Print one token (JWT), signed with the key of the configuration, and nothing else.

    A connection token by default, a subscription token with --channel. For trying things out and for tests: in
    production your backend signs tokens with the same key. Without a key it exits with 78.

    \b
    Examples:
      tidewire token --user alice
      tidewire token --user alice --channel '$chat:private' --ttl 1h
      TOKEN=$(tidewire token -c tidewire.yaml --user alice --info '{"name":"Alice"}')
    """
    config = load_config(config_file)
    issuer = TokenIssuer(config.client.token)
    try:
        if channel is None:
            click.echo(issuer.connection(user, ttl, info, kid))
        else:
            click.echo(issuer.subscription(user, channel, ttl, info, kid))
    except NoKeyError as error:
        raise config_failure(error.setting, str(error)) from None
