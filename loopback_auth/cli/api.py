"""`loopback-auth api`: a GET with the access token, to look at the data or to see that a token works."""

from __future__ import annotations

import json
import sys

import click

from loopback_auth import config
from loopback_auth.cli import embedded, options, signals
from loopback_auth.cli.token import waiting, warn
from loopback_auth.endpoints.resource import ResourceAnswer, get, resource_url
from loopback_auth.errors import LoginRequired, LoopbackAuthError, ResourceError, ServerUnavailable
from loopback_auth.text import printable


@click.command(short_help="GET below the server's API base")
@click.argument("path")
@options.account_option
def command(path: str, account: str) -> None:
    """GET a PATH below the server's API base with a valid access token, and print the answer.

    \b
    loopback-auth api rest/core/company
    loopback-auth api rest/core/company --account cafe-roma | jq -r .[0].name
    """
    store = config.open_store()

    async def work() -> ResourceAnswer:
        stored = store.load(account)
        if stored is None:
            raise LoginRequired(f"there is no account called {account}", hint=f"log in: loopback-auth login {account}")
        url = resource_url(stored.registration.server, path)
        async with embedded.sandbox(stored.registration.server):
            source = config.token_source(account, store, warn=warn, waiting=waiting)
            token = await source.token()
            answer = await get(stored.registration, url, token)
            if answer.status == 401:
                answer = await get(stored.registration, url, await source.token(rejected=token))
            return answer

    _print(signals.run(work()), path, account)


def _print(answer: ResourceAnswer, path: str, account: str) -> None:
    if not 200 <= answer.status < 300:
        raise _refusal(answer, path, account)
    body = answer.body
    if sys.stdout.isatty():
        body = _pretty(body)
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def _pretty(body: bytes) -> bytes:
    """Return JSON in lines, in ASCII; anything else with what could move the cursor made visible."""
    try:
        return json.dumps(json.loads(body), indent=2).encode("ascii") + b"\n"
    except (ValueError, RecursionError):
        lines = body.decode(errors="surrogateescape").splitlines()
        return "".join(f"{printable(line, max(len(line) * 4, 1))}\n" for line in lines).encode("ascii")


def _refusal(answer: ResourceAnswer, path: str, account: str) -> LoopbackAuthError:
    """Return the error of an answer that is no 2xx: what is said of it, and which exit status it is."""
    page = "html" in answer.content_type
    said = "an HTML page" if page else printable(" ".join(answer.body.decode(errors="surrogateescape").split()))
    message = f"{printable(path)} answered HTTP {answer.status}" + (f": {said}" if said else "")
    if answer.status == 401:
        hint = f"the access token is refused, a new one too; log in again: loopback-auth login {account} --force"
        return LoginRequired(message, status=401, hint=hint)
    if answer.status == 429 or answer.status >= 500:
        after = f" (Retry-After: {printable(answer.retry_after, 40)})" if answer.retry_after else ""
        return ServerUnavailable(message, status=answer.status, hint=f"try again later{after}")
    if 300 <= answer.status < 400:
        return ResourceError(message, status=answer.status, hint="redirects are not followed with an access token")
    return ResourceError(message, status=answer.status)
