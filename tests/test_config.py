"""What the user configured: `config.toml` read whole and checked whole, and who wins over whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopback_auth import config, config_file, folders, stores
from loopback_auth.config import Wanted
from loopback_auth.config_file import Client, Configuration, ExpectedAccount
from loopback_auth.errors import ConfigurationError, RegistrationIncomplete, StoreUnsafe
from loopback_auth.oauth.servers import presets
from loopback_auth.store import journal
from tests.store.accounts import account
from tests.store.planted import run_hint

STAGING = "lightspeed-l-staging"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir(0o700)
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"LOOPBACK_AUTH_HOME": str(home)}


def write(home: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = home / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def refused(environ: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        config_file.load(environ)
    assert caught.value.exit_status == 3
    assert "s3kr1t" not in f"{caught.value}{caught.value.hint}"
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    return caught.value


# --- folders ---


@pytest.mark.parametrize(
    ("environ", "configuration", "data", "accounts"),
    [
        ({"LOOPBACK_AUTH_HOME": "/home-of-all"}, "/home-of-all", "/home-of-all", "/home-of-all/accounts"),
        (
            {"XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d"},
            "/c/loopback-auth",
            "/d/loopback-auth",
            "/d/loopback-auth/accounts",
        ),
        (
            {"XDG_CONFIG_HOME": "relative", "XDG_DATA_HOME": ""},
            "~/.config/loopback-auth",
            "~/.local/share/loopback-auth",
            "~/.local/share/loopback-auth/accounts",
        ),
        ({"LOOPBACK_AUTH_HOME": "~/all"}, "~/all", "~/all", "~/all/accounts"),
        ({"LOOPBACK_AUTH_HOME": "/h", "LOOPBACK_AUTH_STORE": "file:/s"}, "/h", "/h", "/s"),
        ({"LOOPBACK_AUTH_HOME": "/h", "LOOPBACK_AUTH_STORE": "file:~/s"}, "/h", "/h", "~/s"),
        ({"LOOPBACK_AUTH_HOME": "/h", "LOOPBACK_AUTH_STORE": "file:"}, "/h", "/h", "/h/accounts"),
    ],
)
def test_where_things_are(environ: dict[str, str], configuration: str, data: str, accounts: str) -> None:
    """One folder if `LOOPBACK_AUTH_HOME` says so, else XDG's; `LOOPBACK_AUTH_STORE` moves the accounts alone."""
    expected = [os.path.expanduser(path) for path in (configuration, data, accounts)]
    assert [folders.configuration(environ), folders.data(environ), folders.accounts(environ)] == expected


def test_the_store_is_where_it_is_said_to_be() -> None:
    """`file:` and a folder, or the usual one."""
    assert stores.open_store({"LOOPBACK_AUTH_STORE": "file:/s"}).address == "file:/s"
    assert stores.open_store({"LOOPBACK_AUTH_HOME": "/h"}).address == "file:/h/accounts"


@pytest.mark.parametrize("chosen", ["nonsense", "s3://bucket", "/just/a/path", "FILE:/s"])
def test_a_store_of_an_unknown_kind(chosen: str) -> None:
    """Any other store is refused, never silently replaced by a file; what may be a password is not shown."""
    with pytest.raises(ConfigurationError, match="there is no store of the kind"):
        stores.open_store({"LOOPBACK_AUTH_STORE": chosen})


# --- config.toml ---

FULL = """
[clients.acme-staging]
server = "lightspeed-l-staging"
client_id = "dNU"
client_secret = { file = "keys/acme" }
redirect_uri = "https://localhost:9000/"
scope = "a b"
token_endpoint_auth_method = "client_secret_post"
ca_file = "/ca.pem"

[clients.literal]
client_secret = "s3kr1t-literal"

[clients.env]
client_secret = { env = "ACME" }

[clients.keyring]
client_secret = { keyring = true }

[clients.command]
client_secret = { command = ["pass", "show", "acme"] }

[clients.home]
client_secret = { file = "~/keys" }

[accounts.cafe-roma]
client = "acme-staging"
company_id = 4711

[accounts.cafe-milano]
client = "acme-staging"
company_id = "4712"

[servers.my-idp]
authorization_endpoint = "https://idp.example/authorize"
token_endpoint = "https://idp.example/token"

[sandbox]
port = 9999
"""


