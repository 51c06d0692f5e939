"""Which addresses may be used: https, or http to this machine, and nothing that can be read in two ways."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopback_auth.errors import ConfigurationError
from loopback_auth.oauth.registration import endpoint, is_loopback, parse_redirect_uri

HOSTILE = [
    "",
    " ",
    "https",
    "https:",
    "https://",
    "https:///path",
    "https://?x",
    "//server.example/",
    "/path",
    "server.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://localhost/",
    "ws://localhost/",
    "-https://server.example/",
    "https:server.example",
    "https:\\\\server.example\\",
    "https://server.example\\@localhost/",
    "https://server.example/\\",
    "https://user@server.example/",
    "https://user:pw@server.example/",
    "https://@server.example/",
    "http://127.0.0.1@evil.example/",
    "http://127.0.0.1:80@evil.example/",
    "http://localhost@evil.example:8000/",
    "http://evil.example@127.0.0.1/",
    "https://server.example/#fragment",
    "https://server.example/#",
    "https://server.example/ path",
    "https://server.example/\n",
    "\nhttps://server.example/",
    "https://server.example/\x00",
    "https://server.example/\x7f",
    "ht\ttps://server.example/",
    "https://ser\tver.example/",
    "https://server.example/'",
    'https://server.example/"x',
    "https://server.example/<script>",
    "https://server.example/`id`",
    "https://server.example/{x}|^",
    "https://münchen.example/",
    "https://server。example/",
    "http://①27.0.0.1/",
    "http://ｌocalhost/",
    "http://locaIhost/ü",
    "https://server.example:port/",
    "https://server.example:-1/",
    "https://server.example:65536/",
    "https://server.example:99999999999/",
    "https://[::1/",
    "https://::1]/",
    "https://[nonsense]/",
    "https://[127.0.0.1]/",
    "http://[::1]evil.example/",
    "http://[::1].evil.example:80/",
    "https://[::1]x/",
]
NOT_THIS_MACHINE = [
    "http://server.example/",
    "http://127.0.0.1.evil.example/",
    "http://localhost.evil.example/",
    "http://localhost.localdomain/",
    "http://localhost./",
    "http://xn--localhost/",
    "http://128.0.0.1/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://%6c%6fcalhost/",
    "http://192.168.0.1/",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_no_endpoint_is_ambiguous(url: str) -> None:
    """What is no plain https or http URL of a host is refused before anything opens it."""
    with pytest.raises(ConfigurationError) as caught:
        endpoint(url, "authorization_endpoint")
    assert str(caught.value).startswith("the authorization_endpoint ")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("url", NOT_THIS_MACHINE)
def test_http_goes_to_this_machine_only(url: str) -> None:
    """`http` to anything but `localhost` or a loopback address literal is refused; no name is looked up."""
    with pytest.raises(ConfigurationError) as caught:
        endpoint(url, "token_endpoint")
    assert str(caught.value) == f"the token_endpoint is not protected: {url}"
    assert caught.value.hint == ("use https; http goes to this machine only",)


def test_user_info_is_not_repeated() -> None:
    """A password in a URL is not shown in the error about it."""
    with pytest.raises(ConfigurationError, match="the token_endpoint holds a user name or password") as caught:
        endpoint("https://user:s3kr1t-@server.example/", "token_endpoint")
    assert "s3kr1t" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "serialised"),
    [
        ("https://server.example/token", "https://server.example/token"),
        ("https://server.example", "https://server.example/"),
        ("https://server.example?tenant=a", "https://server.example/?tenant=a"),
        ("https://server.example/a?", "https://server.example/a"),
        ("HTTPS://Server.EXAMPLE/Path", "https://server.example/Path"),
        ("https://server.example:443/", "https://server.example:443/"),
        ("https://server.example:8443/a;b?c=d&e", "https://server.example:8443/a;b?c=d&e"),
        ("https://xn--mnchen-3ya.example/", "https://xn--mnchen-3ya.example/"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("http://127.0.0.1:8931/token", "http://127.0.0.1:8931/token"),
        ("http://127.9.9.9/", "http://127.9.9.9/"),
        ("http://localhost:8931/", "http://localhost:8931/"),
        ("http://LOCALHOST/", "http://localhost/"),
        ("http://[::1]:8931/", "http://[::1]:8931/"),
        ("https://server.example/%2e%2e/%00", "https://server.example/%2e%2e/%00"),
        ("https://server.example//evil.example", "https://server.example//evil.example"),
    ],
)
def test_an_endpoint_is_serialised_from_its_parts(url: str, serialised: str) -> None:
    """Scheme and host in lower case, a path always; path and query stay as they are."""
    assert endpoint(url, "token_endpoint") == serialised
    assert endpoint(serialised, "token_endpoint") == serialised


@pytest.mark.parametrize(
    ("uri", "parts", "authority"),
    [
        ("https://localhost:8000/", ("https", "localhost", 8000, "/"), "localhost:8000"),
        ("https://localhost:8000", ("https", "localhost", 8000, "/"), "localhost:8000"),
        ("https://localhost/", ("https", "localhost", 443, "/"), "localhost"),
        ("https://localhost:443/", ("https", "localhost", 443, "/"), "localhost"),
        ("https://localhost:80/", ("https", "localhost", 80, "/"), "localhost:80"),
        ("http://localhost:443/", ("http", "localhost", 443, "/"), "localhost:443"),
        ("http://localhost", ("http", "localhost", 80, "/"), "localhost"),
        ("http://127.0.0.1:0/", ("http", "127.0.0.1", 0, "/"), "127.0.0.1:0"),
        ("http://127.0.0.1:8080/cb/x.php", ("http", "127.0.0.1", 8080, "/cb/x.php"), "127.0.0.1:8080"),
        ("http://[::1]:8080/cb", ("http", "::1", 8080, "/cb"), "[::1]:8080"),
        ("http://[::1]/", ("http", "::1", 80, "/"), "[::1]"),
        ("HTTP://LocalHost:8080/CB", ("http", "localhost", 8080, "/CB"), "localhost:8080"),
        ("http://localhost:08080/", ("http", "localhost", 8080, "/"), "localhost:8080"),
    ],
)
def test_a_redirect_uri_is_taken_apart(uri: str, parts: tuple[str, str, int, str], authority: str) -> None:
    """The parts are for listening, the text stays byte for byte: servers compare it with what was registered."""
    parsed = parse_redirect_uri(uri)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path) == parts
    assert parsed.authority == authority
    assert parsed.text == uri


@pytest.mark.parametrize("uri", [*HOSTILE, *NOT_THIS_MACHINE, "https://server.example/", "https://192.168.0.1:8000/"])
def test_a_redirect_uri_comes_back_to_this_machine(uri: str) -> None:
    """What is hostile as an endpoint, or leads elsewhere, is no redirect URI; https does not mend that."""
    with pytest.raises(ConfigurationError) as caught:
        parse_redirect_uri(uri)
    assert str(caught.value).startswith("the redirect_uri ")
    assert str(caught.value).isascii()
    if uri not in HOSTILE:
        assert str(caught.value) == f"the redirect_uri does not come back to this machine: {uri}"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.2/", "the redirect_uri uses an unusual loopback address: http://127.0.0.2/"),
        ("http://[::1%25lo]/", "the redirect_uri uses an unusual loopback address: http://[::1%25lo]/"),
        ("http://[0:0:0:0:0:0:0:1]/", "the redirect_uri uses an unusual loopback address: http://[0:0:0:0:0:0:0:1]/"),
        ("http://localhost/?a=b", "the redirect_uri has a query: http://localhost/?a=b"),
    ],
)
def test_a_redirect_uri_is_one_we_can_catch(uri: str, message: str) -> None:
    """Only `localhost`, 127.0.0.1 and [::1] are listened on, and a query is not the client's to register here."""
    with pytest.raises(ConfigurationError) as caught:
        parse_redirect_uri(uri)
    assert str(caught.value) == message
    assert len(caught.value.hint) == 1


