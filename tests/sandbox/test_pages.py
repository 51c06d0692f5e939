"""What a person sees: the login page, the consent page, and pages that say what is wrong."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import urlsplit

import pytest

from loopback_auth.sandbox import RESTAURANTS, SandboxClient

from .conftest import Start
from .visitor import REDIRECT_URI, Clock, Log, Page, Visitor


async def test_login_form(visitor: Visitor) -> None:
    """The login page has one form with a user id and a password."""
    page = await visitor.open(visitor.authorization_url())
    assert page.status == 200
    assert page.form.types == {"csrf_token": "hidden", "user_id": "text", "password": "password"}
    assert 'autocomplete="username"' in page.body
    assert page.form.tags.count("form") == 1


async def test_login_page_lists_restaurants(visitor: Visitor) -> None:
    """The login page tells a newcomer which restaurants there are, with user id and password."""
    text = (await visitor.open(visitor.authorization_url())).form.text
    for restaurant in RESTAURANTS:
        assert restaurant.name in text
        assert restaurant.user_id in text
        assert restaurant.password in text


async def test_login_hint_fills_in_the_user_id(visitor: Visitor) -> None:
    """Who is meant to log in is filled in, the password comes next, and the form can be sent as it stands."""
    url = visitor.authorization_url(login_hint="bistro-lyon")
    page = await visitor.open(url)
    assert page.form.inputs["user_id"] == "bistro-lyon"
    assert re.search('<input id="password"[^>]* autofocus', page.body)
    consent = await visitor.submit(url, page, password="baguette")
    assert "Bistro Lyon" in consent.form.text
    answer = await visitor.submit(url, consent, decision="allow")
    assert sorted(answer.location.query) == ["code", "state"]


async def test_login_hint_is_a_hint(visitor: Visitor) -> None:
    """What was typed stays, another restaurant is typed afresh, and who was logged out meanwhile is filled in again."""
    url = visitor.authorization_url(login_hint="bistro-lyon")
    refused = await visitor.log_in(url, "cafe-roma", "wrong")
    assert refused.form.inputs["user_id"] == "cafe-roma"
    consent = await visitor.log_in(url)
    assert (await visitor.submit(url, consent, decision="switch")).form.inputs["user_id"] == ""
    over = await visitor.submit(url, consent, decision="allow")
    assert over.status == 403
    assert over.form.inputs["user_id"] == "bistro-lyon"


@pytest.mark.parametrize("hint", ["", "x" * 101, "a\x1b[2J", "a\nb", "\u202e"])
async def test_login_hint_that_is_none(visitor: Visitor, hint: str) -> None:
    """What can be no user id is left out, and the login page is shown all the same."""
    page = await visitor.open(visitor.authorization_url(login_hint=hint))
    assert page.status == 200
    assert page.form.inputs["user_id"] == ""
    assert re.search('<input id="user_id"[^>]* autofocus', page.body)


async def test_pages_are_marked(visitor: Visitor) -> None:
    """Every page says that it is a sandbox and not Lightspeed."""
    url = visitor.authorization_url()
    pages = [
        await visitor.open(url.join(url.with_path("/"))),
        await visitor.open(url),
        await visitor.log_in(url),
        await visitor.open(visitor.authorization_url(client_id="nobody")),
        await visitor.open(url.with_path("/nowhere")),
    ]
    for page in pages:
        assert "Sandbox – not Lightspeed" in page.body
        assert "viewport" in page.body


async def test_pages_load_nothing(visitor: Visitor) -> None:
    """A page may load nothing, is not kept and not framed, and its style is allowed by hash alone."""
    page = await visitor.open(visitor.authorization_url())
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "script" not in page.form.tags
    assert "stylesheet" not in page.body


async def test_policy_lets_the_redirect_through(visitor: Visitor) -> None:
    """The policy has no form-action, which Chromium would apply to the redirect URI as well."""
    page = await visitor.open(visitor.authorization_url())
    assert "form-action" not in page.headers["Content-Security-Policy"]


async def test_cookie(visitor: Visitor) -> None:
    """The session cookie has a name of its own, is HttpOnly, and does not travel with foreign posts."""
    cookie = (await visitor.open(visitor.authorization_url())).headers["Set-Cookie"]
    assert cookie.startswith(f"loopback_auth_sandbox_{visitor.sandbox.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


async def test_login_gets_a_fresh_cookie(visitor: Visitor) -> None:
    """A cookie planted before the login is not logged in afterwards."""
    url = visitor.authorization_url()
    before = await visitor.open(url)
    planted = before.headers["Set-Cookie"].partition(";")[0]
    await visitor.submit(url, before, user_id="cafe-roma", password="espresso")
    visitor.session.cookie_jar.clear()
    page = await visitor.request("GET", url, headers={"Cookie": planted})
    assert "password" in page.form.inputs


@pytest.mark.parametrize(
    ("user_id", "password", "said"),
    [
        ("cafe-roma", "wrong", "password is not right"),
        ("cafe-roma", "", "password is not right"),
        ("nobody", "espresso", "user id is not right"),
        ("", "espresso", "user id is not right"),
    ],
)
async def test_wrong_login(visitor: Visitor, log: Log, user_id: str, password: str, said: str) -> None:
    """A wrong login shows the login page again, says what is wrong, and keeps the user id."""
    page = await visitor.log_in(visitor.authorization_url(), user_id, password)
    assert page.status == 401
    assert said in page.form.text
    assert page.form.inputs["user_id"] == user_id
    assert not log[-1].ok
    assert "login refused" in log[-1].words


async def test_login_after_a_wrong_one(visitor: Visitor) -> None:
    """After a wrong password the same page takes the right one, and the request is not lost."""
    url = visitor.authorization_url()
    page = await visitor.log_in(url, password="wrong")
    consent = await visitor.submit(url, page, password="espresso")
    assert consent.form.decisions == ["allow", "deny", "switch"]
    answer = await visitor.submit(url, consent, decision="allow")
    assert answer.location.query["state"] == "MARK-state"


async def test_consent_page_says_who_and_where(visitor: Visitor) -> None:
    """The consent page names the application, the restaurant, and where one is sent."""
    text = (await visitor.log_in(visitor.authorization_url())).form.text
    assert "Allow Sandbox application?" in text
    assert "Cafe Roma" in text
    assert REDIRECT_URI in text


async def test_session_is_remembered(visitor: Visitor) -> None:
    """A browser that logged in once is asked only for consent the next time."""
    await visitor.allow(visitor.authorization_url())
    page = await visitor.open(visitor.authorization_url(state="another"))
    assert page.form.decisions
    assert "Cafe Roma" in page.form.text


async def test_session_ends(visitor: Visitor, clock: Clock) -> None:
    """A login in the browser ends after half a day."""
    url = visitor.authorization_url()
    await visitor.allow(url)
    clock.now += 12 * 3600 + 1
    assert "password" in (await visitor.open(url)).form.inputs


async def test_another_restaurant(visitor: Visitor) -> None:
    """From the consent page one can log in as another restaurant."""
    url = visitor.authorization_url()
    login = await visitor.submit(url, await visitor.log_in(url), decision="switch")
    assert "password" in login.form.inputs
    consent = await visitor.submit(url, login, user_id="bistro-lyon", password="baguette")
    assert "Bistro Lyon" in consent.form.text


async def test_hostile_name(visitor: Visitor) -> None:
    """A restaurant's name that looks like HTML is shown as text, on both pages."""
    url = visitor.authorization_url()
    for page in (await visitor.open(url), await visitor.log_in(url, "zoes-diner", "pancakes")):
        assert "Zoë's <b>Diner</b>" in page.form.text
        assert "b" not in page.form.tags


