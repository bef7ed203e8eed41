"""A log that a test can read."""

from __future__ import annotations

from typing import Any


class RecordingLog:
    """Keeps events with their level and fields."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: Any) -> None:
        self.lines.append(("error", event, fields))

    def exception(self, event: str, **fields: Any) -> None:
        self.lines.append(("exception", event, fields))

    def bind(self, **_fields: object) -> RecordingLog:
        """Stay as it is."""
        return self

    @property
    def events(self) -> list[str]:
        """Events in order."""
        return [event for _, event, _ in self.lines]
