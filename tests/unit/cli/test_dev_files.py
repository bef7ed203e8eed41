from __future__ import annotations

import stat
from pathlib import Path

from tidewire.cli.dev_files import KEY_BYTES, create_token_keys, write_private


def test_missing_token_key_is_created(tmp_path: Path) -> None:
    """A new key is random, as long as HS256 wants it, and for its owner's eyes only."""
    files = [tmp_path / "a" / "token.key", tmp_path / "b" / "token.key"]
    create_token_keys(files)
    keys = [bytes.fromhex(file.read_text()) for file in files]
    assert keys[0] != keys[1]
    assert all(len(key) == KEY_BYTES for key in keys)
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_existing_token_key_stays(tmp_path: Path) -> None:
    """Tokens stay valid over a restart."""
    (tmp_path / "token.key").write_text("mine")
    create_token_keys([tmp_path / "token.key"])
    assert (tmp_path / "token.key").read_text() == "mine"


def test_other_secrets_are_not_invented(tmp_path: Path) -> None:
    """A made-up NATS password would only hide that one is missing."""
    create_token_keys([tmp_path / "nats.password"])
    assert list(tmp_path.iterdir()) == []


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    """Who reads it sees the old content or the new one, and no temporary file stays."""
    file = tmp_path / "dev.json"
    write_private(file, b"old")
    with file.open("rb") as reader:
        write_private(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]
