"""`loopback-auth api`: a GET with the access token, to look at the data or to see that a token works."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator

import click

from loopback_auth import config, stores
from loopback_auth.cli import embedded, options, signals
from loopback_auth.cli.token import waiting, warn
from loopback_auth.endpoints.resource import ResourceAnswer, get, resource_url
from loopback_auth.errors import LoginRequired, LoopbackAuthError, ResourceError, ServerUnavailable
from loopback_auth.oauth.registration import AuthorizationServer
from loopback_auth.text import printable

JSON_LIMIT = 4 * 1024 * 1024
"""Bytes of JSON that are put in lines on a terminal; more is shown as it came."""
LINES_LIMIT = 16 * 1024 * 1024
"""Bytes that may become of it: each line is as long as it is deep."""
_PIECE = 64 * 1024


@click.command(short_help="GET below the server's API base")
@click.argument("path")
@options.account_option
def command(path: str, account: str) -> None:
    """GET a PATH below the server's API base with a valid access token, and print the answer.

    \b
    loopback-auth api rest/core/company
    loopback-auth api rest/core/company --account cafe-roma | jq -r .[0].name
    """
    store = stores.open_store()

    async def work() -> tuple[ResourceAnswer, str, AuthorizationServer]:
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
            return answer, url, stored.registration.server

    _print(*signals.run(work()), account)


def _print(answer: ResourceAnswer, url: str, server: AuthorizationServer, account: str) -> None:
    if not 200 <= answer.status < 300:
        raise _refusal(answer, url, server, account)
    output = sys.stdout.buffer
    output.writelines(_for_people(answer.body) if sys.stdout.isatty() else [answer.body])
    output.flush()


def _joined(base: str | None, path: str) -> str:
    return f"{(base or '').rstrip('/')}/{path.lstrip('/')}"


def _for_people(body: bytes) -> Iterator[bytes]:
    """Yield JSON in lines, in ASCII; anything else with what could move the cursor made visible."""
    lines = _in_lines(body) if len(body) <= JSON_LIMIT else None
    if lines is not None:
        yield lines
        return
    body = body.replace(b"\r\n", b"\n")
    for start in range(0, len(body), _PIECE):
        yield b"\n".join(map(_harmless, body[start : start + _PIECE].split(b"\n")))
    if body and not body.endswith(b"\n"):
        yield b"\n"


def _in_lines(body: bytes) -> bytes | None:
    """Return JSON in lines; None where it is none, or too many of them."""
    lines = bytearray()
    try:
        for piece in json.JSONEncoder(indent=2).iterencode(json.loads(body)):
            lines += piece.encode("ascii")
            if len(lines) > LINES_LIMIT:
                return None
    except (ValueError, RecursionError):
        return None
    return bytes(lines) + b"\n"


def _harmless(line: bytes) -> bytes:
    return printable(line.decode(errors="backslashreplace"), 4 * len(line)).encode("ascii")


def _refusal(answer: ResourceAnswer, url: str, server: AuthorizationServer, account: str) -> LoopbackAuthError:
    """Return the error of an answer that is no 2xx: what is said of it, and which exit status it is."""
    page = "html" in answer.content_type
    start = answer.body[:_PIECE].decode(errors="backslashreplace")
    said = "an HTML page" if page else printable(" ".join(start.split()))
    message = f"{printable(url)} answered HTTP {answer.status}" + (f": {said}" if said else "")
    if answer.status == 401:
        hint = f"the access token is refused, a new one too; log in again: loopback-auth login {account} --force"
        return LoginRequired(message, status=401, hint=hint)
    if answer.status == 429 or answer.status >= 500:
        after = f" (Retry-After: {printable(answer.retry_after, 40)})" if answer.retry_after else ""
        return ServerUnavailable(message, status=answer.status, hint=f"try again later{after}")
    if 300 <= answer.status < 400:
        return ResourceError(message, status=answer.status, hint="redirects are not followed with an access token")
    if answer.status == 404 and server.company_path and url != _joined(server.api_base, server.company_path):
        example = f"loopback-auth api {shlex.quote(printable(server.company_path))}"
        named = "" if account == options.default_account() else f" --account {account}"
        return ResourceError(message, status=404, hint=f"a path that is there: {example}{named}")
    return ResourceError(message, status=answer.status)