def test_a_whole_configuration(home: Path, environ: dict[str, str]) -> None:
    """Clients, accounts, servers and the sandbox's port, every kind of reference; a file is relative to the config."""
    path = write(home, FULL)
    loaded = config_file.load(environ)
    assert loaded.path == str(path)
    assert loaded.clients == {
        "acme-staging": Client(
            server=STAGING,
            client_id="dNU",
            client_secret={"file": str(home / "keys" / "acme")},
            redirect_uri="https://localhost:9000/",
            token_endpoint_auth_method="client_secret_post",
            scope="a b",
            ca_file="/ca.pem",
        ),
        "literal": Client(client_secret={"config": "literal"}),
        "env": Client(client_secret={"env": "ACME"}),
        "keyring": Client(client_secret={"keyring": "keyring"}),
        "command": Client(client_secret={"command": ["pass", "show", "acme"]}),
        "home": Client(client_secret={"file": os.path.expanduser("~/keys")}),
    }
    assert loaded.accounts == {
        "cafe-roma": ExpectedAccount(client="acme-staging", company_id="4711"),
        "cafe-milano": ExpectedAccount(client="acme-staging", company_id="4712"),
    }
    assert loaded.server("my-idp").token_endpoint == "https://idp.example/token"
    assert loaded.server("sandbox").token_endpoint == "http://127.0.0.1:9999/resto/oauth2/v1/token"
    assert loaded.server(STAGING) == presets()[STAGING]
    assert "s3kr1t" not in repr(loaded)


def test_no_configuration_is_an_empty_one(home: Path, environ: dict[str, str]) -> None:
    """A missing file is no error."""
    assert config_file.load(environ) == Configuration(path=str(home / "config.toml"))
    assert config_file.load(environ).server("sandbox") == presets()["sandbox"]


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (None, False),
        ("", False),
        ("allow_network_store = false\n", False),
        ("allow_network_store = true\n", True),
        ("allow_network_store = true\n[clients.a]\nclient_i = 'x'\n", True),
        ("allow_network_store = 1\n", False),
        ("allow_network_store = 'true'\n", False),
        ("[sandbox]\nallow_network_store = true\n", False),
        ("allow_network_store = true\nnot toml", False),
        (b"\xff\xfe", False),
    ],
)
def test_a_store_on_a_network_is_for_the_config_to_allow(
    home: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, content: str | bytes | None, allowed: bool
) -> None:
    """`allow_network_store = true`, at the top level; a file that is wrong elsewhere keeps nobody from the store."""
    monkeypatch.setattr(journal, "network_file_system", lambda *_: "nfs")  # a mount that no test can make
    if content is not None:
        write(home, content)
    with stores.open_store(environ).journal("default") as one:
        if allowed:
            one.prove()
        else:
            with pytest.raises(StoreUnsafe, match="is on a network file system"):
                one.prove()


def test_a_config_that_cannot_be_read_keeps_nobody_from_the_store(home: Path, environ: dict[str, str]) -> None:
    """Who has a folder in its place still opens the store; one that could name another store must be read."""
    (home / "config.toml").mkdir()
    assert stores.open_store(environ).names() == []


def test_whether_a_store_on_a_network_is_allowed(home: Path, environ: dict[str, str]) -> None:
    """True, false, or nothing said: not."""
    assert not config_file.load(environ).allow_network_store
    for value in (True, False):
        write(home, f"allow_network_store = {str(value).lower()}\n")
        assert config_file.load(environ).allow_network_store is value


