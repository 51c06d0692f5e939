"""The protocol's parsers: what a browser, a server and a person bring."""

from __future__ import annotations

import gzip
import ipaddress
import re
import types
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes, urlsplit

from hypothesis import strategies as st
from yarl import URL

from loopback_auth import renewal
from loopback_auth.clock import Moment
from loopback_auth.endpoints.proxy import proxy_for
from loopback_auth.endpoints.resource import parse_companies, resource_url
from loopback_auth.errors import (
    AuthorizationResponseError,
    ConfigurationError,
    LoginRequired,
    OutcomeUnknown,
    RedirectRejected,
    ResourceError,
    ServerUnavailable,
    TokenEndpointError,
)
from loopback_auth.oauth.authorization import CODE_LIMIT, parse_authorization_response
from loopback_auth.oauth.registration import endpoint, is_loopback, is_proxy, parse_redirect_uri
from loopback_auth.oauth.servers import parse_server
from loopback_auth.oauth.token import (
    ANSWER_LIMIT,
    LIFETIME_LIMIT,
    TokenAnswer,
    TokenSet,
    parse_token_response,
    tokens_in,
)
from loopback_auth.redirect.paste import LIMIT as PASTE_LIMIT
from loopback_auth.redirect.paste import parse_pasted
from tests.oauth.registrations import CODE, STATE, registration, request, server

from .shapes import ANY_TEXT, JSON, nearly, nearly_bytes, nearly_json, one_of_words, written
from .target import MARK, Target, ToldSecretError, parsed, tells_nothing

# --- the redirect's query ---

ISSUER = "https://server.example.com"
ASKED = {
    (policy, promised): request(
        registration(of=server(issuer=ISSUER, state=policy, authorization_response_iss_parameter_supported=promised))
    )
    for policy in ("required", "unconfirmed", "none")
    for promised in (False, True)
}
VALUES = {
    "code": st.sampled_from([CODE, CODE, "s3kr1t-2", "", f"s3kr1t-{'x' * 4096}", "a b", "%7E", "s3kr1t-\x7f"]),
    "state": st.sampled_from([STATE, STATE, STATE, STATE[:-1], STATE + "x", "", STATE.upper(), STATE + "\0"]),
    "error": st.sampled_from(
        ["access_denied", "server_error", "invalid_scope", "other", "", "\x1b[2J", "ü", "x" * 900]
    ),
    "error_description": st.sampled_from(["no", "", "\x1b[2J", "ü", "x" * 900]),
    "iss": st.sampled_from([ISSUER, ISSUER, ISSUER + "/", "https://evil.example", "", "ü", "x" * 900]),
    "session_state": ANY_TEXT,
}


@st.composite
def _pair(draw: st.DrawFn, name: str) -> str:
    value = draw(VALUES[name])
    encode = draw(st.sampled_from([quote, quote, quote_plus, str, lambda text: quote(text).replace("-", "%2d")]))
    name = draw(st.sampled_from([name] * 9 + [name.upper(), name.replace("e", "%65"), f"{name}[]", f" {name}"]))
    return (
        f"{name}={encode(value, errors='surrogatepass') if encode in (quote, quote_plus) else _plainly(encode, value)}"
    )


