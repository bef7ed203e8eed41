from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from tidewire.kernel.publication_ids import Minter, keyed_id

SECRET = bytes.fromhex("5e" * 32)
text = st.text(max_size=5)


def test_minted_ids_never_come_again_and_share_nothing_that_helps_to_guess() -> None:
    """Over the pool's end, and over minters."""
    one, other = Minter(), Minter()
    made = [minter.mint() for minter in (one, other) for _ in range(2000)]
    assert all(re.fullmatch(b"[0-9a-f]{24}", each) for each in made)
    assert len(set(made)) == len({each[:12] for each in made}) == len({each[12:] for each in made}) == 4000


@given(first=st.tuples(text, text, text), second=st.tuples(text, text, text))
@example(first=("a", "bc", "d"), second=("ab", "c", "d"))
@example(first=("a", "b", "cd"), second=("a", "bc", "d"))
def test_a_key_stands_for_one_id_of_one_user_on_one_channel(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    """However channel, user and key are cut."""
    assert (keyed_id(SECRET, *first) == keyed_id(SECRET, *second)) == (first == second)


def test_ids_of_keys_need_the_secret() -> None:
    """And have no form in common with minted ones."""
    assert keyed_id(SECRET, "a", "b", "c") != keyed_id(b"", "a", "b", "c")
    assert re.fullmatch(b"[0-9a-f]{32}", keyed_id(SECRET, "\udc80", "b", "c"))
