"""Asking the API whose data an access token opens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopback_auth.endpoints.resource import Company, ResourceAnswer, company, get, parse_companies, resource_url
from loopback_auth.errors import ConfigurationError, ResourceError
from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration
from loopback_auth.secret import Secret

from .servers import certificate, http, listening, says

ACCESS = Secret("s3kr1t-access")


def registration(api_base: str | None, ca_file: str | None = None, path: str | None = "rest/core/company") -> Any:
    server = AuthorizationServer(
        name="example",
        title="Example",
        authorization_endpoint="https://server.example/authorize",
        token_endpoint="https://server.example/token",
        api_base=api_base,
        company_path=path,
    )
    return ClientRegistration(
        server=server,
        client_id="id",
        redirect_uri="http://127.0.0.1:0/",
        token_endpoint_auth_method="none",
        ca_file=ca_file,
    )


async def refused(url: str, **settings: Any) -> ResourceError:
    with pytest.raises(ResourceError) as caught:
        await company(registration(url.removesuffix("token"), **settings), ACCESS)
    assert "s3kr1t" not in f"{caught.value}{caught.value.hint}"
    return caught.value


async def test_the_company_of_a_token(tmp_path: Path) -> None:
    """RFC 6750 §2.1: the token goes into the Authorization header of one GET; the first company is the answer."""
    ca_file, context = certificate(tmp_path)
    body = json.dumps([{"id": 4711, "name": "Café Roma", "city": "Zürich"}, {"id": 4712}, {"name": "no id"}]).encode()
    async with listening(says(http(body)), context) as server:
        found = await company(registration(server.url.removesuffix("token"), ca_file), ACCESS)
        assert found == Company("4711", "Café Roma")
        head = bytes(server.connections[0]).decode()
    assert head.startswith("GET /rest/core/company HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer s3kr1t-access\r\n" in head
    assert "cookie" not in head.lower()


@pytest.mark.parametrize(("base", "path"), [(None, "company"), ("https://server.example/", None)])
async def test_a_server_without_such_an_api(base: str | None, path: str | None) -> None:
    """Where nobody knows how to ask, nobody is asked."""
    assert await company(registration(base, path=path), ACCESS) is None


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Error", "201 Created"])
async def test_another_status_is_told(status: str) -> None:
    """Anything but 200 is a ResourceError with its status."""
    async with listening(says(http(b"[]", status))) as server:
        error = await refused(server.url)
        assert str(error) == f"rest/core/company answered HTTP {status[:3]}"
        assert (error.status, error.exit_status) == (int(status[:3]), 1)


async def test_the_token_is_not_carried_to_another_host() -> None:
    """A redirect is not followed."""
    async with (
        listening(says(http(b"[]"))) as elsewhere,
        listening(says(http(b"", "302 Found", f"Location: {elsewhere.url}"))) as server,
    ):
        assert (await refused(server.url)).status == 302
        assert elsewhere.connections == []


@pytest.mark.parametrize("response", [b"", b"not HTTP\r\n\r\n", http(b"[", length=100)])
async def test_no_answer_is_told(response: bytes) -> None:
    """A connection that breaks, and an answer that is none, are a ResourceError without a status."""
    async with listening(says(response, then_close=True)) as server:
        error = await refused(server.url)
    assert str(error) == f"{server.url.split('/')[2]} does not answer: the connection broke"
    assert error.status is None


async def test_an_untrusted_certificate_gets_no_token(tmp_path: Path) -> None:
    """TLS is verified here too: the token does not leave."""
    _, context = certificate(tmp_path)
    async with listening(says(http(b"[]")), context) as server:
        assert str(await refused(server.url)).endswith(" does not answer: its certificate is not trusted")
        assert b"".join(server.connections) == b""


async def test_a_ca_file_that_is_gone(tmp_path: Path) -> None:
    """A CA file that is gone is a configuration error; who asks whose tokens these are has them, and no answer."""
    asking = registration("https://127.0.0.1/", str(tmp_path / "gone"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await get(asking, "https://127.0.0.1/x", ACCESS)
    with pytest.raises(ResourceError, match="cannot be read"):
        await company(asking, ACCESS)


async def test_a_token_that_no_header_can_hold() -> None:
    """A token with a line break is not sent in pieces."""
    async with listening(says(http(b"[]"))) as server:
        with pytest.raises(ResourceError, match="does not answer"):
            await company(registration(server.url.removesuffix("token")), Secret("s3kr1t-\r\nX-Evil: 1"))
        assert b"X-Evil" not in b"".join(server.connections)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("rest/core/company", "https://api.example/resto/rest/core/company"),
        ("/rest/core/company", "https://api.example/resto/rest/core/company"),
        ("rest/a?b=c&d=%20", "https://api.example/resto/rest/a?b=c&d=%20"),
        ("https://api.example/resto/rest", "https://api.example/resto/rest"),
        ("a:b", None),
        ("", "https://api.example/resto/"),
        ("https://api.example/other", None),
        ("https://api.example.evil.example/resto/", None),
        ("https://evil.example/resto/", None),
        ("http://api.example/resto/", None),
        ("//evil.example/resto/", None),
        ("../other", None),
        ("rest/../../other", None),
        ("rest/%2e%2e/%2E%2E/other", None),
        ("rest/%2e./other", None),
        ("https://api.example/resto/../other", None),
        ("rest\\..\\other", None),
        ("rest/ü", None),
        ("rest/a b", None),
        ("rest/a\r\nHost: evil", None),
        ("rest#fragment", None),
    ],
)
@pytest.mark.parametrize("base", ["https://api.example/resto/", "https://api.example/resto"])
def test_the_token_goes_below_the_api_base_alone(base: str, path: str, url: str | None) -> None:
    """A path, or a whole URL below the base; whatever leads out of it is refused."""
    server = registration(base).server
    if url is not None:
        assert resource_url(server, path) == url
    else:
        with pytest.raises(ConfigurationError):
            resource_url(server, path)


async def test_an_answer_is_handed_on_as_it_came() -> None:
    """Status, type, body and Retry-After, whatever they say."""
    response = http(b"\x00\xff", "429 Slow down", "Content-Type: application/json", "Retry-After: 7")
    async with listening(says(response)) as server:
        answer = await get(registration(None), server.url, ACCESS)
    assert answer == ResourceAnswer(429, "application/json", b"\x00\xff", "7")
    assert "xff" not in repr(answer)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'[{"id": 1, "name": "A"}]', Company("1", "A")),
        (b'[{"id": "x"}]', Company("x", "")),
        (b'[1, null, {"name": "A"}, {"id": null, "name": null}]', Company("None", "None")),
    ],
)
def test_which_company(body: bytes, found: Company) -> None:
    """The first object with an id counts."""
    assert parse_companies(body) == found


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
@example(b"[" * 100_000)
@example(b'[{"id":' + b"9" * 5000 + b"}]")
@example(b'{"id": 1}')
def test_any_answer_is_a_company_or_an_error(body: bytes) -> None:
    """Whatever the API answers, it names a company, or it is said that it does not."""
    with pytest.raises(ResourceError, match="the API did not say which company this is"):
        parse_companies(body)


async def test_a_connection_that_breaks_is_made_once_more(tmp_path: Path) -> None:
    """The question whose data it is survives connections that are closed under it; four are an error."""
    ca_file, context = certificate(tmp_path)
    answers = [b"", b"", http(b'[{"id": 1, "name": "one"}]'), *[b""] * 4]  # aiohttp asks twice before it gives up

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        writer.close()

    async with listening(answer, context) as server:
        at = registration(server.url.removesuffix("token"), ca_file)
        assert await company(at, ACCESS) == Company("1", "one")
        with pytest.raises(ResourceError, match="the connection broke"):
            await company(at, ACCESS)
    assert answers == []
