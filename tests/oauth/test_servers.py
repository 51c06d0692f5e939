"""The presets, held to the facts they encode, and the user's own servers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import AuthorizationServer, parse_redirect_uri
from loopback_auth.oauth.servers import DEFAULT, SANDBOX, find_server, parse_server, presets, sandbox_at

ENDPOINTS: dict[str, Any] = {
    "authorization_endpoint": "https://idp.example/authorize",
    "token_endpoint": "https://idp.example/token",
}


@pytest.mark.parametrize(
    ("name", "base", "production"),
    [
        ("lightspeed-l-staging", "https://test.lightspeedapis.com/resto/", False),
        ("lightspeed-l-production", "https://lightspeedapis.com/resto/", True),
    ],
)
def test_lightspeed_l_series(name: str, base: str, production: bool) -> None:
    """The endpoints that Lightspeed documents, codes of 30 seconds, refresh tokens that die after 30 idle days."""
    server = presets()[name]
    assert server.authorization_endpoint == base + "oauth2/v1/authorize"
    assert server.token_endpoint == base + "oauth2/v1/token"
    assert server.api_base == base
    assert server.company_path == "rest/core/company"
    assert server.redirect_uri == "https://localhost:8000/"
    assert server.code_lifetime == 30
    assert server.refresh_token_idle_lifetime == 30 * 24 * 3600
    assert server.production is production
    assert not server.public_clients
    assert server.state == "unconfirmed"
    assert (server.client_id, server.client_secret, server.issuer) == (None, None, None)
    assert server.keys_from is not None
    assert server.keys_from.startswith("restaurant.support@lightspeedhq.com")


def test_staging_is_the_default() -> None:
    """Development happens on staging: the default names it, and it is no production server."""
    assert DEFAULT == "lightspeed-l-staging"
    assert not presets()[DEFAULT].production


def test_production_alone_asks_first() -> None:
    """Exactly the production preset holds real restaurants."""
    assert [name for name, server in presets().items() if server.production] == ["lightspeed-l-production"]


def test_the_sandbox_publishes_its_credentials() -> None:
    """The sandbox is on this machine, shaped like L-Series, and alone in having credentials in its preset."""
    server = presets()[SANDBOX]
    assert server.authorization_endpoint == "http://127.0.0.1:8931/resto/oauth2/v1/authorize"
    assert server.token_endpoint == "http://127.0.0.1:8931/resto/oauth2/v1/token"
    assert server.api_base == "http://127.0.0.1:8931/resto/"
    assert (server.client_id, server.client_secret) == ("sandbox", "sandbox-secret")
    assert server.redirect_uri == "http://127.0.0.1:0/"
    assert server.state == "required"
    assert [name for name, one in presets().items() if one.client_id or one.client_secret] == [SANDBOX]


def test_only_the_sandbox_is_known_to_take_a_login_hint() -> None:
    """Nobody documents `login_hint` for Lightspeed, so nothing is sent there that could be refused."""
    assert [name for name, one in presets().items() if one.login_hint_parameter] == [SANDBOX]


def test_the_sandbox_moves_to_another_port() -> None:
    """On another port every address of the sandbox moves, and nothing else changes."""
    moved = sandbox_at(4711)
    assert moved.authorization_endpoint == "http://127.0.0.1:4711/resto/oauth2/v1/authorize"
    assert moved.token_endpoint == "http://127.0.0.1:4711/resto/oauth2/v1/token"
    assert moved.api_base == "http://127.0.0.1:4711/resto/"
    assert sandbox_at(8931) == presets()[SANDBOX]


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_complete(name: str) -> None:
    """Each preset has a title, words for a person, and a redirect URI that can be caught."""
    server = presets()[name]
    assert server.name == name
    assert server.title != name
    assert server.login_as
    assert server.allow_means
    assert parse_redirect_uri(server.redirect_uri).text == server.redirect_uri


def test_the_smallest_server_of_ones_own() -> None:
    """Two endpoints are enough; the rest is the safe default."""
    assert parse_server("my-idp", ENDPOINTS, "config.toml") == AuthorizationServer(
        name="my-idp", title="my-idp", **ENDPOINTS
    )
    safe = AuthorizationServer(name="my-idp", title="my-idp", **ENDPOINTS)
    assert (safe.state, safe.redirect_uri, safe.redirect_uri_parameter) == ("required", "http://127.0.0.1:0/", True)
    assert safe.basic_form_encoding
    assert not safe.login_hint_parameter


def test_a_server_of_ones_own_with_all_keys() -> None:
    """Every key of the presets can be set, and addresses are serialised anew."""
    members: dict[str, Any] = {
        **ENDPOINTS,
        "title": "My IdP",
        "token_endpoint": "HTTPS://IDP.example",
        "issuer": "https://idp.example",
        "authorization_response_iss_parameter_supported": True,
        "redirect_uri": "http://localhost:7777/cb",
        "redirect_uri_parameter": False,
        "login_hint_parameter": True,
        "state": "none",
        "basic_form_encoding": False,
        "public_clients": False,
        "code_lifetime": 15,
    }
    server = parse_server("my-idp", members, "config.toml")
    assert server == AuthorizationServer(name="my-idp", **{**members, "token_endpoint": "https://idp.example/"})


@pytest.mark.parametrize(
    ("members", "message", "hint"),
    [
        ({"authorization_endpoint": "https://idp.example/"}, "{} has no token_endpoint", ()),
        ({"token_endpoint": "https://idp.example/"}, "{} has no authorization_endpoint", ()),
        ({}, "{} has no authorization_endpoint", ()),
        ("https://idp.example/", "{} is not a table", ()),
        (
            {**ENDPOINTS, "redirect_uri_paramter": True},
            "{} has the unknown key redirect_uri_paramter",
            ("did you mean redirect_uri_parameter?",),
        ),
        ({**ENDPOINTS, "xyz": 1}, "{} has the unknown key xyz", ()),
        ({**ENDPOINTS, "name": "other"}, "{} has the unknown key name", ()),
        ({**ENDPOINTS, "state\n": "none"}, r"{} has the unknown key state\x0a", ("did you mean state?",)),
        ({**ENDPOINTS, "state": "maybe"}, "{}: state is one of required, unconfirmed, none", ()),
        ({**ENDPOINTS, "state": False}, "{}: state is true or false, and should be text", ()),
        ({**ENDPOINTS, "issuer": 5}, "{}: issuer is a whole number, and should be text", ()),
        ({**ENDPOINTS, "issuer": ["a"]}, "{}: issuer is a list, and should be text", ()),
        (
            {**ENDPOINTS, "public_clients": "no"},
            "{}: public_clients is text, and should be true or false",
            (),
        ),
        ({**ENDPOINTS, "public_clients": 0}, "{}: public_clients is a whole number, and should be true or false", ()),
        ({**ENDPOINTS, "code_lifetime": 0.5}, "{}: code_lifetime is a float, and should be a whole number", ()),
        ({**ENDPOINTS, "code_lifetime": True}, "{}: code_lifetime is true or false, and should be a whole number", ()),
    ],
)
def test_what_is_wrong_is_named(members: Any, message: str, hint: tuple[str, ...]) -> None:
    """A key that is missing, unknown or of the wrong type is named, with the nearest known one."""
    with pytest.raises(ConfigurationError) as caught:
        parse_server("my-idp", members, "config.toml")
    assert str(caught.value) == message.format("[servers.my-idp] in config.toml")
    assert caught.value.hint == hint


@pytest.mark.parametrize("key", ["authorization_endpoint", "token_endpoint", "api_base", "redirect_uri"])
def test_every_address_obeys_the_rule(key: str) -> None:
    """No address of a server escapes the https-or-loopback rule."""
    with pytest.raises(ConfigurationError, match=f"^the {key} "):
        parse_server("my-idp", {**ENDPOINTS, key: "http://evil.example/"}, "config.toml")


def test_an_unknown_server_is_named_with_the_nearest() -> None:
    """A server nobody knows: the nearest one, and all of them."""
    own = {"my-idp": parse_server("my-idp", ENDPOINTS, "config.toml")}
    with pytest.raises(ConfigurationError) as caught:
        find_server("lightspeed-l-stagging", own)
    assert str(caught.value) == "there is no server called lightspeed-l-stagging"
    assert caught.value.hint == (
        "did you mean lightspeed-l-staging?",
        "known servers: lightspeed-l-production, lightspeed-l-staging, my-idp, sandbox",
    )


def test_ones_own_server_comes_first() -> None:
    """A server of one's own with a preset's name takes its place."""
    mine = parse_server("sandbox", ENDPOINTS, "config.toml")
    assert find_server("sandbox", {"sandbox": mine}) is mine
    assert find_server("sandbox", {}) is presets()["sandbox"]


VALUES = st.one_of(
    st.text(), st.booleans(), st.integers(), st.floats(), st.lists(st.text()), st.dictionaries(st.text(), st.text())
)
KEYS = st.sampled_from(
    [*AuthorizationServer.__dataclass_fields__, "authorization_endpoint", "token_endpoint"]
) | st.text(max_size=5)


@given(
    st.dictionaries(KEYS, VALUES) | st.dictionaries(KEYS, VALUES).map(lambda members: {**members, **ENDPOINTS}) | VALUES
)
def test_any_table_is_a_server_or_an_error(members: Any) -> None:
    """Whatever a table holds, it is a server or a ConfigurationError in printable ASCII."""
    try:
        server = parse_server("my-idp", members, "config.toml")
    except ConfigurationError as error:
        assert "".join([str(error), *error.hint]).isprintable()
    else:
        assert server.state in ("required", "unconfirmed", "none")
