"""structlog: JSON lines for machines, readable lines on a terminal, and no secret in either.

A JSON line begins with `timestamp` (UTC, ISO 8601), `level` and `event`, in this order; whatever else the event says
follows, `exception` with the whole stack. The readable line is the local time, level, event and `name=value` pairs.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

HIDDEN = "[hidden]"
_SECRET_WORDS = frozenset({"token", "password", "secret", "authorization", "cookie", "credentials"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_JWT = re.compile(r"eyJ[\w-]{8,}+(?:\.[\w-]*+){2,4}+", re.ASCII)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31"}
_FIRST = ("timestamp", "level", "event")
_NESTING = 8


class _Threshold:
    """Lets events of `level` and above through. A processor and not structlog's filtering logger, whose level is fixed."""

    def __init__(self) -> None:
        self.level = _LEVELS["info"]

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if _LEVELS.get(method, self.level) < self.level:
            raise structlog.DropEvent
        return event


_threshold = _Threshold()


def set_level(level: str) -> None:
    """Log events of `level` (debug, info, warning, error) and above from now on, whichever logger they come from."""
    _threshold.level = _LEVELS[level]


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what stands under the name of a secret (`token`, `Set-Cookie`, `hmac_secret_key`), in mappings too."""
    return {name: _without_secrets(name, value, _NESTING) for name, value in event.items()}


def hide_shapes(text: str) -> str:
    """Replace what has the shape of a secret wherever it stands: JSON Web Tokens, and passwords in URLs."""
    if "eyJ" in text:
        text = _JWT.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text) if "@" in text else text


def configure(level: str, form: str, *, stream: TextIO | None = None, **always: str) -> FilteringBoundLogger:
    """Set up structlog for the process and return a logger whose JSON lines all carry `always`.

    `form` is json, console, or auto: console on a terminal, JSON otherwise. Lines go to `stream`, standard error unless
    it is given. The standard library's loggers (asyncio, uvicorn, nats) come through at warning and above.
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    set_level(level)
    processors: list[Any] = [
        _threshold,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    if console:
        processors += [_ConsoleLine(colours=out.isatty())]
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _in_order,
            structlog.processors.JSONRenderer(),
        ]
    processors.append(_hide_in_line)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=True,
    )
    logger: FilteringBoundLogger = structlog.get_logger().bind(**({} if console else always))
    root = logging.getLogger()
    root.handlers[:] = [_Forward(logger)]
    root.setLevel(logging.WARNING)
    return logger


def _without_secrets(name: object, value: object, nesting: int) -> object:
    if isinstance(name, str) and _SECRET_WORDS.intersection(map(str.lower, _WORD.findall(name))):
        return HIDDEN
    if not nesting:
        return value
    if isinstance(value, Mapping):
        return {key: _without_secrets(key, inner, nesting - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets("", inner, nesting - 1) for inner in value]
    return value


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**{name: event.pop(name) for name in _FIRST}, **event}


def _hide_in_line(_logger: WrappedLogger, _method: str, line: str) -> str:
    return hide_shapes(line)


class _ConsoleLine:
    """Renders an event for people. What could move a terminal's cursor is written as an escape."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        level, name = event.pop("level"), str(event.pop("event"))
        stack = event.pop("exception", None)
        pairs = [f"{key}={_shown(value)}" for key, value in event.items()]
        time = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        head = [self._painted("2", time), self._painted(_COLOURS.get(level, "0"), f"{level:<7}")]
        line = " ".join([*head, self._painted("1", _printable(name)), *pairs])
        return line if stack is None else f"{line}\n{_printable(stack)}"

    def _painted(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _shown(value: object) -> str:
    """Return a value as it stands, quoted where it could not be told from its surroundings."""
    text = value if isinstance(value, str) else repr(value)
    plain = (
        text and text.isprintable() and (not isinstance(value, str) or not set(" \"'=").intersection(text))
    )
    return text if plain else repr(text)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


class _Lines:
    """Writes whole lines. One that cannot be written is lost, since logging must never fail what it tells about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg = log = _write


class _Forward(logging.Handler):
    """Hands a standard log record to structlog, as the event `library.log`."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, also one whose arguments do not fit its text."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's mistake in a log call must not become an error of ours
            message = str(record.msg)
        write = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        write("library.log", library=record.name, message=message, exc_info=record.exc_info)
