"""What is kept on the disk, as it may stand there: edited by hand, cut, of another version, planted."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from loopback_auth import clock
from loopback_auth.cli import report, status
from loopback_auth.clock import Moment
from loopback_auth.errors import ConfigurationError, LoginRequired, StoreError
from loopback_auth.grant import Grant, grant_of, intent_of
from loopback_auth.oauth.token import ANSWER_LIMIT, build_refresh_request
from loopback_auth.secret import Secret
from loopback_auth.standing import standing_of
from loopback_auth.store import pending, record
from loopback_auth.store.accounts import Accounts
from loopback_auth.store.base import STAGE_LIMIT, Intent, Trouble
from loopback_auth.store.file import FileStore
from loopback_auth.store.head import head, tokens_path, valid_name
from loopback_auth.store.journal import FileJournal
from loopback_auth.store.keys import Keys
from loopback_auth.store.sealed import SealedStore
from loopback_auth.usable import is_usable, seconds_left, usable, usable_now
from tests.store.accounts import ACCOUNTS, REGISTRATION, account

from .shapes import ANY_TEXT, nearly, nearly_bytes, nearly_json, written
from .target import MARK, Target, parsed, tells_nothing


@cache
def folder() -> Path:
    """A folder of this process's own, which goes with it."""
    made = tempfile.mkdtemp(prefix="loopback-auth-fuzz-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def place(name: str, content: bytes) -> Path:
    """Put a private file into an account's folder, as if it had been there, and return the folder of all accounts."""
    accounts = folder() / "accounts"
    path = accounts / "default" / name
    if not path.parent.exists():
        for one in (accounts, path.parent):
            one.mkdir(0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
    return accounts


# --- an account's file ---

NOW = clock.now()
LINES = st.builds(
    "{} {} {} {} {} {} {}".format,
    st.sampled_from(["loopback-auth"] * 9 + ["Loopback-auth", ""]),
    st.sampled_from(["1"] * 9 + ["2", "01", "1.0"]),
    st.sampled_from(
        [f"{NOW.unix + 3600:.0f}", f"{NOW.unix - 10:.0f}", "-"] * 3 + ["-5", "9" * 13, "9" * 400, "1_0", "+5"]
    ),
    st.sampled_from([f"{NOW.unix - 5:.3f}"] * 9 + ["nan", "-inf", "1e11", "1e13", "-1e11", "0x1", "1_0.5"]),
    st.sampled_from([NOW.boot_id] * 4 + ["-", "x", "\x1b[2J"]),
    st.sampled_from([f"{NOW.uptime - 5:.3f}"] * 6 + ["0", "-1", "nan", "1e12"]),
    st.sampled_from(["login", "refresh", "login", "refresh", "else", ""]),
)
TOKEN_LINES = st.sampled_from(
    ["s3kr1t-access"] * 8 + ["", "s3kr1t-\r", "s3kr1t-\0x", "s3kr1t-\x1b[2J", "s3kr1t-\x7f", "s3kr1t-ü", "s3kr1t- x"]
)
_MEMBERS = json.loads(record.serialise(account(company={"id": "1", "name": "Roma"})).split(b"\n", 2)[2])
ACCOUNT_FILES = nearly_bytes(
    st.one_of(
        st.builds(
            lambda line, token, members: b"\n".join([line.encode(), token.encode(), members]),
            LINES,
            TOKEN_LINES,
            written(nearly_json(st.just(_MEMBERS), 2)) | st.just(json.dumps(_MEMBERS).encode()),
        ),
        ACCOUNTS.map(record.serialise),
    ),
    1,
)


def check_account_file(content: bytes) -> bool:
    """The way of `token` and the full way read the same; what was read can be shown, used, and written again."""
    first = head(content)
    good, found = parsed(lambda: record.parse(content, "default", "/accounts/default/tokens"), StoreError)
    accounts = place("tokens", content)
    token = usable_now(str(accounts), "default")
    if first is None:
        assert token is None
        assert not good, "only the full way can read it"
    if token is not None:
        assert token
        assert token.isascii(), "the fast way would print it"
        assert token.isprintable(), "the fast way would print it"
        assert b"\n" + token.encode() + b"\n" in content
    if found is not None:
        assert first is not None
        assert (first.expires_at, first.received) == (found.expires_at, found.received)
        assert first.access_token in ("", found.tokens.access_token.reveal())
        for moment in (NOW, Moment(NOW.unix, "-", 0.0)):
            for validity in (0.0, 60.0, 1e9):
                assert usable(found, moment, validity) == (
                    bool(found.tokens.access_token) and is_usable(first, moment, validity)
                )
        if token is not None:
            assert token == found.tokens.access_token.reveal()
        _can_be_shown(found, Accounts(FileStore(str(accounts))))
        _can_be_written(found)
        _can_be_sent(found)
    return good


def _can_be_shown(found: Any, store: Accounts) -> None:
    tells_nothing(found.tokens)
    left = seconds_left(found, NOW)
    assert left is None or left >= 0
    standing = standing_of(found, store, NOW)
    shown = json.dumps(report.describe(found, standing, store, NOW), allow_nan=False)
    row = status._row(found, standing, NOW)
    assert all(cell.isascii() and cell.isprintable() for cell in row), row
    assert MARK not in shown + "".join(row)


def _can_be_written(found: Any) -> None:
    """Written and read again it is the same, but for times to the thousandth of a second."""
    again = record.parse(record.serialise(found), "default", "/")
    assert replace(again, received=found.received) == replace(found, stored_as=None)
    assert record.serialise(again) == record.serialise(replace(found, stored_as=None))


def _can_be_sent(found: Any) -> None:
    if found.tokens.refresh_token is not None:
        request = build_refresh_request(found.registration, Secret("s3kr1t-client"), found.tokens.refresh_token)
        tells_nothing(request)


def _file(line: str, token: str = "s3kr1t-access", **members: Any) -> bytes:
    return b"\n".join([line.encode(), token.encode(), json.dumps(_MEMBERS | members).encode()])


_LINE = f"loopback-auth 1 {NOW.unix + 3600:.0f} {NOW.unix - 5:.3f} {NOW.boot_id} {NOW.uptime - 5:.3f} login"
ACCOUNT_FILE: Target[bytes] = Target(
    "account file",
    ACCOUNT_FILES,
    check_account_file,
    kept=(
        _file(_LINE),
        _file(_LINE, "s3kr1t-\r"),
        _file(_LINE, "s3kr1t-\0"),
        _file(_LINE, "s3kr1t-\x1b[2J"),
        _file(f"loopback-auth 1 {'9' * 400} {NOW.unix - 5:.3f} {NOW.boot_id} {NOW.uptime - 5:.3f} login"),
        _file(_LINE, expires_in=7),
        _file(_LINE, expires_in=10**400),
        _file(_LINE, logged_in_at=float("nan")),
        _file(_LINE, refresh_token_at=float("inf")),
        _file(_LINE, refresh_token_at=10**400),
        _file(_LINE, generation=True),
        _file(_LINE, company={"id": "1"}),
        _file(_LINE, company={"id": 1, "name": None}),
        _file(_LINE, client_secret={"command": []}),
        _file(_LINE, client_secret={"command": [5]}),
        _file(_LINE, client_secret={"\x1b[2J": "x"}),
        _file(_LINE, registration=[]),
        _file(_LINE, registration={**_MEMBERS["registration"], "client_id": 5}),
        _file(_LINE, registration={**_MEMBERS["registration"], "token_endpoint_auth_method": "other"}),
        _file(_LINE, registration={**_MEMBERS["registration"], "server": {"name": "x"}}),
        *(
            _file(_LINE, registration={"server": {**_MEMBERS["registration"]["server"], **changed}})
            for changed in ({"state": "else"}, {"token_endpoint": 5}, {"refresh_token_idle_lifetime": 10**400})
        ),
        *(
            _file(
                _LINE,
                registration={**_MEMBERS["registration"], "server": {**_MEMBERS["registration"]["server"], **changed}},
            )
            for changed in (
                *({"state": "else"}, {"token_endpoint": 5}, {"refresh_token_idle_lifetime": 10**400}),
                *(
                    {"production": 1},
                    {"foreign_client_ids": {"a": 5}},
                    {"code_lifetime": 1.5},
                    {"basic_form_encoding": None},
                ),
            )
        ),
        _LINE.encode() + b"\ns3kr1t-access\n" + b"[" * 100_000,
        _LINE.encode() + b"\r\ns3kr1t-access\r\n" + json.dumps(_MEMBERS).encode(),
        "\ufeff".encode() + _file(_LINE),
    ),
    share=0.2,
    examples=150,
    large=(
        lambda size: _LINE.encode() + b"\n\n" + b"[" * size,
        lambda size: _LINE.encode() + b"\n\n" + b'{"a":' * (size // 5),
        lambda size: _LINE.encode() + b"\n\n" + b"9" * size,
        lambda size: _LINE.encode() + b"\n" + b"x" * size + b"\n{}",
        lambda size: b" " * size + b"\n\n{}",
        lambda size: b"loopback-auth 1 " + b"9" * size + b" 1 - 1 login\n\n{}",
        lambda size: b"\n" * size,
    ),
    limit=(1 << 20) - 200,
)

# --- last-error ---

TROUBLES = st.builds(
    Trouble,
    generation=st.integers(0, 10**9),
    digest=st.text("0123456789abcdef", max_size=64),
    message=ANY_TEXT,
    at=st.floats(0, 4e9),
    refused=st.booleans(),
    not_before=st.none() | st.floats(0, 4e9),
)


def check_trouble(content: bytes) -> bool:
    """It informs: what is damaged is nothing; what is read can be shown, waited for, and written again."""
    found = record.parse_trouble(content)
    if found is None:
        return False
    stored = account()
    store = Accounts(
        FileStore(
            str(place("last-error", record.serialise_trouble(replace(found, generation=1, digest=stored.digest))))
        )
    )
    standing = standing_of(stored, store, NOW)
    assert standing.last_error == replace(found, generation=1, digest=stored.digest)
    json.dumps(report.describe(stored, standing, store, NOW), allow_nan=False)
    assert max(NOW.unix - found.at, 0) < 1e13
    assert (found.not_before or 0) - NOW.unix < 1e13
    assert record.parse_trouble(record.serialise_trouble(found)) == found
    return True


TROUBLE: Target[bytes] = Target(
    "last-error",
    nearly_bytes(written(nearly_json(TROUBLES.map(lambda one: json.loads(record.serialise_trouble(one))), 2)), 1),
    check_trouble,
    kept=(
        b"",
        b"[" * 100_000,
        b'{"generation":1,"digest":"","message":"","at":NaN,"refused":false,"not_before":null}',
        b'{"generation":1,"digest":"","message":"","at":1e999,"refused":false,"not_before":-Infinity}',
        b'{"generation":1,"digest":"","message":"\\ud800\\u001b[2J","at":1,"refused":1,"not_before":null}',
        b'{"generation":1,"digest":"","message":"","at":' + b"9" * 400 + b',"refused":true,"not_before":null}',
    ),
    share=0.15,
    large=(lambda size: b'{"a":' * (size // 5), lambda size: b"9" * size, lambda size: b'"' + b"\\" * size),
    limit=1 << 20,
)

# --- what is in doubt: intent and answer ---

GRANT = Grant(account="default", registration=REGISTRATION, client_secret={"env": "ACME"}, expected_company="1")
_INTENT = {
    "generation": 1,
    "digest": account().digest,
    "armed": [NOW.unix, NOW.boot_id, NOW.uptime],
    "process": 1,
    "grant": json.loads(json.dumps(intent_of(GRANT, NOW).grant)),
}
INTENTS = st.lists(
    nearly_bytes(written(nearly_json(st.just(_INTENT) | st.just({**_INTENT, "grant": None}), 2)), 1), max_size=3
).map(lambda lines: b"\n".join([*lines, b""]))


def check_intent(drawn: tuple[bytes, bytes]) -> bool:
    """A journal that was left can be opened, is about something or about nothing that is known, and can be cleared."""
    content, answer = drawn
    place("intent", content)
    accounts = place("answer", answer)
    with FileJournal(str(accounts / "default")) as journal:
        assert journal.try_open()
        found = journal.intent
        assert (found is None) == (b"\n" not in content)
        assert journal.answer == answer.rstrip(b"\0")
        known = False
        if found is not None:
            assert isinstance(found, Intent)
            assert found.sendings == content.count(b"\n")
            tells_nothing(found)
            grant = grant_of("default", found)
            known = grant is not None or found.generation > 0
            if grant is not None:
                assert grant.account == "default"
                build_refresh_request(grant.registration, Secret("s3kr1t-client"), Secret("s3kr1t-refresh"))
            standing_of(account(), Accounts(FileStore(str(accounts))), NOW)
            _can_be_committed(found)
        journal.clear()
        assert journal.intent is None
    assert not (accounts / "default" / "intent").exists()
    assert not (accounts / "default" / "answer").exists()
    return known


def _can_be_committed(found: Intent) -> None:
    """Tokens that this sending brought were received when it says: the account with them can be read again."""
    kept = account(received=found.armed)
    again = record.parse(record.serialise(kept), "default", "/")
    assert again.tokens == kept.tokens


_DAMAGED: tuple[dict[str, Any], ...] = (
    {"armed": [float("nan"), "-", 0]},
    {"armed": [1, "a b", 1]},
    {"armed": [1, "\n", 1]},
    {"armed": [1e300, "ü", 1]},
    {"armed": [10**400, "-", 0]},
    {"armed": {}},
    {"generation": 1e400},
    {"grant": []},
    {"grant": {"registration": 5}},
)
INTENT: Target[tuple[bytes, bytes]] = Target(
    "intent and answer",
    st.tuples(INTENTS, nearly_bytes(st.sampled_from([b"", b'{"access_token": "s3kr1t-a"}' + b"\0" * 100]), 1)),
    check_intent,
    kept=(
        *((json.dumps(_INTENT | changed).encode() + b"\n", b"") for changed in _DAMAGED),
        (b"[" * 100_000 + b"\n", b""),
        (b"\n\n\n", b"\0" * 10),
        (b"{", b"x"),
    ),
    share=0.1,
    large=(
        lambda size: (b"\n" * size, b""),
        lambda size: (b"[" * size + b"\n", b""),
        lambda size: (b"\n", b"\0" * size),
        lambda size: (b"\n", b'{"a":' * (size // 5)),
    ),
    limit=ANSWER_LIMIT,
)

# --- a login in two steps ---

_PENDING = pending.PendingLogin(
    registration=REGISTRATION,
    secret_reference={"file": "/secret"},
    redirect_uri="http://127.0.0.1:4711/",
    state=Secret("s3kr1t-state"),
    code_verifier=Secret("s3kr1t-verifier"),
    expires_at=NOW.unix + 300,
)


def _pending_members() -> Any:
    pending.save(str(folder() / "accounts"), "default", _PENDING)
    return json.loads((folder() / "accounts" / "default" / "login").read_bytes())


def check_pending(content: bytes) -> bool:
    """A started login is as it was saved, or damaged; what is read can be saved and asked about."""
    accounts = str(place("login", content))
    good, found = parsed(lambda: pending.load(accounts, "default"), StoreError, LoginRequired)
    if found is not None:
        tells_nothing(found)
        assert found.expires_at == found.expires_at, "not a number"
        found.redirect_uri.encode(errors="surrogatepass")
        assert not found.state.matches("\0")
        build_refresh_request(found.registration, Secret("s3kr1t-client"), Secret("s3kr1t-refresh"))
        pending.save(accounts, "default", found)
        assert pending.load(accounts, "default") == found
    return good


def _two_steps(**changed: Any) -> bytes:
    return json.dumps(_pending_members() | changed).encode()


_NO_STATES: tuple[Any, ...] = (5, None, [])
_NO_MOMENTS: tuple[Any, ...] = (float("nan"), float("inf"), 10**400, "soon", "nan", None)
_NO_REFERENCES: tuple[Any, ...] = ("x", [], {"command": []}, {"file": 5})
PENDING: Target[bytes] = Target(
    "two-step login",
    nearly_bytes(written(nearly_json(st.builds(_pending_members), 2)), 1),
    check_pending,
    kept=(
        *(_two_steps(state=state) for state in _NO_STATES),
        *(_two_steps(expires_at=moment) for moment in _NO_MOMENTS),
        *(_two_steps(client_secret=where) for where in _NO_REFERENCES),
        *(_two_steps(format=value) for value in (True, 1.0, 2, "1")),
        _two_steps(redirect_uri=5),
        b"[" * 100_000,
        b"",
        b"null",
    ),
    share=0.2,
    large=(lambda size: b'{"a":' * (size // 5), lambda size: b"9" * size, lambda size: b'"' + b"\\" * size),
    limit=1 << 20,
)

# --- what is sealed ---

_KEYS = Keys(bytes(range(32)), bytes(range(1, 33)))
_OTHER = Keys(bytes(range(1, 33)))


def _sealed_record(found: Any, keys: Keys) -> bytes:
    accounts = folder() / "accounts"
    Accounts(SealedStore(FileStore(str(accounts)), lambda: keys, allow_plain=False)).save(found)
    return tokens_of(accounts)


def tokens_of(accounts: Path) -> bytes:
    return (accounts / "default" / "tokens").read_bytes()


SEALED_RECORDS = nearly_bytes(
    st.builds(_sealed_record, st.just(account(generation=42)) | ACCOUNTS, st.sampled_from([_KEYS, _OTHER])), 1
)


def check_sealed(content: bytes) -> bool:
    """A sealed record is the one that was sealed, or it is refused and left; over anything a login can be stored."""
    accounts = place("tokens", content)
    store = Accounts(SealedStore(FileStore(str(accounts)), lambda: _KEYS, allow_plain=False))
    good, found = parsed(lambda: store.load("default"), StoreError)
    assert tokens_of(accounts) == content
    generation = store.generation("default")
    assert 0 <= generation < 1e12
    if found is not None:
        assert found.sealed_with in _KEYS.ids
        assert usable_now(str(accounts), "default") is None
        assert MARK.encode() not in content
        _can_be_shown(found, store)
        _can_be_written(replace(found, sealed_with=None))
    plain = Accounts(SealedStore(FileStore(str(accounts)), None, allow_plain=True))
    assert not good or not parsed(lambda: plain.load("default"), StoreError)[0]
    again = account(generation=generation + 1)
    store.save(again, replaces=generation)
    assert store.load("default") == replace(again, sealed_with=_KEYS.ids[0])
    return good


_HEAD = b"loopback-auth sealed 1 " + _KEYS.ids[0].encode()
SEALED: Target[bytes] = Target(
    "sealed record",
    SEALED_RECORDS,
    check_sealed,
    kept=(
        b"",
        b"\n",
        _HEAD,
        _HEAD + b" 1\n",
        _HEAD + b" 1\n\n",
        _HEAD + b" 1\nAAAA\n",
        _HEAD + b" 1\n" + b"A" * 40 + b"\n",
        _HEAD + b" 1\n" + b"A" * 39 + b"\xff\n",
        _HEAD + b" " + b"9" * 5000 + b"\nAAAA\n",
        _HEAD + b" answer 000000000000000000000000\nAAAA\n",
        b"loopback-auth sealed 1 ffffffff 1\nAAAA\n",
        b"loopback-auth sealed 1 \xff\xff\xff\xff\xff\xff\xff\xff 1\nAAAA\n",
        b"loopback-auth sealed 1",
        b"loopback-auth sealed 2 x",
        record.serialise(account()),
    ),
    share=0.2,
    large=(
        lambda size: _HEAD + b" 1\n" + b"A" * size + b"\n",
        lambda size: _HEAD + b" " + b"1" * size + b"\n",
        lambda size: _HEAD + b" 1\n" + b"\n" * size,
    ),
    limit=1 << 19,
)


def _sealed_answer(pieces: list[bytes]) -> bytes:
    accounts = folder() / "accounts"
    with SealedStore(FileStore(str(accounts)), lambda: _KEYS, allow_plain=False).journal("default") as journal:
        assert journal.try_open()
        journal.prove()
        journal.arm(Intent(generation=7, digest="ab" * 32, armed=NOW))
        for piece in pieces:
            journal.stage(piece)
        journal.sync()
        content = (accounts / "default" / "answer").read_bytes().rstrip(b"\0")
        journal.clear()
    return content


_PIECES = [[b"s3kr1t-first,", b"s3kr1t-second,", b"s3kr1t-third"], [], [b"x"] * 300]
SEALED_ANSWERS = nearly_bytes(st.sampled_from(_PIECES).map(_sealed_answer), 2)


def check_sealed_answer(content: bytes) -> bool:
    """What is found is how one of those that were sealed begins, piece for piece; never half a piece, nor another."""
    accounts = place("answer", content)
    place("intent", json.dumps(_INTENT | {"generation": 7, "digest": "ab" * 32, "grant": None}).encode() + b"\n")
    with SealedStore(FileStore(str(accounts)), lambda: _KEYS, allow_plain=False).journal("default") as journal:
        assert journal.try_open()
        good, found = parsed(lambda: journal.answer, StoreError)
        journal.clear()
    if found is not None:
        assert found in {b"".join(pieces[:end]) for pieces in _PIECES for end in range(len(pieces) + 1)}
    return bool(good and found)


_ANSWER = _HEAD + b" answer 000000000000000000000000\n"
SEALED_ANSWER: Target[bytes] = Target(
    "sealed answer",
    SEALED_ANSWERS,
    check_sealed_answer,
    kept=(
        b"l",
        b"loopback-auth sealed 1",
        b'{"access_token": "s3kr1t-"}',
        _ANSWER,
        _ANSWER + b"\n\n",
        _ANSWER + b"AAAA\n",
        _ANSWER + b"A" * 24 + b"\n",
        _ANSWER.replace(b"0\n", b"g\n") + b"AAAA\n",
        _ANSWER.replace(b"0\n", b"\xff\n") + b"AAAA\n",
        _HEAD + b" 7\nAAAA\n",
    ),
    share=0.1,
    large=(
        lambda size: _ANSWER + b"A" * size + b"\n",
        lambda size: _ANSWER + b"\n" * size,
        lambda size: _ANSWER + b"AAAA\n" * (size // 5),
    ),
    limit=STAGE_LIMIT,
)

# --- names ---


def check_name(name: str) -> bool:
    """A name is a folder's, in the folder of accounts and nowhere else; any other is refused."""
    good, path = parsed(lambda: tokens_path("/accounts", name), ConfigurationError)
    assert good == valid_name(name)
    if path is not None:
        assert os.path.normpath(path) == path == f"/accounts/{name}/tokens"
        assert name.isascii()
        assert not set(name) & set("/\\ :*?\"<>|\0'$`;&")
        assert name[0] not in "-."
        assert 0 < len(name) <= 64
    return good


NAME: Target[str] = Target(
    "account name",
    nearly(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", fullmatch=True), 2),
    check_name,
    kept=("", ".", "..", "-", "a/b", "a\n", "ſ", "²", "a" * 64, "a" * 65, "\ud800", "default\0"),
    share=0.3,
    large=(lambda size: "a" * size, lambda size: "\ud800" * size),
    limit=128 * 1024,
)

TARGETS = (ACCOUNT_FILE, TROUBLE, INTENT, PENDING, SEALED, SEALED_ANSWER, NAME)