def _plainly(encode: Any, value: str) -> str:
    try:
        return str(encode(value))
    except UnicodeEncodeError:
        return "%ED%A0%80"


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Draw a query: mostly ours with a code or an error, in any order, a part of it twice now and then."""
    names = ["state", draw(st.sampled_from(["code", "code", "error"]))]
    names += draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2))
    names += ["iss"] * draw(st.integers(0, 1))
    pairs = [draw(_pair(name)) for name in draw(st.permutations(names))]
    return draw(st.sampled_from(["&"] * 9 + ["&&", ";", "&amp;"])).join(pairs)


RIGHT_QUERIES = (
    f"code={CODE}&state={STATE}",
    f"state={STATE}&code={CODE}&session_state=x",
    f"iss={quote_plus(ISSUER)}&code={CODE}&state={STATE}",
    f"iss={ISSUER}&code={CODE}",
    f"error=access_denied&state={STATE}&error_description=no",
)


def check_query(drawn: tuple[str, tuple[str, bool], str | None]) -> bool:
    """A code comes out of exactly one state, ours, or of other evidence where the server's policy lets it count."""
    query, (policy, promised), otherwise = drawn
    asked = ASKED[policy, promised]
    pairs = [pair.partition("=") for pair in query.split("&")]
    sent: dict[bytes, list[bytes]] = {}
    for name, _, value in pairs:
        name, value = (one.replace("+", " ") for one in (name, value))
        sent.setdefault(_octets(name), []).append(_octets(value))
    try:
        good, answer = parsed(
            lambda: parse_authorization_response(asked, query, otherwise=otherwise),  # type: ignore[arg-type]  # of three
            RedirectRejected,
            AuthorizationResponseError,
        )
    except ToldSecretError:
        words = [re.split(b"[;&=?#]", one)[0] for one in (*sent.get(b"error", []), *sent.get(b"iss", []))]
        said = [*words, *sent.get(b"error_description", [])]
        assert any(MARK.encode() in one for one in said), "it is not what the server says"
        return False
    ours = sent.get(b"state") == [STATE.encode()]
    excused = policy != "required" and otherwise is not None and len(sent.get(b"state", [])) < 2
    if answer is not None:
        code = answer.code.reveal()
        assert ours or excused, "a code without our state"
        assert sent[b"code"] == [code.encode()], "not the one code that was sent"
        assert b"error" not in sent, "a code beside an error"
        assert 0 < len(code) <= CODE_LIMIT
        assert all(" " <= character <= "~" for character in code)
        assert sent.get(b"iss", [ISSUER.encode()]) == [ISSUER.encode()]
        assert not promised or b"iss" in sent
        assert (answer.shown_by == "state") == ours
        tells_nothing(answer)
    else:
        _ends_only_with_evidence(asked, query, otherwise, ours or excused)
    return good


def _ends_only_with_evidence(asked: Any, query: str, otherwise: Any, evidence: bool) -> None:
    try:
        parse_authorization_response(asked, query, otherwise=otherwise)
    except AuthorizationResponseError:
        assert evidence, "somebody without our state ended the login"
    except RedirectRejected:
        return


def _octets(text: str) -> bytes:
    return unquote_to_bytes(text.encode(errors="surrogatepass"))


