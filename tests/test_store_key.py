"""Where the store's keys are, and fetching them from there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth import clock, config_file, secret_source, store_key, stores
from loopback_auth.errors import ConfigurationError, LoopbackAuthError, Unopenable
from loopback_auth.redirect import browser
from loopback_auth.secret import Secret
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Store
from loopback_auth.store.file import FileStore
from loopback_auth.store.keys import Keys
from loopback_auth.store.sealed import SealedStore
from loopback_auth.store_key import VARIABLE, parse
from tests.store.accounts import account
from tests.store.planted import PLANTED

KEY, OTHER = "1f" * 32, "2e" * 32
ID, OTHER_ID = Keys(bytes.fromhex(KEY)).ids[0], Keys(bytes.fromhex(OTHER)).ids[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(0o700)
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"LOOPBACK_AUTH_HOME": str(home), "PATH": "/usr/bin:/bin"}


def configured(home: Path, line: str) -> None:
    (home / "config.toml").write_text(line + "\n[clients.acme]\nclient_id = 'x'\n")


def key_file(home: Path, text: str = KEY + "\n", name: str = "store.key") -> Path:
    path = home / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def ids(environ: dict[str, str]) -> tuple[str, ...]:
    keys = stores.keys_of(environ)
    assert keys is not None
    return keys.ids


def refused(environ: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        stores.keys_of(environ)
    told = f"{caught.value}{caught.value.hint}{caught.value!r}"
    assert not any(part in told for part in (KEY[:8], OTHER[:8], "s3kr1t"))
    assert caught.value.exit_status == 3
    return caught.value


# --- the text ---


@pytest.mark.parametrize("between", [",", " ", "\n", ", ", " ,\t", ",,"])
def test_one_key_or_several(environ: dict[str, str], between: str) -> None:
    """64 hex digits, upper or lower case; commas or white space between two and around them."""
    assert ids({**environ, VARIABLE: KEY}) == (ID,)
    assert ids({**environ, VARIABLE: f"{between}{KEY.upper()}{between}{OTHER}{between}"}) == (ID, OTHER_ID)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3kr1t", "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        (KEY[:-1], "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        (KEY + "0", "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        (KEY[:32], "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        (KEY + "," + OTHER[:-1] + "g", "key 2 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        ("1_" * 32, "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        ("٣" * 64, "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        ("0x" + KEY[2:], "key 1 of LOOPBACK_AUTH_STORE_KEY is not 64 hex digits"),
        ("0" * 64, "key 1 of LOOPBACK_AUTH_STORE_KEY is all zeros"),
        (f"{KEY} {OTHER} {KEY.upper()}", "key 3 of LOOPBACK_AUTH_STORE_KEY is there twice"),
        (" ,\n", "there is no store key in LOOPBACK_AUTH_STORE_KEY"),
    ],
)
def test_what_is_no_key(environ: dict[str, str], text: str, message: str) -> None:
    """Said by its number, never repeated; nothing shorter is stretched, nothing longer cut."""
    error = refused({**environ, VARIABLE: text})
    assert str(error) == message
    assert error.hint == ("leave one of the two out" if "twice" in message else "make one: openssl rand -hex 32",)


@given(st.text() | st.text("0123456789abcdefABCDEF, \n", max_size=200))
def test_any_text(text: str) -> None:
    """A text holds keys or is refused, in words that do not repeat it."""
    try:
        assert len(parse(text, "X").ids) == len(text.replace(",", " ").split())
    except ConfigurationError as error:
        assert str(error).isascii()
        assert len(str(error)) < 60


# --- where it is ---


def test_nothing_said_is_no_key(home: Path, environ: dict[str, str]) -> None:
    """Neither variable nor configuration, or an empty variable: nothing is sealed."""
    assert stores.keys_of(environ) is None
    assert stores.keys_of({**environ, VARIABLE: ""}) is None
    configured(home, "")
    assert stores.keys_of(environ) is None
    assert not stores.open_store(environ).seals


def test_every_place(home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the configuration, a variable of another name, a command, the keyring; the variable goes first."""
    key_file(home)
    program = f"print('{OTHER} {KEY}')"
    held = {("store_key", "store key"): KEY}
    monkeypatch.setattr(secret_source, "from_keyring", lambda *asked: held[asked])
    for line, expected in {
        'store_key = { file = "store.key" }': (ID,),
        'store_key = { env = "MINE" }': (OTHER_ID,),
        f'store_key = {{ command = ["{sys.executable}", "-c", "{program}"] }}': (OTHER_ID, ID),
        "store_key = { keyring = true }": (ID,),
    }.items():
        configured(home, line)
        assert ids({**environ, "MINE": OTHER}) == expected
        assert ids({**environ, "MINE": OTHER, VARIABLE: OTHER}) == (OTHER_ID,)
        assert config_file.load(environ).store_key is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f'store_key = "{KEY}"', "store_key says in no known way where the secret is"),
        ("store_key = 5", "store_key says in no known way where the secret is"),
        ("store_key = {}", "store_key says in no known way where the secret is"),
        ('store_key = { file = "a", env = "b" }', "store_key says in no known way where the secret is"),
        ('store_key = { fiel = "a" }', "has the unknown key fiel"),
        ("store_key = { keyring = false }", "store_key says in no known way where the secret is"),
        ("store_key = { command = [] }", "store_key says in no known way where the secret is"),
        ('store_key = { env = "MINE" }', "there is no store key in the variable MINE"),
        ('store_key = { file = "gone" }', "/gone cannot be read: no such file or directory"),
        ('store_key = { file = "." }', "is not a regular file"),
        ('store_key = { command = ["false"] }', "the store_key command false ended with 1"),
        ('store_key = { command = ["echo", "s3kr1t"] }', "key 1 of the command echo is not 64 hex digits"),
        ('store_key = { command = ["true"] }', "there is no store key in the command true"),
        ('store_key = { file = "short" }', "key 1 of the file {home}/short is not 64 hex digits"),
        ('store_key = { file = "binary" }', "key 1 of the file {home}/binary is not 64 hex digits"),
    ],
)
def test_a_place_that_holds_none(home: Path, environ: dict[str, str], line: str, message: str) -> None:
    """Exit status 3, and which place; a key does not stand in the configuration itself."""
    key_file(home, "s3kr1t", "short")
    key_file(home, "", "binary").write_bytes(b"\xff\xfe\0" * 20)
    configured(home, line)
    assert message.format(home=home) in str(refused(environ))


