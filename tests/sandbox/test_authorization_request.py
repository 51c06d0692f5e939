"""What an authorization request must be, and what the browser is sent back with (RFC 6749 §4.1.1, §4.1.2)."""

from __future__ import annotations

import pytest
from yarl import URL

from .conftest import Start
from .visitor import REDIRECT_URI, Log, Visitor, challenge_of


async def test_code(visitor: Visitor, log: Log) -> None:
    """After Allow the browser arrives at the redirect URI with a code and the state, and nothing else."""
    location = await visitor.allow(visitor.authorization_url())
    assert str(location).startswith(f"{REDIRECT_URI}?code=")
    assert sorted(location.query) == ["code", "state"]
    assert location.query["state"] == "MARK-state"
    assert [line.words for line in log] == [
        "login page shown",
        "Cafe Roma logged in",
        "consent page shown to Cafe Roma",
        f"Cafe Roma allowed Sandbox application; code sent to {REDIRECT_URI}",
    ]
    assert all(line.ok for line in log)


async def test_deny(visitor: Visitor, log: Log) -> None:
    """After Deny the browser arrives with access_denied and the state."""
    url = visitor.authorization_url()
    answer = await visitor.submit(url, await visitor.log_in(url), decision="deny")
    assert answer.location.query["error"] == "access_denied"
    assert answer.location.query["state"] == "MARK-state"
    assert "code" not in answer.location.query
    assert log[-1].words == f"Cafe Roma denied Sandbox application; access_denied sent to {REDIRECT_URI}"


async def test_codes_differ(visitor: Visitor) -> None:
    """Every Allow brings another code."""
    assert await visitor.code() != await visitor.code()


async def test_redirect_uri_with_query(visitor: Visitor) -> None:
    """A query in the redirect URI is kept (RFC 6749 §3.1.2)."""
    location = await visitor.allow(visitor.authorization_url(redirect_uri="http://localhost:5/?a=b%26c&d="))
    assert location.query["a"] == "b&c"
    assert location.query["d"] == ""
    assert location.query["code"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"client_id": None}, "client_id is missing"),
        ({"client_id": ""}, "client_id is missing"),
        ({"client_id": "nobody"}, "client_id 'nobody' is not registered here; registered: sandbox"),
        ({"redirect_uri": "https://example.com/"}, "it is not on loopback"),
        ({"redirect_uri": "http://127.0.0.1:1/#x"}, "it has a fragment"),
        ({"client_id": "nobody", "response_type": "token"}, "client_id 'nobody'"),
        ({"redirect_uri": "https://example.com/", "code_challenge": None}, "it is not on loopback"),
    ],
)
async def test_never_redirected(visitor: Visitor, log: Log, changes: dict[str, str | None], said: str) -> None:
    """A wrong client_id or redirect_uri is a page in words and never a redirect (RFC 6749 §4.1.2.1)."""
    page = await visitor.open(visitor.authorization_url(**changes))
    assert page.status == 400
    assert "Location" not in page.headers
    assert said in page.form.text
    assert said in log[-1].words
    assert not log[-1].ok


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_target_twice(visitor: Visitor, name: str) -> None:
    """Two client_ids or redirect URIs are a page, even where they are equal."""
    url = visitor.authorization_url()
    page = await visitor.open(url.extend_query({name: url.query[name]}))
    assert page.status == 400
    assert f"{name} comes twice" in page.form.text


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"response_type": None}, "invalid_request", "response_type is missing"),
        ({"response_type": "token"}, "unsupported_response_type", "only code is taken"),
        ({"response_type": "code token"}, "unsupported_response_type", "only code is taken"),
        ({"code_challenge": None}, "invalid_request", "code_challenge is missing: PKCE is required"),
        ({"code_challenge_method": None}, "invalid_request", "which means plain: send S256"),
        ({"code_challenge_method": "plain"}, "invalid_request", "method 'plain' is refused"),
        ({"code_challenge_method": "s256"}, "invalid_request", "method 's256' is refused"),
        ({"code_challenge": "a" * 42}, "invalid_request", "not 43 characters of base64url"),
        ({"code_challenge": "a" * 44}, "invalid_request", "not 43 characters of base64url"),
        ({"code_challenge": "a" * 42 + "."}, "invalid_request", "not 43 characters of base64url"),
        ({"code_challenge": "a" * 43 + "\n"}, "invalid_request", "not 43 characters of base64url"),
        ({"code_challenge": challenge_of("x") + "="}, "invalid_request", "leave out the padding"),
    ],
)
async def test_redirected_errors(
    visitor: Visitor, log: Log, changes: dict[str, str | None], error: str, said: str
) -> None:
    """Every other mistake goes back to the application as an error, with the state."""
    page = await visitor.open(visitor.authorization_url(**changes))
    assert page.status == 302
    assert str(page.location.with_query(None)) == REDIRECT_URI
    assert page.location.query["error"] == error
    assert page.location.query["state"] == "MARK-state"
    assert said in page.location.query["error_description"]
    assert said in log[-1].words
    assert not log[-1].ok


