from __future__ import annotations

import pytest

from tidewire.kernel.config import ConfigError, Secret, decode
from tidewire.platform.tracing_options import TracingConfig, header_fields


def problems(**settings: object) -> list[str]:
    """What is wrong with these settings."""
    try:
        decode(TracingConfig, settings)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "endpoint",
    ["", "http://localhost:4318/v1/traces", "https://otlp.example/custom?x=1", "http://[::1]:4318/v1/traces"],
)
def test_endpoints(endpoint: str) -> None:
    """A whole URL, or none."""
    assert problems(endpoint=endpoint) == []


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("collector:4318", "expected http://host:port/path or https://host:port/path"),
        ("grpc://collector:4317/v1/traces", "expected http://host:port/path or https://host:port/path"),
        ("http:///v1/traces", "expected http://host:port/path or https://host:port/path"),
        ("http://host:99999/v1/traces", "expected http://host:port/path or https://host:port/path"),
        ("http://host:0/v1/traces", "expected http://host:port/path or https://host:port/path"),
        ("http://me:secret@host/v1/traces", "no user or password in a URL: use tracing.headers"),
        ("http://host:4318", "names no path: collectors listen at http://host:4318/v1/traces"),
        ("https://host/", "names no path: collectors listen at https://host/v1/traces"),
    ],
)
def test_endpoints_that_cannot_be_used(endpoint: str, problem: str) -> None:
    """Each with what to write instead."""
    assert problems(endpoint=endpoint) == [f"endpoint: {problem}"]


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_is_a_share(ratio: float) -> None:
    """From none to all."""
    assert problems(sample_ratio=0) == problems(sample_ratio=1) == []
    assert len(problems(sample_ratio=ratio)) == 1


def test_a_batch_fits_into_the_queue() -> None:
    """The queue is the larger."""
    assert problems(queue_size=8, batch_size=8) == []
    assert problems(queue_size=8, batch_size=9) == ["batch_size: is more than queue_size, which is 8"]


def test_headers_are_lines_and_problems_do_not_tell_them() -> None:
    """Values as they are; empty lines count nothing."""
    text = "Authorization: Bearer a:b=c \n\nX-Scope:one  two\r\n"
    assert problems(headers=text) == []
    assert header_fields(Secret(text)) == {"Authorization": "Bearer a:b=c", "X-Scope": "one  two"}
    assert header_fields(Secret()) == {}
    for line in ("hunter2", "hunter2 : x", "X:", ": hunter2", "X: hünter2", "X: hunter2\x00"):
        assert problems(headers=f"A: b\n{line}") == [
            "headers: line 2: expected Name: value, in visible ASCII"
        ]
