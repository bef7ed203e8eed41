"""Settings of logs, the same for every process."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from tidewire.kernel.config import RESTART, Section


class LogConfig(Section, frozen=True, kw_only=True):
    """Logs, on standard error."""

    hints: ClassVar = {"file": "logs go to standard error"}
    reloadable = True

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level that is logged.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        Meta(
            description="`json`: one JSON object a line. `console`: for people. `auto`: `console` on a terminal, "
            "otherwise `json`.",
            extra=RESTART,
        ),
    ] = "auto"
