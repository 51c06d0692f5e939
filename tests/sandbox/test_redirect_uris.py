"""Which redirect URIs count as registered (RFC 6749 §3.1.2, RFC 8252 §7.3)."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.sandbox.redirect_uris import default_redirect_uri, fault_of, refusal


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:1/",
        "https://127.0.0.1:65535/a/b?c=d",
        "http://[::1]:8080/",
        "http://localhost:8080",
        "https://LOCALHOST/x",
    ],
)
def test_loopback(uri: str) -> None:
    """Unless some are pinned, every http and https URI on loopback is registered."""
    assert refusal(uri, None) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/",
        "localhost:80",
        "ftp://127.0.0.1/",
        "javascript://127.0.0.1/%0aalert(1)",
        "com.example.app://127.0.0.1/",
        "https://example.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://127.0.0.2/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://127.1/",
        "http://2130706433/",
        "http://localhost@example.com/",
        "http://example.com@localhost/",
        "http://example.com\\@localhost/",
        "http://localhost\\.example.com/",
        "http://localhost/a\\b",
        "http://localhost:80:80/",
        "http://localhost:99999/",
        "http://localhost/#fragment",
        "http://localhost/#",
        "http://localhost/ x",
        "http://localhost/\r\nX: y",
        "http://löcalhost/",
        "http://[::1/",
        "http:///",
    ],
)
def test_not_loopback(uri: str) -> None:
    """Whatever a browser might take elsewhere, or is no plain URI, is refused."""
    assert refusal(uri, None)


@given(st.text(max_size=60) | st.from_regex(r"https?://[\x00-\x7f]{0,40}", fullmatch=True))
def test_any_text(uri: str) -> None:
    """Any text is either refused in words or a plain URI on loopback."""
    if refusal(uri, None) is None:
        parts = urlsplit(uri)
        assert parts.scheme in {"http", "https"}
        assert parts.hostname
        assert parts.hostname == "localhost" or ip_address(parts.hostname).is_loopback
        assert "@" not in uri.partition("//")[2].partition("/")[0]
        assert uri.isascii()
        assert uri.isprintable()


@pytest.mark.parametrize(
    ("pinned", "uri", "registered"),
    [
        ("https://localhost:8000/", "https://localhost:8000/", True),
        ("https://localhost:8000/", "https://localhost:8000", False),
        ("https://localhost:8000/", "http://localhost:8000/", False),
        ("https://localhost:8000/", "https://localhost:8001/", False),
        ("https://localhost:8000/", "https://LOCALHOST:8000/", False),
        ("https://localhost:8000/", "https://127.0.0.1:8000/", False),
        ("https://localhost:8000/", "https://localhost:8000/?", False),
        ("http://127.0.0.1/", "http://127.0.0.1:5/", True),
        ("http://127.0.0.1:0/", "http://127.0.0.1:5/", True),
        ("http://127.0.0.1:0/a?b=c", "http://127.0.0.1:5/a?b=c", True),
        ("http://127.0.0.1:0/a?b=c", "http://127.0.0.1:5/a?b=d", False),
        ("http://127.0.0.1:0/a", "http://127.0.0.1:5/b", False),
        ("http://127.0.0.1:0/", "http://127.0.0.1/", True),
        ("http://127.0.0.1:0/", "http://127.0.0.1:5", False),
        ("http://127.0.0.1:0/", "http://localhost:5/", False),
        ("http://127.0.0.1:0/", "http://[::1]:5/", False),
        ("http://127.0.0.1:0/", "https://127.0.0.1:5/", False),
        ("http://[::1]/", "http://[::1]:5/", True),
        ("http://127.0.0.1:4/", "http://127.0.0.1:5/", False),
        ("http://localhost/", "http://localhost:5/", False),
        ("http://localhost:0/", "http://localhost:5/", False),
        ("https://127.0.0.1/", "https://127.0.0.1:5/", False),
        ("https://example.com/cb", "https://example.com/cb", True),
        ("https://example.com/cb", "https://example.com:5/cb", False),
    ],
)
def test_pinned(pinned: str, uri: str, registered: bool) -> None:
    """A pinned redirect URI is compared byte for byte, save the port of http on a loopback literal."""
    assert (refusal(uri, (pinned,)) is None) == registered


def test_any_of_the_pinned() -> None:
    """Each pinned redirect URI counts."""
    pinned = ("https://a.example/", "https://b.example/")
    assert [refusal(uri, pinned) for uri in pinned] == [None, None]


def test_defaults() -> None:
    """The default is the vendor's sample, or the first pinned one unless its port is open."""
    assert default_redirect_uri(None) == "https://localhost:8000/"
    assert default_redirect_uri(("https://x.example/", "https://localhost/")) == "https://x.example/"
    assert default_redirect_uri(("http://127.0.0.1/",)) == "http://127.0.0.1/"
    assert default_redirect_uri(("http://127.0.0.1:0/",)) is None


def test_fault_of_names_the_fault() -> None:
    """What is wrong with a URI is said in words."""
    assert fault_of("http://x@localhost/") == "it carries user info before the host"
    assert fault_of("localhost") == "it must begin with https:// or http:// and a host"
