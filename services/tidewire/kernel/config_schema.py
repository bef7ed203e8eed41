"""The JSON Schema (draft 2020-12) of a configuration Struct, for editors and the Helm chart. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tidewire.kernel.config_fields import Kind, Setting, plain, settings_of
from tidewire.kernel.config_types import DURATION_PATTERN, Duration, Secret

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(config_type: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of the configuration file that `decode(config_type, ...)` takes.

    Unknown keys are refused, those of other processes in the same file may hold anything, a setting that does not
    work yet allows only its default, and a secret `x` may also be given as `x_file`. Rules between fields (`checks`)
    are not in it.
    """
    (root,), components = msgspec.json.schema_components(
        [config_type], schema_hook=_custom_type, ref_template="#/$defs/{name}"
    )
    structs = _structs(config_type, {})
    for name, component in components.items():
        _complete(component, settings_of(structs[name]))
        component["properties"] |= dict.fromkeys(getattr(structs[name], "others", ()), True)
    return {"$schema": _DIALECT, "title": "Tidewire configuration", **root, "$defs": components}


def _custom_type(wanted: type) -> dict[str, Any]:
    if wanted is Duration:
        return {"type": ["string", "number"], "pattern": DURATION_PATTERN, "minimum": 0}
    if wanted is Secret:
        return {"type": "string", "writeOnly": True}
    raise NotImplementedError


def _structs(
    struct: type[msgspec.Struct], found: dict[str, type[msgspec.Struct]]
) -> dict[str, type[msgspec.Struct]]:
    if found.get(struct.__name__, struct) is not struct:
        raise AssertionError(f"two configuration Structs are named {struct.__name__}")
    found[struct.__name__] = struct
    for setting in settings_of(struct):
        if setting.kind in (Kind.SECTION, Kind.SECTIONS):
            _structs(setting.base, found)
    return found


def _complete(component: dict[str, Any], settings: tuple[Setting, ...]) -> None:
    """Add to a Struct's schema what msgspec cannot know: our defaults, limits, `x_file` and "not yet"."""
    component["additionalProperties"] = False
    properties = component["properties"]
    for setting in settings:
        schema = properties[setting.name]
        if not setting.required and setting.kind not in (Kind.SECTION, Kind.SECRET):
            schema["default"] = plain(setting.default)
        if setting.base is Duration:
            _limit(schema, setting)
        if setting.not_yet is not None:
            schema["description"] = f"Not yet: {setting.not_yet}. {setting.description}"
            schema["const"] = plain(setting.default)
        if setting.kind is Kind.SECRET:
            properties[f"{setting.name}_file"] = {
                "type": "string",
                "description": f"Path of a file that holds `{setting.name}`, relative to this file.",
            }


def _limit(schema: dict[str, Any], setting: Setting) -> None:
    """Bound a duration that is written as a number; one written as text is bounded by the loader only."""
    keywords = {"at_least": "minimum", "at_most": "maximum", "below": "exclusiveMaximum"}
    for key, keyword in keywords.items():
        if (bound := setting.note(key)) is not None:
            schema[keyword] = float(Duration.parse(bound))