@pytest.mark.parametrize("value", ['"><script>alert(1)</script>', "<b>x</b>", "\x00\x1b[31m", "​ä"])
async def test_hostile_values(visitor: Visitor, value: str) -> None:
    """Whatever a request or a form carries is shown as text."""
    pages = [
        await visitor.open(visitor.authorization_url(client_id=value)),
        await visitor.open(visitor.authorization_url(redirect_uri=f"http://localhost/{value}")),
        await visitor.log_in(visitor.authorization_url(state=value), user_id=value),
        await visitor.open(visitor.authorization_url(login_hint=value)),
        await visitor.open(visitor.authorization_url().with_path(f"/{value}")),
    ]
    for page in pages:
        assert not {"script", "b"} & set(page.form.tags), page.body


async def test_forged_login(visitor: Visitor, log: Log) -> None:
    """A login form from elsewhere logs nobody in, and the page is shown again."""
    url = visitor.authorization_url()
    await visitor.open(url)
    page = await visitor.request("POST", url, data={"user_id": "cafe-roma", "password": "espresso"})
    assert page.status == 403
    assert page.form.inputs["user_id"] == "cafe-roma"
    assert "Set-Cookie" not in page.headers
    assert "without its cookie" in log[-1].words


async def test_forged_consent(visitor: Visitor) -> None:
    """A consent form from elsewhere issues no code."""
    url = visitor.authorization_url()
    await visitor.log_in(url)
    page = await visitor.request("POST", url, data={"decision": "allow", "csrf_token": "0" * 64})
    assert page.status == 403
    assert "Location" not in page.headers


