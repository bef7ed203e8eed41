from __future__ import annotations

import re
import time

import pytest

from tidewire.kernel.http_grammar import TOKEN, list_of

LIST = re.compile(list_of(TOKEN))
SIZE = 16_384


@pytest.mark.parametrize("text", ["a", "a,b", "a , b", "a,\tb", ",a", ", ,a,, b ,", "!#$%&'*+.^_`|~-09azAZ"])
def test_lists(text: str) -> None:
    """Empty elements are ignored (RFC 9110, section 5.6.1)."""
    assert LIST.fullmatch(text)


@pytest.mark.parametrize(
    "text", ["", ",", " , ", "a b", "a;b", '"a"', "a, b c", "a\x00", "a,\r\nb", "ä", "a/b", "a="]
)
def test_what_is_no_list_of_tokens(text: str) -> None:
    """Nor is one without an element."""
    assert not LIST.fullmatch(text)


@pytest.mark.parametrize("piece", ["a", ",", " ", "a,", ", ", "a ", " ,a\t,", "\t"])
def test_time_grows_with_the_size_only(piece: str) -> None:
    """A list that fails in its last byte; were each byte tried from each other, this would take seconds."""
    began = time.process_time()
    assert not LIST.fullmatch(piece * (SIZE // len(piece)) + "\x00")
    assert time.process_time() - began < 0.1