QUERY: Target[tuple[str, tuple[str, bool], str | None]] = Target(
    "redirect query",
    st.tuples(
        st.one_of(st.sampled_from(RIGHT_QUERIES), nearly(st.sampled_from(RIGHT_QUERIES), 2), nearly(queries(), 2)),
        st.sampled_from([*sorted(ASKED), ("required", False), ("required", False), ("unconfirmed", False)]),
        st.sampled_from([None, None, "cookie", "pasted"]),
    ),
    check_query,
    kept=(
        (f"code={CODE}&%73tate={STATE}", ("required", False), None),
        (f"code={CODE}&state={STATE}&st%61te={STATE}", ("required", False), None),
        (f"code={CODE}&state={STATE}%00", ("required", False), "cookie"),
        (f"code={CODE}&state=\ud800", ("required", False), "pasted"),
        (f"code={CODE}\udcff&state={STATE}", ("required", False), None),
        (f"code=%C0%AE&state={STATE}", ("required", False), None),
        (f"error=access_denied&state={STATE}&state=", ("unconfirmed", False), "cookie"),
        ("=&=&&&%&%&=%=%", ("none", True), "pasted"),
    ),
    share=0.1,
    examples=150,
    large=(
        lambda size: (f"code={CODE}&state={STATE}" + "&" * size, ("required", False), None),
        lambda size: (f"code={CODE}&state={STATE}" + "&a=b" * (size // 4), ("required", False), None),
        lambda size: (f"code={'%25' * (size // 3)}&state={STATE}", ("required", False), None),
        lambda size: ("state=x&" * (size // 8), ("required", False), None),
    ),
    limit=64 * 1024,
)

# --- addresses ---

HOSTS = one_of_words(
    "localhost localhost 127.0.0.1 127.0.0.1 [::1] [::1] LOCALHOST 127.0.0.2 127.1 0x7f000001 [::ffff:127.0.0.1] "
    "[0:0:0:0:0:0:0:1] [::1%25lo] [::2] 0.0.0.0 localhost. server.example xn--e1afmkfd.example [v1.a] [::1]x a..b "
    "-a.example 1.2.3 999.1.1.1 localhost%2eevil.example user@localhost 127.0.0.1@evil.example user:s3kr1t-@a.example"
)
_RIGHT = one_of_words(
    "http://127.0.0.1:0/ https://localhost:8000/ http://[::1]/cb http://localhost:00/:00 https://127.0.0.1:443 "
    "https://server.example/token https://server.example:8443/a?b=c http://127.0.0.2/x"
)
ADDRESSES = _RIGHT | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "https", "HTTP", "Https", "ftp", "javascript", ""]),
    HOSTS,
    st.sampled_from(["", "", ":8000", ":0", ":00", ":65535", ":65536", ":", ":080", ":a", ":-1", ":+1", ":1_0"]),
    st.sampled_from(
        ["", "/", "/", "/cb", "/a/../b", "//b", "/;p", "/?", "/?a=b", "/#", "/%2e%2e/x", "/%zz", "?a", "/*"]
    ),
)
ANY_ADDRESS = nearly(ADDRESSES, 2)


def check_redirect_uri(uri: str) -> bool:
    """What is accepted is at one of three hosts, stays byte for byte, and is what a browser would ask for."""
    good, found = parsed(lambda: parse_redirect_uri(uri), ConfigurationError)
    if found is not None:
        assert found.text == uri
        assert found.host in ("localhost", "127.0.0.1", "::1")
        assert found.scheme == uri.partition(":")[0].lower()
        assert 0 <= found.port <= 65535
        assert found.path.startswith("/")
        assert not urlsplit(uri).query
        assert uri.endswith((found.path, f"{found.path}?")) or found.path == "/"
        assert (found.authority, found.path) == _as_others_read(uri)
        for port in (1, 4711, 65535):
            there = found.at_port(port)
            assert there.port == (found.port or port)
            assert parse_redirect_uri(there.text) == there
    return good


def _as_others_read(uri: str) -> tuple[str, str]:
    """Return Host and path of a request for `uri`, as another library reads it."""
    read = URL(uri, encoded=True)
    host = (read.raw_host or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[read.scheme]
    return host if read.port == default else f"{host}:{read.explicit_port}", read.raw_path


REDIRECT_URI: Target[str] = Target(
    "redirect URI",
    ANY_ADDRESS,
    check_redirect_uri,
    kept=(
        *(
            "http://[::1]:0/",
            "http://localhost/?a=b",
            "http://[::1]",
            "https://localhost:443",
            "http://localhost:00/:00",
            "http://[::1].evil/",
            "http://evil[::1]/",
        ),
        *("http://[", "http://[::1%25lo]/", "HTTP://LOCALHOST/", "http://localhost:80/?", "http://localhost\\@evil/"),
    ),
    share=0.1,
    examples=150,
    large=(
        lambda size: "http://localhost/" + "a" * size,
        lambda size: "http://" + ":" * size,
        lambda size: "http://localhost:" + "0" * size + "/",
        lambda size: "http://" + "[" * size,
        lambda size: "http://" + "1." * (size // 2),
    ),
    limit=64 * 1024,
)


def check_endpoint(url: str) -> bool:
    """What is accepted is https, or http to this machine, and every library that it goes through agrees where."""
    good, found = parsed(lambda: endpoint(url, "token_endpoint"), ConfigurationError)
    if found is not None:
        parts, read = urlsplit(found), URL(found, encoded=True)
        assert parts.scheme == "https" or is_loopback(parts.hostname)
        assert read.scheme == parts.scheme
        assert read.raw_host == parts.hostname, "two libraries see two hosts"
        assert read.port == (parts.port if parts.port is not None else {"http": 80, "https": 443}[parts.scheme])
        assert parts.username is parts.password is None
        assert read.user is read.password is None
        assert not parts.fragment
        assert endpoint(found, "token_endpoint") == found
    return good


ENDPOINT: Target[str] = Target(
    "endpoint",
    ANY_ADDRESS,
    check_endpoint,
    kept=(
        *(
            "https://[::1].evil.example/",
            "http://evil.example[::1]/",
            "https://user:word@server.example/",
            "https://user:s3kr1t-word@server.example/a b",
            "https://user:s3kr1t-word@server.example:99999/",
            "https://user:s3kr1t-word@[",
            "ftp://user:s3kr1t-@word@server.example/",
            "user:s3kr1t-word@",
            "http://[::1%25lo]/",
            "https://a..b/",
            "https://xn--/",
            "https://[v1.a]/",
        ),
        *("https://server.example:/", "https://server.example:0/", "https://server.example/?#", "https://%41/"),
    ),
    share=0.2,
    large=(
        lambda size: "https://" + "a." * (size // 2),
        lambda size: "https://server.example/?" + "&" * size,
        lambda size: "https://" + "[" * size + "]" * size,
    ),
    limit=64 * 1024,
)

PROXIES = nearly(
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["http://", "https://", "", "socks5://", "HTTP://"]),
        st.sampled_from(["", f"user:{MARK}word@", f"{MARK}word@", "u%40:%s3kr1t-@", "u:p@h@"]),
        HOSTS,
        st.sampled_from(["", ":3128", ":0", ":99999", ":"]),
        st.sampled_from(["", "/", "/x"]),
    ),
    2,
)
EXCEPTED = nearly(
    st.lists(
        st.sampled_from(
            ["*", "server.example", ".example", "localhost", "127.0.0.1/8", "[::1]", "::1", "x:80", "", "*.a"]
        ),
        max_size=4,
    ).map(",".join),
    2,
)


def check_proxy(drawn: tuple[str, str, str]) -> bool:
    """What is accepted can be connected to, is kept out of every message, and NO_PROXY excepts whom it names."""
    proxy, excepted, host = drawn
    url = f"https://{host}/token"
    parts = urlsplit(url)
    environ = {"HTTPS_PROXY": proxy, "NO_PROXY": excepted}
    _good, found = parsed(lambda: proxy_for(url, None, environ), ConfigurationError)
    if found is not None:
        assert is_proxy(found)
        assert found.endswith(proxy)
        read = urlsplit(found)
        assert read.scheme in ("http", "https")
        assert _same(URL(found).raw_host, read.hostname), "two libraries see two hosts"
        assert not any(character <= " " or character == "\x7f" for character in found), "it would break a header"
        assert excepted.strip() != "*"
        assert parts.hostname not in [one.strip().lower() for one in excepted.split(",")]
    return found is not None


def _same(one: str | None, other: str | None) -> bool:
    try:
        return ipaddress.ip_address(one or "") == ipaddress.ip_address(other or "")
    except ValueError:
        return one == other


PROXY: Target[tuple[str, str, str]] = Target(
    "proxy",
    st.tuples(PROXIES, EXCEPTED, st.sampled_from(["server.example", "a.server.example", "[::1]", "127.0.0.1"])),
    check_proxy,
    kept=(
        (f"http://user:{MARK}word@[", "", "server.example"),
        (f"ftp://user:{MARK}word@proxy.example", "", "server.example"),
        ("http://proxy.example:3128", ",,*,", "server.example"),
        ("http://a\0b", "", "server.example"),
        ("http://a b/", "", "server.example"),
        ("http://a\r\nb/", "", "server.example"),
        ("http://\ud800/", "", "server.example"),
    ),
    share=0.2,
    large=(
        lambda size: ("http://proxy.example", "," * size, "server.example"),
        lambda size: ("http://proxy.example", "." * size, "server.example"),
        lambda size: ("@" * size, "", "server.example"),
    ),
    limit=128 * 1024,
)

API = server(api_base="https://api.example/v1/")


def check_path(path: str) -> bool:
    """The access token goes below the API base, as every library reads the URL, and nowhere else."""
    good, url = parsed(lambda: resource_url(API, path), ConfigurationError)
    if url is not None:
        read = URL(url)  # as aiohttp makes it of a text: it removes dot segments
        assert (read.scheme, read.host, read.explicit_port) == ("https", "api.example", None)
        assert read.user is None
        assert read.raw_path.startswith("/v1/"), "above the API base"
    return good


API_PATH: Target[str] = Target(
    "api path",
    nearly(
        st.lists(
            one_of_words("https: / // . .. %2e %2E a v1 api.example @ : ? # %2f b=c https://api.example/v1/ ;"),
            max_size=6,
        ).map("".join),
        2,
    ),
    check_path,
    kept=(
        "https://api.example/v1/../x",
        "/..;/x",
        "%2e%2e/x",
        "a/%2E./%2e./b",
        "https://api.example/v1/x?a=/../b",
        "http://[",
    ),
    share=0.2,
)

# --- what a person pastes ---

PASTED_AT = tuple(
    parse_redirect_uri(uri) for uri in ("http://127.0.0.1:8000/", "https://localhost:8000/cb", "http://[::1]:8000/")
)


@st.composite
def pastes(draw: st.DrawFn) -> tuple[str, int]:
    """Draw an address as people copy it: without its scheme, in quotes, broken into lines, cut."""
    which = draw(st.sampled_from(range(len(PASTED_AT))))
    uri = PASTED_AT[which].text
    query = draw(st.sampled_from([f"code={CODE}&state={STATE}", f"code={CODE}&iss=https://server.example", "", MARK]))
    address = draw(st.sampled_from([uri, uri, uri.partition("://")[2], uri.rstrip("/"), f"user:{MARK}@x{uri}"]))
    address += draw(st.sampled_from(["?", "?", "?", "", "#", "/?"])) + query
    around = draw(st.sampled_from(["", "", '"', "'", "<", "`", " ", "\n", "\x1b[200~"]))
    return around + draw(nearly(st.just(address), 2)) + around, which


def check_paste(drawn: tuple[str, int]) -> bool:
    """What is taken begins with the redirect URI, its query is what stood there; what is not shows no code."""
    text, which = drawn
    expected = PASTED_AT[which]
    try:
        good, found = parsed(lambda: parse_pasted(text, expected), RedirectRejected)
    except ToldSecretError:
        assert re.search(rf"://[\w.-]*{MARK}", "".join(text.split())), "what is shown did not stand where the host is"
        return False
    if found is not None:
        bare = "".join(text.split())
        query = found.query.reveal()
        assert f"?{query}" in bare
        assert expected.authority in bare.partition("?")[0]
        assert "#" not in query
        tells_nothing(found)
    return good


PASTE: Target[tuple[str, int]] = Target(
    "pasted text",
    pastes(),
    check_paste,
    kept=(
        ("http://[::1/?code=s3kr1t-code", 0),
        ("http://[?code=s3kr1t-code", 0),
        ("http://a\uff0fb/?code=s3kr1t-code", 0),
        ("https://user:s3kr1t-word@localhost:8000/cb?code=s3kr1t-code", 1),
        ("s3kr1t-code", 0),
        ("http://127.0.0.1:8000/?code=s3kr1t-code#_=_", 0),
        ("127.0.0.1:8000/?code=s3kr1t-code&iss=https://server.example", 0),
        ("?", 0),
        ("://", 0),
        ("\ud800", 2),
    ),
    share=0.15,
    examples=150,
    large=(
        lambda size: ("http://127.0.0.1:8000/?" + "x" * size, 0),
        lambda size: ("://" * (size // 3), 0),
        lambda size: (" x" * (size // 2), 0),
        lambda size: ("http://" + "[" * size, 0),
    ),
    limit=PASTE_LIMIT,
)


def check_paste_comes_back(query: str) -> None:
    """A query that a browser can show comes back as it stands behind the redirect URI."""
    for expected in PASTED_AT:
        assert parse_pasted(f"{expected.text}?{query}", expected).query.reveal() == query


# --- the token endpoint's answer ---

TOKENS = st.fixed_dictionaries(
    {"access_token": st.sampled_from(["s3kr1t-access", "s3kr1t-access", "", "s3kr1t-\r\n", "s3kr1t-ü\ud800"])},
    optional={
        "refresh_token": st.sampled_from(["s3kr1t-refresh", "", "s3kr1t-\0", None]),
        "expires_in": st.sampled_from(
            [3600, "3600", 0, -1, 1e400, 10**400, "9" * 5000, "nan", "-inf", "1_0", " 7 ", [], True]
        ),
        "scope": st.sampled_from(["a b", None, ["a"], "ü\x1b"]),
        "token_type": st.sampled_from(["Bearer", "BEARER", "mac", None, 1, "\u212aearer"]),
        "id_token": JSON,
    },
)
ERRORS = st.fixed_dictionaries(
    {
        "error": st.sampled_from(
            ["invalid_grant", "invalid_client", "invalid_request", "", "ü\x1b[2J", "x" * 900, None, 1]
        )
    },
    optional={"error_description": st.sampled_from(["", "no", "ü\0", "x" * 900, []]), "error_uri": JSON},
)
BODIES = nearly_bytes(
    st.one_of(
        *[written(nearly_json(TOKENS, 2))] * 3,
        written(TOKENS),
        written(nearly_json(ERRORS, 2)),
        written(TOKENS).map(lambda body: gzip.compress(body, 1, mtime=0)),
        st.binary(max_size=100),
    ),
    2,
)
ANSWERS = st.builds(
    TokenAnswer,
    st.sampled_from([200] * 12 + [201, 204, 302, 400, 400, 401, 429, 500, 503, 100, 199, 299, 600, 999]),
    BODIES,
    st.sampled_from(["application/json", "text/html; charset=\x1b", ""]) | ANY_TEXT,
    st.none() | st.sampled_from(["5", "²", "9" * 400, "-1", "Fri, 31 Dec 1999 23:59:59 GMT"]) | ANY_TEXT,
)


def check_answer(answer: TokenAnswer) -> bool:
    """Tokens that can be used and kept, or an error that is right about what was spent."""
    good, tokens = parsed(lambda: parse_token_response(answer), TokenEndpointError, OutcomeUnknown)
    tells_nothing(answer)
    if tokens is not None:
        assert 200 <= answer.status < 300
        _can_be_used(tokens)
    else:
        _is_right_about_spending(answer)
    left = tokens_in(answer.body)
    if left is not None:
        _can_be_used(left)
    assert (left == tokens) or not good
    return good


def _can_be_used(tokens: TokenSet) -> None:
    assert tokens.access_token or tokens.refresh_token
    assert tokens.refresh_token is None or tokens.refresh_token.reveal()
    assert tokens.expires_in is None or 0 <= tokens.expires_in <= LIFETIME_LIMIT
    assert isinstance(tokens.expires_in, int | None)
    assert isinstance(tokens.scope, str | None)
    assert tokens.is_bearer in (True, False)
    tells_nothing(replace(tokens, scope=None))


def _is_right_about_spending(answer: TokenAnswer) -> None:
    try:
        parse_token_response(answer)
    except OutcomeUnknown:
        assert not 300 <= answer.status < 500
    except LoginRequired as error:
        assert error.error == "invalid_grant"
        assert 400 <= answer.status < 500
    except ServerUnavailable:
        assert answer.status in (429, 503)
    except TokenEndpointError:
        assert not 200 <= answer.status < 300


_TWO = b'{"access_token": "s3kr1t-access", "refresh_token": "s3kr1t-refresh"'
TOKEN_ANSWER: Target[TokenAnswer] = Target(
    "token response",
    ANSWERS,
    check_answer,
    kept=tuple(
        TokenAnswer(status, body, "", after)
        for status, body, after in (
            (200, _TWO + b', "expires_in": ' + b"9" * 5000 + b"}", None),
            (200, b"[" * 60_000, None),
            (200, b'{"a":' * 13_000, None),
            (200, "\ufeff".encode() + _TWO, None),
            (200, _TWO.decode().encode("utf-16"), None),
            (200, gzip.compress(_TWO + b"}")[:-9], None),
            (200, b"\x1f\x8b", None),
            (200, _TWO + b', "x": "\xff"}', None),
            (200, b'{"access_token": "s3kr1t-a", "access_token": null, "refresh_token": "s3kr1t-b"}', None),
            (429, b"", "\u0661"),
            (429, b"", "9" * 5000),
            (503, b"", ""),
            (100, b'{"error": "invalid_grant"}', None),
            (999, b"", None),
        )
    ),
    share=0.2,
    examples=150,
    large=(
        lambda size: TokenAnswer(200, b'{"a":' * (size // 5)),
        lambda size: TokenAnswer(200, b"[" * size),
        lambda size: TokenAnswer(200, _TWO + b" " * size),
        lambda size: TokenAnswer(200, _TWO + b',"a":1' * (size // 6)),
        lambda size: TokenAnswer(200, _TWO + b',"expires_in":' + b"9" * size + b"}"),
        lambda size: TokenAnswer(200, _TWO + b',"expires_in":"' + b"9" * size + b'"}'),
        lambda size: TokenAnswer(200, b'{"a":"' + b"\\u0041" * (size // 6)),
        lambda size: TokenAnswer(200, gzip.compress(b" " * (size * 1000))),
        lambda size: TokenAnswer(400, b'{"error":"' + "ü".encode() * (size // 2) + b'"}'),
    ),
    limit=ANSWER_LIMIT,
)

NOW = Moment(1_700_000_000.0, "-", 0.0)
DATES = st.builds(
    lambda seconds, zone: format_datetime(datetime.fromtimestamp(seconds, UTC)).replace("+0000", zone),
    st.integers(0, 4 * 10**9),
    st.sampled_from(["GMT", "GMT", "+0000", "-0000", "+9999", "-2359", "EST", "Z", "", "+99999999"]),
)


def check_retry_after(said: str) -> bool:
    """Seconds that can be waited for, a day at most, or nothing."""
    source = types.SimpleNamespace(now=lambda: NOW)
    error = ServerUnavailable("later", retry_after=said)
    seconds = renewal.Renewal._retry_after(source, error)  # type: ignore[arg-type]  # of all that, it reads the clock
    assert seconds is None or 0 <= seconds <= renewal.RETRY_AFTER_LIMIT
    if said.isascii() and said.isdigit() and len(said) < 10:
        assert seconds == min(int(said), renewal.RETRY_AFTER_LIMIT)
    return seconds is not None


RETRY_AFTER: Target[str] = Target(
    "Retry-After",
    nearly(DATES | st.integers(0, 10**12).map(str), 2),
    check_retry_after,
    kept=(
        *(
            "",
            " ",
            "0",
            "²",
            "\u0661",
            "-1",
            "1.5",
            "Fri, 31 Dec 9999 23:59:59 -2359",
            "Fri, 31 Dec 0001 23:59:59 +2359",
        ),
        *("Mon, 1 Jan 0001 00:00:00 -0000", "9999999999", ",", "0 0 0 0 0", "Fri, 31 Dec 1999 23:59:59 +999999999999"),
    ),
    share=0.3,
    large=(
        lambda size: "9" * size,
        lambda size: "Fri, 31 Dec 1999 " + ":" * size,
        lambda size: "(" * size,
        lambda size: "Fri, 31 Dec 1999 23:59:59 +" + "9" * size,
    ),
    limit=8 * 1024,
)

# --- what the API says ---

COMPANIES = written(
    nearly_json(st.lists(st.fixed_dictionaries({"id": st.integers() | st.text(), "name": st.text()}), min_size=1), 2)
)


def check_companies(body: bytes) -> bool:
    """A company whose id and name are text, or an error."""
    good, found = parsed(lambda: parse_companies(body), ResourceError)
    if found is not None:
        assert isinstance(found.id, str)
        assert isinstance(found.name, str)
    return good


COMPANY: Target[bytes] = Target(
    "company",
    nearly_bytes(COMPANIES, 2),
    check_companies,
    kept=(
        b'[{"id": 1}]',
        b'[{"id": ' + b"9" * 5000 + b"}]",
        b'[{"id": 1e999}]',
        b"[" * 100_000,
        b'[{"id": [], "name": null}]',
        b"\xff",
    ),
    share=0.3,
)

# --- a server's table ---

SERVER_TABLES = st.fixed_dictionaries(
    {
        "authorization_endpoint": ADDRESSES | st.just("https://server.example/authorize"),
        "token_endpoint": ADDRESSES | st.just("https://server.example/token"),
    },
    optional={
        "issuer": st.just(ISSUER),
        "api_base": ADDRESSES,
        "revocation_endpoint": ADDRESSES,
        "redirect_uri": st.sampled_from(["http://127.0.0.1:0/", "https://localhost:8000/"]),
        "state": st.sampled_from(["required", "unconfirmed", "none"]),
        "code_lifetime": st.integers(0, 100),
        "foreign_client_ids": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        "production": st.booleans(),
    },
)


def check_server(table: Any) -> bool:
    """A server every address of which obeys the rule, and whose fields are of the kind that they are declared as."""
    good, found = parsed(lambda: parse_server("mine", table, "config.toml"), ConfigurationError)
    if found is not None:
        for address in (
            found.authorization_endpoint, found.token_endpoint, found.api_base, found.revocation_endpoint
        ):  # fmt: skip
            assert address is None or endpoint(address, "endpoint") == address
        assert parse_redirect_uri(found.redirect_uri)
        assert found.state in ("required", "unconfirmed", "none")
        for number in (found.code_lifetime, found.refresh_token_idle_lifetime):
            assert number is None or 0 <= number < 10**12
        assert all(isinstance(one, str) for pair in found.foreign_client_ids.items() for one in pair)
    return good


SERVER: Target[Any] = Target(
    "[servers.NAME]",
    nearly_json(SERVER_TABLES, 2) | JSON,
    check_server,
    kept=(
        {"authorization_endpoint": "https://a/", "token_endpoint": "https://a/", "foreign_client_ids": {"a": 5}},
        {"authorization_endpoint": "https://a/", "token_endpoint": "https://a/", "code_lifetime": 10**400},
        {"authorization_endpoint": "https://a/", "token_endpoint": "https://a/", "code_lifetime": -1},
        {"authorization_endpoint": "https://a/", "token_endpoint": "https://a/", "name": "other"},
        {"x" * 5000: 1},
    ),
    share=0.1,
)

TARGETS = (QUERY, REDIRECT_URI, ENDPOINT, PROXY, API_PATH, PASTE, TOKEN_ANSWER, RETRY_AFTER, COMPANY, SERVER)