async def test_consent_after_another_login(visitor: Visitor) -> None:
    """A consent page left open while another tab logged in as someone else allows nothing for that one."""
    url = visitor.authorization_url()
    left_open = await visitor.log_in(url)
    login = await visitor.submit(url, left_open, decision="switch")
    await visitor.submit(url, login, user_id="bistro-lyon", password="baguette")
    page = await visitor.submit(url, left_open, decision="allow")
    assert page.status == 403
    assert "Bistro Lyon" in page.form.text
    assert (await visitor.submit(url, page, decision="allow")).status == 302


async def test_login_form_in_another_tab_stays_good(visitor: Visitor) -> None:
    """Two login pages open in one browser both work, one after the other."""
    url = visitor.authorization_url()
    first, second = await visitor.open(url), await visitor.open(url)
    await visitor.submit(url, first, user_id="cafe-roma", password="espresso")
    consent = await visitor.submit(url, second, user_id="bistro-lyon", password="baguette")
    assert "Bistro Lyon" in consent.form.text


async def test_consent_without_login(visitor: Visitor) -> None:
    """A decision of nobody in particular leads back to the login page."""
    page = await visitor.request("POST", visitor.authorization_url(), data={"decision": "allow"})
    assert page.status == 403
    assert "password" in page.form.inputs


async def test_unknown_decision(visitor: Visitor) -> None:
    """A decision that is neither is a page in words, not a redirect."""
    url = visitor.authorization_url()
    page = await visitor.submit(url, await visitor.log_in(url), decision="perhaps")
    assert page.status == 400
    assert "'perhaps'" in page.form.text


async def test_start_page(visitor: Visitor) -> None:
    """The start page says what this is, how to log in, and where the endpoints are."""
    page = await visitor.request("GET", visitor.sandbox.base_url.removesuffix("resto/"))
    assert page.status == 200
    for words in ("loopback-auth login --server sandbox", "sandbox-secret", "espresso"):
        assert words in page.form.text
    for path in ("oauth2/v1/authorize", "oauth2/v1/token", "rest/core/company"):
        assert visitor.sandbox.base_url + path in page.form.text


async def test_start_page_keeps_secrets(start: Start) -> None:
    """The start page does not show the secret of a client that somebody configured."""
    client = SandboxClient(client_id="acme", client_secret="MARK-secret", name="Acme")
    visitor = await start(clients=(client,))
    page = await visitor.request("GET", visitor.sandbox.base_url.removesuffix("resto/"))
    assert "acme" in page.form.text
    assert "MARK-secret" not in page.body
    assert "MARK-secret" not in repr(visitor.sandbox.settings)


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nowhere", 404, "nothing is at /nowhere: there are /, /resto/oauth2/v1/authorize,"),
        ("GET", "/resto/rest/core/company/", 404, "nothing is at /resto/rest/core/company/"),
        ("PUT", "/resto/oauth2/v1/authorize", 405, "/resto/oauth2/v1/authorize takes GET, POST, not PUT"),
        ("GET", "/resto/oauth2/v1/token", 405, "/resto/oauth2/v1/token takes POST, not GET"),
        ("POST", "/resto/rest/core/company", 405, "/resto/rest/core/company takes GET, not POST"),
    ],
)
async def test_wrong_place(visitor: Visitor, log: Log, method: str, path: str, status: int, said: str) -> None:
    """A request to the wrong place or with the wrong method is told where to go."""
    page = await visitor.request(method, f"http://127.0.0.1:{visitor.sandbox.port}{path}")
    assert page.status == status
    assert said in _shown(page)
    assert said in log[-1].words
    assert ("Allow" in page.headers) == (status == 405)


async def test_style_hash_matches(visitor: Visitor) -> None:
    """The hash in the policy is the hash of the style in the page, or browsers would show it bare."""
    page = await visitor.open(visitor.authorization_url())
    style = re.search(r"<style>(.*?)</style>", page.body, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page.headers["Content-Security-Policy"]


def _shown(page: Page) -> str:
    return page.form.text if page.body.startswith("<!doctype") else page.body


async def test_redirect_after_login_stays_here(visitor: Visitor) -> None:
    """The login sends the browser back to the very address that it was at."""
    url = visitor.authorization_url(state="a b&c=d/é")
    page = await visitor.open(url)
    answer = await visitor.request(
        "POST", url, data={**page.form.inputs, "user_id": "cafe-roma", "password": "espresso"}
    )
    assert answer.status == 303
    assert answer.headers["Location"] == url.raw_path_qs
    assert not urlsplit(answer.headers["Location"]).netloc