def test_nothing_is_read_from_the_current_folder(
    home: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config.toml that lies where somebody happens to be says nothing."""
    (tmp_path / "config.toml").write_text("nonsense")
    monkeypatch.chdir(tmp_path)
    assert config_file.load(environ).clients == {}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[client.a]\n", "{} has the unknown key client", ("did you mean clients?",)),
        ("zebra = 1\n", "{} has the unknown key zebra", ()),
        ("allow_network_store = 1\n", "allow_network_store in {} is neither true nor false", ()),
        ("allow_network_store = 'true'\n", "allow_network_store in {} is neither true nor false", ()),
        ("allow_network = true\n", "{} has the unknown key allow_network", ("did you mean allow_network_store?",)),
        ("clients = 1\n", "clients in {} is not a table of tables", ("write [clients.NAME]",)),
        ("[clients]\na = 1\n", "clients in {} is not a table of tables", ("write [clients.NAME]",)),
        ("[[servers]]\n", "servers in {} is not a table of tables", ("write [servers.NAME]",)),
        (
            "[clients.a]\nclient_i = 'x'\n",
            "[clients.a] in {} has the unknown key client_i",
            ("did you mean client_id?",),
        ),
        ("[clients.a]\nclient_id = 5\n", "[clients.a] in {}: client_id is not text", ()),
        ("[clients.a]\nscope = ['a']\n", "[clients.a] in {}: scope is not text", ()),
        (
            "[clients.a]\ntoken_endpoint_auth_method = 'basic'\n",
            "[clients.a] in {}: token_endpoint_auth_method is one of client_secret_basic, client_secret_post, none",
            (),
        ),
        (
            "[clients.a]\nredirect_uri = 'https://evil.example/'\n",
            "the redirect_uri does not come back to this machine: https://evil.example/",
            ("register one at localhost, 127.0.0.1 or [::1] with the server, for example https://localhost:8000/",),
        ),
        (
            "[clients.a]\nclient_secret = { fiel = 'x' }\n",
            "client_secret of [clients.a] in {} has the unknown key fiel",
            ("did you mean file?",),
        ),
        ("[accounts.a]\nclint = 'x'\n", "[accounts.a] in {} has the unknown key clint", ("did you mean client?",)),
        ("[accounts.a]\n", "[accounts.a] in {} names no client", ('client = "…", one of [clients.…]',)),
        ("[accounts.a]\nclient = 1\n", "[accounts.a] in {} names no client", ('client = "…", one of [clients.…]',)),
        (
            "[accounts.a]\nclient = 'x'\ncompany_id = 1.5\n",
            "[accounts.a] in {}: company_id is neither a number nor text",
            (),
        ),
        ("sandbox = 1\n", "[sandbox] in {} is not a table", ()),
        ("[sandbox]\nprot = 1\n", "[sandbox] in {} has the unknown key prot", ("did you mean port?",)),
        ("[sandbox]\nport = 0\n", "the sandbox's port is not a port: 0", ("1 to 65535",)),
        ("[sandbox]\nport = 65536\n", "the sandbox's port is not a port: 65536", ("1 to 65535",)),
        ("[sandbox]\nport = -1\n", "the sandbox's port is not a port: -1", ("1 to 65535",)),
        ("[sandbox]\nport = true\n", "the sandbox's port is not a port: True", ("1 to 65535",)),
        ("[sandbox]\nport = 'x'\n", "the sandbox's port is not a port: x", ("1 to 65535",)),
        ("[servers.a]\n", "[servers.a] in {} has no authorization_endpoint", ()),
        ('["clients\\n"]\n', r"{} has the unknown key clients\x0a", ("did you mean clients?",)),
    ],
)
def test_what_is_wrong_is_named(
    home: Path, environ: dict[str, str], text: str, message: str, hint: tuple[str, ...]
) -> None:
    """The place, the key, and the nearest known one: the whole file is checked, not only what is used."""
    path = write(home, text)
    error = refused(environ)
    assert str(error) == message.format(path)
    assert error.hint == hint


@pytest.mark.parametrize(
    "value",
    [
        *("5", "true", "[]", "{}", "{ file = '' }", "{ file = 5 }", "{ env = '' }", "{ command = [] }"),
        *("{ keyring = false }", "{ command = 'pass s3kr1t-' }", "{ command = ['pass', 5] }"),
        *("{ env = 'A', file = 's3kr1t-' }", '{ file = "a\\u0000b" }'),
    ],
)
def test_a_secret_is_somewhere_definite(home: Path, environ: dict[str, str], value: str) -> None:
    """A reference names one place; anything else is refused without showing it."""
    path = write(home, f"[clients.a]\nclient_secret = {value}\n")
    error = refused(environ)
    assert str(error) == f"[clients.a] in {path}: client_secret says in no known way where the secret is"
    assert error.hint == ('one of { file = "…" }, { env = "…" }, { keyring = true }, { command = ["…"] }',)


@pytest.mark.parametrize(
    "content", [b"not toml", b"\xff\xfe", b"a = ", b"[a]\n[a]\n", b"a = " + b"[" * 20_000, b"a = " + b"9" * 5000]
)
def test_what_is_not_toml_is_told(home: Path, environ: dict[str, str], content: bytes) -> None:
    """A file that cannot be parsed, for whatever reason, is a configuration error that names it."""
    path = write(home, content)
    assert str(refused(environ)).startswith(f"{path} is not TOML: ")


def test_a_config_that_is_a_folder(home: Path, environ: dict[str, str]) -> None:
    """A file that cannot be read is told, not taken for a missing one."""
    (home / "config.toml").mkdir()
    assert str(refused(environ)) == f"{home}/config.toml cannot be read: is a directory"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_that_others_can_read(home: Path, environ: dict[str, str], mode: int) -> None:
    """A literal secret in a file that others can read or write: exit status 3, nothing changed; the hint mends it."""
    path = write(home, "[clients.a]\nclient_secret = 's3kr1t-literal'\n", mode)
    before = path.stat()
    error = refused(environ)
    assert str(error) == f"{path} holds a secret and can be read by other users"
    assert error.hint == (
        f"chmod 600 {path}",
        'or keep the secret elsewhere: client_secret = { file = "…" }',
    )
    assert (path.stat().st_mode, path.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    run_hint(error.hint[0])
    assert config_file.load(environ).clients["a"].client_secret == {"config": "a"}


def test_a_config_without_secrets_may_be_read_by_all(home: Path, environ: dict[str, str]) -> None:
    """References are no secrets."""
    write(home, "[clients.a]\nclient_secret = { env = 'A' }\n", 0o644)
    assert config_file.load(environ).clients["a"].client_secret == {"env": "A"}


def test_the_sandbox_takes_a_configured_client(home: Path, environ: dict[str, str]) -> None:
    """A client of one's own at the sandbox is used; a variable's id is not, since the sandbox publishes its own."""
    write(home, "[clients.own]\nserver = 'sandbox'\nclient_id = 'mine'\nclient_secret = { env = 'OWN' }\n")
    loaded = config_file.load(environ)
    registration, reference = config.registration(config.Wanted(client="own"), loaded, "default", None)
    assert (registration.client_id, reference) == ("mine", {"env": "OWN"})
    wanted = config.Wanted(server="sandbox", environment_client_id="other", environment_client_secret={"env": "OTHER"})
    registration, reference = config.registration(wanted, loaded, "default", None)
    assert (registration.client_id, reference) == ("sandbox", {"preset": True})


def test_the_sandbox_port_of_the_environment_wins(home: Path, environ: dict[str, str]) -> None:
    """`LOOPBACK_AUTH_SANDBOX_PORT` before config.toml, and checked like it."""
    write(home, "[sandbox]\nport = 9999\n")
    assert config_file.load({**environ, "LOOPBACK_AUTH_SANDBOX_PORT": "4711"}).sandbox_port == 4711
    assert config_file.load({**environ, "LOOPBACK_AUTH_SANDBOX_PORT": ""}).sandbox_port == 9999
    assert str(refused({**environ, "LOOPBACK_AUTH_SANDBOX_PORT": "x"})) == "the sandbox's port is not a port: x"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
SECRETS = (
    st.dictionaries(st.sampled_from(["env", "file", "command", "keyring", "x"]), VALUES, max_size=2)
    | st.sampled_from([{"file": "~\0"}, {"file": "~nobody/x"}, {"file": "a\0b"}, {"command": ["\0"]}])
    | VALUES
)
CLIENTS = st.dictionaries(st.sampled_from([*Client.__dataclass_fields__, "x"]), SECRETS, max_size=4)
ACCOUNTS = st.dictionaries(st.sampled_from(["client", "company_id", "x"]), VALUES, max_size=3)
TABLES = st.fixed_dictionaries(
    {},
    optional={
        "clients": st.dictionaries(st.text(), CLIENTS | VALUES, max_size=2) | VALUES,
        "accounts": st.dictionaries(st.text(), ACCOUNTS | VALUES, max_size=2) | VALUES,
        "servers": st.dictionaries(st.text(), VALUES, max_size=2) | VALUES,
        "sandbox": st.fixed_dictionaries({"port": VALUES}) | VALUES,
        "allow_network_store": VALUES,
        "other": VALUES,
    },
)


@pytest.fixture(scope="module")
def any_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("home")


@given(TABLES.map(lambda table: tomlkit.dumps(table).encode(errors="surrogatepass")) | st.binary())
@settings(max_examples=150)
@example(b"[clients.a]\nclient_secret = { file = '~\\u0000' }\n".replace(b"'", b'"'))
@example(b'[clients.a]\nca_file = "~\\u0000"\n')
def test_any_file_is_a_configuration_or_an_error(any_home: Path, content: bytes) -> None:
    """Whatever stands in config.toml: a configuration each of whose clients can be looked at, or one error."""
    write(any_home, content)
    try:
        loaded = config_file.load({"LOOPBACK_AUTH_HOME": str(any_home)})
    except ConfigurationError as error:
        assert str(error).isascii()
        return
    for name in loaded.clients:
        try:
            config.registration(Wanted(client=name, client_id="id"), loaded, "default", None)
        except ConfigurationError as error:
            assert str(error).isascii()


# --- who wins ---

ACME = Client(
    server=STAGING, client_id="of-config", client_secret={"file": "/of-config"}, redirect_uri="http://localhost:1/"
)
LOADED = Configuration(
    path="/config.toml",
    clients={"acme": ACME, "bare": Client(client_id="bare"), "box": Client(server="sandbox")},
    accounts={"cafe-roma": ExpectedAccount(client="acme")},
)
STORED = account("default", client_secret={"file": "/of-store"})


def test_lightspeed_staging_is_the_default() -> None:
    """Nothing but an id: L-Series staging, its redirect URI, Basic, and a secret that is yet to be asked for."""
    found, secret = config.registration(Wanted(client_id="id"), LOADED, "default", None)
    assert found.server == presets()[STAGING]
    assert (found.client_id, found.redirect_uri) == ("id", "https://localhost:8000/")
    assert (found.token_endpoint_auth_method, found.scope, found.ca_file) == ("client_secret_basic", None, None)
    assert secret is None


@pytest.mark.parametrize(
    ("wanted", "client_id", "secret"),
    [
        (Wanted(), "of-config", {"file": "/of-config"}),
        (Wanted(environment_client_id="of-env"), "of-env", {"file": "/of-config"}),
        (Wanted(environment_client_secret={"env": "E"}), "of-config", {"env": "E"}),
        (Wanted(client="acme", client_id="of-flag", environment_client_id="of-env"), "of-flag", {"file": "/of-config"}),
        (
            Wanted(client_secret={"file": "/of-flag"}, environment_client_secret={"env": "E"}),
            "of-config",
            {"file": "/of-flag"},
        ),
    ],
)
def test_flag_then_environment_then_config(wanted: Wanted, client_id: str, secret: dict[str, str]) -> None:
    """For id and secret alike: the flag, else the variable, else config.toml; what is stored comes behind all three."""
    found, reference = config.registration(wanted, LOADED, "cafe-roma", replace(STORED, name="cafe-roma"))
    assert (found.client_id, reference) == (client_id, secret)
    assert found.server.name == STAGING


def test_flags_win_over_config() -> None:
    """Each flag takes the place of what the client of config.toml says, and of nothing else."""
    wanted = Wanted(
        client="acme",
        server="lightspeed-l-production",
        redirect_uri="http://localhost:2/",
        scope="of-flag",
        token_endpoint_auth_method="client_secret_post",
        ca_file="/of-flag",
    )
    found, reference = config.registration(wanted, LOADED, "default", None)
    assert found.server.name == "lightspeed-l-production"
    assert (found.client_id, found.redirect_uri, found.scope) == ("of-config", "http://localhost:2/", "of-flag")
    assert (found.token_endpoint_auth_method, found.ca_file) == ("client_secret_post", "/of-flag")
    assert reference == {"file": "/of-config"}


def test_what_is_stored_comes_before_the_default() -> None:
    """An account that is known is logged in to again, without flags and config."""
    found, reference = config.registration(Wanted(), LOADED, "default", STORED)
    assert (found, reference) == (STORED.registration, {"file": "/of-store"})


def test_flags_and_variables_change_what_is_stored() -> None:
    """Flags change a stored registration field by field; id and secret of the environment go together."""
    wanted = Wanted(
        scope="of-flag",
        redirect_uri="http://localhost:2/",
        environment_client_id="of-env",
        environment_client_secret={"env": "E"},
    )
    found, reference = config.registration(wanted, LOADED, "default", STORED)
    assert found.server == STORED.registration.server
    assert (found.client_id, found.scope, found.redirect_uri) == ("of-env", "of-flag", "http://localhost:2/")
    assert reference == {"env": "E"}


@pytest.mark.parametrize("chosen", [{"server": STAGING}, {"client_id": "id"}, {"client": "acme"}])
def test_who_names_a_server_starts_anew(chosen: dict[str, Any]) -> None:
    """A server, a client or an id on the command line: nothing of the stored account is mixed in."""
    wanted = Wanted(environment_client_id="of-env", **chosen)
    found, reference = config.registration(wanted, LOADED, "default", STORED)
    assert found.server == presets()[STAGING]
    assert reference != {"file": "/of-store"}


@pytest.mark.parametrize("wanted", [Wanted(server="sandbox"), Wanted(client="box")])
def test_the_sandboxs_credentials_win_over_variables(wanted: Wanted) -> None:
    """Variables for Lightspeed's keys do not spoil the sandbox, nor go to it."""
    with_variables = replace(wanted, environment_client_id="of-env", environment_client_secret={"env": "E"})
    found, reference = config.registration(with_variables, LOADED, "default", None)
    assert (found.client_id, reference) == ("sandbox", {"preset": True})
    assert found.redirect_uri == "http://127.0.0.1:0/"
    again, reference = config.registration(
        replace(with_variables, server=None, client=None),
        LOADED,
        "default",
        account(registration=found, client_secret={"preset": True}),
    )
    assert (again, reference) == (found, {"preset": True})


def test_flags_win_over_the_sandboxs_credentials() -> None:
    """A client of one's own at the sandbox is what the flags say."""
    wanted = Wanted(server="sandbox", client_id="mine", client_secret={"file": "/mine"})
    found, reference = config.registration(wanted, LOADED, "default", None)
    assert (found.client_id, reference) == ("mine", {"file": "/mine"})


def test_a_server_by_its_endpoints() -> None:
    """Both endpoints make a server; without a secret its client is public."""
    wanted = Wanted(
        client_id="id",
        authorization_endpoint="https://IDP.example/authorize",
        token_endpoint="https://idp.example:8443/token",
        issuer="https://idp.example",
    )
    found, reference = config.registration(wanted, LOADED, "default", STORED)
    assert found.server.name == "idp.example:8443"
    assert found.server.authorization_endpoint == "https://idp.example/authorize"
    assert found.server.issuer == "https://idp.example"
    assert (found.token_endpoint_auth_method, found.redirect_uri) == ("none", "http://127.0.0.1:0/")
    assert reference is None
    with_secret = replace(wanted, environment_client_secret={"env": "E"})
    assert config.registration(with_secret, LOADED, "default", None)[0].token_endpoint_auth_method == (
        "client_secret_basic"
    )


ENDPOINT = "https://idp.example/"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(authorization_endpoint=ENDPOINT), "--token-endpoint is missing"),
        (Wanted(token_endpoint=ENDPOINT), "--authorization-endpoint is missing"),
        (
            Wanted(server="sandbox", authorization_endpoint=ENDPOINT, token_endpoint=ENDPOINT),
            "--server and --token-endpoint exclude each other",
        ),
        (
            Wanted(client_id="id", authorization_endpoint="http://evil.example/", token_endpoint=ENDPOINT),
            "the authorization_endpoint is not protected: http://evil.example/",
        ),
        (Wanted(client="acne"), "there is no client called acne in /config.toml"),
        (Wanted(server="sandbxo"), "there is no server called sandbxo"),
        (Wanted(client_id=" id"), "the client_id begins or ends with a space"),
        (Wanted(client_id="id\n"), r"the client_id holds something else than printable ASCII: id\x0a"),
        (Wanted(client_id="ïd"), r"the client_id holds something else than printable ASCII: \xc3\xafd"),
        (
            Wanted(client_id="id", redirect_uri="https://evil.example/"),
            "the redirect_uri does not come back to this machine: https://evil.example/",
        ),
    ],
)
def test_what_cannot_work_is_told_before_anything_opens(wanted: Wanted, message: str) -> None:
    """Flags that cannot work are a configuration error."""
    with pytest.raises(ConfigurationError) as caught:
        config.registration(wanted, LOADED, "default", None)
    assert str(caught.value) == message


