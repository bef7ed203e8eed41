from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, field

from tidewire.cli.config_reference import reference
from tidewire.edge.config import EdgeConfig
from tidewire.history.config import HistoryConfig
from tidewire.kernel.config import RESTART, Duration, Secret, Section, duration, secret
from tidewire.kernel.config_fields import walk
from tidewire.platform.settings import variable
from tidewire.presence.config import PresenceConfig
from tidewire.ratelimit.config import RateLimitConfig


class Base(Section, frozen=True, kw_only=True):
    """The base options."""

    flag: Annotated[bool, Meta(description="A flag.", extra={"not_yet": "it comes later"})] = False


class Named(Base, frozen=True, kw_only=True):
    """A named one."""

    name: Annotated[str, Meta(max_length=9, description="Its name.")]


class Group(Section, frozen=True, kw_only=True):
    """All about the group."""

    pause: Annotated[Duration, Meta(description="A pause.", extra={"at_least": "1s"})] = duration("25s")
    key: Annotated[Secret, Meta(description="A key.")] = secret()
    plain: Annotated[Base, Meta(description="Plain.")] = field(default_factory=Base)
    named: Annotated[tuple[Named, ...], Meta(description="Some named ones.")] = ()


class Soft(Section, frozen=True, kw_only=True):
    """All that can change."""

    reloadable = True

    size: Annotated[int, Meta(description="A size.")] = 5
    form: Annotated[int, Meta(description="A form.", extra=RESTART)] = 5


class Top(Section, frozen=True, kw_only=True):
    """The top."""

    port: Annotated[int, Meta(ge=1, le=9, description="A port.")] = 5
    group: Annotated[Group, Meta(description="A group.")] = field(default_factory=Group)
    soft: Annotated[Soft, Meta(description="Changes.")] = field(default_factory=Soft)


@pytest.mark.parametrize(
    "text",
    [
        (
            "## General\n\n### `port`\n\nA port.\n\n"
            "Type: whole number; default: `5`; at least 1; at most 9; environment: `TIDEWIRE_PORT`; "
            "needs a restart.\n"
        ),
        (
            "## group\n\nAll about the group.\n\n### `group.pause`\n\nA pause.\n\n"
            "Type: duration; default: `25s`; at least 1s; environment: `TIDEWIRE_GROUP_PAUSE`; "
            "needs a restart.\n"
        ),
        "Type: secret; environment: `TIDEWIRE_GROUP_KEY`; `TIDEWIRE_GROUP_KEY_FILE`; needs a restart.\n",
        "### `group.plain.flag`\n\n**Not yet:** it comes later. A flag.\n",
        (
            "## group.named[]\n\nSome named ones.\n\n"
            "Type: list of groups; default: `[]`; environment: `TIDEWIRE_GROUP_NAMED`; needs a restart.\n\n### `group.named[].name`\n\n"
            "Its name.\n\nType: text; required; length at most 9; needs a restart.\n\n"
            "And every setting of [group.plain](#groupplain).\n"
        ),
        "default: `5`; environment: `TIDEWIRE_SOFT_SIZE`.\n",
        "default: `5`; environment: `TIDEWIRE_SOFT_FORM`; needs a restart.\n",
    ],
    ids=["value", "duration", "secret", "not yet", "list", "reloadable", "needs a restart"],
)
def test_each_setting_shows_what_a_reader_needs(text: str) -> None:
    """Description, type, default, limits and the environment's name; inherited settings are not repeated."""
    assert text in reference(Top)


def test_the_page_names_every_setting_of_every_process() -> None:
    """With its environment variable, and what they share once."""
    page = reference(EdgeConfig, HistoryConfig, PresenceConfig, RateLimitConfig)
    assert page.count("\n## nats\n") == 1
    for path, _ in [*walk(EdgeConfig), *walk(HistoryConfig), *walk(PresenceConfig), *walk(RateLimitConfig)]:
        assert f"`{variable(path)}`" in page


def test_the_committed_page_is_the_generated_one() -> None:
    """`tidewire check-config --reference > docs/configuration.md` after a change of the Structs."""
    committed = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert committed.read_text() == reference(EdgeConfig, HistoryConfig, PresenceConfig, RateLimitConfig)