@pytest.mark.parametrize(
    ("uri", "at_port"),
    [
        ("http://127.0.0.1:0/", "http://127.0.0.1:4711/"),
        ("http://localhost:0", "http://localhost:4711"),
        ("http://[::1]:0/a:0", "http://[::1]:4711/a:0"),
        ("http://localhost:00/", "http://localhost:4711/"),
        ("http://localhost:8000/", "http://localhost:8000/"),
        ("http://localhost/", "http://localhost/"),
    ],
)
def test_port_0_becomes_the_port_that_was_found(uri: str, at_port: str) -> None:
    """RFC 8252 §7.3: port 0 stands for any free one, on the wire stands the one we listen on."""
    parsed = parse_redirect_uri(uri).at_port(4711)
    assert parsed.text == at_port
    assert parse_redirect_uri(at_port) == parsed


PARTS = "http https :// : / // @ # ? [ ] ::1 127.0.0.1 localhost . 0 evil.example 8000 % %00 \\ \t \u3002 ü -"
URLS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(
        st.sampled_from(PARTS.split(" ")),
        max_size=10,
    ).map("".join),
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "ftp", ""]),
        st.sampled_from(["localhost", "127.0.0.1", "[::1]", "server.example", "[::1]x", "127.0.0.1@x"])
        | st.text(max_size=8),
        st.sampled_from(["", ":", ":0", ":00", ":8000", ":65535", ":65536", ":a"]),
        st.sampled_from(["", "/", "/path", "/?q", "/#f", "?"]) | st.text(max_size=8),
    ),
)


@given(URLS)
@settings(max_examples=500)
@example("http://localhost:00/")
def test_any_url_is_safe_or_refused(url: str) -> None:
    """Whatever text is given as an endpoint: https, or http to this machine, unambiguous and stable, or an error."""
    try:
        serialised = endpoint(url, "token_endpoint")
    except ConfigurationError as error:
        assert str(error).isascii()
        return
    parts = urlsplit(serialised)
    assert parts.scheme == "https" or is_loopback(parts.hostname)
    assert all("!" <= character <= "~" and character not in "\"'\\<>@#" for character in serialised.partition("?")[0])
    assert endpoint(serialised, "token_endpoint") == serialised


@given(URLS, st.integers(1, 65535))
@settings(max_examples=500)
def test_any_redirect_uri_is_loopback_or_refused(uri: str, port: int) -> None:
    """Whatever text is given as a redirect URI: one of three hosts, kept byte for byte, or an error."""
    try:
        parsed = parse_redirect_uri(uri)
    except ConfigurationError as error:
        assert str(error).isascii()
        return
    assert parsed.text == uri
    assert parsed.host in ("localhost", "127.0.0.1", "::1")
    assert parsed.path.startswith("/")
    there = parsed.at_port(port)
    assert urlsplit(there.text).port in (there.port, None)
    assert there.port == (parsed.port or port)


@given(st.ip_addresses().map(str) | st.text(max_size=20))
def test_loopback_is_localhost_or_a_literal(host: str) -> None:
    """A host is this machine if it is `localhost` or a loopback literal, and no other name is."""
    try:
        expected = ipaddress.ip_address(host).is_loopback
    except ValueError:
        expected = host == "localhost"
    assert is_loopback(host) is expected
    assert not is_loopback(None)
