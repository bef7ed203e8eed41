from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, field

from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import PATH, ConfigError, Duration, Secret, Section, duration, secret
from tidewire.kernel.config_fields import Kind
from tidewire.platform.settings import load, secret_files, variables


class Key(Section, frozen=True, kw_only=True):
    kid: str
    secret: Secret = secret()


class Login(Section, frozen=True, kw_only=True):
    user_name: str = ""
    password: Secret = secret()
    keys: tuple[Key, ...] = ()
    ca_file: Annotated[str, Meta(extra=PATH)] = ""


class Example(Section, frozen=True, kw_only=True):
    number: int = 1
    flag: bool = False
    pause: Duration = duration("1s")
    words: tuple[str, ...] = ("a",)
    folder: Annotated[str, Meta(extra=PATH)] = "data"
    login: Login = field(default_factory=Login)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its configuration, in a folder of its own."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder / "example.yaml"


def problems(file: Path | None, environ: Mapping[str, str]) -> list[str]:
    """The lines that loading gives."""
    with pytest.raises(ConfigError) as error:
        load(Example, file, environ)
    return [str(problem) for problem in error.value.problems]


def test_defaults_need_no_file() -> None:
    """Neither file nor environment: the defaults."""
    assert load(Example, None, {"PATH": "/bin"}) == Example()


def test_the_environment_overrides_single_values(file: Path) -> None:
    """What it does not name stays as in the file."""
    file.write_text("number: 5\nflag: false\nlogin: {user_name: alice, password: old}\nwords: [x]\n")
    config = load(
        Example,
        file,
        {
            "TIDEWIRE_CONFIG": str(file),
            "TIDEWIRE_FLAG": "true",
            "TIDEWIRE_PAUSE": "250ms",
            "TIDEWIRE_WORDS": "one, two,three",
            "TIDEWIRE_LOGIN_PASSWORD": "new",
        },
    )
    assert config.number == 5
    assert config.flag is True
    assert config.pause == 0.25
    assert config.words == ("one", "two", "three")
    assert config.login.user_name == "alice"
    assert config.login.password == Secret("new")


def test_an_empty_variable_is_an_empty_value(file: Path) -> None:
    """Text and lists can be emptied from the environment."""
    file.write_text("words: [x]\nlogin: {user_name: alice}\n")
    config = load(Example, file, {"TIDEWIRE_WORDS": "", "TIDEWIRE_LOGIN_USER_NAME": ""})
    assert config.words == ()
    assert config.login.user_name == ""


def test_lists_of_groups_are_json_in_the_environment() -> None:
    """They have no names of their own below the list."""
    config = load(Example, None, {"TIDEWIRE_LOGIN_KEYS": '[{"kid": "a", "secret": "s"}]'})
    assert config.login.keys == (Key(kid="a", secret=Secret("s")),)
    assert problems(None, {"TIDEWIRE_LOGIN_KEYS": "[{"}) == [
        "TIDEWIRE_LOGIN_KEYS: expected a list of objects as JSON"
    ]
    assert problems(None, {"TIDEWIRE_LOGIN_KEYS": "{}"}) == ["login.keys: expected a list, got a group"]


def test_unknown_variables_are_problems() -> None:
    """A misspelt override must not be ignored."""
    assert problems(
        None, {"TIDEWIRE_NUMBR": "1", "TIDEWIRE_EDGE_PORT_80_TCP_ADDR": "10.0.0.1", "OTHER": "x"}
    ) == [
        "TIDEWIRE_EDGE_PORT_80_TCP_ADDR: unknown variable",
        "TIDEWIRE_NUMBR: unknown variable; did you mean TIDEWIRE_NUMBER?",
    ]


def test_variables_of_other_processes_in_the_same_file_are_passed_over(file: Path) -> None:
    """They share the environment as they share the file; a name that only begins alike is none of theirs."""

    class Shared(Example, frozen=True, kw_only=True):
        others = frozenset({"far_end"})

    file.write_text("far_end: {port: 7}\nnumber: 3\n")
    assert load(Shared, file, {"TIDEWIRE_FAR_END_PORT": "8"}).number == 3
    with pytest.raises(ConfigError, match="TIDEWIRE_FAR_ENDING: unknown variable"):
        load(Shared, None, {"TIDEWIRE_FAR_ENDING": "8"})


