import asyncio
import datetime
import ipaddress
import os
import ssl
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pytest_aiohttp import AiohttpServer

from .browser import PHONE, Browser, BrowserError, NavigationFailed, Options
from .chromium import Chromium
from .firefox import Firefox
from .fixtures import start_or_skip
from .opener import Opener
from .processes import command_line, process_ids

PAGES = {
    "/": "<h1>Start</h1><a id=next href=/next>next</a><p hidden>not shown</p>",
    "/next": "<h1>Next</h1>",
    "/form": """<form method=post action=/login><input name=user value=nobody><input name=password type=password>
        <button>Log in</button></form>""",
    "/done": "<h1>Done</h1>",
    "/late": "<p>early</p><script>setTimeout(() => document.body.append('late'), 300)</script>",
    "/press": """<button id=free onclick="this.textContent = `${event.isTrusted} ${navigator.userActivation.isActive}`">
        press</button><button id=covered>covered</button><div style="position: fixed; inset: 5em 0 0 0"></div>
        <style>#covered { position: fixed; top: 10em }</style>""",
    "/bad": """<h1>Bad</h1><img src=/missing.png><script>console.log('chatter'); console.warn('beware');
        setTimeout(() => { throw new Error('thrown by the page') })</script>""",
    "/policy": "<h1>Policy</h1><script>document.body.append('ran')</script>",
}


class Site:
    """A few pages, and a note of every request for one of them."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.logins: list[dict[str, str]] = []
        self.app = web.Application()
        self.app.router.add_post("/login", self.login)
        self.app.router.add_get("/{rest:.*}", self.page)

    async def page(self, request: web.Request) -> web.Response:
        if request.path == "/favicon.ico":
            raise web.HTTPNotFound
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path == "/between":
            return web.Response(status=303, headers={"Location": "/done?code=spent"})
        headers = {"Content-Security-Policy": "default-src 'none'"} if request.path == "/policy" else {}
        text = PAGES.get(request.path)
        viewport = "<meta name=viewport content='width=device-width'>"
        body = f"<!doctype html><html lang=en>{viewport}<title>T</title>{text or 'nothing here'}"
        return web.Response(status=200 if text else 404, text=body, content_type="text/html", headers=headers)

    async def login(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.logins.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(status=302, headers={"Location": "/between"})


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def origin(site: Site, aiohttp_server: AiohttpServer) -> str:
    server = await aiohttp_server(site.app)
    return f"http://localhost:{server.port}"


@pytest.fixture
async def untrusted(site: Site, aiohttp_server: AiohttpServer, tmp_path: Path) -> str:
    server = await aiohttp_server(site.app, ssl=self_signed(tmp_path))
    return f"https://localhost:{server.port}"


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_pages_links_and_the_back_button(browser: Browser, origin: str) -> None:
    """Pages are shown whatever their status, links are followed, and back returns to the page before."""
    await browser.goto(f"{origin}/")
    assert await browser.url() == f"{origin}/"
    assert "Start" in await browser.text()
    assert "not shown" not in await browser.text()

    await browser.click("#next")
    assert await browser.url() == f"{origin}/next"
    assert await browser.back_list() == [f"{origin}/", f"{origin}/next"]

    await browser.back()
    assert await browser.url() == f"{origin}/"
    assert await browser.back_list() == [f"{origin}/"]

    await browser.goto(f"{origin}/absent")
    assert await browser.text() == "nothing here"

    first = (await browser.tabs())[0]
    second = await browser.open_tab(f"{origin}/next")
    assert await browser.tabs() == [first, second]
    assert await browser.back_list() == [f"{origin}/next"]
    await browser.switch_to(first)
    assert await browser.url() == f"{origin}/absent"


async def test_a_form_and_the_redirects_behind_it(browser: Browser, site: Site, origin: str) -> None:
    """A form typed and sent leads through its redirects, of which neither address bar nor back list keeps any."""
    await browser.goto(f"{origin}/form")
    await browser.fill("[name=user]", "Zoë & co")
    await browser.fill("[name=password]", "100 %+")
    await browser.click("button")

    assert await browser.url() == f"{origin}/done?code=spent"
    assert await browser.text() == "Done"
    assert await browser.back_list() == [f"{origin}/form", f"{origin}/done?code=spent"]
    assert site.logins == [{"user": "Zoë & co", "password": "100 %+"}]
    assert site.requests == ["GET /form", "POST /login", "GET /between", "GET /done?code=spent"]


async def test_input_is_a_person_s(browser: Browser, origin: str) -> None:
    """A click is a trusted input event that counts as the user's, and does not reach what is covered."""
    await browser.goto(f"{origin}/press")
    await browser.click("#free")
    assert await browser.execute("return document.querySelector('#free').textContent") == "true true"
    with pytest.raises(BrowserError, match="intercepted"):
        await browser.click("#covered")
    with pytest.raises(BrowserError, match="no such element"):
        await browser.click("#absent")

    await browser.goto(f"{origin}/late")
    await browser.wait_for(text="late")
    with pytest.raises(TimeoutError, match=r"no \{'text': 'never'\}.*early"):
        await browser.wait_for(text="never", within=0.2)
    await browser.wait_for(css="p", url="/late")


