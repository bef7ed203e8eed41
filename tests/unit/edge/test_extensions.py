from __future__ import annotations

import time

import pytest

from tests.support.protocol import protocol
from tidewire.edge.extensions import Agreement, agree_on_deflate
from tidewire.edge.request_head import MAX_LINE

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@protocol("transport.deflate")
@pytest.mark.parametrize(
    ("offer", "answer", "window"),
    [
        ("permessage-deflate", "", 15),
        ("permessage-deflate; client_max_window_bits", "", 15),
        ("permessage-deflate; client_max_window_bits=10", "; client_max_window_bits=10", 15),
        ("permessage-deflate; client_max_window_bits=8", "; client_max_window_bits=8", 15),
        ("permessage-deflate; server_max_window_bits=15", "; server_max_window_bits=15", 15),
        ("permessage-deflate; server_max_window_bits=9", "; server_max_window_bits=9", 9),
        ('permessage-deflate; server_max_window_bits="9"', "; server_max_window_bits=9", 9),
        ('permessage-deflate ;server_max_window_bits = "\\1\\0" ,', "; server_max_window_bits=10", 10),
        (
            "permessage-deflate; client_max_window_bits=9; server_max_window_bits=10",
            "; server_max_window_bits=10; client_max_window_bits=9",
            10,
        ),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", "", 15),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "", 15),
        ("permessage-deflate; unknown=1, permessage-deflate; server_max_window_bits=11", "; server_max_window_bits=11", 11),
        ("permessage-deflate, permessage-deflate; server_max_window_bits=9", "", 15),
        ("x-else, permessage-deflate", "", 15),
    ],
)  # fmt: skip
def test_first_offer_that_can_be_kept_is_taken(offer: str, answer: str, window: int) -> None:
    """Neither side keeps a context, and our window is what the client takes."""
    assert agree_on_deflate([offer]) == Agreement(BOTH + answer, window)


@protocol("transport.deflate")
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; unknown",
        "Permessage-Deflate",
        "permessage-bzip",
    ],
)
def test_what_cannot_be_kept_is_declined(offer: str) -> None:
    """That is no error (RFC 7692, section 7.1)."""
    assert agree_on_deflate([offer]) is None


def test_offers_may_stand_in_several_fields() -> None:
    """Or in none."""
    assert agree_on_deflate(["x-else", "permessage-deflate"]) == Agreement(BOTH, 15)
    assert agree_on_deflate([]) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        ";",
        "a;",
        "a; =",
        "a; b=",
        'a; b="',
        'a; b=""',
        'a; b="c d"',
        'a; b="c\\"',
        "a b",
        "a; b c",
        "a=b",
        "\x80",
    ],
)
def test_what_is_no_list_of_extensions(value: str) -> None:
    """RFC 6455, section 9.1: also beside one that is."""
    for values in ([value], ["permessage-deflate", value]):
        with pytest.raises(ValueError, match="no list"):
            agree_on_deflate(values)


@pytest.mark.parametrize(
    "piece", ["a", "a;", "a,", " ", ";", ", ", "a; b=c;", '"', '\\"', "a ; ", 'a;b="\\c', "="]
)
def test_time_grows_with_the_size_only(piece: str) -> None:
    """Anyone may offer 8 KiB that fail in their last byte."""
    began = time.process_time()
    for begin in ("", "a; b=", 'a; b="'):
        with pytest.raises(ValueError, match="no list"):
            agree_on_deflate([begin + piece * (MAX_LINE // len(piece)) + "\x80"])
    assert time.process_time() - began < 0.1
