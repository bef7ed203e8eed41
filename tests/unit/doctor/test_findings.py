from __future__ import annotations

import pytest

from tidewire.doctor.findings import Level, certificate, fail, ok, rounded, size, skip, warn, worst


def test_the_worst_level_counts() -> None:
    """A check that could not be made is no warning."""
    steps = [ok("a", "x"), skip("b", "x"), warn("c", "x", "y", "z"), fail("d", "x", "y", "z")]
    assert worst([]) is Level.OK
    assert [worst(steps[: end + 1]) for end in range(4)] == list(Level)
    assert worst(reversed(steps)) is Level.FAIL


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (300 << 20, "300 MiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    """Three digits, in the largest unit that fits."""
    assert size(count) == text


@pytest.mark.parametrize(("number", "up"), [(1, 65_536), (65_536, 65_536), (65_537, 131_072)])
def test_tables_have_round_sizes(number: float, up: int) -> None:
    """Never less than is needed."""
    assert rounded(number) == up


def test_a_certificates_last_day_is_named() -> None:
    """In UTC, as certificates have it."""
    assert certificate("c", "f.pem", 2_000_000_000, 1_000_000_000).found == "f.pem: until 2033-05-18"
    assert certificate("c", "f.pem", 2_000_000_000, 2_000_000_001).found == "f.pem: expired on 2033-05-18"
    assert certificate("c", "f.pem", 2_000_000_000, 2_000_000_000 - 86_400).why == "1 days are left"
