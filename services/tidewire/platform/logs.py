"""structlog: JSON lines for machines, readable lines on a terminal, and no secret in either."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

HIDDEN = "[hidden]"
_SECRET_NAMES = frozenset({"token", "password", "secret", "authorization", "cookie"})
_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*", re.ASCII)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace fields that are named like secrets, and anything shaped like a JSON Web Token."""
    for name, value in event.items():
        if name in _SECRET_NAMES:
            event[name] = HIDDEN
        elif isinstance(value, str) and "eyJ" in value:
            event[name] = _JWT.sub(HIDDEN, value)
    return event


def configure(level: str, form: str, **always: str) -> FilteringBoundLogger:
    """Set up structlog for the process and return a logger whose lines all carry `always`.

    `form` is json, console, or auto: console on a terminal, JSON otherwise. Lines go to standard error. The standard
    library's loggers (uvicorn, websockets, nats) come through at warning and above.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    if console:
        shared.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = structlog.get_logger().bind(**always)
    root = logging.getLogger()
    root.handlers[:] = [_Forward(logger)]
    root.setLevel(logging.WARNING)
    return logger


class _Forward(logging.Handler):
    """Hands a standard log record to structlog, as the event `library.log`."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        write = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        write("library.log", library=record.name, message=record.getMessage(), exc_info=record.exc_info)
