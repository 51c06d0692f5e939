"""The authorization endpoint over HTTP: login page, consent page, redirect (RFC 6749 §3.1, §4.1).

The authorization request stays in the URL, and the login in the state file: both pages post to the URL that
they were shown at, so another process can take over between any two steps.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from .authorization_server import Answer, SandboxAuthorizationServer
from .grants import SandboxCodeGrant
from .log import printable
from .models import Registration
from .parameters import MalformedParameters, Parameters, ParsedRequest, parse_form
from .refusals import OAuth2Error, words_of
from .rendering import Markup, fragment, joined, page
from .replies import BodyRefused, Reply, read_form_body
from .restaurants import NUMBERED, NUMBERED_PASSWORD, Restaurant
from .settings import SandboxSettings
from .state import State

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{22}(\.[A-Za-z0-9_-]{22})?")
_LONGEST_HINT: Final = 100
_STALE: Final = "This form was out of date, or your browser sent no cookie. Here it is again: nothing was decided."


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser by its cookie: `PART` until it logs in, `PART.PART` after; the first part stays."""

    cookie: str
    is_new: bool = False

    @property
    def identity(self) -> str:
        """The part that stays the same while one logs in and out, so that forms in other tabs stay good."""
        return self.cookie.partition(".")[0]

    def logged_in(self) -> Browser:
        """Return the browser with a fresh login: a cookie planted beforehand is worth nothing afterwards."""
        return Browser(f"{self.identity}.{secrets.token_urlsafe(16)}", is_new=True)

    def logged_out(self) -> Browser:
        """Return the browser without its login."""
        return Browser(self.identity, is_new=True)


