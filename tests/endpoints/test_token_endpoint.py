"""The token endpoint against real servers: what is sent, how often, and what is known when it goes wrong."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loopback_auth.endpoints.proxy import proxy_for
from loopback_auth.endpoints.token_endpoint import TokenEndpoint
from loopback_auth.endpoints.trust import check_ca_file, tls_context
from loopback_auth.errors import ConfigurationError, OutcomeUnknown, TokenEndpointUnreachable
from loopback_auth.oauth.token import ANSWER_LIMIT, TokenRequest
from loopback_auth.secret import Secret

from .servers import Listener, certificate, http, listening, says

BODY = "grant_type=refresh_token&refresh_token=s3kr1t-refresh"
TOKENS = b'{"access_token": "s3kr1t-access"}'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def request(url: str) -> TokenRequest:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW",
    }
    return TokenRequest(url, headers, Secret(BODY))


async def unreachable(url: str, **settings: Any) -> TokenEndpointUnreachable:
    """Return the error of both ways to a server that cannot be reached: in advance, and when sending."""
    async with TokenEndpoint.open(url, **settings) as endpoint:
        with pytest.raises(TokenEndpointUnreachable) as in_advance:
            await endpoint.connect()
        with pytest.raises(TokenEndpointUnreachable) as sending:
            await endpoint.send(request(url))
        assert endpoint.sent_at is None
    assert str(in_advance.value) == str(sending.value)
    assert in_advance.value.hint == sending.value.hint
    assert in_advance.value.exit_status == 9
    return in_advance.value


async def outcome(url: str, **settings: Any) -> str:
    async with TokenEndpoint.open(url, **settings) as endpoint:
        with pytest.raises(OutcomeUnknown) as caught:
            await endpoint.send(request(url))
    assert caught.value.exit_status == 10
    return str(caught.value)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_connection_made_early_is_the_one_that_is_used(tmp_path: Path, tls: bool) -> None:
    """Connecting does TCP and TLS and sends nothing; the request goes out on that very connection, once."""
    ca_file, context = certificate(tmp_path)
    async with (
        listening(says(http(TOKENS)), context if tls else None) as server,
        TokenEndpoint.open(server.url, ca_file) as endpoint,
    ):
        await endpoint.connect()
        await asyncio.sleep(0.05)
        assert server.connections == [b""]
        assert [endpoint.sent_at] == [None]
        before = time.monotonic()
        answer = await endpoint.send(request(server.url))
        assert len(server.connections) == 1
        assert bytes(server.connections[0]).count(b"POST ") == 1
    assert (answer.status, answer.body) == (200, TOKENS)
    assert endpoint.sent_at is not None
    assert before <= endpoint.sent_at <= time.monotonic()


async def test_the_request_on_the_wire(tmp_path: Path) -> None:
    """The whole request, byte for byte but for our name: nothing more is said than has to be."""
    async with listening(says(http(TOKENS))) as server, TokenEndpoint.open(server.url) as endpoint:
        await endpoint.send(request(server.url))
        head, _, body = bytes(server.connections[0]).decode().partition("\r\n\r\n")
    host = server.url.split("/")[2]
    lines = [line for line in head.split("\r\n") if not line.startswith("User-Agent: ")]
    assert lines[0] == "POST /token HTTP/1.1"
    assert sorted(lines[1:]) == [
        "Accept-Encoding: identity",
        "Accept: application/json",
        "Authorization: Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW",
        f"Content-Length: {len(BODY)}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Host: {host}",
    ]
    assert body == BODY


async def test_without_connecting_early(tmp_path: Path) -> None:
    """A request that comes without an early connection makes its own."""
    ca_file, context = certificate(tmp_path)
    async with (
        listening(says(http(TOKENS)), context) as server,
        TokenEndpoint.open(server.url, ca_file) as endpoint,
    ):
        assert (await endpoint.send(request(server.url))).body == TOKENS
        assert len(server.connections) == 1


async def test_a_connection_by_way_of_a_configured_proxy(tmp_path: Path) -> None:
    """A proxy is asked for a tunnel in advance, with the name and password that it wants."""
    ca_file, context = certificate(tmp_path)
    async with listening(says(http(TOKENS)), context) as server, tunnelling(server.url) as proxy:
        url = proxy.url.replace("http://", "http://user:p%40ss@")
        async with TokenEndpoint.open(server.url, ca_file, url) as endpoint:
            await endpoint.connect()
            host = server.url.split("/")[2]
            assert bytes(proxy.connections[0]).split(b"\r\n") == [
                f"CONNECT {host} HTTP/1.1".encode(),
                f"Host: {host}".encode(),
                b"Proxy-Authorization: Basic dXNlcjpwQHNz",
                b"",
                b"",
            ]
            assert (await endpoint.send(request(server.url))).body == TOKENS
        assert len(proxy.connections) == len(server.connections) == 1


@asynccontextmanager
async def tunnelling(url: str, carried: bytearray | None = None) -> AsyncIterator[Listener]:
    """A proxy that makes a tunnel to the host of `url`; what goes through it is added to `carried`."""
    through = bytearray() if carried is None else carried
    port = int(url.split(":")[2].split("/")[0])

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                through.extend(data)
                target.write(data)
            target.close()

        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            far_writer.transport.abort()

    async with listening(tunnel) as proxy:
        yield proxy


async def test_a_connection_that_the_server_closed_meanwhile_is_made_anew() -> None:
    """A person takes five minutes, the server lets go of the idle connection: another is made, nothing was lost."""
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        if len(accepted) == 1:
            writer.close()
            return
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(TOKENS))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    async with server, TokenEndpoint.open(url) as endpoint:
        await endpoint.connect()
        await asyncio.sleep(0.05)
        assert (await endpoint.send(request(url))).body == TOKENS
        assert len(accepted) == 2
        accepted[1].close()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    """Whatever the redirect says, the other host hears nothing, and the answer is handed on."""
    async with (
        listening(says(http(TOKENS))) as elsewhere,
        listening(says(http(b"moved", status, f"Location: {elsewhere.url}"))) as server,
        TokenEndpoint.open(server.url) as endpoint,
    ):
        answer = await endpoint.send(request(server.url))
        assert (answer.status, answer.body) == (int(status[:3]), b"moved")
        assert elsewhere.connections == []
        assert bytes(server.connections[0]).count(b"POST ") == 1


@pytest.mark.parametrize(
    ("response", "status", "content_type", "retry_after", "body"),
    [
        (http(b"{}", "400 Bad Request", "Content-Type: application/json; charset=utf-8"), 400, True, None, b"{}"),
        (http(b"", "503 Service Unavailable", "Retry-After: 120"), 503, False, "120", b""),
        (http(b"<html>", "500 Internal Server Error"), 500, False, None, b"<html>"),
        (http(b"", "204 No Content"), 204, False, None, b""),
    ],
)
async def test_an_answer_is_handed_on_unjudged(
    response: bytes, status: int, content_type: bool, retry_after: str | None, body: bytes
) -> None:
    """Status, body and the two headers that matter, whatever they say."""
    async with listening(says(response)) as server, TokenEndpoint.open(server.url) as endpoint:
        answer = await endpoint.send(request(server.url))
    assert (answer.status, answer.body, answer.retry_after) == (status, body, retry_after)
    assert answer.content_type == ("application/json; charset=utf-8" if content_type else "")


async def test_cookies_are_neither_kept_nor_sent() -> None:
    """A cookie of the first answer is not in the second request."""
    async with listening(says(http(TOKENS, "200 OK", "Set-Cookie: a=b"))) as server:
        url = server.url.replace("127.0.0.1", "localhost")  # a name: aiohttp's own jar keeps none of an address
        async with TokenEndpoint.open(url) as endpoint:
            await endpoint.send(request(url))
            await endpoint.send(request(url))
        sent = b"".join(bytes(each) for each in server.connections).lower()
        assert sent.count(b"post ") == 2
        assert b"cookie" not in sent


@pytest.mark.parametrize("chunked", [False, True])
async def test_64_kib_are_read_and_no_more(chunked: bool) -> None:
    """Of an endless answer the first 64 KiB are kept, at once."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else http(b"", length=1 << 30)
    piece = b"x" * 4096

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"1000\r\n" + piece + b"\r\n" if chunked else piece)
            await writer.drain()

    async with listening(endless) as server, TokenEndpoint.open(server.url) as endpoint:
        answer = await asyncio.wait_for(endpoint.send(request(server.url)), 5)
    assert answer.body == b"x" * ANSWER_LIMIT


