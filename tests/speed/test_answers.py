"""The stand-in provider is no easier to log in at than a real one."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.speed.answers import TOKEN, Grants, answer_to
from tests.speed.browser import Going, form_in
from tests.speed.relay import client_port
from tests.speed.slow_names import answer_to as name_answer

REDIRECT_URI = "http://127.0.0.1:4711/"
VERIFIER = "a-verifier-of-a-test-that-is-long-enough-to-be-one"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def authorized(grants: Grants, **more: str) -> bytes:
    asked = {"client_id": "bench", "redirect_uri": REDIRECT_URI, "state": "given", **more}
    return answer_to("GET", f"/authorize?{urlencode(asked)}", "provider.test", b"", grants)[1]


def code_for(grants: Grants, **more: str) -> str:
    head = authorized(grants, **more).decode()
    location = next(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Location"))
    assert location.startswith(REDIRECT_URI)
    answer = parse_qs(urlsplit(location).query)
    assert answer["state"] == ["given"]
    return answer["code"][0]


def exchanged(grants: Grants, path: str = "/token", **sent: str) -> tuple[int, Any]:
    form = {"grant_type": "authorization_code", "redirect_uri": REDIRECT_URI, **sent}
    status, answer = answer_to("POST", path, "provider.test", urlencode(form).encode(), grants)
    return status, body_of(answer)


def test_a_code_is_good_once() -> None:
    """A code becomes tokens, and is refused the second time."""
    grants = Grants()
    code = code_for(grants)
    status, tokens = exchanged(grants, code=code)
    assert (status, tokens["access_token"].startswith(TOKEN)) == (200, True)
    assert exchanged(grants, code=code) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "sent",
    [{"code_verifier": "another"}, {}, {"code_verifier": VERIFIER, "redirect_uri": "http://127.0.0.1:4712/"}],
)
def test_what_belongs_to_a_code_is_asked_for(sent: dict[str, str]) -> None:
    """A wrong verifier, none, or another redirect URI: no tokens."""
    grants = Grants()
    code = code_for(grants, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert exchanged(grants, code=code, **sent)[0] == 400


def test_the_right_verifier_is_accepted() -> None:
    """The verifier that the challenge was made of opens the code."""
    grants = Grants()
    code = code_for(grants, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert exchanged(grants, code=code, code_verifier=VERIFIER)[0] == 200


def test_an_issuer_with_a_path_names_itself() -> None:
    """Metadata and id token of an issuer with a path name that issuer."""
    grants = Grants()
    path = "/tenant/.well-known/openid-configuration"
    issuer = body_of(answer_to("GET", path, "provider.test", b"", grants)[1])["issuer"]
    assert issuer == "https://provider.test/tenant"
    _, tokens = exchanged(grants, "/tenant/token", code=code_for(grants, scope="openid"))
    claims = tokens["id_token"].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"] == issuer


def test_a_form_is_sent_on_as_it_stands() -> None:
    """The page of a form_post answer is understood by the browser: where to, and with what."""
    page = authorized(Grants(), response_mode="form_post").partition(b"\r\n\r\n")[2].decode()
    going = form_in(page)
    assert going is not None
    assert going.form is not None
    assert going.address == REDIRECT_URI
    assert parse_qs(going.form)["state"] == ["given"]
    assert form_in("<p>You may close this window.</p>") is None
    assert Going(REDIRECT_URI).form is None


def test_a_name_has_its_one_address() -> None:
    """Asked for IPv4, the name server answers with the address; asked for IPv6, that there is none."""
    query = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0\x01a\x04test\0"
    found = name_answer(query + b"\0\x01\0\x01", bytes([10, 213, 7, 2]))
    assert found[:2] == b"\x12\x34"
    assert found.endswith(b"\0\x04\x0a\xd5\x07\x02")
    assert name_answer(query + b"\0\x1c\0\x01", bytes(4))[6:8] == b"\0\0"


def test_a_packet_shows_the_clients_port() -> None:
    """A TCP packet is the client's by its source port on the way there and its target port on the way back."""
    packet = (
        bytes([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, *bytes(10)]) + (4711).to_bytes(2, "big") + (443).to_bytes(2, "big")
    )
    assert (client_port(packet, 0), client_port(packet, 2)) == (4711, 443)
    datagram = packet[:9] + b"\x11" + packet[10:]
    assert client_port(datagram, 0) is None