class AuthorizationEndpoint:
    """Shows the pages, takes their forms, and sends the browser back with a code or an error."""

    def __init__(self, settings: SandboxSettings, state: State, server: SandboxAuthorizationServer, port: int) -> None:
        self._settings = settings
        self._state = state
        self._server = server
        # cookies ignore ports, and one set over https cannot be replaced over http: hence a name for each
        self._cookie_name = f"loopback_auth_sandbox_{port}{'_https' if settings.https else ''}"

    async def get(self, request: web.BaseRequest) -> Reply:
        """Show the login page, or the consent page to a browser that is logged in."""
        checked = self._check(request)
        if isinstance(checked, Reply):
            return checked
        browser = self._browser(request)
        restaurant = self._restaurant(browser)
        if restaurant is None:
            return self._login_page(checked, browser, _login_hint(checked))
        return self._consent_page(checked, browser, restaurant)

    async def post(self, request: web.BaseRequest) -> Reply:
        """Take the form of the page that was shown."""
        checked = self._check(request)
        if isinstance(checked, Reply):
            return checked
        try:
            form = {name: found[0] for name, found in parse_form(await read_form_body(request)).items()}
        except (BodyRefused, MalformedParameters) as why:
            return error_page(f"the form cannot be read: {why}", status=400)
        browser = self._browser(request)
        if "decision" in form:
            return self._decide(checked, browser, form)
        return self._log_in(request, checked, browser, form)

    # -- the authorization request ---------------------------------------------------------------------------

    def _check(self, request: web.BaseRequest) -> SandboxCodeGrant | Reply:
        """Return the grant for a sound authorization request, else the answer to an unsound one."""
        try:
            values = parse_form(request.rel_url.raw_query_string)
        except MalformedParameters as why:
            return error_page(f"the query of the link cannot be read: {why}", status=400)
        parsed = ParsedRequest("GET", Parameters(values, self._answered_state(values)))
        try:
            grant: SandboxCodeGrant = self._server.get_consent_grant(parsed)  # type: ignore[no-untyped-call]
        except OAuth2Error as error:
            words = words_of(error)
            if error.redirect_uri:
                return _redirect(self._server.handle_error_response(parsed, error), words, ok=False)
            return error_page(words, status=400)
        return grant

    def _answered_state(self, values: dict[str, list[str]]) -> str | None:
        if self._settings.state == "echo":
            return values.get("state", [None])[0]
        return secrets.token_urlsafe(16) if self._settings.state == "replace" else None

    # -- logging in ------------------------------------------------------------------------------------------

    def _log_in(
        self, request: web.BaseRequest, grant: SandboxCodeGrant, browser: Browser, form: dict[str, str]
    ) -> Reply:
        user_id = form.get("user_id", "")
        if not self._is_from("login", browser.identity, form):
            words = "the login form came without its cookie or from an older page: shown again"
            return self._login_page(grant, browser, user_id, _STALE, words, status=403)
        restaurant = self._server.restaurant(user_id.strip())
        password = form.get("password", "")
        if restaurant is None or not hmac.compare_digest(restaurant.password.encode(), password.encode()):
            missing = "user id" if restaurant is None else "password"
            words = f"login refused: the {missing} is wrong; the login page lists the right ones"
            message = f"That {missing} is not right. The restaurants of this sandbox are listed below."
            return self._login_page(grant, browser, user_id, message, words, status=401)
        fresh = browser.logged_in()
        with self._state.transaction():
            self._state.delete_session(browser.cookie)
            self._state.save_session(fresh.cookie, restaurant.user_id)
        response = web.Response(status=303, headers={"Location": _here(request), "Cache-Control": "no-store"})
        self._set_cookie(response, fresh)
        return Reply(response, f"{restaurant.name} logged in")

    def _login_page(
        self,
        grant: SandboxCodeGrant,
        browser: Browser,
        user_id: str = "",
        message: str = "",
        words: str = "login page shown",
        status: int = 200,
    ) -> Reply:
        body = fragment(
            "login",
            application=_client(grant).name,
            message=fragment("message", text=message) if message else Markup(""),
            user_id=user_id,
            focus_user_id=Markup("" if user_id else " autofocus"),
            focus_password=Markup(" autofocus" if user_id else ""),
            csrf_token=self._csrf_token("login", browser.identity),
            restaurants=restaurant_list(self._settings),
        )
        response = page("Log in", body, status=status)
        self._set_cookie(response, browser)
        return Reply(response, words, ok=status == 200)

    # -- allowing --------------------------------------------------------------------------------------------

    def _decide(self, grant: SandboxCodeGrant, browser: Browser, form: dict[str, str]) -> Reply:
        restaurant = self._restaurant(browser)
        if restaurant is None:
            return self._login_page(
                grant,
                browser,
                _login_hint(grant),
                "Please log in again.",
                words="the login is over: login page shown",
                status=403,
            )
        # bound to this very login: another tab may have logged in as someone else since the page was shown
        if not self._is_from("consent", browser.cookie, form):
            words = f"the consent page was not the last one of this browser: shown again for {restaurant.name}"
            return self._consent_page(grant, browser, restaurant, _STALE, words, status=403)
        decision, name, uri = form["decision"], _client(grant).name, str(grant.redirect_uri)
        if decision == "switch":
            return self._switch(grant, browser, restaurant)
        if decision not in {"allow", "deny"}:
            words = f"decision '{printable(decision)}' is none of allow, deny, switch"
            return error_page(words, status=400)
        granted = restaurant if decision == "allow" else None
        with self._state.transaction():
            answer = self._server.create_authorization_response(grant.request, grant_user=granted, grant=grant)
        assert isinstance(answer, Answer)  # noqa: S101 - what our handle_response returns
        target = printable(_without_query(uri))
        if granted:
            return _redirect(answer, f"{restaurant.name} allowed {name}; code sent to {target}", ok=True)
        return _redirect(answer, f"{restaurant.name} denied {name}; access_denied sent to {target}", ok=False)

    def _switch(self, grant: SandboxCodeGrant, browser: Browser, restaurant: Restaurant) -> Reply:
        self._state.delete_session(browser.cookie)
        words = f"{restaurant.name} logged out, to log in as another restaurant: login page shown"
        return self._login_page(grant, browser.logged_out(), words=words)

    def _consent_page(
        self,
        grant: SandboxCodeGrant,
        browser: Browser,
        restaurant: Restaurant,
        message: str = "",
        words: str = "",
        status: int = 200,
    ) -> Reply:
        body = fragment(
            "consent",
            application=_client(grant).name,
            restaurant=restaurant.name,
            place=f"{restaurant.city}, {restaurant.country}",
            message=fragment("message", text=message) if message else Markup(""),
            redirect_uri=_without_query(str(grant.redirect_uri)),
            csrf_token=self._csrf_token("consent", browser.cookie),
        )
        response = page("Allow access?", body, status=status)
        return Reply(response, words or f"consent page shown to {restaurant.name}", ok=status == 200)

    # -- the browser -----------------------------------------------------------------------------------------

    def _browser(self, request: web.BaseRequest) -> Browser:
        cookie = request.cookies.get(self._cookie_name, "")
        return Browser(cookie) if _COOKIE.fullmatch(cookie) else Browser(secrets.token_urlsafe(16), is_new=True)

    def _restaurant(self, browser: Browser) -> Restaurant | None:
        user_id = self._state.session_user(browser.cookie)
        return None if user_id is None else self._server.restaurant(user_id)

    def _set_cookie(self, response: web.Response, browser: Browser) -> None:
        if browser.is_new:
            response.set_cookie(
                self._cookie_name,
                browser.cookie,
                httponly=True,
                samesite="Lax",
                secure=self._settings.https,
                path="/resto/oauth2/",
            )

    def _csrf_token(self, form: str, browser: str) -> str:
        return hmac.new(self._state.signing_key, f"{form}:{browser}".encode(), hashlib.sha256).hexdigest()

    def _is_from(self, form: str, browser: str, values: dict[str, str]) -> bool:
        sent = values.get("csrf_token", "")
        return hmac.compare_digest(sent.encode(), self._csrf_token(form, browser).encode())