def test_a_section_of_its_own_is_none_of_anothers_whose_name_it_begins_with() -> None:
    """A misspelt override of `far_end` is one, though there is a `far`; and the other way round."""

    class FarEnd(Example, frozen=True, kw_only=True):
        others = frozenset({"far"})
        far_end: Login = field(default_factory=Login)

    class Far(Example, frozen=True, kw_only=True):
        others = frozenset({"far_end"})
        far: Login = field(default_factory=Login)

    with pytest.raises(ConfigError, match="did you mean TIDEWIRE_FAR_END_USER_NAME"):
        load(FarEnd, None, {"TIDEWIRE_FAR_END_USERNAME": "x", "TIDEWIRE_FAR_USERNAME": "x"})
    with pytest.raises(ConfigError, match="did you mean TIDEWIRE_FAR_USER_NAME"):
        load(Far, None, {"TIDEWIRE_FAR_END_USERNAME": "x", "TIDEWIRE_FAR_USERNAME": "x"})


def test_problems_of_all_places_come_together(file: Path) -> None:
    """Environment, secret files and the file itself, in one run."""
    file.write_text("numbr: 1\nflag: 7\nlogin: {password_file: gone, keys: [{kid: 1}]}\n")
    assert problems(file, {"TIDEWIRE_PAUSE": "soon", "TIDEWIRE_X": "y"}) == [
        "TIDEWIRE_X: unknown variable",
        f"login.password_file: cannot read {file.parent / 'gone'}: No such file or directory",
        "numbr: unknown setting; did you mean number?",
        "flag: expected bool, got int",
        "pause: expected a duration such as 25s, 500ms or 1m, got 'soon' (from TIDEWIRE_PAUSE)",
        "login.keys[0].kid: expected str, got int; put it in quotes",
    ]


def test_yaml_texts_are_not_taken_for_numbers(file: Path) -> None:
    """Only the environment, which has nothing but text, is read leniently."""
    file.write_text('number: "5"\n')
    assert problems(file, {}) == ["number: expected int, got str"]
    assert load(Example, None, {"TIDEWIRE_NUMBER": "5"}).number == 5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("s3cret", "s3cret"),
        ("s3cret\n", "s3cret"),
        ("s3cret\r\n", "s3cret"),
        ("s3cret\n\n", "s3cret\n"),
        (" s \n", " s "),
    ],
)
def test_a_secret_file_loses_one_newline(file: Path, content: str, text: str) -> None:
    """Editors and echo add one; everything else belongs to the secret."""
    file.write_text("login: {password_file: key}\n")
    (file.parent / "key").write_text(content, newline="")
    assert load(Example, file, {}).login.password.reveal() == text


def test_secret_files_in_lists(file: Path) -> None:
    """Every secret of the file may come from a file, those in lists too."""
    file.write_text("login: {keys: [{kid: a, secret_file: ka}, {kid: b, secret: kb}]}\n")
    (file.parent / "ka").write_text("first\n")
    assert [key.secret.reveal() for key in load(Example, file, {}).login.keys] == ["first", "kb"]
    assert secret_files(Example, file, {}) == (file.parent / "ka",)


def test_a_secret_file_from_the_environment(file: Path, tmp_path: Path) -> None:
    """It overrides what the file says, in either notation."""
    key = tmp_path / "key"
    key.write_text("new\n")
    for line in ("password: old", "password_file: gone", "user_name: x"):
        file.write_text(f"login: {{{line}}}\n")
        environ = {"TIDEWIRE_LOGIN_PASSWORD_FILE": str(key)}
        assert load(Example, file, environ).login.password == Secret("new")
        assert secret_files(Example, file, environ) == (key,)


def test_a_secret_from_the_environment_overrides_the_files_secret_file(file: Path) -> None:
    """The file that it replaces need not exist."""
    file.write_text("login: {password_file: gone}\n")
    config = load(Example, file, {"TIDEWIRE_LOGIN_PASSWORD": "new"})
    assert config.login.password == Secret("new")
    assert secret_files(Example, file, {"TIDEWIRE_LOGIN_PASSWORD": "new"}) == ()


def test_a_secret_is_given_in_one_way(file: Path, tmp_path: Path) -> None:
    """Two sources of one secret in one place would be a guess."""
    key = tmp_path / "key"
    key.write_text("x")
    file.write_text("login: {password: a, password_file: b}\n")
    assert problems(file, {}) == ["login.password_file: give either password or password_file"]
    both = {"TIDEWIRE_LOGIN_PASSWORD": "a", "TIDEWIRE_LOGIN_PASSWORD_FILE": str(key)}
    assert problems(None, both) == [
        "TIDEWIRE_LOGIN_PASSWORD_FILE: give either TIDEWIRE_LOGIN_PASSWORD_FILE or TIDEWIRE_LOGIN_PASSWORD"
    ]