@pytest.mark.parametrize("name", ["state", "response_type", "code_challenge", "code_challenge_method", "x"])
async def test_parameter_twice(visitor: Visitor, name: str) -> None:
    """A parameter that comes twice is an error that goes back to the application (RFC 6749 §3.1)."""
    url = visitor.authorization_url()
    page = await visitor.open(url.extend_query({name: "1"}).extend_query({name: "1"}))
    assert page.location.query["error"] == "invalid_request"
    assert f"{name} comes twice" in page.location.query["error_description"]


async def test_unknown_parameters(visitor: Visitor) -> None:
    """Unknown parameters and a scope are ignored."""
    assert (await visitor.open(visitor.authorization_url(scope="everything", x="y"))).status == 200


async def test_broken_query(visitor: Visitor) -> None:
    """A query that is not UTF-8 is a page in words."""
    page = await visitor.open(URL(f"{visitor.authorization_url()}&x=%ff", encoded=True))
    assert page.status == 400
    assert "form-urlencoded UTF-8" in page.form.text


async def test_mistakes_are_found_again_at_consent(visitor: Visitor) -> None:
    """A consent form posted to another, unsound request issues no code."""
    url = visitor.authorization_url()
    consent = await visitor.log_in(url)
    page = await visitor.submit(visitor.authorization_url(code_challenge=None), consent, decision="allow")
    assert page.location.query["error"] == "invalid_request"


# -- state ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["a b&c=d#é\"'", "x" * 2000, "%2B+"])
async def test_state_is_echoed(visitor: Visitor, state: str) -> None:
    """The state comes back as it was sent, whatever it contains."""
    location = await visitor.allow(visitor.authorization_url(state=state))
    assert location.query["state"] == state


async def test_no_state(visitor: Visitor) -> None:
    """A request without a state is fine, and none comes back."""
    assert "state" not in (await visitor.allow(visitor.authorization_url(state=None))).query


async def test_state_dropped(start: Start) -> None:
    """With `state="drop"` neither a code nor an error carries one."""
    visitor = await start(state="drop")
    assert "state" not in (await visitor.allow(visitor.authorization_url())).query
    page = await visitor.open(visitor.authorization_url(response_type="token"))
    assert "state" not in page.location.query


async def test_state_replaced(start: Start) -> None:
    """With `state="replace"` the server sends one of its own, also when none was sent."""
    visitor = await start(state="replace")
    first = await visitor.allow(visitor.authorization_url())
    page = await visitor.open(visitor.authorization_url(state=None, response_type="token"))
    assert first.query["state"] not in {"", "MARK-state"}
    assert page.location.query["state"]


# -- redirect URIs -------------------------------------------------------------------------------------------


async def test_default_redirect_uri(visitor: Visitor) -> None:
    """Without a redirect URI in the request the vendor's sample address is used."""
    location = await visitor.allow(visitor.authorization_url(redirect_uri=None))
    assert str(location).startswith("https://localhost:8000/?code=")


async def test_first_pinned_redirect_uri(start: Start) -> None:
    """Without a redirect URI in the request the first registered one is used."""
    visitor = await start(redirect_uris=("https://localhost:9/x", "http://127.0.0.1/"))
    location = await visitor.allow(visitor.authorization_url(redirect_uri=None))
    assert str(location).startswith("https://localhost:9/x?code=")


async def test_pinned_redirect_uri_without_port(start: Start) -> None:
    """A registered redirect URI for any port cannot stand in for a missing one: that is a page."""
    visitor = await start(redirect_uris=("http://127.0.0.1:0/",))
    page = await visitor.open(visitor.authorization_url(redirect_uri=None))
    assert page.status == 400
    assert "redirect_uri is missing" in page.form.text


async def test_unregistered_redirect_uri(start: Start) -> None:
    """With registered redirect URIs any other is a page that lists them."""
    visitor = await start(redirect_uris=("https://localhost:8000/",))
    page = await visitor.open(visitor.authorization_url(redirect_uri="https://localhost:8000"))
    assert page.status == 400
    assert "registered are https://localhost:8000/, and every byte counts" in page.form.text
