"""The bytes an account is kept as: line 1 decides, line 2 is the access token, the rest is JSON.

Line 1 is all that is needed to know whether line 2 may be used, without JSON, and `head.py` reads both:

    loopback-auth 1 EXPIRES_AT RECEIVED_AT BOOT_ID UPTIME RECEIVED_BY

    EXPIRES_AT     Unix seconds, "-" where the server does not say
    RECEIVED_AT    Unix seconds, with its fraction
    BOOT_ID        the kernel's name for the boot, "-" where it has none
    UPTIME         seconds since that boot, suspend included, when the token was received
    RECEIVED_BY    "login" or "refresh"

Line 2 is empty where the access token is not one line of printable ASCII, or is not a Bearer token: it is in the JSON
then. Members are only ever added to the JSON; one that is not known is kept out of the way, not an error.
"""

from __future__ import annotations

from loopback_auth.clock import Moment
from loopback_auth.errors import StoreError, Unopenable
from loopback_auth.store.head import FAR, FORMAT, SEALED, can_be_kept, head
from loopback_auth.text import printable

TYPE_CHECKING = False  # as mypy knows it: `typing` takes 5 ms
if TYPE_CHECKING:
    from typing import Any

    from loopback_auth.oauth.registration import ClientRegistration
    from loopback_auth.store.base import Account, Intent, Trouble

_KINDS: dict[str, Any] = {
    "generation": int,
    "logged_in_at": int | float,
    "refresh_token_at": int | float,
    "expires_in": int | None,
    "token_type": str | None,
    "scope": str | None,
    "access_token": str | None,
    "refresh_token": str | None,
    "client_secret": dict | None,
    "company": dict | None,
}
_TROUBLE_KINDS: dict[str, Any] = {
    "generation": int,
    "digest": str,
    "message": str,
    "at": int | float,
    "refused": bool,
    "not_before": int | float | None,
}
"""What the members of the JSON are, so that a file that was edited by hand is damaged here and nowhere later."""


def serialise(account: Account) -> bytes:
    """Return the bytes of an account."""
    import dataclasses
    import json

    tokens = account.tokens
    received = Moment(round(account.received.unix, 3), account.received.boot_id, account.received.uptime)
    account = dataclasses.replace(account, received=received)  # so that the end is counted from the second on line 1
    access_token = tokens.access_token.reveal()
    plain = access_token.isascii() and access_token.isprintable() and tokens.is_bearer
    members = {
        "account": account.stored_as or account.name,
        "generation": account.generation,
        "logged_in_at": account.logged_in_at,
        "refresh_token_at": account.refresh_token_at,
        "expires_in": tokens.expires_in,
        "token_type": tokens.token_type,
        "scope": tokens.scope,
        "access_token": None if plain else access_token,
        "refresh_token": tokens.refresh_token and tokens.refresh_token.reveal(),
        "registration": dataclasses.asdict(account.registration),
        "client_secret": account.client_secret,
        "company": account.company,
        "machine": account.machine,
    }
    expires_at = "-" if account.expires_at is None else account.expires_at
    line = f"{FORMAT} {expires_at} {received.unix:.3f} {received.boot_id} {received.uptime:.3f} {account.received_by}"
    text = json.dumps(members, indent=1, ensure_ascii=True)
    return f"{line}\n{access_token if plain else ''}\n{text}\n".encode("ascii")


