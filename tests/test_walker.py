"""The browser without a screen, against small servers of its own."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.walker import Walker, WalkerStuck, without_values

WALKER = Path(__file__).with_name("walker.py")

LOGIN = """<form method=post action="login"><input type=hidden name=csrf value="a&amp;b">
<input name=user_id value=anna><input type=password name=password value=prefilled>
<input type=checkbox name=remember><input name=off value=1 disabled><button>Log in</button></form>"""
CONSENT = """<form action="/search"><input name=q></form>
<form method="POST" action="/decision"><input type="hidden" name="csrf" value="c">
<button name="decision" value="deny">Deny</button>
<button type="submit" name="decision" value="allow">Allow</button>
</form>"""


@dataclass
class Site:
    """What a test needs to know of the server: where it is, and what it was sent."""

    base: str
    requests: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    origins: list[str | None] = field(default_factory=list)


class Pages(BaseHTTPRequestHandler):
    """Start page, login, consent and the loopback server's page, all in one."""

    site: Site
    elsewhere = "http://example.com/secret?code=c0de"

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        logged_in = "session=anna" in self.headers.get("Cookie", "")
        match urlsplit(self.path).path:
            case "/start":
                self.redirect(303, "/authorize?client_id=c&state=s")
            case "/authorize" if logged_in:
                self.page(CONSENT)
            case "/authorize":
                self.page(LOGIN)
            case "/redirect":
                self.page("<h1>Logged in</h1>")
            case "/elsewhere":
                self.redirect(302, self.elsewhere)
            case "/loop":
                self.redirect(302, "/loop")
            case _:
                self.page("nothing here", 404)

    def do_POST(self) -> None:
        self.site.requests.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        self.site.bodies.append(body)
        self.site.origins.append(self.headers.get("Origin"))
        sent = parse_qs(body)
        match self.path:
            case "/login" if sent.get("password") in (["right"], ["prefilled"]):
                self.redirect(302, "/authorize?client_id=c&state=s", "session=anna; HttpOnly; Path=/")
            case "/login":
                self.page(LOGIN, 401)
            case "/decision" if sent["decision"] == ["allow"]:
                self.redirect(303, "/redirect?code=c0de&state=s")
            case "/decision":
                self.redirect(303, "/redirect?error=access_denied&state=s")
            case "/kept":
                self.redirect(307, "/login")

    def page(self, html: str, status: int = 200) -> None:
        self.answer(status, {"Content-Type": "text/html; charset=utf-8"}, html)

    def redirect(self, status: int, location: str, cookie: str | None = None) -> None:
        self.answer(status, {"Location": location} | ({"Set-Cookie": cookie} if cookie else {}))

    def answer(self, status: int, headers: dict[str, str], html: str = "") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(html.encode())))
        self.end_headers()
        self.wfile.write(html.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    class SitePages(Pages):
        """A handler of its own, so that two sites do not share a log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), SitePages)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    host = "localhost" if context else "127.0.0.1"
    SitePages.site = site = Site(f"{'https' if context else 'http'}://{host}:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_follows_redirects_and_keeps_their_history(site: Site) -> None:
    """Opening the start page ends on the login form; history has both answers."""
    walker = Walker().open(f"{site.base}/start")
    assert walker.url == f"{site.base}/authorize?client_id=c&state=s"
    assert walker.history == [(303, f"{site.base}/start"), (200, walker.url)]
    assert walker.login_form() is not None
    assert walker.consent_form() is None


def test_logs_in_with_what_a_browser_would_send(site: Site) -> None:
    """The form goes with its hidden fields, without what is unchecked or disabled, and with its Origin."""
    walker = Walker().open(f"{site.base}/start").log_in("anna", "right")
    assert site.bodies == ["csrf=a%26b&user_id=anna&password=right"]
    assert site.origins == [site.base]
    assert walker.consent_form() is not None


def test_wrong_password_leaves_the_login_form(site: Site) -> None:
    """A refused login is no exception: the page and its status are there to be looked at."""
    walker = Walker().open(f"{site.base}/start").log_in("anna", "wrong")
    assert walker.status == 401
    assert walker.login_form() is not None


@pytest.mark.parametrize(
    ("decision", "query"), [("allow", "code=c0de&state=s"), ("deny", "error=access_denied&state=s")]
)
def test_decides(site: Site, decision: str, query: str) -> None:
    """The button pressed is the one sent, and the redirect is followed to the last page."""
    walker = Walker().open(f"{site.base}/start").log_in("anna", "right").decide(decision)
    assert site.bodies[-1] == f"csrf=c&decision={decision}"
    assert walker.url == f"{site.base}/redirect?{query}"
    assert "Logged in" in walker.text


def test_a_redirect_can_be_held_back_and_followed_later(site: Site) -> None:
    """`stop_before` leaves the redirect unsent; `follow` sends it, as often as asked."""
    walker = Walker().open(f"{site.base}/start").log_in("anna", "right")
    walker.stop_before = lambda url: "/redirect" in url
    walker.decide("allow")
    assert walker.redirected_to == f"{site.base}/redirect?code=c0de&state=s"
    assert "/redirect" not in site.requests[-1]
    held_back = walker.redirected_to
    assert walker.follow().url == held_back
    assert walker.open(held_back).url == held_back
    with pytest.raises(WalkerStuck, match="no redirect"):
        walker.follow()


def test_307_repeats_the_post(site: Site) -> None:
    """A 307 sends the same body again; 302 and 303 turn into GET."""
    walker = Walker().open(f"{site.base}/authorize")
    form = walker.login_form()
    assert form is not None
    form.action = f"{site.base}/kept"
    walker.submit(form, form.filled(password="right"))
    assert site.bodies[0] == site.bodies[1]
    assert walker.consent_form() is not None


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/",
        "http://127.0.0.2/",
        "http://localhost.example.com/",
        "http://localhost@example.com/",
        "http://user@127.0.0.1/",
        "http://[::2]/",
        "http://0x7f000001/",
        "file:///etc/passwd",
        "ftp://localhost/",
        "//localhost/",
        "",
    ],
)
def test_speaks_to_this_machine_only(address: str) -> None:
    """Any address but http or https at localhost, 127.0.0.1 or [::1] is refused unasked."""
    with pytest.raises(WalkerStuck, match="not an address on this machine"):
        Walker().open(address)


def test_a_redirect_away_from_this_machine_is_refused(site: Site) -> None:
    """A redirect is judged like a typed address, and the message has no value of its query."""
    with pytest.raises(WalkerStuck, match=r"http://example\.com/secret\?code$"):
        Walker().open(f"{site.base}/elsewhere")


def test_a_proxy_of_the_environment_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback addresses are spoken to directly, whatever `http_proxy` says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Walker().open(f"{site.base}/start").status == 200


def test_endless_redirects_end(site: Site) -> None:
    """A redirect loop is given up."""
    with pytest.raises(WalkerStuck, match="more than 20 redirects"):
        Walker().open(f"{site.base}/loop")


def test_steps_that_do_not_fit_the_page(site: Site) -> None:
    """A step whose form is missing says so, with the page it looked at."""
    walker = Walker().open(f"{site.base}/none?code=c0de")
    with pytest.raises(WalkerStuck, match=r"no login form on http://[0-9.:]+/none\?code \(status 404\)"):
        walker.log_in("anna", "right")
    with pytest.raises(WalkerStuck, match="no button that decides 'allow'"):
        walker.decide("allow")
    walker.open(f"{site.base}/start").log_in("anna", "right")
    with pytest.raises(WalkerStuck, match="no button that decides 'maybe'"):
        walker.decide("maybe")


def test_values_stay_out_of_logs() -> None:
    """Only the names of the parameters are left."""
    assert without_values("https://localhost:8000/?code=c0de&state=&x#f") == "https://localhost:8000/?code&state&x"


# -- https


def self_signed(folder: Path) -> tuple[Path, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    return certificate_file, context


def test_https_with_a_given_self_signed_certificate(tmp_path: Path) -> None:
    """The certificate handed over is trusted; without it, or with another one, the connection fails."""
    certificate, context = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = self_signed(tmp_path / "other")
    with serving(context) as site:
        assert Walker(ca_file=certificate).open(f"{site.base}/start").status == 200
        for ca_file in (None, other):
            with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
                Walker(ca_file=ca_file).open(f"{site.base}/start")


# -- the program


def run(address: str, tmp_path: Path, **variables: str) -> tuple[int, list[str]]:
    """Run the program as a launcher does: nothing to read, nowhere to write."""
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-I", WALKER, "--new-window", address],
        env={"PATH": os.defpath, "WALKER_LOG": str(log), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    return done.returncode, log.read_text().splitlines()


def test_program_walks_to_the_end(site: Site, tmp_path: Path) -> None:
    """Given an address as its last argument, it logs in, allows, and ends on the redirect's page."""
    status, log = run(f"{site.base}/start", tmp_path)
    assert status == 0
    assert log == [
        f"303 {site.base}/start",
        f"200 {site.base}/authorize?client_id&state",
        f"302 {site.base}/login",
        f"200 {site.base}/authorize?client_id&state",
        f"303 {site.base}/decision",
        f"200 {site.base}/redirect?code&state",
    ]
    assert site.bodies[0] == "csrf=a%26b&user_id=anna&password=prefilled"


def test_program_takes_its_answers_from_the_environment(site: Site, tmp_path: Path) -> None:
    """User, password and decision are variables."""
    run(
        f"{site.base}/start",
        tmp_path,
        WALKER_USER="bert",
        WALKER_PASSWORD="right",
        WALKER_DECISION="deny",
    )
    assert site.bodies == ["csrf=a%26b&user_id=bert&password=right", "csrf=c&decision=deny"]


def test_program_gives_up_on_a_wrong_password(site: Site, tmp_path: Path) -> None:
    """It tries the password once, and its status and log say that it did not get through."""
    status, log = run(f"{site.base}/start", tmp_path, WALKER_PASSWORD="wrong")
    assert status == 1
    assert log[-1] == f"stuck: the login was refused on {site.base}/login"
    assert len(site.bodies) == 1


def test_program_says_where_nobody_answers(tmp_path: Path) -> None:
    """A dead address ends it with status 1 and one line in the log."""
    status, log = run("http://127.0.0.1:9/start", tmp_path)
    assert status == 1
    assert len(log) == 1
    assert log[0].startswith("stuck: ")


def test_program_runs_with_its_outputs_closed(site: Site, tmp_path: Path) -> None:
    """A launcher may start it with the three standard files closed."""
    command = 'exec "$0" -I "$1" "$2" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", command, sys.executable, WALKER, f"{site.base}/start"], timeout=60)
    assert done.returncode == 0
    assert site.requests[-1] == "/redirect?code=c0de&state=s"
