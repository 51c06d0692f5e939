"""First use: questions on a terminal, checked at once; the flags to give where nobody can be asked."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .machine import MARK, Machine, SandboxProcess, allowed, free_port
from .ptys import CTRL_C, Pty

CLIENT_ID = "acme-9001"
SECRET = f"{MARK}of-acme"
SERVER, ID, ASKED_SECRET, URI = r"Server \[", r"Client id \(", r"Client secret \(not shown", r"Redirect URI, exactly"


@dataclass(frozen=True)
class Staging:
    """A sandbox that poses as the staging server, with one client and one redirect URI registered."""

    sandbox: SandboxProcess
    redirect_uri: str
    server: str
    """The part of a config that leads there."""


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    folder = tmp_path_factory.mktemp("staging")
    secret_file = folder / "secret"
    secret_file.write_text(SECRET + "\n")
    redirect_uri = f"https://localhost:{free_port()}/"
    client = ("--client-id", CLIENT_ID, "--client-secret-file", str(secret_file), "--redirect-uri", redirect_uri)
    sandbox = SandboxProcess.start(folder / "sandbox", *client)
    base = sandbox.base
    server = (
        "[servers.lightspeed-l-staging]  # a sandbox\n"
        f'authorization_endpoint = "{base}oauth2/v1/authorize"\n'
        f'token_endpoint = "{base}oauth2/v1/token"\n'
        f'api_base = "{base}"\n'
    )
    yield Staging(sandbox, redirect_uri, server)
    sandbox.close()


@pytest.fixture
def staging(machine: Machine, registered: Staging) -> Staging:
    registered.sandbox.forget()
    machine.configure(registered.server)
    return registered


def finish_in_browser(machine: Machine, terminal: Pty) -> None:
    """Be the browser, which trusts the certificate that was made for localhost."""
    address = terminal.says(r"(https://localhost:\d+/start/\S+)\s")[1]
    (certificate,) = machine.home.glob("certificate/*.pem")
    allowed(address, ca_file=certificate).follow()


def test_login_asks_once_and_logs_in(machine: Machine, staging: Staging) -> None:
    """With nothing configured, login asks four questions, keeps the answers, logs in; the next time it asks none."""
    terminal = machine.pty("login", "--timeout", "20s")
    terminal.answer(SERVER, "")
    terminal.answer(ID, CLIENT_ID)
    terminal.says(ASKED_SECRET)
    terminal.until(lambda: not terminal.echoes, "the secret is not echoed")
    terminal.answer(ASKED_SECRET, SECRET)
    terminal.answer(URI, staging.redirect_uri)
    finish_in_browser(machine, terminal)
    assert terminal.end() == 0
    assert "Logged in to Cafe Roma (company 4711), stored as account default" in terminal.text
    assert MARK not in terminal.said
    assert SECRET not in machine.config
    (secret_file,) = (machine.home / "secrets").iterdir()
    assert secret_file.read_text() == SECRET + "\n"
    for path in (secret_file, machine.home / "config.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(secret_file) in machine.config
    again = machine.pty("login", "--force", "--timeout", "20s")
    finish_in_browser(machine, again)
    assert again.end() == 0
    assert "Client id" not in again.text
    assert len(staging.sandbox.token_requests) == 2


def test_nothing_of_the_config_is_lost(machine: Machine, staging: Staging) -> None:
    """Comments, order and other keys of a config that is there already survive; what was written is added."""
    before = f"# mine, and it stays\n\n{staging.server}\n[sandbox]\nport = 8931   # as ever\n"
    machine.configure(before)
    terminal = machine.pty("setup")
    for question, reply in ((SERVER, ""), (ID, CLIENT_ID), (ASKED_SECRET, SECRET), (URI, staging.redirect_uri)):
        terminal.answer(question, reply)
    assert terminal.end() == 0
    assert machine.config.startswith(before)
    added = machine.config.removeprefix(before)
    assert f'[clients.lightspeed-l-staging]\nserver = "lightspeed-l-staging"\nclient_id = "{CLIENT_ID}"' in added
    assert '[accounts.default]\nclient = "lightspeed-l-staging"' in added
    assert "Next: loopback-auth login\n" in terminal.text


def test_setup_edits_what_is_there(machine: Machine, staging: Staging) -> None:
    """Pressing Enter keeps each answer, the secret included; one new answer changes one line, comments stay."""
    secret = machine.home / "key"
    before = (
        f"{staging.server}\n"
        "[clients.acme]  # by hand\n"
        f'client_id = "{CLIENT_ID}"  # from the mail\n'
        f'client_secret = {{ file = "{secret}" }}\n'
        'redirect_uri = "https://localhost:9/"\n\n'
        '[accounts.default]\nclient = "acme"\ncompany_id = 4711 # ours\n'
    )
    machine.configure(before)
    secret.write_text(SECRET)
    terminal = machine.pty("setup")
    terminal.answer(SERVER, "")
    terminal.answer(ID + r".*\[acme-9001\]", "")
    terminal.answer(ASKED_SECRET + "; empty keeps the one that is there", "")
    terminal.answer(URI + r".*\[https://localhost:9/\]", staging.redirect_uri)
    assert terminal.end() == 0
    after = before.replace("https://localhost:9/", staging.redirect_uri)
    changed = set(machine.config.splitlines()) ^ set(after.splitlines())
    assert changed <= {'server = "lightspeed-l-staging"', ""}
    assert not (machine.home / "secrets").exists()
    assert MARK not in terminal.said


def test_wrong_answers_are_refused_at_once(machine: Machine, staging: Staging) -> None:
    """Each answer is checked before the next question: server, ids of elsewhere, no secret, odd redirect URIs."""
    machine.configure(staging.server + '\n[clients.real]\nserver = "lightspeed-l-production"\nclient_id = "of-prod"\n')
    terminal = machine.pty("setup")
    terminal.answer(SERVER, "lightspeed-l-stagin")
    terminal.says("hint: did you mean lightspeed-l-staging")
    terminal.answer(SERVER, "")
    terminal.answer(ID, "devp-v2-demo-123")
    terminal.says(r"error: the client_id devp-v2-demo-123 is one of K-Series \(trial\)")
    terminal.answer(ID, "of-prod")
    terminal.says("error: that is the id of client real at lightspeed-l-production")
    terminal.answer(ID, CLIENT_ID)
    terminal.answer(ASKED_SECRET, "")
    terminal.says("error: this server gives every client a secret")
    terminal.answer(ASKED_SECRET, SECRET)
    terminal.answer(URI, "https://elsewhere.example/")
    terminal.says("error: ")
    terminal.answer(URI, "http://localhost:8000/")
    terminal.answer("is known to take https. Was it registered so.*: ", "n")
    terminal.answer(URI, "https://localhost:8000")
    terminal.answer("has no / at its end.*: ", "y")
    assert terminal.end() == 0
    assert 'redirect_uri = "https://localhost:8000"\n' in machine.config
    assert MARK not in terminal.said


@pytest.mark.parametrize("command", ["login", "setup"])
def test_no_keys_yet(machine: Machine, command: str) -> None:
    """An empty client id ends the questions: where keys come from, and how to go on without; nothing is written."""
    terminal = machine.pty(command)
    terminal.answer(SERVER, "")
    terminal.answer(ID, "")
    assert terminal.end() == 3
    assert "restaurant.support@lightspeedhq.com" in terminal.text
    assert "loopback-auth login --server sandbox" in terminal.text
    assert not list(machine.home.rglob("*"))


@pytest.mark.parametrize("asked", [SERVER, ID, ASKED_SECRET, URI], ids=["server", "id", "secret", "uri"])
def test_ctrl_c_at_a_question(machine: Machine, asked: str) -> None:
    """Ctrl-C at any question ends with 130, writes nothing, and leaves the terminal as it was."""
    terminal = machine.pty("login")
    for question, reply in ((SERVER, ""), (ID, CLIENT_ID), (ASKED_SECRET, SECRET), (URI, "")):
        if question == asked:
            break
        terminal.answer(question, reply)
    terminal.says(asked)
    if asked == ASKED_SECRET:
        terminal.until(lambda: not terminal.echoes, "the secret is not echoed")
    terminal.stays(0.2)  # Python misses a signal that comes between the question and its read
    terminal.send(CTRL_C)
    assert terminal.end() == 130
    assert "error: interrupted" in terminal.text
    assert not list(machine.home.rglob("*"))
    assert terminal.settings() == terminal.settings_before
    assert MARK not in terminal.said


def test_off_a_terminal_the_flags_are_named(machine: Machine, tmp_path: Path) -> None:
    """Where nobody can be asked, login ends with 3 at once and names exactly the flags that are missing."""
    nothing = machine.run("login")
    assert nothing.status == 3
    assert missing_in(nothing.errors) == {"--client-id", "client secret"}
    with_secret = machine.run("login", "--client-secret-file", str(tmp_path / "secret"))
    assert with_secret.status == 3
    assert missing_in(with_secret.errors) == {"--client-id"}
    with_id = machine.run("login", "--client-id", "x")
    assert with_id.status == 3
    assert with_id.errors == ["the client_secret of x is missing"]
    assert "--client-secret-file" in with_id.hints[0]
    half = machine.run("login", "--client-id", "x", "--token-endpoint", "https://idp.example/token")
    assert (half.status, half.errors) == (3, ["--authorization-endpoint is missing"])
    production = machine.run("login", "--server", "lightspeed-l-production", "--client-id", "x")
    assert production.status == 3
    assert production.errors[0].startswith("--yes is missing")
    assert not machine.home.exists()


def missing_in(errors: list[str]) -> set[str]:
    (error,) = errors
    return set(re.findall(r"--[\w-]+|client secret", error.partition(":")[0]))


def test_setup_off_a_terminal(machine: Machine) -> None:
    """Setup, with nobody there to answer, ends with 3."""
    ended = machine.run("setup", given="\n\n\n\n")
    assert (ended.status, ended.errors) == (3, ["setup asks questions, and there is no terminal to ask on"])


def test_config_behind_a_link(machine: Machine, staging: Staging, tmp_path: Path) -> None:
    """A config that is a link into somebody's dot files stays a link: what it points to is edited."""
    real = tmp_path / "dotfiles.toml"
    real.write_text(staging.server)
    (machine.home / "config.toml").unlink()
    (machine.home / "config.toml").symlink_to(real)
    terminal = machine.pty("setup")
    for question, reply in ((SERVER, ""), (ID, CLIENT_ID), (ASKED_SECRET, SECRET), (URI, staging.redirect_uri)):
        terminal.answer(question, reply)
    assert terminal.end() == 0
    assert (machine.home / "config.toml").is_symlink()
    assert CLIENT_ID in real.read_text()