def test_the_nearest_client_is_named() -> None:
    """An unknown client: the nearest one, and all of them."""
    with pytest.raises(ConfigurationError) as caught:
        config.registration(Wanted(client="acne"), LOADED, "default", None)
    assert caught.value.hint == ("did you mean acme?", "known clients: acme, bare, box")


def test_without_an_id_it_is_said_where_one_comes_from() -> None:
    """Nobody has keys on the first day: the hint names who gives them, and the sandbox."""
    with pytest.raises(RegistrationIncomplete) as caught:
        config.registration(Wanted(), Configuration(path="/config.toml"), "default", None)
    assert "--client-id" in str(caught.value)
    assert any("restaurant.support@lightspeedhq.com" in hint for hint in caught.value.hint)
    assert any("loopback-auth login --server sandbox" in hint for hint in caught.value.hint)


def test_a_ca_file_is_stored_as_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`token` runs in another folder than `login` did."""
    monkeypatch.chdir(tmp_path)
    found, _ = config.registration(Wanted(client_id="id", ca_file="ca.pem"), LOADED, "default", None)
    assert found.ca_file == str(tmp_path / "ca.pem")
    again, _ = config.registration(Wanted(ca_file="other.pem"), LOADED, "default", STORED)
    assert again.ca_file == str(tmp_path / "other.pem")


# --- a proxy ---

PROXIES = """
[clients.own]
client_id = "c"
proxy = "http://user:s3kr1t-proxy@own.example:3128"