@pytest.mark.parametrize("length", [ANSWER_LIMIT - 1, ANSWER_LIMIT])
async def test_an_answer_up_to_the_limit_is_whole(length: int) -> None:
    """An answer of 64 KiB is read to its end."""
    async with listening(says(http(b"x" * length))) as server, TokenEndpoint.open(server.url) as endpoint:
        assert len((await endpoint.send(request(server.url))).body) == length


async def test_a_truncated_answer_is_kept_as_far_as_it_came() -> None:
    """The connection broke inside the body: what came may hold the tokens, so it is not thrown away."""
    answer = says(http(TOKENS[:20], length=len(TOKENS)), then_close=True)
    async with listening(answer) as server, TokenEndpoint.open(server.url) as endpoint:
        assert (await endpoint.send(request(server.url))).body == TOKENS[:20]


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        http(b"", length=100),
        b"\x00\x01\x02 not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_no_whole_answer_is_an_unknown_outcome(response: bytes) -> None:
    """The server read the request and dropped it, or answered nonsense: it may be spent, and it is not sent again."""
    async with listening(says(response, then_close=True)) as server:
        assert await outcome(server.url) == "the request reached the token endpoint, and then the connection broke"
        assert len(server.connections) == 1


async def test_a_reset_is_an_unknown_outcome() -> None:
    """A connection that is reset after the request left."""

    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        linger = b"\x01\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with listening(reset) as server:
        assert await outcome(server.url) == "the request reached the token endpoint, and then the connection broke"


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_no_answer_in_time_is_an_unknown_outcome(begun: bytes) -> None:
    """A server that reads the request and is silent: given up after the time for the whole request."""

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await asyncio.sleep(60)

    async with listening(silent) as server:
        before = time.monotonic()
        said = await outcome(server.url, total_timeout=0.8)
        assert said == "the request reached the token endpoint, and then no answer in time"
        assert 0.7 < time.monotonic() - before < 10