def error_page(words: str, *, status: int, headers: dict[str, str] | None = None) -> Reply:
    """Return a page that says what is wrong, for where a redirect would be unsafe (RFC 6749 §4.1.2.1)."""
    body = fragment("error", words=words)
    return Reply(page("That did not work", body, status=status, headers=headers), words, ok=False)


def restaurant_list(settings: SandboxSettings) -> Markup:
    """Return the table of restaurants with their logins; the numbered ones share a row."""
    named = [
        fragment(
            "restaurant",
            restaurant=restaurant.name,
            city=restaurant.city,
            user_id=restaurant.user_id,
            password=restaurant.password,
        )
        for restaurant in settings.restaurants
    ]
    more = fragment(
        "restaurant",
        restaurant=f"Restaurant 1 to {NUMBERED}",
        city="to log in many",
        user_id=Markup(f"restaurant-1</code> to <code>restaurant-{NUMBERED}"),
        password=NUMBERED_PASSWORD,
    )
    return joined([*named, more])


def _client(grant: SandboxCodeGrant) -> Registration:
    client = grant.client
    assert isinstance(client, Registration)  # noqa: S101 - set by authlib's validation
    return client


def _login_hint(grant: SandboxCodeGrant) -> str:
    """Return who is meant to log in (OpenID Connect Core 3.1.2.1), nobody where that can be no user id."""
    request = grant.request
    assert isinstance(request, ParsedRequest)  # noqa: S101 - create_oauth2_request lets nothing else in
    hint = request.payload.data.get("login_hint", "")
    return hint if hint.isprintable() and len(hint) <= _LONGEST_HINT else ""


def _redirect(answer: Answer, words: str, *, ok: bool) -> Reply:
    headers = {**dict(answer.headers), "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Reply(web.Response(status=answer.status, headers=headers), words, ok)


def _here(request: web.BaseRequest) -> str:
    """Return the request's own path and query, byte for byte."""
    return request.rel_url.raw_path_qs


def _without_query(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
