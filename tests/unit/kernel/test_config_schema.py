from __future__ import annotations

from typing import Annotated

import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, field

from tidewire.kernel.config import Duration, Secret, Section, duration, secret
from tidewire.kernel.config_schema import json_schema


class Part(Section, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=2, description="Its name.")]


class Whole(Section, frozen=True, kw_only=True):
    others = frozenset({"neighbour"})

    port: Annotated[int, Meta(ge=1, le=9, description="A port.")] = 5
    pause: Annotated[Duration, Meta(description="A pause.", extra={"at_least": "1s", "below": "4s"})] = (
        duration("2s")
    )
    key: Annotated[Secret, Meta(description="A key.")] = secret()
    later: Annotated[bool, Meta(description="A wish.", extra={"not_yet": "it comes later"})] = False
    part: Annotated[Part, Meta(description="A part.")] = field(default_factory=lambda: Part(name="xx"))
    parts: tuple[Part, ...] = ()


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    """A validator of the schema, which is itself valid."""
    schema = json_schema(Whole)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"port": 9, "pause": "3s", "key": "k", "part": {"name": "ab"}, "parts": [{"name": "cd"}]},
        {"pause": 3.5, "later": False},
        {"key_file": "some/file"},
        {"neighbour": {"port": "x"}},
    ],
)
def test_what_the_loader_takes_is_valid(validator: Draft202012Validator, good: object) -> None:
    """Defaults, durations in both notations, and secrets from files pass."""
    assert validator.is_valid(good)


@pytest.mark.parametrize(
    "bad",
    [
        {"prt": 1},
        {"part": {"name": "ab", "x": 1}},
        {"parts": [{}]},
        {"port": 0},
        {"port": "5"},
        {"pause": "2x"},
        {"pause": 4},
        {"pause": 0.5},
        {"pause": True},
        {"key": 5},
        {"later": True},
        {"port_file": "x"},
    ],
)
def test_what_the_loader_refuses_is_invalid(validator: Draft202012Validator, bad: object) -> None:
    """Unknown keys, limits, types and settings that do not work yet are in the schema."""
    assert not validator.is_valid(bad)


def test_the_schema_documents_settings() -> None:
    """Descriptions and defaults are there for editors; a secret has neither default nor example."""
    schema = json_schema(Whole)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    properties = schema["$defs"]["Whole"]["properties"]
    assert properties["port"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 5,
        "description": "A port.",
    }
    assert properties["pause"]["default"] == "2s"
    assert properties["later"]["description"] == "Not yet: it comes later. A wish."
    assert "default" not in properties["key"]


def test_two_structs_of_one_name_are_a_mistake() -> None:
    """Their schemas would be mixed up."""

    class Part(Section, frozen=True, kw_only=True):
        other: int = 0

    class Both(Section, frozen=True, kw_only=True):
        a: Whole = field(default_factory=Whole)
        b: Part = field(default_factory=Part)

    Both.__annotations__ = {"a": Whole, "b": Part}
    with pytest.raises(AssertionError, match="two configuration Structs are named Part"):
        json_schema(Both)
