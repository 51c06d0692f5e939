"""A browser without a screen: follows redirects, keeps cookies, fills in the sandbox's two forms.

Two uses. As `$BROWSER` (a program, standard library only, the address is its last argument) it logs in
and decides on its own; it never waits for a person, prints nothing, and ends with the last page. As a class
it goes step by step, so that a test can stop midway, give a wrong password, deny, or send a redirect twice.

It speaks to `localhost`, `127.0.0.1` and `[::1]` by these names only. https is verified, against `ca_file`
alone where one is given; nothing turns verification off.

Environment of the program: `WALKER_USER` and `WALKER_PASSWORD` (else what the form already holds),
`WALKER_DECISION` (`allow` or `deny`), `WALKER_CA_FILE`, and `WALKER_LOG`, a file that gets one line per
answer, with the names of the parameters and never their values.
"""

from __future__ import annotations

import http.cookiejar
import os
import ssl
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl, urldefrag, urlencode, urljoin, urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
MOST_REDIRECTS = 20
MOST_FORMS = 5  # a sandbox that asks for the password again and again is not waited for
LARGEST_PAGE = 1_000_000


class WalkerStuck(Exception):
    """The page is not what the step needs, or the address is none this browser may open."""


@dataclass
class Form:
    """One form of a page: where it goes and what it would send."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def names(self) -> set[str]:
        return {name for name, _ in self.fields}

    def filled(self, **values: str) -> list[tuple[str, str]]:
        return [(name, values.get(name, value)) for name, value in self.fields]


class _Forms(HTMLParser):
    """Collects the forms of a page: inputs and buttons, which is all the sandbox's pages have."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.found: list[Form] = []
        self.current: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            action = urljoin(self.base, given.get("action") or self.base)
            self.current = Form(action, given.get("method", "get").lower())
            self.found.append(self.current)
        if self.current is None or "name" not in given or "disabled" in given:
            return
        pair = (given["name"], given.get("value", ""))
        kind = given.get("type", "submit" if tag == "button" else "text").lower()
        if tag == "button" or (tag == "input" and kind == "submit"):
            if kind == "submit":
                self.current.buttons.append(pair)
        elif tag == "input" and kind in {"checkbox", "radio"}:
            if "checked" in given:
                self.current.fields.append((pair[0], given.get("value", "on")))
        elif tag == "input":
            self.current.fields.append(pair)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.current = None


class _EveryAnswer(urllib.request.HTTPErrorProcessor):
    """Hands every answer back as it came: redirects and errors are the walker's to judge."""

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