async def test_a_slow_answer_is_kept_as_far_as_it_came() -> None:
    """The time is over inside the body: what came is not thrown away."""

    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(TOKENS[:20], length=len(TOKENS)))
        await asyncio.sleep(60)

    async with listening(slow) as server, TokenEndpoint.open(server.url, total_timeout=0.8) as endpoint:
        assert (await endpoint.send(request(server.url))).body == TOKENS[:20]


async def test_a_refused_connection() -> None:
    """Nobody listens: nothing was sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await unreachable(f"http://127.0.0.1:{port}/token")
    assert str(error) == f"127.0.0.1:{port} cannot be reached: connection refused"
    assert error.hint == ("nothing was sent, nothing was spent; try again",)


async def test_a_name_nobody_knows() -> None:
    """A host without an address (RFC 6761: .invalid has none): nothing was sent."""
    error = await unreachable("https://server.invalid/token")
    assert str(error) == "server.invalid cannot be reached: its name is not known (DNS)"


async def test_an_untrusted_certificate(tmp_path: Path) -> None:
    """A certificate of nobody we trust: not one byte of the request leaves, and the hint names --ca-file."""
    _, context = certificate(tmp_path)
    async with listening(says(http(TOKENS)), context) as server:
        error = await unreachable(server.url)
        assert b"".join(server.connections) == b""
    host = server.url.split("/")[2]
    assert str(error).startswith(f"{host} cannot be reached: its certificate is not trusted (self-signed certificate")
    assert error.hint == ("nothing was sent; if that server has a private CA, name its certificate with --ca-file",)


async def test_an_expired_certificate(tmp_path: Path) -> None:
    """A trusted certificate that has expired is not accepted."""
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1000)
    ca_file, context = certificate(tmp_path, long_ago)
    async with listening(says(http(TOKENS)), context) as server:
        error = await unreachable(server.url, ca_file=ca_file)
    assert "its certificate is not trusted (certificate has expired)" in str(error)


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    """A trusted certificate that names another host is not accepted."""
    ca_file, context = certificate(tmp_path)
    async with listening(says(http(TOKENS)), context, "127.0.0.2") as server:
        error = await unreachable(server.url, ca_file=ca_file)
    assert "its certificate is not trusted (IP address mismatch" in str(error)


async def test_tls_1_1_is_not_spoken(tmp_path: Path) -> None:
    """TLS 1.2 is the least; the context says so whatever the system's defaults are."""
    context = tls_context(None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_a_server_that_speaks_no_tls() -> None:
    """https to a plain http server: nothing was sent."""
    async with greeting(http(b"", "400 Bad Request")) as url:
        error = await unreachable(url)
    assert str(error).startswith(f"{url.split('/')[2]} cannot be reached: no TLS connection came about (")


@asynccontextmanager
async def greeting(said: bytes) -> AsyncIterator[str]:
    """A server that says something, or nothing, to who connects, and holds on: no TLS handshake ends there."""
    held: list[asyncio.StreamWriter] = []

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        writer.write(said)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
        for writer in held:
            writer.transport.abort()


async def test_a_server_that_does_not_answer_in_time() -> None:
    """A handshake that does not end: given up after the time for connecting, and nothing was sent."""
    async with greeting(b"") as url:
        before = time.monotonic()
        error = await unreachable(url, connect_timeout=0.2)
        assert time.monotonic() - before < 5
    assert str(error) == f"{url.split('/')[2]} cannot be reached: it did not answer in time"


async def test_an_additional_ca_file_does_not_replace_the_systems(tmp_path: Path) -> None:
    """`--ca-file` adds to what the system trusts."""
    ca_file, _ = certificate(tmp_path)
    assert len(tls_context(ca_file).get_ca_certs()) >= len(tls_context(None).get_ca_certs())


async def test_ssl_cert_file_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSL_CERT_FILE` trusts a private CA as `--ca-file` does."""
    ca_file, context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    async with listening(says(http(TOKENS)), context) as server, TokenEndpoint.open(server.url) as endpoint:
        assert (await endpoint.send(request(server.url))).status == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the CA file {} cannot be read: no such file or directory"),
        (b"", "the CA file {} holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "the CA file {} holds no certificate"),
    ],
)
async def test_a_ca_file_that_is_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A CA file that is absent or no PEM is a configuration error, and nothing is sent."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        async with (
            listening(says(http(TOKENS))) as server,
            TokenEndpoint.open(server.url.replace("http", "https"), str(path)) as endpoint,
        ):
            await endpoint.connect()
    assert str(caught.value) == message.format(path)


def test_a_ca_file_that_is_a_fifo(tmp_path: Path) -> None:
    """A FIFO in the place of a CA file is not waited for: it holds no certificate."""
    path = tmp_path / "ca.pem"
    os.mkfifo(path)
    for look in (check_ca_file, tls_context):
        with pytest.raises(ConfigurationError, match="holds no certificate"):
            look(str(path))


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://server.example/", {}, None),
        ("https://server.example/", {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://server.example/", {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://server.example/", {"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, "http://a"),
        ("https://server.example/", {"HTTPS_PROXY": ""}, None),
        ("https://server.example/", {"HTTP_PROXY": "http://proxy", "ALL_PROXY": "http://proxy"}, None),
        ("https://server.example/", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "server.example"}, None),
        ("https://server.example/", {"HTTPS_PROXY": "http://proxy", "no_proxy": ".example"}, None),
        ("https://server.example/", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ("https://server.example/", {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "other.example"}, "http://proxy"),
        ("http://127.0.0.1:8931/", {"HTTPS_PROXY": "http://proxy", "HTTP_PROXY": "http://proxy"}, None),
        ("http://localhost:8931/", {"HTTPS_PROXY": "http://proxy", "http_proxy": "http://proxy"}, None),
    ],
)
def test_which_proxy(url: str, environ: dict[str, str], proxy: str | None) -> None:
    """`HTTPS_PROXY` for https, unless `NO_PROXY` excepts the host; http goes to this machine, without a proxy."""
    assert proxy_for(url, None, environ) == proxy


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, "http://configured"),
        ({"HTTPS_PROXY": "http://environment"}, "http://environment"),
        ({"NO_PROXY": "server.example"}, None),
    ],
)
def test_a_configured_proxy(environ: dict[str, str], proxy: str | None) -> None:
    """The environment's proxy goes before the configured one, and `NO_PROXY` excepts from both."""
    assert proxy_for("https://server.example/", "http://configured", environ) == proxy


async def test_a_proxy_is_ignored_for_http_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With proxies set for everything, plain http to loopback goes there directly."""
    async with listening(says(http(b"", "502 Bad Gateway"))) as proxy, listening(says(http(TOKENS))) as server:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with TokenEndpoint.open(server.url) as endpoint:
            await endpoint.connect()
            assert (await endpoint.send(request(server.url))).body == TOKENS
        assert proxy.connections == []


async def test_https_goes_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is told host and port and carries TLS: it reads neither credentials nor tokens."""
    ca_file, context = certificate(tmp_path)

    carried = bytearray()
    async with listening(says(http(TOKENS)), context) as server, tunnelling(server.url, carried) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/token"))
        async with TokenEndpoint.open(server.url, ca_file) as endpoint:
            await endpoint.connect()
            assert b"".join(server.connections) == b""
            assert (await endpoint.send(request(server.url))).body == TOKENS
        assert len(server.connections) == 1
        host = server.url.split("/")[2]
        assert bytes(proxy.connections[0]).startswith(f"CONNECT {host} HTTP/1.1\r\n".encode())
        assert carried
        assert b"s3kr1t" not in bytes(proxy.connections[0]) + carried


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_refuses(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that opens no tunnel: nothing was sent, and the hint names the variables."""
    async with listening(says(http(b"no", status))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/token"))
        error = await unreachable("https://server.example/token")
    assert str(error) == "server.example cannot be reached: the proxy refused or cannot be reached"
    assert error.hint == ("nothing was sent; look at HTTPS_PROXY and NO_PROXY",)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "http://user:s3kr1t-@127.0.0.1:1", "nonsense.invalid"])
async def test_a_proxy_that_is_none(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody runs: nothing was sent, and its password is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = await unreachable("https://server.example/token")
    assert "s3kr1t" not in f"{error}{error.hint}{error.__cause__}"


@pytest.mark.parametrize("proxy", ["http://[::1", "socks5://user:s3kr1t-@127.0.0.1:1", "http://a:99999"])
async def test_a_proxy_that_is_no_url(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is no http or https URL is a configuration error, and its password is not shown."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError) as caught:
        async with TokenEndpoint.open("https://server.example/token"):
            pytest.fail("it was opened")
    assert "s3kr1t" not in f"{caught.value}{caught.value.hint}{caught.value.__cause__}"


async def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in ~/.netrc are nobody's here."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password s3kr1t-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with listening(says(http(TOKENS))) as server, TokenEndpoint.open(server.url) as endpoint:
        await endpoint.send(TokenRequest(server.url, {}, Secret(BODY)))
        assert b"authorization" not in bytes(server.connections[0]).lower()
