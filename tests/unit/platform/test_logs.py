from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tidewire.platform import logs
from tidewire.platform.logs import HIDDEN, hide_secrets, hide_shapes

TOKEN = jwt.encode({"sub": "alice", "exp": 2_000_000_000}, "a key for tests only, 32 bytes long", "HS256")
NAMES = ["token", "Token", "password", "secret", "cookie", "Set-Cookie", "authorization", "Authorization"]
LONG_NAMES = [
    "access_token",
    "hmac_secret_key",
    "nats-password",
    "credentials_file",
    "refreshToken",
    "API_TOKEN",
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What `configure` changes belongs to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    """Where the lines go."""
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Each line is a JSON object."""
    *whole, rest = stream.getvalue().split("\n")
    assert rest == ""
    return [json.loads(line) for line in whole]


def fail(message: str) -> None:
    """Raise what the tests log."""
    raise ValueError(message)


# JSON lines.


def test_line_begins_with_time_level_and_event(stream: io.StringIO) -> None:
    """In this order, then what is always said, what is bound, and the event's own fields."""
    log = logs.configure("info", "json", stream=stream, service="edge").bind(node="edge-1")
    log.warning("nats.away", error="x", port=1, level="mine")
    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "service", "node", "error", "port"]
    assert (line["level"], line["event"], line["service"], line["node"]) == (
        "warning",
        "nats.away",
        "edge",
        "edge-1",
    )
    told = datetime.fromisoformat(line["timestamp"])
    assert told.utcoffset() == timedelta(0)
    assert abs(told.timestamp() - datetime.now().astimezone().timestamp()) < 60


def test_what_json_cannot_say_is_written_as_it_is_represented(stream: io.StringIO) -> None:
    """Nothing that is logged makes logging fail."""
    logs.configure("info", "json", stream=stream).info(
        "x", raw=b"\xff", error=ValueError("no"), nested={"a": (1, {2})}, text='line\n"\x1b[2J\ud800'
    )
    (line,) = lines(stream)
    assert line["raw"] == repr(b"\xff")
    assert line["error"] == "ValueError('no')"
    assert line["nested"] == {"a": [1, "{2}"]}
    assert line["text"] == 'line\n"\x1b[2J\ud800'


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text() | st.binary() | st.floats() | st.none()
    )
)
def test_any_fields_are_one_line(fields: dict[str, Any]) -> None:
    """Line ends in values never break a line, in both forms."""
    fields = {name: value for name, value in fields.items() if name not in {"event", "exception", "stack"}}
    for form in ("json", "console"):
        stream = io.StringIO()
        logs.configure("info", form, stream=stream).info(
            "x", **{f"f_{name}": fields[name] for name in fields}
        )
        assert stream.getvalue().count("\n") == 1


