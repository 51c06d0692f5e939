"""Where a client secret is, and fetching it from there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopback_auth import client_secret
from loopback_auth.client_secret import fetch, forget, keep
from loopback_auth.errors import ConfigurationError, LoopbackAuthError
from loopback_auth.oauth.registration import ClientRegistration
from loopback_auth.oauth.servers import find_server
from loopback_auth.secret import Secret
from loopback_auth.store.base import SecretReference
from tests.store.accounts import REGISTRATION
from tests.store.planted import PLANTED, mode

SECRET = "s3kr1t-client"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir(0o700)
    return {"LOOPBACK_AUTH_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}


@pytest.fixture
def home(environ: dict[str, str]) -> Path:
    return Path(environ["LOOPBACK_AUTH_HOME"])


def refused(reference: SecretReference | None, environ: dict[str, str]) -> LoopbackAuthError:
    with pytest.raises(LoopbackAuthError) as caught:
        fetch(reference, REGISTRATION, environ)
    shown = f"{caught.value}{caught.value.hint}"
    assert "s3kr1t" not in shown
    assert str(caught.value).isascii()
    return caught.value


def missing(reference: SecretReference | None, environ: dict[str, str]) -> str:
    error = refused(reference, environ)
    assert isinstance(error, ConfigurationError)
    assert error.hint == ("put it there, or log in with --client-secret-file FILE, or with --client-secret-stdin",)
    before = "the client_secret of s6BhdRkqt3 is missing: "
    assert str(error).startswith(before)
    return str(error).removeprefix(before)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("s3kr1t-client", "s3kr1t-client"),
        ("s3kr1t-client\n", "s3kr1t-client"),
        ("s3kr1t-client\r\n", "s3kr1t-client"),
        ("s3kr1t-client\n\n", "s3kr1t-client\n"),
        (" s3kr1t-client \n", " s3kr1t-client "),
        ("s3kr1t-ü:%\n", "s3kr1t-ü:%"),
    ],
)
def test_one_line_end_is_not_part_of_the_secret(tmp_path: Path, environ: dict[str, str], raw: str, kept: str) -> None:
    """An editor's newline inside Basic is a 401; everything else belongs to the secret, wherever it comes from."""
    path = tmp_path / "secret"
    path.write_text(raw, newline="")
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    references: list[SecretReference] = [
        {"file": str(path)},
        {"env": "ACME"},
        {"command": [sys.executable, "-c", program, str(path)]},
    ]
    for reference in references:
        assert fetch(reference, REGISTRATION, {**environ, "ACME": raw}) == Secret(kept)


def test_a_public_client_has_none(environ: dict[str, str]) -> None:
    """For `none` nothing is fetched, whatever the reference says."""
    public = ClientRegistration(
        server=REGISTRATION.server, client_id="id", redirect_uri="x", token_endpoint_auth_method="none"
    )
    assert fetch({"file": "/nonexistent"}, public, environ) is None
    assert fetch(None, public, environ) is None


def test_the_sandboxs_secret_is_in_its_preset(environ: dict[str, str]) -> None:
    """A published secret is fetched from the registration itself."""
    sandbox = ClientRegistration(
        server=find_server("sandbox", {}),
        client_id="sandbox",
        redirect_uri="x",
        token_endpoint_auth_method="client_secret_basic",
    )
    assert fetch({"preset": True}, sandbox, environ) == Secret("sandbox-secret")
    assert missing({"preset": True}, environ) == "the preset holds no secret"


def test_what_is_not_there_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    """An empty secret is none; the place that should hold it is named."""
    (tmp_path / "empty").write_text("\n")
    assert missing(None, environ) == "nobody said where it is"
    assert missing({"nonsense": 1}, environ) == "nobody said where it is"
    assert missing({"env": "ACME"}, environ) == "the variable ACME is not set"
    assert missing({"env": "ACME"}, {**environ, "ACME": "\n"}) == "the variable ACME is not set"
    assert missing({"file": str(tmp_path / "empty")}, environ) == f"the file {tmp_path}/empty is empty"
    assert missing({"command": ["true"]}, environ) == "the command true printed nothing"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "cannot be read: no such file or directory"),
        ("", "cannot be read: is a directory"),
        ("a\0b", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, environ: dict[str, str], path: str, reason: str) -> None:
    """The file and the reason, exit status 3."""
    error = refused({"file": f"{tmp_path}/{path}"}, environ)
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith("the client_secret file ")
    assert reason in str(error)


def test_a_file_may_be_a_pipe(environ: dict[str, str], tmp_path: Path) -> None:
    """`--client-secret-file <(pass acme)`: what a shell hands over can be read."""
    import os
    import threading

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(SECRET + "\n",))
    writer.start()
    assert fetch({"file": str(fifo)}, REGISTRATION, environ) == Secret(SECRET)
    writer.join()


