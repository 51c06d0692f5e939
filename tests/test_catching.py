"""Many logins on one loopback server: whose a redirect is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from loopback_auth.catching import Catch, Catches
from loopback_auth.oauth.authorization import build_authorization_request
from loopback_auth.oauth.registration import StatePolicy, parse_redirect_uri
from loopback_auth.progress import Progress, Rejected, WrongPath
from loopback_auth.redirect.expected import Expected
from loopback_auth.secret import Secret

from .oauth.registrations import registration, server

REDIRECT_URI = parse_redirect_uri("http://127.0.0.1:8000/")


class Logins:
    """Three logins that wait, and what is said of stray requests."""

    def __init__(self, policy: StatePolicy) -> None:
        self.said: list[Progress] = []
        self.catches = Catches(self.said.append)
        self.expected = [Expected(REDIRECT_URI, f"nonce-{number}", Secret("")) for number in range(3)]
        self._adding = ExitStack()
        for number, expected in enumerate(self.expected):
            request = build_authorization_request(
                registration(of=server(state=policy)),
                redirect_uri=REDIRECT_URI.text,
                state=Secret(f"s3kr1t-state-{number}"),
                code_verifier=Secret("s3kr1t-verifier"),
            )
            catch = Catch(request, REDIRECT_URI, self.said.append)
            self._adding.enter_context(self.catches.adding(catch, expected))

    def whose(self, marked: tuple[int, ...] = (), path: str = "/", **parameters: str) -> int | None:
        found = self.catches.whose(path, Secret(urlencode(parameters)), [self.expected[number] for number in marked])
        return None if found is None else self.expected.index(found)

    def close(self) -> None:
        self._adding.close()


@pytest.fixture
async def logins(policy: StatePolicy) -> AsyncIterator[Logins]:
    logins = Logins(policy)
    yield logins
    logins.close()


@pytest.mark.parametrize("policy", ["required", "unconfirmed"])
async def test_the_state_says_whose(logins: Logins) -> None:
    """A redirect belongs to the login whose state it carries, whatever marks its browser holds."""
    assert [logins.whose(code="s3kr1t-c", state=f"s3kr1t-state-{n}") for n in range(3)] == [0, 1, 2]
    assert logins.whose(marked=(0, 2), code="s3kr1t-c", state="s3kr1t-state-1") == 1
    assert logins.whose(error="access_denied", state="s3kr1t-state-2") == 2
    assert logins.said == []


@pytest.mark.parametrize("policy", ["required"])
async def test_no_state_is_nobodys(logins: Logins) -> None:
    """Without a state that is known, a mark is worth nothing where the server returns states; it is said once."""
    for state in ({}, {"state": "s3kr1t-other"}):
        assert logins.whose(marked=(1,), code="s3kr1t-c", **state) is None
    assert [type(one) for one in logins.said] == [Rejected]


@pytest.mark.parametrize("policy", ["unconfirmed"])
async def test_a_mark_stands_in(logins: Logins) -> None:
    """Where the server may not return states, the one login whose start page the browser has opened is meant."""
    assert logins.whose(marked=(1,), code="s3kr1t-c") == 1
    assert logins.whose(marked=(1,), code="s3kr1t-c", state="the-server's-own") == 1


@pytest.mark.parametrize("policy", ["unconfirmed", "none"])
async def test_two_marks_say_nothing(logins: Logins) -> None:
    """A browser that waits for two logins brings neither of them a code without a state."""
    assert logins.whose(marked=(1, 2), code="s3kr1t-c") is None
    assert logins.whose(code="s3kr1t-c") is None


@pytest.mark.parametrize("policy", ["required"])
async def test_another_path(logins: Logins) -> None:
    """A redirect of one of them that comes to another path is told as that."""
    assert logins.whose(path="/elsewhere", code="s3kr1t-c", state="s3kr1t-state-0") is None
    assert logins.said == [WrongPath("/elsewhere")]


@pytest.mark.parametrize("policy", ["required"])
async def test_a_login_that_has_ended(logins: Logins) -> None:
    """Once a login has ended its redirect is nobody's; with none left, nothing is."""
    logins.close()
    assert logins.whose(code="s3kr1t-c", state="s3kr1t-state-0") is None
