"""`tidewire token`: signs one token as a backend would, with a configured key or a private key's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tidewire.cli.options import config_failure, config_option, load_config
from tidewire.edge.key_material import PUBLIC_ALGORITHMS, UnusableKey, read_private_pem
from tidewire.edge.policies.issuer import NoKeyError, SigningKey, TokenIssuer
from tidewire.kernel.config import Duration


class _Ttl(click.ParamType[Duration]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Json(click.ParamType[Any]):
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
@click.option("--kid", metavar="KID", help="Sign with this key of hmac_keys, or name the private key so.")
@click.option("--info", type=_Json(), help="JSON that other clients see with the client's publications.")
@click.option(
    "--caps",
    type=_Json(),
    help='Capabilities as JSON: the claim `caps`, or with --channel the claim `allow`, such as ["pub"].',
)
@click.option(
    "--private-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Sign with this private key (PEM), whose public half the edges trust.",
)
@click.option(
    "--algorithm",
    type=click.Choice(PUBLIC_ALGORITHMS),
    metavar="NAME",
    help="What the private key signs with, such as ES256; by default the first that fits it.",
)
def command(
    config_file: Path | None,
    user: str,
    channel: str | None,
    ttl: Duration,
    kid: str | None,
    info: object,
    caps: object,
    private_key: Path | None,
    algorithm: str | None,
) -> None:
    """Print one token (JWT), signed with the key of the configuration, and nothing else.

    A connection token by default, a subscription token with --channel. For trying things out and for tests: in
    production your backend signs tokens with the same key. Without a key it exits with 78.

    \b
    Examples:
      tidewire token --user alice
      tidewire token --user alice --channel '$chat:private' --ttl 1h
      tidewire token --user alice --private-key ec.pem --algorithm ES256 --kid 2030-01
      TOKEN=$(tidewire token -c tidewire.yaml --user alice --info '{"name":"Alice"}')
    """
    client = load_config(config_file).client
    key = _signing_key(private_key, algorithm, kid)
    try:
        if channel is None:
            more = {} if caps is None else {"caps": caps}
            click.echo(TokenIssuer(client.token, key=key).connection(user, ttl, info, kid, more))
        else:
            own = client.subscription_token.trusts_someone
            section = "client.subscription_token" if own else "client.token"
            issuer = TokenIssuer(client.subscription_token if own else client.token, section, key)
            more = {} if caps is None else {"allow": caps}
            click.echo(issuer.subscription(user, channel, ttl, info, kid, more))
    except NoKeyError as error:
        raise config_failure(error.setting, str(error)) from None


def _signing_key(file: Path | None, algorithm: str | None, kid: str | None) -> SigningKey | None:
    """Return the key in the file, None without one."""
    if file is None:
        if algorithm is not None:
            raise click.UsageError("--algorithm is for --private-key")
        return None
    try:
        material, fitting = read_private_pem(file.read_text())
    except (UnusableKey, OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="--private-key") from None
    if algorithm is not None and algorithm not in fitting:
        raise click.BadParameter(f"this key signs with {', '.join(fitting)}", param_hint="--algorithm")
    return SigningKey(material, algorithm or fitting[0], kid)