def test_bad_secret_files_are_problems_that_show_no_secret(file: Path) -> None:
    """Missing, a folder, empty, not text, and no path at all."""
    folder = file.parent
    (folder / "folder").mkdir()
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    expected = {
        "folder": f"login.password_file: cannot read {folder / 'folder'}: Is a directory",
        "empty": f"login.password_file: {folder / 'empty'} is empty",
        "binary": f"login.password_file: {folder / 'binary'} is not UTF-8 text",
        "7": "login.password_file: expected the path of a file",
        '""': "login.password_file: expected the path of a file",
    }
    for name, line in expected.items():
        file.write_text(f"login: {{password_file: {name}}}\n")
        assert problems(file, {}) == [line]
    assert problems(None, {"TIDEWIRE_LOGIN_PASSWORD_FILE": "/no/such"}) == [
        "TIDEWIRE_LOGIN_PASSWORD_FILE: cannot read /no/such: No such file or directory"
    ]


def test_only_secrets_come_from_files(file: Path) -> None:
    """`x_file` of another setting is an unknown name."""
    file.write_text("number_file: x\n")
    unknown_variable, unknown_setting = problems(file, {"TIDEWIRE_FLAG_FILE": "x"})
    assert unknown_variable.startswith("TIDEWIRE_FLAG_FILE: unknown variable")
    assert unknown_setting == "number_file: unknown setting; did you mean number?"


def test_paths_are_relative_to_the_file(file: Path) -> None:
    """So a configuration works from any working directory; the environment has only the working directory."""
    file.write_text("login: {ca_file: tls/ca.pem}\n")
    config = load(Example, file, {})
    assert config.folder == str(file.parent / "data")
    assert config.login.ca_file == str(file.parent / "tls/ca.pem")
    assert load(Example, file, {"TIDEWIRE_FOLDER": "here"}).folder == "here"
    assert load(Example, None, {}).folder == "data"
    file.write_text("folder: /var/data\nlogin: {ca_file: ''}\n")
    config = load(Example, file, {})
    assert (config.folder, config.login.ca_file) == ("/var/data", "")


def test_a_group_that_is_none_is_left_to_the_loader(file: Path) -> None:
    """An override inside something that is no group does not hide the problem."""
    file.write_text("login: 5\n")
    lines = ["login: expected a group of settings, got int"]
    assert problems(file, {"TIDEWIRE_LOGIN_USER_NAME": "a"}) == lines
    file.write_text("login:\n")
    assert problems(file, {"TIDEWIRE_LOGIN_PASSWORD": "a"}) == [
        "login: is empty: give it a value or remove the line"
    ]
    assert secret_files(Example, file, {}) == ()


def test_names_of_variables_are_clear() -> None:
    """No two settings of an edge share a variable, not even with `_FILE`."""
    names = variables(EdgeConfig)
    files = {f"{name}_FILE" for name, (_, setting) in names.items() if setting.kind is Kind.SECRET}
    assert not files & names.keys()
    assert names["TIDEWIRE_CLIENT_TOKEN_HMAC_SECRET_KEY"][0] == ("client", "token", "hmac_secret_key")
    assert "TIDEWIRE_CONFIG" not in names


def test_names_that_clash_are_a_mistake() -> None:
    """Two paths that join to one name cannot both be set."""

    class A(Section, frozen=True, kw_only=True):
        b_c: int = 0

    class Clash(Section, frozen=True, kw_only=True):
        a: A = field(default_factory=A)
        a_b_c: int = 0

    Clash.__annotations__ = {"a": A, "a_b_c": int}
    with pytest.raises(AssertionError, match="TIDEWIRE_A_B_C would mean both"):
        variables(Clash)


def test_the_whole_edge_configuration_loads(tmp_path: Path) -> None:
    """The repository's tidewire.yaml with a key, and an override of every kind."""
    file = tmp_path / "tidewire.yaml"
    file.write_text((Path(__file__).parents[3] / "tidewire.yaml").read_text())
    (key,) = secret_files(EdgeConfig, file, {})
    assert key == tmp_path / ".tidewire" / "token.key"
    key.parent.mkdir()
    key.write_text("k" * 64 + "\n")
    config = load(
        EdgeConfig,
        file,
        {
            "TIDEWIRE_HTTP_PORT": "18000",
            "TIDEWIRE_CLIENT_PING_INTERVAL": "10s",
            "TIDEWIRE_NATS_URLS": "nats://a:4222,nats://b:4222",
            "TIDEWIRE_RPC_ENABLED": "false",
        },
    )
    assert config.client.token.hmac_secret_key.reveal() == "k" * 64
    assert "kkk" not in repr(config)
    assert config.http.port == 18000
    assert config.http.pages == str(tmp_path / "web")
    assert config.dev.data_dir == str(tmp_path / ".tidewire")
    assert config.client.ping_interval == 10.0
    assert config.nats.urls == ("nats://a:4222", "nats://b:4222")
    assert not config.rpc.enabled
