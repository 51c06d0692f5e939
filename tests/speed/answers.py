"""What the authorization server answers: codes to everybody who asks, tokens for codes, and who is who in OpenID.

It is as strict about codes as a real one: once, with the redirect URI and the verifier that belong to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TOKEN = "speed-access-"
"""What every access token begins with."""


class Grants:
    """Codes that were given, and the key that signs who somebody is."""

    def __init__(self) -> None:
        self._codes: dict[str, dict[str, str]] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def code(self, asked: dict[str, str]) -> str:
        code = secrets.token_urlsafe(24)
        self._codes[code] = asked
        return code

    def redeem(self, sent: dict[str, str], issuer: str) -> dict[str, Any] | None:
        """Return the tokens, or None where the code was not ours, was used before, or its verifier is wrong."""
        if sent.get("grant_type") == "refresh_token":
            return self._tokens({}, issuer)
        asked = self._codes.pop(sent.get("code", ""), None)
        if asked is None or asked.get("redirect_uri") != sent.get("redirect_uri"):
            return None
        if "code_challenge" in asked:
            verifier = sent.get("code_verifier", "")
            if asked.get("code_challenge_method") == "S256":
                verifier = _base64(hashlib.sha256(verifier.encode()).digest())
            if verifier != asked["code_challenge"]:
                return None
        return self._tokens(asked, issuer)

    def public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": "one",
            "n": _base64(numbers.n.to_bytes(256, "big")),
            "e": _base64(numbers.e.to_bytes(3, "big")),
        }

    def _tokens(self, asked: dict[str, str], issuer: str) -> dict[str, Any]:
        tokens = {
            "access_token": TOKEN + secrets.token_urlsafe(32),
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": secrets.token_urlsafe(32),
        }
        scope = asked.get("scope", "")
        if scope:
            tokens["scope"] = scope
        if "openid" in scope.split():
            tokens["id_token"] = self._identity(asked, issuer)
        return tokens

    def _identity(self, asked: dict[str, str], issuer: str) -> str:
        now = int(time.time())
        claims = {"iss": issuer, "sub": "roma", "aud": asked["client_id"], "iat": now, "exp": now + 3600}
        if "nonce" in asked:
            claims["nonce"] = asked["nonce"]
        parts = ({"alg": "RS256", "typ": "JWT", "kid": "one"}, claims)
        signed = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def answer_to(method: str, target: str, host: str, body: bytes, grants: Grants) -> tuple[int, bytes]:
    """Return the status, and the answer as it is sent. Issuers may have a path; all of them are served alike."""
    parts = urlsplit(target)
    tenant, known, metadata = parts.path.partition("/.well-known/")
    path = f"{known}{metadata}"
    if not known:
        tenant, slash, last = parts.path.rpartition("/")
        path = f"{slash}{last}"
    issuer = f"https://{host}{tenant}"
    match method, path:
        case "GET", "/authorize":
            asked = dict(parse_qsl(parts.query))
            given = {"code": grants.code(asked)} | ({"state": asked["state"]} if "state" in asked else {})
            if asked.get("response_mode") == "form_post":
                return _form(asked["redirect_uri"], given)
            joint = "&" if "?" in asked["redirect_uri"] else "?"
            return 302, _head(302, 0, Location=f"{asked['redirect_uri']}{joint}{urlencode(given)}")
        case "POST", "/token":
            tokens = grants.redeem(dict(parse_qsl(body.decode("latin-1"))), issuer)
            return _json(400, {"error": "invalid_grant"}) if tokens is None else _json(200, tokens)
        case "GET", "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server":
            return _json(200, _metadata(issuer))
        case "GET", "/jwks":
            return _json(200, {"keys": [grants.public_key()]})
        case "GET", "/resource":
            return _json(200, {"name": "Cafe Roma"})
        case _:
            return _json(404, {"error": "not_found"})


def _metadata(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
    }


def _form(target: str, members: dict[str, str]) -> tuple[int, bytes]:
    """Return a page that sends itself on (OAuth 2.0 Form Post Response Mode)."""
    inputs = (f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in members.items())
    body = f'<form method="post" action="{escape(target)}">{"".join(inputs)}</form>'
    body += "<script>document.forms[0].submit()</script>"
    return 200, _head(200, len(body), Content_Type="text/html", Cache_Control="no-store") + body.encode()


def _json(status: int, members: dict[str, Any]) -> tuple[int, bytes]:
    body = json.dumps(members).encode()
    return status, _head(status, len(body), Content_Type="application/json", Cache_Control="no-store") + body


def _head(status: int, length: int, **headers: str) -> bytes:
    reason = {200: "OK", 302: "Found", 400: "Bad Request", 404: "Not Found"}[status]
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