class Walker:
    """One browser profile. `history` has every answer as (status, url), redirects included.

    Where `stop_before` says yes to the target of a redirect, the redirect is left in `redirected_to`;
    `follow()` goes on from there.
    """

    def __init__(self, *, ca_file: str | os.PathLike[str] | None = None, timeout: float = 30.0) -> None:
        self.cookies = http.cookiejar.CookieJar()
        self.timeout = timeout
        self.history: list[tuple[int, str]] = []
        self.url = ""
        self.status = 0
        self.text = ""
        self.redirected_to: str | None = None
        self.stop_before: Callable[[str], bool] | None = None
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # loopback only: a proxy of the environment is never asked
            urllib.request.HTTPSHandler(context=_trusting(ca_file)),
            urllib.request.HTTPCookieProcessor(self.cookies),
            _EveryAnswer(),
        )

    # -- steps

    def open(self, url: str) -> Walker:
        """GET this address as if typed, and follow where it redirects to."""
        return self._walk("GET", url, None)

    def follow(self) -> Walker:
        """Go on with the redirect that `stop_before` held back."""
        if self.redirected_to is None:
            raise WalkerStuck("no redirect was held back")
        return self._walk("GET", self.redirected_to, None)

    def log_in(self, user: str | None = None, password: str | None = None) -> Walker:
        """Send the form with `user_id` and `password`; None leaves what the page put there."""
        form = self.login_form()
        if form is None:
            raise WalkerStuck(f"no login form on {self._place()}")
        given = {"user_id": user, "password": password}
        return self.submit(form, form.filled(**{name: value for name, value in given.items() if value is not None}))

    def decide(self, decision: str) -> Walker:
        """Press the button `decision` with this value: `allow` or `deny`."""
        form = self.consent_form()
        if form is None or ("decision", decision) not in form.buttons:
            raise WalkerStuck(f"no button that decides {decision!r} on {self._place()}")
        return self.submit(form, [*form.fields, ("decision", decision)])

    def submit(self, form: Form, fields: list[tuple[str, str]]) -> Walker:
        """Send a form, url-encoded, with the Origin a browser would name."""
        if form.method == "post":
            return self._walk("POST", form.action, urlencode(fields).encode())
        return self._walk("GET", urlsplit(form.action)._replace(query=urlencode(fields)).geturl(), None)

    # -- what is on the page

    def forms(self) -> list[Form]:
        parser = _Forms(self.url)
        parser.feed(self.text)
        parser.close()
        return parser.found

    def login_form(self) -> Form | None:
        return next((form for form in self.forms() if {"user_id", "password"} <= form.names()), None)

    def consent_form(self) -> Form | None:
        return next((form for form in self.forms() if "decision" in dict(form.buttons)), None)

    # -- the wire

    def _walk(self, method: str, url: str, body: bytes | None) -> Walker:
        for _ in range(MOST_REDIRECTS):
            self.redirected_to = None
            location = self._fetch(method, url, body)
            if location is None:
                return self
            url = urljoin(url, location)
            if self.status not in {307, 308}:
                method, body = "GET", None
            if self.stop_before is not None and self.stop_before(url):
                self.redirected_to = url
                return self
        raise WalkerStuck(f"more than {MOST_REDIRECTS} redirects")

    def _fetch(self, method: str, url: str, body: bytes | None) -> str | None:
        """One request; the page is kept, and the target is returned where it is a redirect."""
        address = _loopback(url)
        headers = {"User-Agent": "loopback-auth-walker", "Accept": "text/html,*/*"}
        if body is not None:
            parts = urlsplit(address)
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"{parts.scheme}://{parts.netloc}",
            }
        request = urllib.request.Request(address, data=body, headers=headers, method=method)
        with cast(HTTPResponse, self._opener.open(request, timeout=self.timeout)) as response:
            charset = response.headers.get_content_charset("utf-8")
            self.text = response.read(LARGEST_PAGE).decode(charset, "replace")
            self.status, self.url = response.status, url
            location = response.headers.get("Location")
        self.history.append((self.status, url))
        return location if self.status in {301, 302, 303, 307, 308} else None

    def _place(self) -> str:
        return f"{without_values(self.url) or 'no page'} (status {self.status})"


def _trusting(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext:
    """Verifies always; a given certificate is the only one trusted, a self-signed leaf included."""
    if ca_file is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=ca_file)
    return context


def _loopback(url: str) -> str:
    """Return the address without its fragment, or refuse: nothing outside this machine is spoken to."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname not in LOOPBACK or "@" in parts.netloc:
        raise WalkerStuck(f"not an address on this machine: {without_values(url)}")
    return urldefrag(url).url


def without_values(url: str) -> str:
    """Return the address as a log may hold it: parameter names, no values."""
    parts = urlsplit(url)
    names = "&".join(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    return parts._replace(query=names, fragment="").geturl()


# -- the program --------------------------------------------------------------------------------


def walk(walker: Walker, url: str, environment: dict[str, str]) -> None:
    """From the first address to the last page: log in once, decide, and go no further when asked again."""
    user, password = environment.get("WALKER_USER"), environment.get("WALKER_PASSWORD")
    walker.open(url)
    logged_in = False
    for _ in range(MOST_FORMS):
        if walker.login_form() is not None and not logged_in:
            walker.log_in(user, password)
            logged_in = True
        elif walker.consent_form() is not None:
            walker.decide(environment.get("WALKER_DECISION", "allow"))
        else:
            break
    if walker.login_form() is not None:
        raise WalkerStuck(f"the login was refused on {walker.url}")


def main(arguments: list[str], environment: dict[str, str]) -> int:
    """Return 0 when the last page is a good one; what happened is in `WALKER_LOG`, nothing is printed."""
    walker = Walker(ca_file=environment.get("WALKER_CA_FILE") or None)
    trouble: list[str] = []
    try:
        walk(walker, arguments[-1] if arguments else "", environment)
    except (WalkerStuck, OSError, HTTPException, ValueError) as stuck:
        trouble.append(f"stuck: {stuck}")
    if log := environment.get("WALKER_LOG"):
        lines = list(_log_lines(walker)) + trouble
        with Path(log).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return 0 if not trouble and walker.status == 200 else 1


def _log_lines(walker: Walker) -> Iterator[str]:
    return (f"{status} {without_values(url)}" for status, url in walker.history)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