async def test_the_console_is_read(browser: Browser, origin: str) -> None:
    """Thrown errors, warnings, failed loads and policy violations are reported; a clean page reports nothing."""
    await browser.goto(f"{origin}/")
    await browser.goto(f"{origin}/next")
    assert await browser.console() == []

    await browser.goto(f"{origin}/bad")
    console = await browser.console()
    assert len(console) == 3
    for wanted in ("thrown by the page", "beware", "/missing.png"):
        assert [wanted in message for message in console].count(True) == 1, console

    await browser.goto(f"{origin}/policy")
    assert await browser.text() == "Policy"
    violations = [message for message in await browser.console() if message not in console]
    assert len(violations) == 1
    assert "Content" in violations[0]
    assert "default-src 'none'" in violations[0]


async def test_a_certificate_warning_is_passed_by_its_buttons(
    browser: Browser, site: Site, untrusted: str, tmp_path: Path
) -> None:
    """A self-signed certificate gets the browser's warning, before any request; its own buttons lead on."""
    await browser.goto(f"{untrusted}/next?from=person")
    assert await browser.shows_certificate_warning()
    assert await browser.url() == f"{untrusted}/next?from=person"
    assert "CERT" in await browser.text() or "security issue" in await browser.text()
    assert site.requests == []

    await browser.accept_certificate_warning()
    assert not await browser.shows_certificate_warning()
    assert await browser.url() == f"{untrusted}/next?from=person"
    assert await browser.text() == "Next"
    assert site.requests == ["GET /next?from=person"]
    assert await browser.back_list() == [f"{untrusted}/next?from=person"]

    await browser.goto(f"{untrusted}/")
    assert not await browser.shows_certificate_warning()


@pytest.mark.parametrize("browser_options", [Options(size=PHONE, dark=True, names=("shop.example",))])
async def test_options(browser: Browser, origin: str, tmp_path: Path) -> None:
    """Viewport, colours and host names are as asked for; what leads nowhere is an error."""
    await browser.goto(f"{origin.replace('localhost', 'shop.example')}/next")
    assert await browser.text() == "Next"
    script = "return [innerWidth, innerHeight, matchMedia('(prefers-color-scheme: dark)').matches]"
    assert await browser.execute(script) == [*PHONE, True]

    picture = tmp_path / "page.png"
    await browser.screenshot(picture)
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert (width, height) == (PHONE[0] * 2, PHONE[1] * 2)

    with pytest.raises(NavigationFailed):
        await browser.goto("http://other.example/")
    with pytest.raises(BrowserError, match="invalid argument"):
        await browser.goto("no address")


@pytest.mark.parametrize("kind", [Chromium, Firefox])
async def test_nothing_is_left_after_close(kind: type[Browser], origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, a browser knows nothing of our environment; closed, it leaves no process and no file."""
    monkeypatch.setenv("LOOPBACK_AUTH_CLIENT_SECRET", "marked-secret")
    before = set(process_ids())
    browser = await start_or_skip(kind, Options())
    try:
        await browser.goto(f"{origin}/")
        folder, alive = browser.processes.folder, browser.processes.alive()
        assert len(alive) > 2
        assert [pid for pid in alive if b"marked-secret" in environment_of(pid)] == []
    finally:
        await browser.close()
    await browser.close()

    assert not folder.exists()
    assert not [pid for pid in alive if command_line(pid)]
    assert not [pid for pid in set(process_ids()) - before if str(folder).encode() in command_line(pid)]


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # ended, or shut off from its own user, as the sandboxed ones are
        return b""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder in PATH, empty."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder


@pytest.mark.parametrize("kind", [Chromium, Firefox])
async def test_a_missing_browser(kind: type[Browser], programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing browser skips the test on a person's machine and fails it in CI, with its name."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{kind.name} is not installed"):
        await start_or_skip(kind, Options())
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{kind.name} is not installed"):
        await start_or_skip(kind, Options())


@pytest.mark.parametrize(("kind", "program"), [(Chromium, "chromedriver"), (Firefox, "firefox")])
async def test_a_browser_that_does_not_start(kind: type[Browser], program: str, programs: Path, tmp_path: Path) -> None:
    """A browser that ends at once is an error with its own words, and leaves no file."""
    for name in (program, "chromium"):
        (programs / name).write_text("#!/bin/sh\necho 'no screen today'\n")
        (programs / name).chmod(0o755)
    with pytest.raises(RuntimeError, match="no screen today"):
        await kind.start()
    assert {entry.name for entry in os.scandir(tmp_path)} == {"programs"}


async def test_the_opener_hands_over_addresses(opener: Opener) -> None:
    """A program that opens `$BROWSER` is not kept waiting; addresses arrive in order, as does all it gave away."""
    environment = {"BROWSER": opener.command, "PATH": os.environ["PATH"], "TOLD": "two\nlines = one value"}
    program = "import os, subprocess, sys; subprocess.run([os.environ['BROWSER'], '--new', sys.argv[1]], check=True)"
    for address in ("http://localhost:1/start?a=b&c='d'", "https://[::1]/é $HOME"):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, address, env=environment)
        assert await asyncio.wait_for(process.wait(), 10) == 0

    first = await opener.opening()
    assert first.arguments == ("--new", "http://localhost:1/start?a=b&c='d'")
    assert {name: first.environment[name] for name in environment} == environment
    assert await opener.address() == "https://[::1]/é $HOME"
    with pytest.raises(TimeoutError, match="calls before: 2"):
        await opener.address(within=0.1)
