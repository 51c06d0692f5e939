"""What people write: config.toml, where a secret is, a duration, variables of the environment."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

import click
import tomlkit
from hypothesis import strategies as st

from loopback_auth import client_secret, config, config_edit, config_file
from loopback_auth.cli.options import Duration
from loopback_auth.config import Wanted
from loopback_auth.errors import ConfigurationError, LoopbackAuthError
from loopback_auth.oauth.registration import is_loopback, is_proxy, parse_redirect_uri
from loopback_auth.redirect.browser import browser_command, forwarding_command
from tests.oauth.registrations import registration

from .shapes import ANY_TEXT, nearly, nearly_bytes, nearly_json
from .stored import folder
from .target import MARK, Target, parsed, tells_nothing

# --- config.toml ---

EXAMPLE = {
    "allow_network_store": False,
    "proxy": f"http://user:{MARK}word@proxy.example:3128",
    "sandbox": {"port": 8931},
    "clients": {
        "acme": {
            "server": "mine",
            "client_id": "acme-1",
            "client_secret": f"{MARK}client",
            "redirect_uri": "https://localhost:8000/",
            "token_endpoint_auth_method": "client_secret_post",
            "scope": "a b",
            "ca_file": "/ca.pem",
            "proxy": f"http://user:{MARK}word@proxy.example",
        },
        "b": {"client_secret": {"command": ["pass", "acme"]}},
        "c": {"client_secret": {"keyring": True}},
        "d": {"client_secret": {"file": "~/keys/acme"}},
    },
    "accounts": {"cafe-roma": {"client": "acme", "company_id": 4711}},
    "servers": {
        "mine": {
            "authorization_endpoint": "https://idp.example/authorize",
            "token_endpoint": "https://idp.example/token",
            "state": "unconfirmed",
            "code_lifetime": 60,
        }
    },
}


def _toml(value: Any) -> bytes:
    """Write what TOML can hold of a value."""
    return tomlkit.dumps(_holdable(value if isinstance(value, dict) else {"clients": value})).encode(errors="replace")


def _holdable(value: Any) -> Any:
    match value:
        case dict():
            return {name: _holdable(one) for name, one in value.items() if one is not None}
        case list():
            return [_holdable(one) for one in value if one is not None]
        case str():
            return value.encode(errors="replace").decode()
        case int() if abs(value) > 2**64:
            return 2**64
    return value


CONFIGURATIONS = nearly_bytes(nearly_json(st.just(EXAMPLE), 2).map(_toml), 1)


def check_configuration(content: bytes) -> bool:
    """A configuration each of whose clients can be looked at and logged in with, or which key is wrong."""
    home = folder()
    path = home / "config.toml"
    path.write_bytes(content)
    path.chmod(0o600)
    environ = {"LOOPBACK_AUTH_HOME": str(home)}
    good, loaded = parsed(lambda: config_file.load(environ), ConfigurationError)
    if loaded is not None:
        tells_nothing(loaded)
        assert 0 < loaded.sandbox_port < 65536
        assert loaded.proxy is None or is_proxy(loaded.proxy)
        for name, client in loaded.clients.items():
            parsed(
                lambda name=name: config.registration(Wanted(client=name, client_id="id"), loaded, "default", None),  # type: ignore[misc]  # called at once
                ConfigurationError,
            )
            assert client.redirect_uri is None or is_loopback(parse_redirect_uri(client.redirect_uri).host)
            assert isinstance(client.client_secret, dict | None)
        for account in loaded.accounts.values():
            assert isinstance(account.company_id, str | None)
        for server in loaded.servers:
            assert loaded.server(server)
    return good


CONFIGURATION: Target[bytes] = Target(
    "config.toml",
    CONFIGURATIONS,
    check_configuration,
    kept=(
        b"[sandbox]\nport = 0x" + b"f" * 5000,
        b"[sandbox]\nport = '" + "\u0661".encode() + b"'",
        b"[sandbox]\nport = '" + b"9" * 5000 + b"'",
        b"[accounts.a]\nclient = 'b'\ncompany_id = 0x" + b"f" * 5000,
        b"[accounts.a]\nclient = 'b'\ncompany_id = true",
        b"a = " + b"[" * 5000,
        b"a = " + b"9" * 5000,
        b"a" + b".a" * 5000 + b" = 1",
        b"[clients.a]\nclient_secret = s3kr1t-unquoted\n",
        b"[clients.a]\nclient_secret = 's3kr1t-unclosed\n",
        b"[clients.a]\nproxy = 'http://user:s3kr1t-word@['\n",
        b"[clients.a]\nclient_secret = { file = '~\\u0000' }\n".replace(b"'", b'"'),
        b"[clients.a]\nclient_secret = { command = [] }\n",
        b"[servers.mine]\nauthorization_endpoint = 'https://a/'\ntoken_endpoint = 'https://a/'\ncode_lifetime = 0x"
        + b"f" * 400,
        "\ufeff".encode() + b"[clients.a]\n",
        b"[clients.'']\n[clients.'\\x1b[2J']\nx = 1\n",
        b"\xff",
        b"d = 0000-00-00",
        b"d = 9999-99-99T99:99:99Z",
    ),
    share=0.15,
    examples=100,
    large=(
        lambda size: b"a = " + b"[" * size,
        lambda size: b"#" * size,
        lambda size: b'a = "' + b"\\u0041" * (size // 6) + b'"',
        lambda size: b"a = 0x" + b"f" * size,
        lambda size: b"".join(b"[a%d]\n" % number for number in range(size // 8)),
    ),
    limit=16 * 1024,
)


def check_edit(drawn: tuple[bytes, str, str, Mapping[str, Any]]) -> bool:
    """What is edited stays TOML and valid, says what it was told to, and keeps every comment and every other key."""
    content, account, name, members = drawn
    path = folder() / "edited" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        before = tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        before = None
    good, _ = parsed(lambda: config_edit.save_client(str(path), account, name, members), LoopbackAuthError)
    after = path.read_bytes()
    if not good:
        assert after == content, "refused, and changed all the same"
        return False
    assert before is not None, "what was not TOML was edited"
    data = tomllib.loads(after.decode())
    assert {key: data["clients"][name][key] for key in members} == members
    assert data["accounts"][account]["client"] == name
    for one in (before, data):
        for key in members:
            one.get("clients", {}).get(name, {}).pop(key, None)
        one.get("accounts", {}).get(account, {}).pop("client", None)
        for table, key in (("clients", name), ("accounts", account)):
            if not one.get(table, {}).get(key, True):
                del one[table][key]
            if not one.get(table, True):
                del one[table]
    assert data == before, "another key was changed"
    for line in content.decode().splitlines():
        if line.startswith("#!"):
            assert line in after.decode().splitlines(), "a comment was lost"
    config_edit.save_client(str(path), account, name, members)
    assert path.read_bytes() == after, "done twice it is not the same"
    assert path.stat().st_mode & 0o777 == 0o600
    return True


_EDITABLE = (
    b"#! mine\n[clients.acme] # here\nserver = 'x'\nclient_id='a'\n\n#! end\n",
    b"#! mine\n[accounts.cafe]\nclient = 'acme'\n\n#! two\n[clients.acme]\nclient_secret = { file = 'x' } # inline\n",
    b"clients.acme.server = 'x'\n#! dotted\naccounts.cafe.client = 'acme'\n",
    b"clients = { acme = { server = 'x' } }\n#! inline\naccounts = {}\n",
    b"#! only a comment",
    b"",
    b"[clients]\n#! nothing in it\n[accounts]\n",
    b"[clients.acme]\n#! in between\n[servers.mine]\ntitle = 'x'\n[clients.other]\nserver = 'x'\n",
    b"[accounts]\n[clients.acme.client_secret]\n# a table\nfile = 'x'\n[servers]\n",
    b"#! windows\r\n[clients.acme]\r\nserver = 'x'\r\n",
    b"[[clients]]\n#! an array\nserver = 'x'\n",
    b"clients = 5\n#! a number\n",
    b"[clients]\nacme = 5\n",
)
NAMES = st.sampled_from(
    ["acme", "cafe", "default", "a.b", "", "a b", "ü", '"', "'", "\x1b", "server", "\\", "#", "[x]"]
)
MEMBERS = st.fixed_dictionaries(
    {"server": st.sampled_from(["lightspeed-l-staging", 'a"b', "ü", "\n", "\\u0041", "\x7f", "'''"])},
    optional={
        "client_id": st.sampled_from(["id", "", "#", "a\tb", "\U0001f512"]),
        "client_secret": st.sampled_from([{"file": "/x"}, {"env": "A"}, {"command": ["a", "b"]}]),
    },
)
EDIT: Target[tuple[bytes, str, str, Mapping[str, Any]]] = Target(
    "config.toml, edited",
    st.tuples(nearly_bytes(st.sampled_from(_EDITABLE), 1), NAMES, NAMES, MEMBERS),
    check_edit,
    kept=(
        *tuple((content, "cafe", "acme", {"server": "s", "client_id": "i"}) for content in _EDITABLE),
        (b"a = " + b"[" * 5000, "cafe", "acme", {}),
        (b"a = " + b"9" * 5000, "cafe", "acme", {}),
        (b"\xff", "cafe", "acme", {}),
        ("\ufeff".encode(), "cafe", "acme", {"server": "s"}),
        (b"a = 1\ra = 2\n", "cafe", "acme", {"server": "s"}),
    ),
    share=0.3,
    examples=80,
)

# --- where a client secret is ---


RIGHT_REFERENCES = st.sampled_from(
    [
        {"env": "SECRET"},
        {"env": "EMPTY"},
        {"file": "secret"},
        {"file": "many"},
        {"config": "acme"},
        {"command": [sys.executable, "-I", "-S", "-c", "print('s3kr1t-command')"]},
    ]
)
PLACES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "\0", "\ud800", "/", "/nonexistent\n", 5, [], [[]], {}, True, ["/nonexistent"], ["\0"], ["."]]
)
REFERENCES = st.sampled_from(range(4)).flatmap(
    lambda kind: (
        RIGHT_REFERENCES
        if kind
        else st.dictionaries(
            st.sampled_from(["env", "file", "command", "config", "preset", "x"]), PLACES, min_size=1, max_size=2
        )
    )
)
SECRETS = nearly(st.sampled_from(["s3kr1t-x", "s3kr1t-x", "s3kr1t-x\n", "s3kr1t-x\r\n", "s3kr1t-x\n\n", ""]), 1)
CONFIGS = nearly_bytes(st.sampled_from([b"[clients.acme]\nclient_secret = 's3kr1t-config'\n", b""]), 1)


def check_secret(drawn: tuple[Any, str, bytes]) -> bool:
    """A secret that is there comes without one line end; one that is not is called missing, and none is said."""
    reference, text, written = drawn
    home = folder() / "secrets"
    home.mkdir(exist_ok=True)
    content = text.encode(errors="surrogateescape") if _is_escaped(text) else text.encode(errors="replace")
    for name, value in (("secret", content), ("many", content * 3), ("config.toml", written)):
        path = home / name
        path.write_bytes(value)
        path.chmod(0o600)
    before = os.getcwd()
    os.chdir(home)  # a file is named as the user named it
    try:
        environ = {"LOOPBACK_AUTH_HOME": str(home), "SECRET": text, "EMPTY": ""}
        client = registration()
        good, found = parsed(lambda: client_secret.fetch(reference, client, environ), ConfigurationError)
    finally:
        os.chdir(before)
    if found is not None:
        tells_nothing(found)
        assert found
        if reference == {"file": "secret"}:
            assert found.reveal().encode(errors="surrogateescape") in (content, *_without_line_end(content))
    return good


def _is_escaped(text: str) -> bool:
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _without_line_end(content: bytes) -> tuple[bytes, ...]:
    return (content.removesuffix(b"\n"), content.removesuffix(b"\r\n"), content.removesuffix(b"\r"))


SECRET: Target[tuple[Any, str, bytes]] = Target(
    "client secret reference",
    st.tuples(REFERENCES, SECRETS, CONFIGS),
    check_secret,
    kept=(
        ({"command": []}, "", b""),
        ({"command": "ls"}, "", b""),
        ({"command": ["/"]}, "", b""),
        ({"command": [""]}, "", b""),
        ({"command": ["\0"]}, "", b""),
        ({"command": ["\ud800"]}, "", b""),
        ({"file": ""}, "", b""),
        ({"file": "\0"}, "", b""),
        ({"file": "\ud800"}, "", b""),
        ({"file": "."}, "", b""),
        ({"env": "A=B\0"}, "", b""),
        ({"config": "acme"}, "", b"a = " + b"[" * 5000),
        ({"config": "acme"}, "", b"clients = 5"),
        ({"config": "acme"}, "", b"[[clients]]"),
        ({"config": "acme"}, "", b"[clients]\nacme = 's3kr1t-x'"),
        ({"config": "acme"}, "", b"[clients.acme]\nclient_secret = s3kr1t-unquoted"),
        ({"config": "acme"}, "", b"\xff"),
        ("x", "", b""),
        ([], "", b""),
    ),
    share=0.15,
    examples=60,
)

# --- a duration, and the environment ---

DURATION_KIND = Duration()


def check_duration(text: str) -> bool:
    """Seconds, more than none and fewer than for ever, or a usage error."""
    try:
        seconds = DURATION_KIND.convert(text, None, None)
    except click.UsageError as error:
        assert error.message.isascii()
        assert error.message.isprintable()
        assert len(error.message) < 200
        return False
    assert isinstance(seconds, float)
    assert 0 < seconds < float("inf")
    return True


DURATION: Target[str] = Target(
    "duration",
    nearly(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,3})?[smhd]?", fullmatch=True), 2),
    check_duration,
    kept=(
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "infinity",
        "1e400",
        "1e308d",
        "5mm",
        "m",
        "\u0661m",
        "1_0s",
        " 5m ",
        "5 m",
        "\ud800",
    ),
    share=0.3,
    large=(lambda size: "9" * size, lambda size: "1" + "s" * size, lambda size: "1" * 300 + " " * size + "m"),
    limit=128 * 1024,
)

VARIABLES = st.fixed_dictionaries(
    {},
    optional={
        "BROWSER": nearly(
            st.sampled_from(["firefox", "firefox -P 'a b' %s", '"a b"/c', "", "  ", "''", "a:b", "%s", "$(id)", "\\"]),
            2,
        ),
        "SSH_CONNECTION": nearly(
            st.sampled_from(["203.0.113.7 50000 198.51.100.2 22", "::1 50000 2001:db8::1 2222", "a b c", ""]), 2
        ),
        "USER": st.sampled_from(["me", "", "a b", "$(id)", "ü"]) | ANY_TEXT,
        "DISPLAY": st.sampled_from([":0", ""]),
        "WSL_DISTRO_NAME": st.sampled_from(["Debian", ""]),
        "PATH": st.sampled_from(["/usr/bin:/bin", "", "\ud800", ":" * 100]),
    },
)


def check_environment(environ: Mapping[str, str]) -> bool:
    """The words of a browser's command, or why there is none; the line for ssh is one line of printable ASCII."""
    command = browser_command(environ)
    if isinstance(command, str):
        assert command.isascii()
        assert command.isprintable()
    else:
        assert command
        assert all(isinstance(word, str) for word in command)
    line = forwarding_command("::1", 8000, environ)
    assert line is None or (line.isascii() and line.isprintable() and line.startswith("ssh -L 8000:[::1]:8000 "))
    return not isinstance(command, str) or line is not None


ENVIRONMENT: Target[Mapping[str, str]] = Target(
    "BROWSER, SSH_CONNECTION",
    VARIABLES,
    check_environment,
    kept=(
        *({"BROWSER": text} for text in ("''", '"', "\\", "\x0b", "\x1c", "\u2003", "#", "a\0b", "\ud800", "a\nb")),
        *({"SSH_CONNECTION": text} for text in ("a b c d", "\0 \0 \0 \0", "1 2 3 22\n", "ü ü ü ü", "a b \x1b[2J 22")),
    ),
    share=0.3,
    large=(
        lambda size: {"BROWSER": "'a' " * (size // 4)},
        lambda size: {"BROWSER": "\\" * size},
        lambda size: {"SSH_CONNECTION": " ".join(["x" * (size // 4)] * 4)},
    ),
    limit=128 * 1024,
)

TARGETS = (CONFIGURATION, EDIT, SECRET, DURATION, ENVIRONMENT)