def parse(content: bytes, name: str, where: str) -> Account:
    """Return the account of these bytes. Raises StoreError: damaged, or written by a later version."""
    import json

    from loopback_auth.oauth.token import TokenSet
    from loopback_auth.secret import Secret
    from loopback_auth.store.base import Account

    if content.startswith(SEALED.encode("ascii")):
        sealed = sealed_head(content)
        with_key = f" with key {sealed[0]}" if sealed is not None else ""
        raise Unopenable(
            f"{printable(where)} is sealed{with_key}, and no key was given",
            hint=(
                "the key that it was sealed with goes into LOOPBACK_AUTH_STORE_KEY",
                f"if that key is lost, log in with a new one, as at first: loopback-auth login {name} --force",
            ),
            generation=generation_of(content),
        )
    first = head(content)
    try:
        if first is None:
            raise ValueError
        members: dict[str, Any] = json.loads(content.split(b"\n", 2)[2])
        if not all(_fits(members[key], kind) for key, kind in _KINDS.items()) or not all(
            isinstance(members.get(key), str | None) for key in ("account", "machine")
        ):
            raise TypeError
        if members["generation"] < 0:
            raise ValueError
        company = members["company"]
        if company is not None and not all(isinstance(company[key], str) for key in ("id", "name")):
            raise TypeError
        refresh_token = members["refresh_token"]
        return Account(
            name=name,
            registration=parse_registration(members["registration"]),
            client_secret=parse_reference(members["client_secret"]),
            tokens=TokenSet(
                access_token=Secret(first.access_token or members["access_token"] or ""),
                refresh_token=Secret(refresh_token) if refresh_token else None,
                expires_in=None if first.expires_at is None else first.expires_at - int(first.received.unix),
                scope=members["scope"],
                token_type=members["token_type"],
            ),
            generation=members["generation"],
            logged_in_at=members["logged_in_at"],
            refresh_token_at=members["refresh_token_at"],
            received=first.received,
            received_by="refresh" if first.received_by == "refresh" else "login",
            company=company,
            machine=members.get("machine"),
            stored_as=None if members.get("account") == name else members.get("account"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{printable(where)} is damaged, or was written by a later version of this program",
            hint=f"log in again: loopback-auth login {name} --force",
        ) from error


def generation_of(content: bytes) -> int:
    """Return the generation in these bytes, sealed or not; 0 where they are damaged."""
    import json

    if content.startswith(SEALED.encode("ascii")):
        return (sealed_head(content) or ("", 0))[1]
    try:
        generation = json.loads(content.split(b"\n", 2)[2])["generation"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return 0
    return generation if isinstance(generation, int) and _fits(generation, int) and generation > 0 else 0


def sealed_head(content: bytes) -> tuple[str, int] | None:
    """Return the id of the key that a record was sealed with, and its generation; None where that cannot be read."""
    words = content.partition(b"\n")[0].removeprefix(SEALED.encode("ascii")).split(b" ")
    if len(words) != 3 or words[0] or not (words[1].isalnum() and len(words[1]) == _KEY_ID):
        return None
    if not (words[2].isdigit() and len(words[2]) <= _LONGEST_GENERATION):
        return None
    return words[1].decode("ascii"), int(words[2])


_KEY_ID, _LONGEST_GENERATION = 8, 11


def _fits(value: object, kind: Any) -> bool:
    """Whether this is of the kind; a number is one that can be reckoned with, and neither true nor false."""
    if isinstance(value, int | float):
        return isinstance(value, kind) and isinstance(value, bool) == (kind is bool) and abs(value) < FAR
    return isinstance(value, kind)


def parse_reference(members: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return where a client secret is, as it was stored. Raises TypeError: it is damaged."""
    for kind, where in (members or {}).items():
        words = where if isinstance(where, list) else [where]
        if not kind.isidentifier() or not kind.isascii() or not words:
            raise TypeError
        if where is not True and not all(isinstance(word, str) for word in words):
            raise TypeError
    return members


def parse_registration(members: dict[str, Any]) -> ClientRegistration:
    """Return the registration that was stored as JSON. Raises KeyError, TypeError, AttributeError: it is damaged."""
    from loopback_auth.oauth.registration import AuthorizationServer, ClientRegistration

    server = AuthorizationServer(**_known(AuthorizationServer, members["server"]))
    return ClientRegistration(**{**_known(ClientRegistration, {**members, "server": None}), "server": server})


def _known(kind: type, members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are fields of a dataclass. Raises TypeError where one is not of the field's type."""
    from typing import get_args

    from loopback_auth.oauth import registration

    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]  # both kinds are dataclasses
    known = {key: value for key, value in members.items() if key in fields}
    for key, value in known.items():
        match fields[key].type:
            case "str" | "str | None" | "bool" | "int | None" as named:
                optional = named.endswith(" | None")
                right = (optional and value is None) or type(value).__name__ == named.removesuffix(" | None")
                right = right and not (isinstance(value, int) and abs(value) > _HUGE)
            case "Mapping[str, str]":
                right = isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
            case "AuthorizationServer":
                right = True
            case words:
                right = value in get_args(getattr(registration, words))
        if not right:
            raise TypeError
    return known


_HUGE = 10**300
"""No float holds much more."""


def serialise_trouble(trouble: Trouble) -> bytes:
    """Return the bytes of a trouble: one JSON object."""
    import dataclasses
    import json

    return json.dumps(dataclasses.asdict(trouble)).encode("ascii") + b"\n"


def parse_trouble(content: bytes) -> Trouble | None:
    """Return the trouble of these bytes, None where they are damaged: it informs, and nothing hangs on it."""
    import json

    from loopback_auth.store.base import Trouble

    try:
        members: dict[str, Any] = json.loads(content)
        if all(_fits(members[key], kind) for key, kind in _TROUBLE_KINDS.items()):
            return Trouble(**{key: members[key] for key in _TROUBLE_KINDS})
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def intent_members(intent: Intent) -> dict[str, Any]:
    """Return an intent as JSON holds it; how often it was sent is how many there are."""
    armed = intent.armed
    return {
        "generation": intent.generation,
        "digest": intent.digest,
        "armed": [armed.unix, armed.boot_id, armed.uptime],
        "grant": intent.grant,
    }


def parse_intent(members: Any) -> Intent:
    """Return the intent of such members; one that cannot be read is about nothing that is known."""
    from loopback_auth.store.base import Intent

    try:
        unix, boot_id, uptime = members["armed"]
        armed = Moment(float(unix), str(boot_id), float(uptime))
        if not can_be_kept(armed):  # tokens that came of it could not be stored
            raise ValueError
        return Intent(
            generation=int(members["generation"]),
            digest=str(members["digest"]),
            armed=armed,
            grant=members["grant"],
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return Intent(generation=0, digest="", armed=Moment(0.0, "-", 0.0))