[clients.other]
client_id = "c"
"""


@pytest.mark.parametrize(
    ("top", "client", "proxy"),
    [
        ("", "other", None),
        ('proxy = "https://all.example"\n', "other", "https://all.example"),
        ('proxy = "https://all.example"\n', "own", "http://user:s3kr1t-proxy@own.example:3128"),
    ],
)
def test_whose_proxy(home: Path, environ: dict[str, str], top: str, client: str, proxy: str | None) -> None:
    """A client's own proxy, else the one for all; it becomes part of the registration, and shows itself nowhere."""
    write(home, top + PROXIES)
    read = config_file.load(environ)
    registration, _ = config.registration(Wanted(client=client), read, "default", None)
    assert registration.proxy == proxy
    assert "s3kr1t" not in f"{registration!r}{read!r}"


def test_a_later_login_takes_the_proxy_of_the_config(home: Path, environ: dict[str, str]) -> None:
    """An account that is logged in again goes by way of the proxy that is configured now, else by the stored one."""
    stored = account(registration=replace(account().registration, proxy="http://stored.example:3128"))
    again, _ = config.registration(Wanted(), config_file.load(environ), stored.name, stored)
    assert again.proxy == "http://stored.example:3128"
    write(home, 'proxy = "http://now.example:3128"\n')
    again, _ = config.registration(Wanted(), config_file.load(environ), stored.name, stored)
    assert again.proxy == "http://now.example:3128"


@pytest.mark.parametrize(
    "proxy", ["1", "'proxy.example'", "'socks5://p'", "'http://'", "'http://a:99999'", "'http://[::1'"]
)
def test_a_proxy_that_is_none(home: Path, environ: dict[str, str], proxy: str) -> None:
    """What is no URL of an http proxy is said when the config is read, and is not repeated."""
    write(home, f"proxy = {proxy}\n")
    assert str(refused(environ)).startswith("proxy in ")