def test_a_command_does_not_see_our_secrets(environ: dict[str, str]) -> None:
    """The child gets the environment without our secrets, no stdin, and no shell."""
    program = (
        "import os, sys; "
        "print(sorted(name for name in os.environ if name.startswith('LOOPBACK')), sys.stdin.read(), sys.argv[1])"
    )
    secrets = {"LOOPBACK_AUTH_CLIENT_SECRET": SECRET, "LOOPBACK_AUTH_STORE_KEY": "s3kr1t-key"}
    found = fetch({"command": [sys.executable, "-c", program, "$HOME;id"]}, REGISTRATION, {**environ, **secrets})
    assert found == Secret("['LOOPBACK_AUTH_HOME']  $HOME;id")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["false"], "the client_secret command false ended with 1"),
        (["sh", "-c", "echo s3kr1t-client; exit 3"], "the client_secret command sh ended with 3"),
        (["/nonexistent/pass"], "the client_secret command /nonexistent/pass did not work: no such file or directory"),
        (["/"], "the client_secret command / did not work: permission denied"),
        (["a\0b"], r"the client_secret command a\x00b did not work: it is not a command"),
    ],
)
def test_a_command_that_fails(environ: dict[str, str], words: list[str], message: str) -> None:
    """A command that does not start or does not succeed: what it printed is no secret, and is not shown."""
    assert str(refused({"command": words}, environ)) == message


def test_a_secret_in_the_config(home: Path, environ: dict[str, str]) -> None:
    """A literal secret is fetched from config.toml each time: a new one is found, a removed one is missed."""
    path = home / "config.toml"
    for secret in (SECRET, "s3kr1t-new"):
        path.write_text(f"[clients.acme]\nclient_secret = '{secret}'\n")
        path.chmod(0o600)
        assert fetch({"config": "acme"}, REGISTRATION, environ) == Secret(secret)
    path.write_text("[clients.acme]\nclient_secret = { env = 'ACME' }\n[clients.other]\nclient_secret = 's3kr1t-'\n")
    assert missing({"config": "acme"}, environ) == "[clients.acme] in config.toml holds no client_secret any more"
    path.write_text("")
    assert missing({"config": "acme"}, environ) == "[clients.acme] in config.toml holds no client_secret any more"


@pytest.mark.parametrize("what", ["gone", "not TOML", "clients is no table", "client is no table"])
def test_a_config_that_holds_nothing_any_more(home: Path, environ: dict[str, str], what: str) -> None:
    """A config.toml that was removed or damaged since the login is a configuration error, no crash."""
    contents = {
        "not TOML": "nonsense",
        "clients is no table": "clients = 1",
        "client is no table": "[clients]\nacme = 1",
    }
    if what in contents:
        (home / "config.toml").write_text(contents[what])
        (home / "config.toml").chmod(0o600)
    assert isinstance(refused({"config": "acme"}, environ), ConfigurationError)


def test_a_config_that_others_can_read_since(home: Path, environ: dict[str, str]) -> None:
    """A literal secret in a file that was opened to others since the login is refused, with what to type."""
    path = home / "config.toml"
    path.write_text(f"[clients.acme]\nclient_secret = '{SECRET}'\n")
    path.chmod(0o644)
    error = refused({"config": "acme"}, environ)
    assert "can be read" in str(error)
    assert f"chmod 600 {path}" in error.hint


def test_a_secret_is_kept_and_forgotten(home: Path, environ: dict[str, str]) -> None:
    """What was typed or piped in is kept 0600 in a folder 0700, fetched from there, and forgotten with the account."""
    reference = keep("default", Secret(SECRET), environ)
    assert reference == {"file": str(home / "secrets" / "default")}
    assert (mode(home / "secrets"), mode(home / "secrets" / "default")) == ("0700", "0600")
    assert fetch(reference, REGISTRATION, environ) == Secret(SECRET)
    forget("other", reference, environ)
    assert (home / "secrets" / "default").exists()
    for _ in range(2):
        forget("default", reference, environ)
        assert not (home / "secrets" / "default").exists()


@pytest.mark.parametrize("name", ["../../outside", "a/b", "..", ".", "", "ü", "a\0b"])
def test_a_kept_secret_stays_in_its_folder(home: Path, environ: dict[str, str], name: str) -> None:
    """No name leads out of the folder."""
    try:
        reference = keep(name, Secret(SECRET), environ)
    except LoopbackAuthError:
        return
    path = Path(reference["file"])
    assert path.parent == home / "secrets"
    assert path.is_file()


@pytest.mark.parametrize(("plant", "message", "hint"), PLANTED)
def test_a_kept_secret_that_was_planted_is_refused(
    home: Path, environ: dict[str, str], plant: Callable[[Path], None], message: str, hint: str
) -> None:
    """What `keep` saved must be as it was saved, in a folder that is this user's alone; a pipe holds nobody up."""
    reference = keep("default", Secret(SECRET), environ)
    kept = home / "secrets" / "default"
    plant(kept)
    error = refused(reference, environ)
    assert (str(error), error.hint, error.exit_status) == (message.format(kept), (hint.format(kept),), 8)
    kept.parent.chmod(0o777)
    assert str(refused(reference, environ)) == f"{kept.parent} can be entered by other users"


@pytest.mark.parametrize("reference", [None, {"env": "A"}, {"file": 5}])
def test_what_was_not_kept_is_not_removed(tmp_path: Path, environ: dict[str, str], reference: Any) -> None:
    """A secret that lives elsewhere is not ours to remove."""
    elsewhere = tmp_path / "secret"
    elsewhere.write_text(SECRET)
    forget("default", reference, environ)
    forget("default", {"file": str(elsewhere)}, environ)
    forget("default", {"file": str(tmp_path / "home" / "secrets" / ".." / ".." / "secret")}, environ)
    forget("../../secret", {"file": str(elsewhere)}, environ)
    assert elsewhere.exists()


def test_the_variable_has_the_documented_name() -> None:
    """The variable is part of the contract."""
    assert client_secret.VARIABLE == "LOOPBACK_AUTH_CLIENT_SECRET"
