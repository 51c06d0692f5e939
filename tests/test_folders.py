"""Which store is named, found without reading TOML where that can be; and what a store's folder is called."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth import folders


def named(home: Path, text: str) -> str:
    (home / "config.toml").write_text(text)
    return folders.store_address({"LOOPBACK_AUTH_HOME": str(home)})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", "file:"),
        ('store = "postgresql://fleet@db.example/fleet"\n', "postgresql://fleet@db.example/fleet"),
        ("store = 'keyring:'", "keyring:"),
        ('  "store"   =  "keyring:x"  # which\nproxy = "http://proxy.example"', "keyring:x"),
        ('store_key = { env = "KEY" }\nproxy = "http://store.example"\n', "file:"),
        ('[clients.store]\nserver = "x"\nstore = "keyring:"\n', "file:"),
        ('title = """\nstore = "keyring:"\n"""\n', "file:"),
        ('store = "file:C:\\\\x"', "file:{home}/C:\\x"),
        ('store = """keyring:"""', "keyring:"),
        ('store = "file:"', "file:"),
        ('store = "file:accounts"', "file:{home}/accounts"),
        ('store = "file:/srv/accounts"', "file:/srv/accounts"),
        ('# store = "keyring:"\n', "file:"),
        ("[[not toml\n", "file:"),
    ],
)
def test_the_store_of_the_configuration(text: str, address: str, tmp_path: Path) -> None:
    """`store` at the top of config.toml names it, however TOML lets that be written; a relative folder is beside it."""
    assert named(tmp_path, text) == address.replace("{home}", str(tmp_path))


@pytest.mark.parametrize("text", ["store = 5", "store = ['x']", 'store = "half', 'store = "a"\nstore = "b"\n'])
def test_what_is_no_address(text: str, tmp_path: Path) -> None:
    """A store that cannot be told is an error, and not the usual one."""
    with pytest.raises(ValueError, match=r"."):
        named(tmp_path, text)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_store_that_another_user_names(tmp_path: Path) -> None:
    """Who can write the configuration could send accounts elsewhere: refused. One that names no store may be theirs."""
    config = tmp_path / "config.toml"
    for owner, mode in ((65534, 0o644), (0, 0o646)):
        assert named(tmp_path, 'store = "keyring:"') == "keyring:"
        os.chown(config, owner, -1)
        config.chmod(mode)
        with pytest.raises(PermissionError):
            named(tmp_path, 'store = "keyring:"')
        assert named(tmp_path, "# none") == "file:"
        config.unlink()


def test_the_variable_goes_first(tmp_path: Path) -> None:
    """Whatever the configuration says, or whether it can be read."""
    (tmp_path / "config.toml").write_text("store = 5")
    environ = {"LOOPBACK_AUTH_HOME": str(tmp_path), "LOOPBACK_AUTH_STORE": "keyring:"}
    assert folders.store_address(environ) == "keyring:"


LINES = st.lists(
    st.sampled_from(
        [
            'store = "keyring:"',
            "store='keyring:1'",
            'store = "a\\u0062"',
            'store = "x" # y',
            "'store' = \"q\"",
            'other = """',
            '"""',
            "other2 = '''",
            "'''",
            "[table]",
            "[ table.x ]",
            "x = [",
            "]",
            "# store",
            'storex = "no"',
            'store.x = "no"',
            "",
        ]
    ),
    max_size=6,
)


@given(LINES)
def test_as_toml_says(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """What is read without TOML is what TOML says, for every document that is TOML."""
    text = "\n".join(lines)
    try:
        store = tomllib.loads(text).get("store", "")
    except ValueError:
        return
    home = tmp_path_factory.getbasetemp() / "toml"
    home.mkdir(exist_ok=True)
    if isinstance(store, str):
        assert named(home, text) == (store or "file:")
    else:
        with pytest.raises(ValueError, match="not text"):
            named(home, text)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://fleet:s3kr1t@db.example/x", "postgresql://fleet@db.example/x"),
        ("postgresql://db.example/x?user=fleet&password=s3kr1t", "postgresql://db.example/x?user=fleet"),
        ("postgresql://db.example/x?sslpassword=s3kr1t", "postgresql://db.example/x"),
        ("postgresql://a:s3kr1t@h1,h2/x?sslmode=verify-full", "postgresql://a@h1,h2/x?sslmode=verify-full"),
        ("postgresql://a:s3kr1t@@h/x", "postgresql://a@h/x"),
        ("postgresql://a:s3/kr1t@h/x", None),
        ("file:/a@b:c", "file:/a@b:c"),
        ("keyring:", "keyring:"),
    ],
)
def test_addresses_are_shown_without_a_password(address: str, shown: str | None) -> None:
    """Neither where it belongs nor as a parameter; what is no address says as little."""
    said = folders.without_password(address)
    assert shown is None or said == shown
    assert "s3kr1t" not in said
    assert "kr1t" not in said


def test_each_store_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """What one has left here is never taken for another's; a folder's name holds no password, and is no path."""
    environ = {"LOOPBACK_AUTH_HOME": str(tmp_path)}
    addresses = [
        "file:",
        "keyring:",
        "keyring:a",
        "keyring:A=61",
        "postgresql://a@h/x",
        "postgresql://b@h/x",
        "postgresql://a@h/x_y",
        "postgresql://a@h/x?host=/run",
        "postgresql://a@h/../../../etc",
        "postgresql://a@h/" + "x" * 300,
        "postgresql://a@h/" + "x" * 301,
    ]
    found = [folders.folder_of(address, environ) for address in addresses]
    assert len({os.path.normcase(path) for path in found}) == len(found)
    for path in found[1:]:
        assert os.path.dirname(path) == str(tmp_path / "stores")
        assert len(os.path.basename(path)) <= 255
    assert folders.folder_of("postgresql://a:s3kr1t-1@h/x", environ) == folders.folder_of("postgresql://a@h/x", environ)
