"""The sandbox's own parsers: it is a server, and must not fall over what a client under test sends."""

from __future__ import annotations

import base64
from urllib.parse import unquote_plus, urlsplit

from hypothesis import strategies as st

from loopback_auth.sandbox.client_authentication import authenticate
from loopback_auth.sandbox.parameters import MalformedParameters, Parameters, ParsedRequest, parse_form
from loopback_auth.sandbox.redirect_uris import fault_of
from loopback_auth.sandbox.refusals import ClientRefused, RequestRefused
from loopback_auth.sandbox.settings import SANDBOX_CLIENT

from .protocol import ANY_ADDRESS, queries
from .shapes import nearly
from .target import MARK, Target

BASIC = nearly(
    st.builds(
        lambda scheme, text: f"{scheme} {base64.b64encode(text.encode()).decode()}",
        st.sampled_from(["Basic", "basic", "Bearer", "Basic ", ""]),
        st.sampled_from(
            ["sandbox:sandbox-secret"] * 3 + [f"sandbox:{MARK}x", "sandbox", ":", "", "ü:%00", f"x:{MARK}\n"]
        ),
    ),
    1,
)


def check_form(drawn: tuple[str, list[str]]) -> bool:
    """Values by name, none of them empty, and whose request it is; or a refusal that repeats no secret."""
    body, authorization = drawn
    try:
        values = parse_form(body)
    except MalformedParameters:
        return False
    assert all(one for several in values.values() for one in several)
    request = ParsedRequest("POST", Parameters(values), authorization)
    try:
        assert authenticate(request, {"sandbox": SANDBOX_CLIENT}) is SANDBOX_CLIENT
    except (ClientRefused, RequestRefused) as refused:
        assert MARK not in f"{refused!r}{refused}".replace(f"'{MARK}", ""), "it repeats a secret"
        return False
    credentials = base64.b64decode(authorization[0].strip().partition(" ")[2]).decode()
    assert [unquote_plus(one) for one in credentials.split(":", 1)] == ["sandbox", "sandbox-secret"]
    return True


FORM: Target[tuple[str, list[str]]] = Target(
    "sandbox: token request",
    st.tuples(nearly(queries(), 1), st.lists(BASIC, min_size=1, max_size=1) | st.lists(BASIC, max_size=2)),
    check_form,
    kept=(
        ("", []),
        ("", ["Basic c2FuZGJveDp4"]),
        ("&" * 200, ["Basic"]),
        ("a=b&" * 200, ["Basic =" * 3]),
        ("%ff=%ff", ["Basic \ud800"]),
    ),
    share=0.05,
    examples=60,
    large=(lambda size: ("&" * size, []), lambda size: ("a=%41" * (size // 5), [])),
    limit=64 * 1024,
)


def check_registered(uri: str) -> bool:
    """A redirect URI without fault is http or https, at a host, without user info or fragment."""
    fault = fault_of(uri)
    if fault is None:
        parts = urlsplit(uri)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert "@" not in parts.netloc
        assert "#" not in uri
    else:
        assert fault.isascii()
        assert fault.isprintable()
    return fault is None


REGISTERED: Target[str] = Target(
    "sandbox: redirect URI",
    ANY_ADDRESS,
    check_registered,
    kept=("http://[", "http://\ud800/", "https://a:99999/"),
    share=0.1,
)

TARGETS = (FORM, REGISTERED)
