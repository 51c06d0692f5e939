"""`loopback-auth setup`, and its questions when `login` finds nothing configured: asked, checked at once, written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from loopback_auth import client_secret as secrets
from loopback_auth import config, config_file
from loopback_auth.cli import options, voice
from loopback_auth.errors import ConfigurationError, RegistrationIncomplete
from loopback_auth.oauth.registration import AuthorizationServer, check_client_id, is_loopback, parse_redirect_uri
from loopback_auth.oauth.servers import DEFAULT
from loopback_auth.secret import Secret
from loopback_auth.text import printable

_T = TypeVar("_T")


@click.command(short_help="write config.toml by answering questions")
@options.account
@click.option("--server", metavar="NAME", help="Do not ask which server.")
def command(account: str, server: str | None) -> None:
    """Ask for server, client id, secret and redirect URI, and write them to config.toml.

    What is there already is offered as the answer, and everything else in the file stays as it is.
    """
    if not may_ask():
        raise ConfigurationError(
            "setup asks questions, and there is no terminal to ask on",
            hint="write config.toml by hand, or give login its flags: see loopback-auth login --help",
        )
    configuration = config_file.load()
    interview(configuration, account, server)
    voice.note(f"Next: loopback-auth login{'' if account == 'default' else f' {account}'}")


def may_ask() -> bool:
    """Whether somebody is there to answer: stdin and stderr are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def interview(configuration: config_file.Configuration, account: str, server_name: str | None) -> str:
    """Ask, write config and secret apart, and return the client's name. Raises ConfigurationError, StoreError."""
    expected = configuration.accounts.get(account)
    name = expected.client if expected else None
    before = configuration.clients.get(name, config_file.Client()) if name else config_file.Client()
    voice.note(f"About account {voice.bold(account)}; the answers are kept in {printable(configuration.path)}:")
    server = _server(configuration, server_name or None, before.server or DEFAULT)
    client_id = _client_id(configuration, server, before, name)
    secret = _secret(server, before, client_id)
    redirect_uri = _redirect_uri(server, before)
    name = name or _new_name(configuration, server.name, account, client_id)
    members: dict[str, object] = {"server": server.name, "client_id": client_id, "redirect_uri": redirect_uri}
    if secret is not None:
        members["client_secret"] = secrets.keep(f"client-{name}", secret)
    from loopback_auth import config_edit  # tomlkit: 5 ms, which a browser need not wait for

    config_edit.save_client(configuration.path, account, name, members)
    voice.note(f"Written to {printable(configuration.path)} as client {voice.bold(printable(name))}.")
    return name


def _server(configuration: config_file.Configuration, given: str | None, default: str) -> AuthorizationServer:
    if given is not None:
        return configuration.server(given)
    return _ask("Server", configuration.server, default=default)


def _client_id(
    configuration: config_file.Configuration, server: AuthorizationServer, before: config_file.Client, name: str | None
) -> str:
    def check(text: str) -> str:
        text = text.strip()
        if not text:
            raise RegistrationIncomplete("no client id was given", hint=config.no_keys_yet(server))
        check_client_id(text, server)
        for other, client in configuration.clients.items():
            if client.client_id == text and other != name and (client.server or DEFAULT) != server.name:
                raise ConfigurationError(
                    f"that is the id of client {printable(other)} at {printable(client.server or DEFAULT)}",
                    hint="each environment has ids of its own",
                )
        return text

    default = before.client_id or server.client_id
    return _ask("Client id (empty if you have none yet)", check, default=default or "", show_default=bool(default))


def _secret(server: AuthorizationServer, before: config_file.Client, client_id: str) -> Secret | None:
    """Return a new secret; None keeps what is there, or means that there is none."""

    def check(text: str) -> str:
        text = text.strip()
        if not text and not keeps and not server.public_clients:
            raise ConfigurationError("this server gives every client a secret", hint="it came with the client id")
        return text

    if client_id == server.client_id:
        return None
    keeps = before.client_secret is not None and before.client_id == client_id
    empty = "empty keeps the one that is there" if keeps else "empty if it has none" if server.public_clients else ""
    asked = f"Client secret (not shown{'; ' if empty else ''}{empty})"
    typed = _ask(asked, check, default="", show_default=False, hide_input=True)
    return Secret(typed) if typed else None


def _redirect_uri(server: AuthorizationServer, before: config_file.Client) -> str:
    def check(text: str) -> str:
        text = text.strip()
        parsed = parse_redirect_uri(text)
        if parsed.scheme == "http" and server.redirect_uri.startswith("https:") and is_loopback(parsed.host):
            _sure(
                f"{text} begins with http, and {printable(server.title)} is known to take https. Was it registered so?"
            )
        elif not text.partition("://")[2].partition("/")[1]:
            _sure(f"{text} has no / at its end, and servers compare letter by letter. Was it registered so?")
        return text

    return _ask("Redirect URI, exactly as registered", check, default=before.redirect_uri or server.redirect_uri)


class _AskAgain(Exception):
    """The person was not sure."""


def _sure(question: str) -> None:
    if not click.confirm(question, err=True):
        raise _AskAgain


def _ask(question: str, check: Callable[[str], _T], **prompt: Any) -> _T:
    """Ask until the answer passes its check; what was wrong is said at once."""
    offered = prompt.get("default", "")
    if printable(offered, len(offered)) != offered:  # it comes from config.toml, and would move the cursor
        prompt |= {"default": "", "show_default": False}
    while True:
        try:
            return check(click.prompt(question, err=True, **prompt))
        except RegistrationIncomplete:
            raise
        except ConfigurationError as error:
            voice.error(str(error), *error.hint)
        except _AskAgain:
            continue


def _new_name(configuration: config_file.Configuration, server: str, account: str, client_id: str) -> str:
    """Return a name for the client: its server's, unless another client has it."""
    taken = configuration.clients.get(server)
    return server if taken is None or taken.client_id == client_id else f"{server}-{account}"
