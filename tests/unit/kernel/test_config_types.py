from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.config_types import Duration, Secret, Text, from_plain


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("25s", 25),
        ("500ms", 0.5),
        ("1m", 60),
        ("2h", 7200),
        ("1h30m", 5400),
        ("3.5s", 3.5),
        ("7", 7),
        (4, 4),
        (0.25, 0.25),
    ],
)
def test_durations_are_seconds(written: object, seconds: float) -> None:
    """Every notation stands for a number of seconds."""
    assert Duration.parse(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "5 s", "-1s", "1d", "5x", "25s\n", "nan", "1e3", -1, float("inf"), -0.5]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    """Negative, endless and malformed durations raise ValueError."""
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(written)


@pytest.mark.parametrize("value", [True, None, [1], {}])
def test_other_types_are_no_durations(value: object) -> None:
    """A boolean is not one second."""
    with pytest.raises(TypeError, match="expected a duration"):
        Duration.parse(value)


@pytest.mark.parametrize("text", ["0s", "500ms", "25s", "3.5s", "1m", "90s", "24h"])
def test_durations_show_as_they_are_written(text: str) -> None:
    """`str` gives the notation of the configuration file."""
    assert str(Duration.parse(text)) == text
    assert repr(Duration.parse(text)) == f"Duration('{text}')"


@given(st.integers(min_value=0, max_value=10**9))
def test_shown_durations_are_read_back_the_same(milliseconds: int) -> None:
    """Showing a duration of whole milliseconds loses nothing."""
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(str(duration)) == pytest.approx(duration, abs=1e-9)


def test_a_secret_never_shows_itself() -> None:
    """Only reveal() gives the text."""
    secret = Secret("hunter2")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}"]
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == "hunter2"
    assert not isinstance(secret, str)
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_and_hash_by_text() -> None:
    """Equal texts are equal secrets; a text is not a secret."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a") != "a"


def test_an_empty_secret_is_not_set() -> None:
    """The empty secret is false and shows that it is empty."""
    assert not Secret()
    assert repr(Secret()) == "Secret('')"
    assert Secret("x")


def test_text_knows_where_it_came_from() -> None:
    """A text from the environment is a str with its origin."""
    text = Text("8000", "TIDEWIRE_HTTP_PORT")
    assert text == "8000"
    assert text.origin == "TIDEWIRE_HTTP_PORT"


def test_a_secret_is_text_only() -> None:
    """A number in place of a secret is refused without showing it."""
    with pytest.raises(TypeError) as error:
        from_plain(Secret, 12345)
    assert "12345" not in str(error.value)


def test_only_our_types_are_built_from_plain_data() -> None:
    """Any other type is a mistake in a Struct."""
    with pytest.raises(NotImplementedError):
        from_plain(complex, "1")
