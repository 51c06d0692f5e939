"""Parsing the authorization response: what is accepted, what ends the login, and what is not ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopback_auth.errors import (
    AuthorizationDenied,
    AuthorizationResponseError,
    AuthorizationServerUnavailable,
    RedirectRejected,
)
from loopback_auth.oauth.authorization import CODE_LIMIT, parse_authorization_response

from .registrations import CODE, STATE, registration, request, server

OURS = f"state={STATE}"
ISSUER = "https://server.example.com"


def rejected(query: str, **of_server: object) -> str:
    with pytest.raises(RedirectRejected) as caught:
        parse_authorization_response(request(registration(of=server(**of_server))), query)
    assert "s3kr1t" not in f"{caught.value}{caught.value!r}{caught.value.hint}"
    return str(caught.value)


def test_the_example_of_rfc_6749() -> None:
    """RFC 6749 §4.1.2: the example response gives its code, bound to the request it answers."""
    asked = request(state="xyz")
    answer = parse_authorization_response(asked, "code=SplxlOBeZQQYbYS6WxSbIA&state=xyz")
    assert answer.code.reveal() == "SplxlOBeZQQYbYS6WxSbIA"
    assert answer.request is asked
    assert "Splx" not in repr(answer)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("a%2Fb%3D%3D", "a/b=="),
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%zz", "a%zz"),
        ("a=b=c", "a=b=c"),
        ("~" * CODE_LIMIT, "~" * CODE_LIMIT),
    ],
)
def test_the_code_is_form_decoded(sent: str, code: str) -> None:
    """RFC 6749 appendix B: percent and plus are decoded, once, up to a code of 4 KiB."""
    assert parse_authorization_response(request(), f"{OURS}&code={sent}").code.reveal() == code


def test_unknown_parameters_are_ignored() -> None:
    """RFC 6749 §4.1.2: parameters nobody knows are ignored, repeated, empty and odd ones too."""
    query = f"&&session_state=x&session_state=y&=&%ff=%00&code={CODE}&{OURS}&domain_prefix="
    assert parse_authorization_response(request(), query).code.reveal() == CODE


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "it carries no state"),
        (f"code={CODE}", "it carries no state"),
        (f"code={CODE}&State={STATE}", "it carries no state"),
        (f"code={CODE}&state", "its state is not the one of this login"),
        (f"code={CODE}&state=", "its state is not the one of this login"),
        (f"code={CODE}&state={STATE}x", "its state is not the one of this login"),
        (f"code={CODE}&state={STATE[:-1]}", "its state is not the one of this login"),
        (f"code={CODE}&state={STATE.upper()}", "its state is not the one of this login"),
        (f"code={CODE}&state=%ff%00", "its state is not the one of this login"),
        (f"code={CODE}&state=\udcff", "its state is not the one of this login"),
        (f"code={CODE}&state=\ud800", "its state is not the one of this login"),
        (f"code={CODE}&{OURS}&{OURS}", "its state is not the one of this login"),
        (f"code={CODE}&{OURS}&state=other", "its state is not the one of this login"),
        (f"code={CODE}&state=other&{OURS}", "its state is not the one of this login"),
    ],
)
def test_state_is_one_and_ours(query: str, why: str) -> None:
    """A missing, repeated or wrong state is no redirect of this login."""
    assert rejected(query) == why


@pytest.mark.parametrize("query", ["error=access_denied", "error=a&error=b", "iss=x&iss=y", "code=%00", "error=%ff"])
@pytest.mark.parametrize("state", ["", "&state=other", f"&{OURS}&{OURS}"])
def test_state_is_judged_first(query: str, state: str) -> None:
    """Who does not know the state cannot end a login, not even with an error, nor learn what else is wrong."""
    why = rejected(query + state, issuer=ISSUER)
    assert why in ("it carries no state", "its state is not the one of this login")


@pytest.mark.parametrize("name", ["code", "error", "iss", "error_description"])
def test_a_repeated_parameter_is_rejected(name: str) -> None:
    """RFC 6749 §3.1: no parameter more than once, be it twice the same."""
    others = "" if name == "code" else f"&code={CODE}" if name == "iss" else "&error=server_error"
    repeated = others.replace("&error=server_error", "") if name == "error" else others
    assert rejected(f"{OURS}{repeated}&{name}=x&{name}=x") == f"its parameter {name} stands there 2 times"


@pytest.mark.parametrize(
    "value", ["%00", "a%0Ab", "%7F", "%C3%BC", "%FF", "ü", "\udcff", "\ud800", "a%09", "%E2%80%AE"]
)
@pytest.mark.parametrize("name", ["code", "error", "iss", "error_description"])
def test_what_is_not_printable_ascii_is_rejected(name: str, value: str) -> None:
    """RFC 6749 appendix A: VSCHAR and NQSCHAR only."""
    others = "&error=server_error" if name == "error_description" else ""
    assert (
        rejected(f"{OURS}{others}&{name}={value}") == f"its parameter {name} holds something else than printable ASCII"
    )


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "it carries neither code nor error"),
        ("&error_description=x", "it carries neither code nor error"),
        (f"&code={CODE}&error=access_denied", "it carries a code and an error"),
        ("&code=", "its code is empty"),
        ("&code", "its code is empty"),
        (f"&code={'x' * (CODE_LIMIT + 1)}", "its code is longer than 4096 bytes"),
    ],
)
def test_there_is_one_code_or_one_error(query: str, why: str) -> None:
    """Neither, both, an empty code and one over 4 KiB are rejected."""
    assert rejected(OURS + query) == why


@pytest.mark.parametrize(
    ("issuer", "promised", "iss", "why"),
    [
        (None, False, None, None),
        (None, False, "https://evil.example", None),
        (None, True, None, None),
        (ISSUER, False, None, None),
        (ISSUER, True, ISSUER, None),
        (ISSUER, False, ISSUER, None),
        (ISSUER, True, None, "it carries no iss, and this server promises one"),
        (ISSUER, False, "https://evil.example", f"its iss is https://evil.example, and this login asked {ISSUER}"),
        (ISSUER, True, ISSUER + "/", f"its iss is {ISSUER}/, and this login asked {ISSUER}"),
        (ISSUER, True, ISSUER.upper(), f"its iss is {ISSUER.upper()}, and this login asked {ISSUER}"),
        (ISSUER, True, "", f"its iss is , and this login asked {ISSUER}"),
    ],
)
@pytest.mark.parametrize("answer", [f"code={CODE}", "error=access_denied"])
def test_iss_is_the_issuer(issuer: str | None, promised: bool, iss: str | None, why: str | None, answer: str) -> None:
    """RFC 9207 §2.4: an iss equals the configured issuer as a string, and who promises one sends one."""
    query = f"{OURS}&{answer}" + ("" if iss is None else f"&iss={quote(iss, safe='')}")
    of_server = {"issuer": issuer, "authorization_response_iss_parameter_supported": promised}
    if why is not None:
        assert rejected(query, **of_server) == why
    elif answer.startswith("code"):
        asked = request(registration(of=server(**of_server)))
        assert parse_authorization_response(asked, query).code.reveal() == CODE
    else:
        with pytest.raises(AuthorizationDenied):
            parse_authorization_response(request(registration(of=server(**of_server))), query)


@pytest.mark.parametrize(
    ("error", "kind", "exit_status", "message"),
    [
        ("access_denied", AuthorizationDenied, 6, "access was denied"),
        ("server_error", AuthorizationServerUnavailable, 9, "the authorization server had an internal error"),
        (
            "temporarily_unavailable",
            AuthorizationServerUnavailable,
            9,
            "the authorization server is overloaded or being maintained",
        ),
        (
            "unauthorized_client",
            AuthorizationResponseError,
            3,
            "the authorization server does not let this client log in",
        ),
        ("invalid_scope", AuthorizationResponseError, 3, "the authorization server does not know the scope asked for"),
        (
            "invalid_request",
            AuthorizationResponseError,
            3,
            "the authorization server found the authorization request malformed",
        ),
        (
            "unsupported_response_type",
            AuthorizationResponseError,
            3,
            "the authorization server gives this client no codes",
        ),
        ("something_else", AuthorizationResponseError, 3, "the authorization server refused"),
        ("Access_Denied", AuthorizationResponseError, 3, "the authorization server refused"),
    ],
)
@pytest.mark.parametrize("description", [None, "", "because 1 < 2; see page"])
def test_each_error_ends_in_its_own_way(
    error: str, kind: type[AuthorizationResponseError], exit_status: int, message: str, description: str | None
) -> None:
    """RFC 6749 §4.1.2.1: each error has its class, its exit status, its words and a hint."""
    query = urlencode({"error": error} | ({} if description is None else {"error_description": description}))
    with pytest.raises(AuthorizationResponseError) as caught:
        parse_authorization_response(request(), f"{query}&{OURS}")
    refusal = caught.value
    assert type(refusal) is kind
    assert refusal.exit_status == exit_status
    assert str(refusal) == f"{message} ({error}{f': {description}' if description else ''})"
    assert (refusal.error, refusal.error_description) == (error, description)
    assert len(refusal.hint) == 1


def test_a_long_error_description_is_cut() -> None:
    """What a server says at length is shown for 200 characters."""
    with pytest.raises(AuthorizationResponseError) as caught:
        parse_authorization_response(request(), f"{OURS}&error=server_error&error_description={'x' * 5000}")
    assert caught.value.error_description == "x" * 197 + "..."
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("sent", ["", "&state=of-the-server"])
@pytest.mark.parametrize("otherwise", ["cookie", "pasted"])
@pytest.mark.parametrize("policy", ["unconfirmed", "none"])
def test_other_evidence_counts_for_servers_known_to_lose_the_state(sent: str, otherwise: Any, policy: str) -> None:
    """Where the preset says that state may not come back, our cookie or a person shows that the redirect is ours."""
    asked = request(registration(of=server(state=policy)))
    answer = parse_authorization_response(asked, f"code={CODE}{sent}", otherwise=otherwise)
    assert (answer.code.reveal(), answer.shown_by) == (CODE, otherwise)
    assert parse_authorization_response(asked, f"code={CODE}&{OURS}", otherwise=otherwise).shown_by == "state"
    with pytest.raises(AuthorizationDenied):
        parse_authorization_response(asked, f"error=access_denied{sent}", otherwise=otherwise)
    with pytest.raises(RedirectRejected, match="its state is not the one of this login"):
        parse_authorization_response(asked, f"code={CODE}&{OURS}&state=x", otherwise=otherwise)


@pytest.mark.parametrize(
    ("policy", "otherwise"), [("required", "cookie"), ("required", "pasted"), ("unconfirmed", None)]
)
@pytest.mark.parametrize("sent", [f"code={CODE}", f"code={CODE}&state=other", "error=access_denied"])
def test_other_evidence_counts_nowhere_else(sent: str, otherwise: Any, policy: str) -> None:
    """A server that keeps the state must send it, and without evidence nobody is believed."""
    with pytest.raises(RedirectRejected, match="state"):
        parse_authorization_response(request(registration(of=server(state=policy))), sent, otherwise=otherwise)


WORDS = f"code state error iss error_description access_denied {STATE} {CODE} = & % + %00 %26 %3D ; \udcff \ud800 ü #"
PARTS = st.sampled_from(WORDS.split(" "))
PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["code", "state", "error", "iss", "error_description", "other"]),
        st.sampled_from([STATE, CODE, "access_denied", ISSUER, "", "%00", "x" * 5000]) | st.text(max_size=8),
    ).map("=".join),
    max_size=6,
).map("&".join)
QUERIES = PAIRS | st.lists(PARTS, max_size=12).map("".join) | st.text(st.characters(exclude_categories=()))


@given(query=QUERIES, with_ours=st.booleans(), promised=st.booleans())
@settings(max_examples=400)
@example(query=f"code={CODE}", with_ours=True, promised=False)
@example(query="code=\udcff", with_ours=True, promised=False)
def test_any_query_parses_or_is_refused(query: str, with_ours: bool, promised: bool) -> None:
    """Any query gives a code or one of two errors, and nothing is said or accepted without exactly our state."""
    if with_ours:
        query = f"{OURS}&{query}"
    asked = request(registration(of=server(issuer=ISSUER, authorization_response_iss_parameter_supported=promised)))
    try:
        answer = parse_authorization_response(asked, query)
    except RedirectRejected as error:
        assert str(error).isascii()
        return
    except AuthorizationResponseError as error:
        assert str(error).isascii()
    else:
        code = answer.code.reveal()
        assert 0 < len(code) <= CODE_LIMIT
        assert all(" " <= character <= "~" for character in code)
    raw = query.encode(errors="surrogatepass").replace(b"+", b" ")
    pairs = [pair.partition(b"=") for pair in raw.split(b"&")]
    states = [unquote_to_bytes(value) for name, _, value in pairs if unquote_to_bytes(name) == b"state"]
    assert states == [STATE.encode()]


@given(st.dictionaries(st.sampled_from(["code", "iss", "other", "session_state"]), st.text(), max_size=3))
def test_an_encoded_query_is_decoded(values: dict[str, str]) -> None:
    """What a server form-encodes is what is read: a printable code comes back as it was."""
    query = urlencode({"state": STATE, **values})
    assert dict(parse_qsl(query, keep_blank_values=True)) == {"state": STATE, **values}
    try:
        answer = parse_authorization_response(request(), query)
    except RedirectRejected:
        code = values.get("code", "")
        iss = values.get("iss", "")
        assert not code or any(not " " <= character <= "~" for character in code + iss)
    else:
        assert answer.code.reveal() == values["code"]
