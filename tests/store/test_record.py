"""The bytes an account is kept as: the format is frozen, whatever can be kept comes back, and damage is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopback_auth.clock import Moment
from loopback_auth.errors import StoreError
from loopback_auth.secret import Secret
from loopback_auth.store.base import Account
from loopback_auth.store.head import Head, head
from loopback_auth.store.record import parse, serialise

from .accounts import ACCESS, ACCOUNTS, BOOT, REGISTRATION, SERVER, account

GOLDEN = b"""\
loopback-auth 1 1700003600 1700000000.250 6f0dcb11-6d3f-4a2a-9a3e-0c7c6a1d2b3c 4711.500 login
s3kr1t-access
{
 "account": "default",
 "generation": 1,
 "logged_in_at": 1700000000.25,
 "refresh_token_at": 1700000000.25,
 "expires_in": 3600,
 "token_type": null,
 "scope": null,
 "access_token": null,
 "refresh_token": "s3kr1t-refresh",
 "registration": {
  "server": {
   "name": "example",
   "title": "Example",
   "authorization_endpoint": "https://server.example/authorize",
   "token_endpoint": "https://server.example/token"
  },
  "client_id": "s6BhdRkqt3",
  "redirect_uri": "http://127.0.0.1:0/",
  "token_endpoint_auth_method": "client_secret_basic"
 },
 "client_secret": {
  "env": "ACME_SECRET"
 },
 "company": null
}
"""
"""A file as the first version wrote it; members that have a default may be absent from the registration."""


def test_the_golden_file_is_read() -> None:
    """A file that the first version wrote is read for ever."""
    assert parse(GOLDEN, "default", "/tokens") == account()


def test_the_golden_file_is_written() -> None:
    """Line 1 and line 2 are frozen byte for byte, and the JSON has all members of the first version."""
    written = serialise(account())
    assert written.split(b"\n")[:2] == GOLDEN.split(b"\n")[:2]
    assert written.endswith(b"}\n")

    def holds(whole: Any, part: Any) -> bool:
        if not isinstance(part, dict):
            return bool(whole == part)
        return all(key in whole and holds(whole[key], value) for key, value in part.items())

    assert holds(json.loads(written.split(b"\n", 2)[2]), json.loads(GOLDEN.split(b"\n", 2)[2]))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"expires_in": None}, f"loopback-auth 1 - 1700000000.250 {BOOT} 4711.500 login"),
        ({"expires_in": 0}, f"loopback-auth 1 1700000000 1700000000.250 {BOOT} 4711.500 login"),
        ({"received_by": "refresh"}, f"loopback-auth 1 1700003600 1700000000.250 {BOOT} 4711.500 refresh"),
        (
            {"received": Moment(1_700_000_000.0, "-", 0.0)},
            "loopback-auth 1 1700003600 1700000000.000 - 0.000 login",
        ),
    ],
)
def test_line_1(changes: dict[str, Any], line: str) -> None:
    """Line 1: what is not known is a dash, the fractions have three digits."""
    assert serialise(account(**changes)).split(b"\n")[0].decode() == line


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": Secret("s3kr1t-\nsecond line")},
        {"access_token": Secret("s3kr1t-\r")},
        {"access_token": Secret("s3kr1t-\0")},
        {"access_token": Secret("s3kr1t-\x1b[2J")},
        {"access_token": Secret("s3kr1t-ü")},
        {"access_token": Secret("s3kr1t-\ud800")},
        {"token_type": "mac"},
    ],
)
def test_line_2_holds_what_may_be_printed(changes: dict[str, Any]) -> None:
    """A token that is never printed, and one that is not Bearer, stands in the JSON, and line 2 is empty."""
    odd = account(**changes)
    written = serialise(odd)
    assert written.split(b"\n")[1] == b""
    first = head(written)
    assert first is not None
    assert first.access_token == ""
    assert parse(written, "default", "/tokens") == odd


@given(ACCOUNTS)
@settings(max_examples=200)
def test_every_account_comes_back(kept: Account) -> None:
    """Whatever an account holds, it is read as it was written, and its first line agrees with it."""
    written = serialise(kept)
    assert written.isascii()
    assert parse(written, "default", "/tokens") == kept
    first = head(written)
    assert first is not None
    assert (first.expires_at, first.received, first.received_by) == (kept.expires_at, kept.received, kept.received_by)
    assert first.access_token in ("", kept.tokens.access_token.reveal())


def test_fractions_of_a_second_do_not_move_the_end() -> None:
    """A fraction that is rounded up to the next second moves neither the expiry nor the lifetime."""
    kept = account(received=Moment(1_700_000_000.9996, BOOT, 4711.9996))
    first = head(serialise(kept))
    assert first is not None
    assert first.expires_at is not None
    assert first.expires_at - int(first.received.unix) == 3600
    assert parse(serialise(kept), "default", "/tokens").expires_at == first.expires_at


def test_a_server_that_takes_a_login_hint() -> None:
    """The stored registration says so; one that an earlier version stored does not, and is read as it was meant."""
    taking = replace(REGISTRATION, server=replace(SERVER, login_hint_parameter=True))
    written = serialise(account(registration=taking))
    assert parse(written, "default", "/tokens").registration == taking
    head_lines, _, text = written.rpartition(b"s3kr1t-access\n")
    members = json.loads(text)
    del members["registration"]["server"]["login_hint_parameter"]
    earlier = b"%ss3kr1t-access\n%s\n" % (head_lines, json.dumps(members).encode())
    assert parse(earlier, "default", "/tokens").registration == REGISTRATION


def test_unknown_members_are_tolerated() -> None:
    """A file of a later version with more members is read: top level, registration and server."""
    first, second, rest = GOLDEN.split(b"\n", 2)
    members = json.loads(rest)
    members["new"] = members["registration"]["new"] = members["registration"]["server"]["new"] = {"a": [1]}
    content = b"\n".join([first, second, json.dumps(members).encode()])
    assert parse(content, "default", "/tokens") == account()


def test_a_file_that_was_cut_is_damaged() -> None:
    """A file cut anywhere is damaged, and says what to do; never half an account."""
    for cut in range(len(GOLDEN) - 2):
        with pytest.raises(StoreError) as caught:
            parse(GOLDEN[:cut], "default", "/folder/default/tokens")
        assert str(caught.value) == (
            "/folder/default/tokens is damaged, or was written by a later version of this program"
        )
        assert caught.value.hint == ("log in again: loopback-auth login default --force",)
        assert caught.value.exit_status == 8


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"loopback-auth 2 1700003600 1700000000.250 b 4711.500 login",
        b"loopback-auth 1",
        b"loopback-auth 1 1700003600 1700000000.250 b 4711.500 login more",
        b"loopback-auth 1 1700003600 1700000000.250 b 4711.500",
        b"loopback-auth 1 soon 1700000000.250 b 4711.500 login",
        b"loopback-auth 1 1700003600 then b 4711.500 login",
        b"loopback-auth 1 1700003600 1700000000.250 b now login",
        b"loopback-auth 1 1700003600 nan b 4711.500 login",
        b"loopback-auth 1 1700003600 inf b 4711.500 login",
        b"loopback-auth 1 1700003600 -inf b 4711.500 login",
        b"loopback-auth 1 1700003600 1700000000.250 b nan login",
        b"loopback-auth 1 1700003600 1700000000.250 b 1e999 login",
        b"loopback-auth 1 1700003600 1700000000.250 \xff 4711.500 login",
        b"loopback-auth 1 " + b"9" * 5000 + b" 1700000000.250 b 4711.500 login",
        b"\x00" * 100,
        b"sealed-by-something-else",
    ],
)
def test_a_first_line_of_another_kind(line: bytes) -> None:
    """Another version, sealed, damaged: the fast path sees nothing, the full path says so."""
    content = b"\n".join([line, *GOLDEN.split(b"\n")[1:]])
    assert head(content) is None
    with pytest.raises(StoreError, match="is damaged, or was written by a later version"):
        parse(content, "default", "/tokens")


def test_a_second_line_that_is_not_ascii_is_damage() -> None:
    """Line 2 holds printable ASCII or nothing: bytes of another kind were not written here."""
    assert head(GOLDEN.replace(ACCESS.encode(), b"s3kr1t-\xff")) is None


def test_the_head_of_the_golden_file() -> None:
    """The first two lines alone decide."""
    expected = Head(1_700_003_600, Moment(1_700_000_000.25, BOOT, 4711.5), "login", ACCESS)
    assert head(GOLDEN) == expected
    assert head(b"\n".join(GOLDEN.split(b"\n")[:2]) + b"\n") == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = sorted(json.loads(GOLDEN.split(b"\n", 2)[2]))


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON, min_size=1, max_size=3))
@settings(max_examples=300)
@example({"expires_in": "soon"})
@example({"refresh_token": 5})
@example({"generation": None})
@example({"generation": -1})
@example({"client_secret": []})
def test_a_member_of_the_wrong_type_is_damage(changes: dict[str, Any]) -> None:
    """Whatever somebody wrote into the JSON: an account with which everything works, or the file is damaged."""
    first, second, rest = GOLDEN.split(b"\n", 2)
    content = b"\n".join([first, second, json.dumps(json.loads(rest) | changes).encode()])
    try:
        read = parse(content, "default", "/tokens")
    except StoreError:
        return
    assert isinstance(read.expires_at, int | None)
    assert parse(serialise(read), "default", "/tokens").generation + 1 > 0
    assert read.refresh_token_at + read.logged_in_at + 1.0 is not None
    assert (read.tokens.scope or "") + (read.tokens.token_type or "") + read.tokens.access_token.reveal()
    assert read.tokens.refresh_token is None or isinstance(read.tokens.refresh_token.reveal(), str)
    assert (read.client_secret or {}).get("file") is None or read.client_secret


@given(st.binary() | st.binary().map(lambda tail: b"\n".join(GOLDEN.split(b"\n")[:2]) + b"\n" + tail))
@example(b"\n".join(GOLDEN.split(b"\n")[:2]) + b"\n" + b"[" * 100_000)
def test_any_bytes_are_damage(content: bytes) -> None:
    """Whatever stands in the file, it is read or called damaged."""
    with pytest.raises(StoreError):
        parse(content, "default", "/tokens")