def test_a_missing_file_says_how_to_make_it(home: Path, environ: dict[str, str]) -> None:
    """The line to type makes a file that is then taken, at a path with a space, too; and what a new key cannot do."""
    (home / "my keys").mkdir(0o700)
    configured(home, 'store_key = { file = "my keys/store" }')
    back, make = refused(environ).hint
    assert back == "put it back: another key opens nothing that is sealed already"
    assert make == f"if there never was one, make it: (umask 077; openssl rand -hex 32 >'{home}/my keys/store')"
    subprocess.run(make.partition(": ")[2], shell=True, check=True)
    assert len(ids(environ)) == 1


@pytest.mark.parametrize("held", ["", " \n"])
def test_an_empty_keyring_says_how_to_fill_it(
    home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """The line to type names the service and the user name that are asked for."""
    monkeypatch.setattr(secret_source, "from_keyring", lambda *_: held)
    configured(home, "store_key = { keyring = true }")
    error = refused(environ)
    assert str(error) == "there is no store key in the keyring"
    assert error.hint == ("make one: openssl rand -hex 32", 'put it there: keyring set loopback-auth "store key"')


@pytest.mark.parametrize("words", ['"false"', '"/no/such/command", "s3kr1t"', '"sh", "-c", "exit 3 # s3kr1t"'])
def test_a_failing_command_is_to_be_run_by_hand(home: Path, environ: dict[str, str], words: str) -> None:
    """The hint says what is expected of it, and repeats no word of it: one may be a secret."""
    configured(home, f"store_key = {{ command = [{words}] }}")
    assert refused(environ).hint == (
        "run it yourself to see why: it must print the store_key alone, read nothing from stdin, and end with 0",
    )


@pytest.mark.parametrize(("plant", "message", "hint"), PLANTED)
def test_a_key_file_that_others_can_read(
    home: Path, environ: dict[str, str], plant: Callable[[Path], None], message: str, hint: str
) -> None:
    """It must be a file of this user's alone, with one name: refused, with the command that mends it."""
    path = key_file(home)
    configured(home, 'store_key = { file = "store.key" }')
    plant(path)
    error = refused(environ)
    assert (str(error), error.hint) == ("the store_key file: " + message.format(path), (hint.format(path),))


@pytest.mark.parametrize("content", [b"store_key = ", b"x\nstore_key = { env = 'A' }", b"\xffstore_key"])
def test_a_configuration_that_may_name_a_key(home: Path, environ: dict[str, str], content: bytes) -> None:
    """Where it cannot be read nothing is written in clear, though read; one that names no key stands in no way."""
    Accounts(FileStore(str(home / "accounts"))).save(account())
    (home / "config.toml").write_bytes(content)
    accounts = stores.open_at("file:", environ)
    assert accounts.load("default") == account()
    assert accounts.seals
    with pytest.raises(ConfigurationError, match="is not TOML"):
        accounts.save(account(generation=2))
    assert accounts.load("default") == account()
    (home / "config.toml").write_bytes(content.replace(b"store_key", b"storekey"))
    stores.open_at("file:", environ).save(account(generation=2))


def test_a_configuration_that_cannot_be_opened(
    home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it names a key: as if it did."""
    configured(home, "")
    real = os.open

    def refusing(path: Any, *arguments: Any, **keywords: Any) -> int:
        if str(path).endswith("config.toml"):
            raise PermissionError(13, "no")
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(ConfigurationError, match="cannot be read: permission denied"):
        stores.open_at("file:", environ).save(account())


# --- who fetches, and who is told ---


def test_nothing_is_fetched_before_it_is_needed(home: Path, environ: dict[str, str]) -> None:
    """The command runs once for a store, when something sealed is read or written."""
    mark = home / "ran"
    program = f"open('{mark}', 'a').write('x'); print('{KEY}')"
    configured(home, f'store_key = {{ command = ["{sys.executable}", "-c", "{program}"] }}')
    Accounts(FileStore(str(home / "accounts"))).save(account())
    accounts = stores.open_store(environ)
    assert accounts.load("default") == account()
    assert accounts.names() == ["default"]
    assert not mark.exists()
    for generation in (2, 3):
        accounts.save(account(generation=generation))
        assert accounts.load("default") == account(generation=generation, sealed_with=Keys(bytes.fromhex(KEY)).ids[0])
    assert mark.read_text() == "x"


def test_no_child_sees_a_key(home: Path, environ: dict[str, str]) -> None:
    """Neither our variable nor the one that the configuration names reaches a command."""
    configured(home, 'store_key = { env = "MINE" }')
    environ |= {VARIABLE: KEY, "MINE": OTHER, "YOURS": "x", "LOOPBACK_AUTH_CLIENT_SECRET": "s3kr1t-"}
    program = "import os; print(sorted(name for name in os.environ if name.isupper()))"
    seen = secret_source.from_command("x", [sys.executable, "-c", program], environ)
    assert "YOURS" in seen
    assert not any(name in seen for name in (VARIABLE, "MINE", "CLIENT_SECRET"))
    (home / "config.toml").write_text("store_key = ")
    assert set(secret_source.hidden_variables(environ)) == set(browser.SECRET_VARIABLES)


def test_a_file_store_is_sealed_with_a_key(environ: dict[str, str]) -> None:
    """With a key what is written is sealed, what is in clear can be read; without one it says what is missing."""
    stores.open_store(environ).save(account())
    accounts = stores.open_store({**environ, VARIABLE: KEY})
    assert accounts.load("default") == account()
    accounts.save(account(generation=2))
    assert accounts.load("default") == account(generation=2, sealed_with=Keys(bytes.fromhex(KEY)).ids[0])
    with pytest.raises(Unopenable, match=r"is sealed with key [0-9a-f]{8}, and no key was given"):
        stores.open_store(environ).load("default")


class Shared(FileStore):
    @property
    def shared(self) -> bool:
        return True


def test_a_shared_store_is_always_sealed(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key it is not opened at all; what is not sealed in it was put there by somebody else."""
    store: Store = Shared(str(tmp_path / "shared"))
    monkeypatch.setattr(stores, "_store_at", lambda _address, _environ: store)
    with pytest.raises(ConfigurationError, match="is a shared store, which is always sealed") as caught:
        stores.open_store(environ)
    assert caught.value.hint == (
        "the key of the store's other machines goes into LOOPBACK_AUTH_STORE_KEY",
        "on the first of them make one: openssl rand -hex 32",
    )
    accounts = stores.open_store({**environ, VARIABLE: KEY})
    Accounts(store).save(account())
    with pytest.raises(Unopenable, match="somebody else has put it there"):
        accounts.load("default")
    assert isinstance(accounts.store, SealedStore)
    assert accounts.store.inner is store


def test_the_variable_has_the_documented_name() -> None:
    """The variable is part of the contract, and is hidden with the client secret's."""
    assert VARIABLE in browser.SECRET_VARIABLES
    assert issubclass(Unopenable, LoopbackAuthError)
    assert store_key.MAKE_ONE == "make one: openssl rand -hex 32"


def command(environ: dict[str, str], *arguments: str, **also: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopback_auth", *arguments],
        env={**environ, "PYTHONPATH": str(Path(stores.__file__).parents[1]), **also},
        capture_output=True,
        text=True,
        check=False,
    )


def test_token_runs_no_key_command_in_vain(home: Path, environ: dict[str, str]) -> None:
    """A good access token in clear is printed without the key; a sealed one costs one run of the command."""
    mark = home / "ran"
    program = f"open('{mark}', 'a').write('x'); print('{KEY}')"
    configured(home, f'store_key = {{ command = ["{sys.executable}", "-c", "{program}"] }}')
    good = replace(account(access_token=Secret("access")), received=clock.now())
    Accounts(FileStore(str(home / "accounts"))).save(good)
    assert command(environ, "token").stdout == "access\n"
    assert not mark.exists()
    stores.open_store(environ).save(good)
    mark.unlink()
    assert command(environ, "token").stdout == "access\n"
    assert mark.read_text() == "x"


def test_token_of_a_sealed_account_imports_little(environ: dict[str, str]) -> None:
    """A good access token is printed before asyncio and aiohttp are imported; an expired one needs them."""
    sealing = {**environ, VARIABLE: KEY}
    for age, heavy in ((0, False), (7200, True)):
        now = clock.now()
        received = clock.Moment(now.unix - age, now.boot_id, now.uptime - age)
        stores.open_store(sealing).save(replace(account(access_token=Secret("access")), received=received))
        said = command(sealing, "token", PYTHONPROFILEIMPORTTIME="1")
        assert said.stdout == ("" if heavy else "access\n")
        imported = {line.rpartition("|")[2].strip() for line in said.stderr.splitlines() if "|" in line}
        assert "cryptography.hazmat.primitives.ciphers.aead" in imported
        assert heavy == ({"asyncio", "aiohttp", "subprocess"} <= imported)
        assert heavy or not {"asyncio", "aiohttp", "subprocess", "ssl"} & imported
