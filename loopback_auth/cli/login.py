"""`loopback-auth login`: flags and config to a registration, a person through the browser, and what came of it."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import replace
from typing import Any

import click

from loopback_auth import client_secret as secrets
from loopback_auth import clock, config, config_file, stores
from loopback_auth.beginning import DEFAULT_TIMEOUT, Beginning, begin
from loopback_auth.cli import confirm, options, setup, signals, tls, voice
from loopback_auth.endpoints.proxy import proxy_for
from loopback_auth.endpoints.trust import check_ca_file
from loopback_auth.errors import ConfigurationError, LoopbackAuthError, RegistrationIncomplete
from loopback_auth.grant import Grant, to_adopt
from loopback_auth.oauth.registration import ClientRegistration, parse_redirect_uri
from loopback_auth.oauth.servers import SANDBOX
from loopback_auth.redirect.browser import open_browser
from loopback_auth.secret import Secret
from loopback_auth.secret_source import hidden_variables
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import Account, SecretReference
from loopback_auth.text import printable
from loopback_auth.usable import MIN_VALIDITY, seconds_left, usable

SECRET_LIMIT = 64 * 1024
"""Characters of a client secret from stdin."""


@click.command(short_help="log in once, in the browser")
@options.account
@click.option("--client", metavar="NAME", help="A client of config.toml.")
@click.option("--server", metavar="NAME", help="lightspeed-l-staging (the default), lightspeed-l-production, sandbox…")
@click.option("--client-id", metavar="ID", help="The client's id at that server (or LOOPBACK_AUTH_CLIENT_ID).")
@click.option("--client-secret-file", metavar="FILE", help="Where the client's secret is; the file is read anew later.")
@click.option("--client-secret-stdin", is_flag=True, help="Read the client's secret from stdin, and keep it (0600).")
@click.option("--authorization-endpoint", metavar="URL", help="Any other server: both of its endpoints.")
@click.option("--token-endpoint", metavar="URL", help="Where codes become tokens.")
@click.option("--issuer", metavar="URL", help="What iss in the redirect must be (RFC 9207).")
@click.option("--redirect-uri", metavar="URI", help="As registered. Port 0 is any free port.")
@click.option(
    "--token-endpoint-auth-method",
    type=click.Choice(config_file.AUTH_METHODS),
    metavar="METHOD",
    help="client_secret_basic (the default with a secret), client_secret_post, none.",
)
@click.option("--scope", metavar="SCOPE", help="Space separated.")
@click.option("--ca-file", metavar="FILE", help="Trust the certificates in FILE too (PEM).")
@click.option("--certificate", metavar="FILE", help="Your own certificate for an https redirect URI (PEM).")
@click.option("--private-key", metavar="FILE", help="Its private key, if it is not in the same file.")
@click.option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@click.option(
    "--timeout", type=options.Duration(), default=DEFAULT_TIMEOUT, metavar="TIME", help="How long to wait (5m)."
)
@click.option("--start", "step", flag_value="start", help="In two steps: print what to open, as JSON, and return.")
@click.option("--finish", "step", flag_value="finish", help="The second step: the redirect URL comes on stdin.")
@click.option("--force", is_flag=True, help="Log in although the stored token is good; replace another account.")
@click.option("--yes", is_flag=True, help="Ask no questions.")
@click.option("--print-token", is_flag=True, help="Print the access token, alone, on stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print what is known of the account as JSON on stdout.")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens, with figures.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def command(account: str, **flags: Any) -> None:
    """Log in to an authorization server in the browser, and store the tokens.

    \b
    loopback-auth login --server sandbox         no keys needed
    loopback-auth login --client-id ID           Lightspeed L-Series, staging
    loopback-auth login cafe-roma --client acme  another account; see config.toml
    loopback-auth login --start                  prints the URL; then --finish
    """
    if flags["print_token"] and flags["as_json"]:
        raise click.UsageError("--print-token and --json exclude each other")
    store = stores.open_store()
    if flags["step"] == "finish":
        from loopback_auth.cli import two_steps

        finished = two_steps.finish(account, store, flags)
        _result(finished, store, flags)
        _print_token(finished, flags)
        return
    if to_adopt(store, account):
        from loopback_auth.adoption import adopt_left

        signals.run(adopt_left(store, account))
    stored = _stored(store, account, force=flags["force"])
    configuration = config_file.load()
    expected = configuration.accounts.get(account)
    registration, reference = _registration(account, configuration, stored, flags)
    if stored is not None and not flags["force"]:
        if stored.registration.is_same_client(registration) and usable(stored, clock.now(), MIN_VALIDITY):
            _logged_in_already(stored, store, flags)
            return
        _ask_to_replace(stored, registration, flags)
    confirm.production(registration.server, yes=flags["yes"])
    secret, reference, to_keep = _secret(account, registration, reference, flags)
    if to_keep is not None:
        secrets.check_place()
    if flags["step"] == "start":
        from loopback_auth.cli import embedded, two_steps

        if to_keep is not None:
            secrets.keep(account, to_keep)
        two_steps.start(account, registration, reference, store, flags)
        if embedded.is_gone(registration.server):  # one inside this command would end with it
            voice.warning(
                "no sandbox is running: until one is, this address leads nowhere",
                "run it in another terminal: loopback-auth sandbox",
            )
        return
    certificate = tls.certificate_for(parse_redirect_uri(registration.redirect_uri), flags)
    if registration.ca_file is not None:
        check_ca_file(registration.ca_file)
    proxy_for(registration.server.token_endpoint, registration.proxy)  # what is wrong with it is said now
    grant = Grant(
        account=account,
        registration=registration,
        client_secret=reference,
        expected_company=expected.company_id if expected else None,
        force=flags["force"],
    )
    printed: list[bool] = []

    def stored_now(account: Account) -> None:
        if to_keep is not None:  # not before: a login that fails changes nothing
            secrets.keep(account.name, to_keep)
        with suppress(LoopbackAuthError, OSError):  # said at the end
            _print_token(account, flags)
            printed.append(True)

    beginning: AbstractContextManager[Beginning]
    beginning = begin(grant, store, _no_browser if flags["no_browser"] else _browser(reference))
    with signals.raised(words="interrupted: nothing was spent, nothing was stored"), ExitStack() as stack:
        if registration.server.name != SANDBOX:  # which must be there before a browser comes
            beginning = nullcontext(stack.enter_context(beginning))
        from loopback_auth.cli import login_loop  # and asyncio: the browser is on its way by now

        logged_in = login_loop.run(
            grant,
            beginning,
            client_secret=secret,
            tls=certificate.context if certificate else None,
            self_signed=certificate.fingerprint if certificate else None,
            stored=stored_now,
            timeout=flags["timeout"],
            quiet=flags["quiet"],
            verbose=flags["verbose"],
        )
    _result(logged_in, store, flags)
    if not printed:
        _print_token(logged_in, flags)


def _registration(
    account: str, configuration: config_file.Configuration, stored: Account | None, flags: dict[str, Any]
) -> tuple[ClientRegistration, SecretReference | None]:
    """Return what to log in with; on a terminal, what is not known is asked for, once and for all."""
    wanted = _wanted(flags)
    try:
        return config.registration(wanted, configuration, account, stored)
    except RegistrationIncomplete:
        if not setup.may_ask() or flags["client"]:
            raise
    client = setup.interview(configuration, account, flags["server"])
    return config.registration(replace(wanted, client=client, server=None), config_file.load(), account, stored)


def _wanted(flags: dict[str, Any]) -> config.Wanted:
    reference: SecretReference | None = None
    if flags["client_secret_file"]:
        reference = {"file": os.path.abspath(os.path.expanduser(flags["client_secret_file"]))}
    names = (
        "client", "server", "client_id", "authorization_endpoint", "token_endpoint", "issuer", "redirect_uri",
        "token_endpoint_auth_method", "scope", "ca_file", "client_secret_stdin",
    )  # fmt: skip
    return config.Wanted.of_environment(os.environ, client_secret=reference, **{name: flags[name] for name in names})


def _stored(store: Accounts, account: str, *, force: bool) -> Account | None:
    """Return what is stored; with --force a record that cannot be read is no obstacle to a new one."""
    try:
        return store.load(account)
    except LoopbackAuthError:
        if force:
            return None
        raise


def _ask_to_replace(stored: Account, registration: ClientRegistration, flags: dict[str, Any]) -> None:
    if stored.registration.is_same_client(registration):
        return
    before = stored.registration
    client, server = printable(before.client_id, 60), printable(before.server.name, 60)
    what = f"account {stored.name} belongs to client {client} at {server}"
    if flags["yes"] or not setup.may_ask():
        raise ConfigurationError(what, hint="log in under another account name, or replace it with --force")
    confirm.sure(f"{what[0].upper()}{what[1:]}. Replace it?")


def _secret(
    account: str, registration: ClientRegistration, reference: SecretReference | None, flags: dict[str, Any]
) -> tuple[Secret | None, SecretReference | None, Secret | None]:
    """Return the secret for this login, where it will be found at later refreshes, and what is to be kept there."""
    client_id = printable(registration.client_id, 60)
    if flags["client_secret_stdin"]:
        typed = sys.stdin.buffer.read(SECRET_LIMIT).decode(errors="surrogateescape").rstrip("\r\n")
        if not typed:
            raise ConfigurationError(
                "the client_secret from stdin is empty",
                hint="pipe it in: loopback-auth login --client-secret-stdin <FILE",
            )
    elif reference is None and registration.token_endpoint_auth_method != "none":  # noqa: S105 (a method's name)
        if not setup.may_ask():
            raise ConfigurationError(
                f"the client_secret of {client_id} is missing",
                hint=f"set {secrets.VARIABLE}, or add --client-secret-file FILE, or --client-secret-stdin",
            )
        typed = click.prompt(f"Client secret of {client_id} (not shown)", hide_input=True, err=True).strip()
    else:
        return secrets.fetch(reference, registration), reference, None
    return Secret(typed), secrets.kept(account), Secret(typed)


def _browser(reference: SecretReference | None) -> Any:
    named = (reference or {}).get("env")
    hide = (*hidden_variables(), str(named)) if named else hidden_variables()
    return lambda url: open_browser(url, hide=hide)


def _no_browser(_url: str) -> str:
    return "--no-browser was given"


def _logged_in_already(account: Account, store: Accounts, flags: dict[str, Any]) -> None:
    from loopback_auth.cli import report  # not before a browser is told

    if not flags["quiet"]:
        left = seconds_left(account, clock.now())
        known = "" if left is None else f", its access token is good for {report.in_words(left)}"
        voice.note(f"Account {account.name} is logged in already{known}. To log in again: --force")
    _print_token(account, flags)
    _print_json(account, store, flags)


def _result(account: Account, store: Accounts, flags: dict[str, Any]) -> None:
    from loopback_auth.cli import report  # not before a browser is told

    if not flags["quiet"]:
        who = report.company_words(account)
        done = voice.good(f"Logged in to {who}" if who else "Logged in")
        voice.note(f"{done}, stored as account {voice.bold(account.name)}")
        if account.tokens.refresh_token is None:
            voice.warning("the server gave no refresh token: a person must log in again when the access token expires")
        if not account.tokens.is_bearer:
            kind = printable(account.tokens.token_type, 40)
            voice.warning(f"the server gave a token of type {kind}, which this program cannot hand out as Bearer")
        elif not flags["print_token"]:
            voice.note(f"Next: {_example(account)}")
    _print_json(account, store, flags)


def _example(account: Account) -> str:
    """Return a command that uses the access token; curl brings no sandbox along, `api` does."""
    from loopback_auth.cli import embedded

    server = account.registration.server
    known = server.api_base and server.company_path
    name = "" if account.name == "default" else f" {account.name}"
    if known and embedded.is_gone(server):
        return f"loopback-auth api {printable(server.company_path)}" + (name and f" --account{name}")
    url = printable(f"{server.api_base}{server.company_path}") if known else "URL"
    return f'curl -H "Authorization: Bearer $(loopback-auth token{name})" {url}'


def _print_token(account: Account, flags: dict[str, Any]) -> None:
    if flags["print_token"]:
        click.echo(options.shown_token(account.tokens.access_token, account.name))


def _print_json(account: Account, store: Accounts, flags: dict[str, Any]) -> None:
    from loopback_auth.cli import report  # not before a browser is told

    if flags["as_json"]:
        report.print_account(account, store)