def test_exception_is_one_field_with_its_stack(stream: io.StringIO) -> None:
    """So that a line stays a line."""
    log = logs.configure("info", "json", stream=stream)
    try:
        fail("what happened")
    except ValueError:
        log.exception("x")
    (line,) = lines(stream)
    assert (line["level"], list(line)[-1]) == ("error", "exception")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: what happened")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_not_written(stream: io.StringIO, level: str, expected: list[str]) -> None:
    """Those of libraries neither."""
    log = logs.configure(level, "json", stream=stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    logging.getLogger("library").warning("theirs")
    written = [line["level"] for line in lines(stream) if line["event"] == "x"]
    assert written == expected
    assert any(line["event"] == "library.log" for line in lines(stream)) is (level != "error")


def test_level_can_be_set_at_any_time(stream: io.StringIO) -> None:
    """For loggers that are in use already, and for those of libraries."""
    log = logs.configure("info", "json", stream=stream).bind(node="edge-1")
    log.debug("no")
    logs.set_level("debug")
    log.debug("yes")
    logs.set_level("error")
    log.warning("no")
    logging.getLogger("library").warning("no")
    try:
        fail("what happened")
    except ValueError:
        log.exception("failed")
    assert [line["event"] for line in lines(stream)] == ["yes", "failed"]


@pytest.mark.parametrize(
    ("form", "stream", "json_lines"),
    [
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
    ids=["auto on a terminal", "auto in a file", "json on a terminal", "console in a file"],
)
def test_form_follows_the_setting_and_the_terminal(form: str, stream: io.StringIO, json_lines: bool) -> None:
    """Auto is for people on a terminal and for machines elsewhere."""
    logs.configure("info", form, stream=stream).info("x")
    assert stream.getvalue().startswith("{") is json_lines


def test_standard_error_is_where_lines_go(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to what a command prints."""
    logs.configure("info", "auto").info("x")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "x"


class Broken(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    """`tidewire edge | head` must not end connections."""
    logs.configure("info", "json", stream=Broken()).info("x")
    closed = io.StringIO()
    log = logs.configure("info", "json", stream=closed)
    closed.close()
    log.info("x")


# Readable lines.


def test_readable_line_is_short_and_in_order() -> None:
    """Local time, level, event, fields; what is the same on every line of the process is left out."""
    stream = io.StringIO()
    log = logs.configure("info", "console", stream=stream, service="edge").bind(node="edge-1")
    log.info(
        "edge.ready", port=8000, nats=None, why="all is well", empty="", quote="it's", sum="a=b", ratio=0.5
    )
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} info    edge\.ready node=edge-1 port=8000 nats=None why='all is well' empty='' "
        r"""quote="it's" sum='a=b' ratio=0\.5\n""",
        stream.getvalue(),
    )


def test_readable_line_has_colours_on_a_terminal_only() -> None:
    """A file stays free of escapes."""
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        logs.configure("info", "console", stream=stream).error("x", a=1)
    assert "\x1b[31merror  \x1b[0m" in terminal.getvalue()
    assert "\x1b" not in file.getvalue()


def test_nobody_moves_the_readers_cursor() -> None:
    """Clients choose names and reasons: escapes, line ends and the like are shown, not sent."""
    stream = io.StringIO()
    log = logs.configure("info", "console", stream=stream)
    nasty = "a\x1b[2J\r\nb\x9b1m\u202e"
    try:
        fail(nasty)
    except ValueError:
        log.exception(nasty, sdk=nasty)
    shown = stream.getvalue()
    assert not set("\x1b\r\x9b\u202e").intersection(shown)
    assert repr(nasty) in shown
    assert r"ValueError: a\x1b[2J\r" in shown


def test_stack_follows_the_readable_line() -> None:
    """As Python shows it."""
    stream = io.StringIO()
    log = logs.configure("info", "console", stream=stream)
    try:
        fail("what happened")
    except ValueError:
        log.exception("x", a=1)
    first, second, *_, last = stream.getvalue().rstrip("\n").split("\n")
    assert first.endswith("x a=1")
    assert (second, last) == ("Traceback (most recent call last):", "ValueError: what happened")


# Secrets.


@pytest.mark.parametrize("name", [*NAMES, *LONG_NAMES])
def test_fields_named_like_secrets_are_hidden(name: str) -> None:
    """Whatever they hold, in mappings and lists too."""
    hidden = hide_secrets(None, "info", {name: "x", "a": {name: ["x"], "b": [{name: 1}]}, "n": 5})
    assert hidden == {name: HIDDEN, "a": {name: HIDDEN, "b": [{name: HIDDEN}]}, "n": 5}


@pytest.mark.parametrize("name", ["tokens", "key", "secretary", "user", "code", "event"])
def test_other_fields_are_not(name: str) -> None:
    """Only whole words count."""
    assert hide_secrets(None, "info", {name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TOKEN, HIDDEN),
        (f"a {TOKEN}, b", f"a {HIDDEN}, b"),
        (f"?token={TOKEN}&x", f"?token={HIDDEN}&x"),
        (f"x{TOKEN}{TOKEN}", f"x{HIDDEN}"),
        (f"Bearer {TOKEN}\n{TOKEN}", f"Bearer {HIDDEN}\n{HIDDEN}"),
        (TOKEN.rpartition(".")[0] + ".", HIDDEN),
        ("eyJhbGciOiJkaXIifQ..iv-iv.text.tag", HIDDEN),
        ("nats://app:s3cret@host:4222", f"nats://app:{HIDDEN}@host:4222"),
        ("nats://host:4222 a@b", "nats://host:4222 a@b"),
        (
            "eyJ is no token, nor is eyJhbGciOiJIUzI1NiJ9 alone",
            "eyJ is no token, nor is eyJhbGciOiJIUzI1NiJ9 alone",
        ),
        ("", ""),
    ],
)
def test_shapes_of_secrets_are_hidden(text: str, shown: str) -> None:
    """Wherever they stand: tokens, signed or encrypted, and passwords in URLs."""
    assert hide_shapes(text) == shown


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_token_is_ever_written(stream: io.StringIO, form: str) -> None:
    """Not in events, fields, objects, exceptions and their causes, nor through the standard library."""
    log = logs.configure("info", form, stream=stream, always=TOKEN).bind(bound=TOKEN)
    signature = TOKEN.rpartition(".")[2]
    try:
        try:
            fail(TOKEN)
        except ValueError as error:
            raise ValueError(f"for {TOKEN}") from error
    except ValueError as error:
        log.exception(
            TOKEN, text=f"a {TOKEN} b", deep=[{"x": (TOKEN, {TOKEN})}], raw=TOKEN.encode(), error=error
        )
        logging.getLogger("library").exception("with %s", TOKEN)
    logging.getLogger("library").error("with %d", TOKEN)
    assert len(stream.getvalue().split("\n")) > 3
    assert signature not in stream.getvalue()
    assert TOKEN.split(".")[1] not in stream.getvalue()
    assert HIDDEN in stream.getvalue()


# The standard library.


def test_records_of_libraries_come_through_from_warning_on(stream: io.StringIO) -> None:
    """As `library.log`, with the library's name; its chatter does not."""
    logs.configure("debug", "json", stream=stream, service="edge")
    library = logging.getLogger("some.library")
    library.debug("chatter")
    library.info("chatter")
    library.warning("look: %s", 1)
    library.critical("out")
    found = [(line["level"], line["library"], line["message"]) for line in lines(stream)]
    assert found == [("warning", "some.library", "look: 1"), ("error", "some.library", "out")]
    assert {line["event"] for line in lines(stream)} == {"library.log"}
    assert lines(stream)[0]["service"] == "edge"


def test_record_keeps_its_exception(stream: io.StringIO) -> None:
    """And one without stays without, even if the library asked for it."""
    logs.configure("info", "json", stream=stream)
    library = logging.getLogger("library")
    try:
        fail("theirs")
    except ValueError:
        library.exception("x")
    library.error("y", exc_info=True)
    first, second = lines(stream)
    assert first["exception"].endswith("ValueError: theirs")
    assert "exc_info" not in first
    assert "Traceback" not in str(second)


def test_wrong_call_of_a_library_is_still_a_line(stream: io.StringIO) -> None:
    """It must not raise where the library logs."""
    logs.configure("info", "json", stream=stream)
    logging.getLogger("library").error("%d things", "no")
    assert lines(stream)[0]["message"] == "%d things"


def test_configured_twice_writes_once(stream: io.StringIO) -> None:
    """The newest configuration holds."""
    logs.configure("info", "json", stream=io.StringIO())
    logs.configure("info", "json", stream=stream)
    logging.getLogger("library").error("x")
    assert len(lines(stream)) == 1


def test_line_is_one_write_however_long_it_is() -> None:
    """What several processes write into one file or pipe does not run into each other, as far as the system can do it."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer, os.fdopen(os.dup(writer.fileno()), "w") as stream:
        log = logs.configure("info", "json", stream=stream)
        log.info("short")
        log.info("long", text="x" * 50_000)
        assert [json.loads(reader.recv(100_000))["event"] for _ in range(2)] == ["short", "long"]
