from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.platform.nats_grammar import check_header, check_subject


@given(st.binary(max_size=20))
def test_subject_that_passes_is_one_word_of_one_line(subject: bytes) -> None:
    """As the server reads lines: it splits them at spaces and tabs, and knows no NUL in a subject."""
    alone = subject != b"" and b"\0" not in subject and subject.split() == [subject]
    if alone:
        check_subject(subject)
    else:
        with pytest.raises(ValueError, match="not empty and holds no white space"):
            check_subject(subject)


@pytest.mark.parametrize("char", [b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x0c", b"\0"])
@pytest.mark.parametrize("subject", [b"%ba", b"a%ba", b"a%b"])
def test_white_space_is_refused_wherever_it_stands(subject: bytes, char: bytes) -> None:
    """A line's end would begin a command of somebody else's."""
    with pytest.raises(ValueError, match="white space"):
        check_subject(subject % char)


@pytest.mark.parametrize("header", [b"", b"NATS/1.0\r\n", b"NATS/1.0\n\n", b"NATS/1.0\r\n\r\n "])
def test_header_block_without_an_end_is_refused(header: bytes) -> None:
    """The server would take the payload for a part of it."""
    with pytest.raises(ValueError, match="empty line"):
        check_header(header)
    check_header(b"NATS/1.0\r\nA: b\r\n\r\n")
