"""The board as a server: whom it lets in, what it says to others, and how it tells what changes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_auth.onboarding.board import Board
from loopback_auth.redirect.certificate import own_leaf, server_context
from loopback_auth.redirect.doorman import Doorman
from loopback_auth.redirect.entrance import Entrance
from loopback_auth.redirect.http import HTTPServer
from loopback_auth.redirect.requests import Reply, Request
from loopback_auth.redirect.sockets import listen

from .board_visitor import BROWSER, TYPED, Visitor, connected
from .boards import Shown, Steered, mixed, served, waiting

takes_another_user = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="takes another user, whom the kernel names: Linux, as root"
)
PATHS = ("/board", "/board/events", "/board/rows/0/connect", "/board/rows/0/skip", "/board/x", "/board/", "/board?x")


@pytest.fixture
async def at() -> AsyncIterator[Shown]:
    async with served(mixed()) as shown:
        yield shown


@pytest.fixture
async def visitor(at: Shown) -> Visitor:
    """Who has been let in."""
    visitor = Visitor(at)
    await visitor.enter()
    return visitor


# -- who is let in -------------------------------------------------------------------------------


async def test_the_key_is_taken_for_a_cookie(at: Shown) -> None:
    """The key's address leads at once to one without it, and leaves a cookie that no script and no other site sees."""
    url = at.board.new_url()
    key = url.removeprefix(f"{at.origin}/board/")
    assert len(base64.urlsafe_b64decode(f"{key}=")) == 32
    answer = await Visitor(at).ask("GET", urlsplit(url).path, TYPED)
    assert (answer.status, answer.headers["location"], answer.body) == (303, "/board", "")
    assert re.fullmatch(
        r"loopback-auth-board-[0-9a-f]{16}=[\w-]{43}; Path=/board; HttpOnly; SameSite=Strict",
        answer.headers["set-cookie"],
    )
    assert key not in str(answer.headers)
    cookie = answer.headers["set-cookie"].split(";")[0]
    assert (await Visitor(at, cookie).ask("GET", "/board", TYPED)).status == 200


async def test_the_cookie_is_secure_over_https(tmp_path: Path) -> None:
    """Over https the cookie is for https alone."""
    pem, _ = own_leaf(tmp_path)
    tls = server_context(pem, pem)
    async with served(waiting(1), redirect_uri="https://localhost:0/", tls=tls) as at:
        visitor = Visitor(at, tls=ssl.create_default_context(cafile=str(pem)))
        assert "; Secure" in (await visitor.enter()).headers["set-cookie"]
        assert (await visitor.ask("GET", "/board", TYPED)).status == 200


async def test_the_key_works_once(at: Shown) -> None:
    """Who comes with a used key, one that a newer has replaced, or a wrong one, is told how to get in: 410."""
    replaced, right = (urlsplit(at.board.new_url()).path for _ in range(2))
    answers = [
        (path, await Visitor(at).ask("GET", path, TYPED)) for path in (replaced, f"/board/{'A' * 43}", right, right)
    ]
    assert [(path, answer.status) for path, answer in answers if answer.status != 410] == [(right, 303)]
    for answer in (answers[0][1], answers[1][1], answers[3][1]):
        assert "Ask for a new one in the terminal" in answer.body
        assert "set-cookie" not in answer.headers
    assert (await Visitor(at).enter()).status == 303


async def test_what_a_browser_fetches_in_advance_leaves_the_key(at: Shown) -> None:
    """A prefetch of the key's address gets nothing and costs nothing."""
    path = urlsplit(at.board.new_url()).path
    for header in ("Sec-Purpose", "Purpose"):
        answer = await Visitor(at).ask("GET", path, {**TYPED, header: "prefetch;prerender"})
        assert (answer.status, "set-cookie" in answer.headers) == (503, False)
    assert (await Visitor(at).ask("GET", path, TYPED)).status == 303


async def test_two_boards_have_cookies_of_their_own() -> None:
    """Two runs on one host do not take each other's cookie away: its name is another each time."""
    async with served(waiting(1)) as one, served(waiting(1)) as other:
        names = {(await Visitor(at).enter()).headers["set-cookie"].partition("=")[0] for at in (one, other)}
        assert len(names) == 2


@takes_another_user
async def test_another_user_is_not_let_in(at: Shown, visitor: Visitor) -> None:
    """Another user who reads the address in the process list gets no cookie, costs no key, and no cookie helps them."""
    path = urlsplit(at.board.new_url()).path
    answer = await Visitor(at, is_another_user=True).ask("GET", path, TYPED)
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)
    answer = await Visitor(at, visitor.cookie, is_another_user=True).ask("GET", "/board", TYPED)
    assert (answer.status, answer.body) == (403, "")
    assert (await Visitor(at).ask("GET", path, TYPED)).status == 303


@takes_another_user
async def test_another_user_stays_one_on_a_connection_that_is_kept() -> None:
    """What follows on a connection is of the same user as what came first."""
    senders = []

    async def answer(request: Request) -> Reply:
        senders.append(request.sender)
        return Reply.bare(404)

    doorman = Doorman(lambda _: None)
    listening = listen("127.0.0.1", 0)
    async with Entrance.open(listening, None, doorman.meet):
        http = HTTPServer(answer)
        for sent in (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await connected(listening[0].getsockname()[1], is_another_user=True)
            writer.write(sent * 2)
            await asyncio.sleep(0.05)
            doorman.hand_over(http)
            await asyncio.wait_for(_two_heads(reader), 5)
            writer.close()
        doorman.close()
        await http.end(1)
    listening[0].close()
    assert senders == ["a stranger"] * 4


async def _two_heads(reader: asyncio.StreamReader) -> None:
    came = b""
    while came.count(b"HTTP/1.1 404") < 2:
        came += await reader.read(1000)


@pytest.mark.parametrize("cookie", [None, "", "loopback-auth-board-0=x", "wrong value", "another board's"])
@pytest.mark.parametrize("path", PATHS)
async def test_without_the_cookie_nothing_is_said(at: Shown, visitor: Visitor, cookie: str | None, path: str) -> None:
    """Who does not hold the cookie gets 403 everywhere, whatever the method, and reads of no account."""
    assert visitor.cookie is not None
    name, _, value = visitor.cookie.partition("=")
    cookie = {"wrong value": f"{name}={'A' * 43}", "another board's": f"{name}x={value}"}.get(str(cookie), cookie)
    stranger = Visitor(at, cookie)
    answers = [await stranger.ask("GET", path, TYPED), await stranger.ask("GET", path, BROWSER)]
    answers += [await stranger.post(path), await stranger.ask("PUT", path)]
    for answer in answers:
        assert answer.status == 403
        assert "Ask for a new one in the terminal" in answer.body
        assert not any(row.account in answer.body for row in at.rows)
    assert at.steered.asked == []


@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "x"]),
    st.sampled_from(PATHS) | st.text("/board?eventsrow019-_%.", max_size=60).map("/board".__add__),
    st.dictionaries(
        st.sampled_from(["origin", "cookie", "sec-fetch-site", "sec-fetch-dest", "x-loopback-auth", "content-length"]),
        st.lists(st.sampled_from(["http://127.0.0.1:1", "null", "same-origin", "none", "empty", "document", "board"])),
    ),
)
def test_no_request_gets_around_the_cookie(method: str, target: str, headers: dict[str, list[str]]) -> None:
    """Whatever is asked without key and cookie is refused before anything of the run is touched."""
    steered = Steered()
    board = Board(waiting(2), steered, origin="http://127.0.0.1:1")
    board.new_url()
    reply = board.first_reply(Request(method, target, headers))
    assert reply is not None
    assert reply.status in (403, 405, 410)
    assert "Set-Cookie" not in reply.headers
    assert steered.asked == []


# -- what other pages get ------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1", "http://localhost:1", "https://evil.example", ""])
@pytest.mark.parametrize("path", ["/board", "/board/events"])
async def test_a_script_of_another_origin_reads_nothing(visitor: Visitor, path: str, origin: str) -> None:
    """A request that names another origin, or none that can be named, is refused, and no header lets it read that."""
    answer = await visitor.ask("GET", path, {"Origin": origin})
    assert (answer.status, answer.body) == (403, "")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": ""}]
)
async def test_other_sites_and_other_ports_lead_nobody_here(
    at: Shown, visitor: Visitor, headers: dict[str, str]
) -> None:
    """What another site asks for is refused, although the cookie came; another port of this host is such a site."""
    assert (await visitor.ask("GET", "/board", {**TYPED, **headers})).status == 403
    assert (await visitor.ask("GET", "/board/events", {**BROWSER, **headers})).status == 403
    assert (await visitor.post("/board/rows/0/connect", headers)).status == 403
    path = urlsplit(at.board.new_url()).path
    assert (await visitor.ask("GET", path, {**TYPED, **headers})).status == 403
    assert (await visitor.ask("GET", path, TYPED)).status == 303


@pytest.mark.parametrize("part", ["iframe", "frame", "embed", "object", "script", "style", "image", "empty"])
async def test_the_page_is_no_part_of_another(at: Shown, visitor: Visitor, part: str) -> None:
    """Page and key are for a tab of their own; the stream and the buttons are no pages."""
    for path in ("/board", urlsplit(at.board.new_url()).path):
        assert (await visitor.ask("GET", path, {**TYPED, "Sec-Fetch-Dest": part})).status == 403
    assert (await visitor.ask("GET", "/board/events", TYPED)).status == 403
    assert (await visitor.post("/board/rows/0/connect", {"Sec-Fetch-Dest": "document"})).status == 403
    assert at.steered.asked == []


async def test_another_name_for_this_computer_is_not_us(at: Shown, visitor: Visitor) -> None:
    """A name that somebody made lead here gets neither the page nor a cookie."""
    for host in ("evil.example", "localhost", f"localhost:{urlsplit(at.origin).port}"):
        answer = await visitor.ask("GET", urlsplit(at.board.new_url()).path, {**TYPED, "Host": host})
        assert (answer.status, "set-cookie" in answer.headers) == (400, False)


async def test_the_page_lets_in_nothing_but_its_own(visitor: Visitor) -> None:
    """The page runs its own script in its own style, asks its own origin alone, and stands in no frame and no cache."""
    page = await visitor.ask("GET", "/board", TYPED)

    def digest(tag: str) -> str:
        [code] = re.findall(f"<{tag}>(.*?)</{tag}>", page.body, re.DOTALL)
        return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()

    assert page.headers["content-security-policy"] == (
        f"default-src 'none'; script-src 'sha256-{digest('script')}'; style-src 'sha256-{digest('style')}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    expected = {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "content-type": "text/html; charset=utf-8",
    }
    assert {name: page.headers.get(name) for name in expected} == expected
    assert not [name for name in page.headers if name.startswith("access-control")]


async def test_the_page_is_static(at: Shown, visitor: Visitor) -> None:
    """Nothing of the run stands in the page itself."""
    page = await visitor.ask("GET", "/board", TYPED)
    async with served(waiting(3)) as other:
        stranger = Visitor(other)
        await stranger.enter()
        assert (await stranger.ask("GET", "/board", TYPED)).body == page.body
    assert not any(row.account in page.body for row in at.rows)


# -- what can be steered -------------------------------------------------------------------------


async def test_buttons(at: Shown, visitor: Visitor) -> None:
    """A row is connected or skipped by its number."""
    assert (await visitor.post("/board/rows/3/connect")).status == 202
    assert (await visitor.post("/board/rows/39/skip", {"Content-Length": None})).status == 202
    assert at.steered.asked == [("connect", 3), ("skip", 39)]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((403, {"Origin": origin}) for origin in (None, "null", "http://127.0.0.1", "http://localhost:1")),
        *((403, {"X-Loopback-Auth": value}) for value in (None, "", "1")),
        *((403, {"Sec-Fetch-Site": value}) for value in ("none", "same-site", "cross-site")),
        (400, {"Content-Length": "2"}),
        (400, {"Content-Length": None, "Transfer-Encoding": "chunked"}),
    ],
)
async def test_who_may_not_press_them(at: Shown, visitor: Visitor, status: int, headers: dict[str, str | None]) -> None:
    """An action takes our origin by name, a header that no form can send, and no body."""
    for action in ("connect", "skip"):
        assert (await visitor.post(f"/board/rows/0/{action}", headers, b"{}")).status == status
    assert at.steered.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "rows/40/connect",
        "rows/-1/skip",
        "rows/00/skip",
        "rows/0/x",
        "rows/0",
        "rows/9999999999/skip",
        "rows/0/skip/",
        "x",
    ],
)
async def test_what_is_not_there(at: Shown, visitor: Visitor, path: str) -> None:
    """An unknown row, action or page is 404."""
    assert (await visitor.post(f"/board/{path}")).status == 404
    assert (await visitor.ask("GET", "/board?x", TYPED)).status == 404
    assert at.steered.asked == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods(at: Shown, visitor: Visitor, method: str) -> None:
    """The page and its events are for GET, its actions for POST, and nothing is for anything else."""
    for path, only in (("/board", "GET"), ("/board/events", "GET"), ("/board/rows/0/skip", "POST")):
        answer = await visitor.ask(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, only)
    assert (await visitor.ask(method, urlsplit(at.board.new_url()).path)).status == 405
    assert (await visitor.post("/board")).status == 405
    assert (await visitor.ask("GET", "/board/rows/0/skip", BROWSER)).status == 405
    assert at.steered.asked == []


async def test_nothing_is_steered_after_the_end(at: Shown, visitor: Visitor) -> None:
    """When the run is over its buttons do nothing: 409."""
    at.board.finish("The run is over.")
    assert (await visitor.post("/board/rows/0/connect")).status == 409
    assert at.steered.asked == []


# -- events --------------------------------------------------------------------------------------


async def test_first_all_rows_then_those_that_change(at: Shown, visitor: Visitor) -> None:
    """A browser that comes is told of the run and of all rows, and then of what changes, as it is by then."""
    async with visitor.events() as events:
        assert await events.next() == ("run", {"title": "Restaurants of Acme"})
        rows = await events.rows()
        assert [row["number"] for row in rows] == list(range(40))
        assert rows[16] == {
            **at.rows[16].describe(),
            "seconds": rows[16]["seconds"],
            "number": 16,
            "steps": list(at.rows[16].steps),
            "start_url": at.rows[16].start_url,
            "is_settled": False,
        }
        at.rows.change(at.rows[16], state="done", company={"id": "1", "name": "<b>"}, start_url=None)
        [row] = await events.rows()
        assert (row["number"], row["state"], row["is_settled"], row["start_url"]) == (16, "done", True, None)
        assert row["company"] == {"id": "1", "name": "<b>"}


async def test_a_burst_is_one_event(at: Shown, visitor: Visitor) -> None:
    """What changes at once comes at once, each row once; while all goes on changing there are 20 events a second."""
    async with visitor.events() as events:
        await events.rows()
        for number in (5, 7, 5, 5):
            at.rows.change(at.rows[number], message=f"now {number}")
        assert {row["number"] for row in await events.rows()} == {5, 7}
        came, until = 0, time.monotonic() + 1
        while time.monotonic() < until:
            at.rows.change(at.rows[came % 40], message=str(time.monotonic()))
            await events.rows()
            came += 1
        assert 2 < came <= 22


async def test_a_change_is_told_at_once(at: Shown, visitor: Visitor) -> None:
    """A change that comes alone is on its way without delay."""
    async with visitor.events() as events:
        await events.rows()
        took = []
        for number in range(10):
            await asyncio.sleep(0.1)
            began = time.monotonic()
            at.rows.change(at.rows[number], message="now")
            await events.rows()
            took.append(time.monotonic() - began)
        assert sorted(took)[5] < 0.05


async def test_who_comes_again_is_told_all_again(at: Shown, visitor: Visitor) -> None:
    """A browser that was cut off has missed what it could not be told: it is told all rows as they are by then."""
    async with visitor.events() as events:
        await events.rows()
    at.rows.change(at.rows[2], state="skipped")
    async with visitor.events() as events:
        rows = await events.rows()
        assert (len(rows), rows[2]["state"]) == (40, "skipped")


async def test_the_end(at: Shown, visitor: Visitor) -> None:
    """At the end the last changes come first, then the words, then nothing; who comes later is told the same."""
    async with visitor.events() as events:
        await events.rows()
        at.rows.change(at.rows[20], state="failed")
        at.board.finish("The run is over: 1 failed.")
        assert [row["number"] for row in await events.rows()] == [20]
        assert await events.next() == ("over", "The run is over: 1 failed.")
        with pytest.raises(asyncio.IncompleteReadError):
            await events.next()
    async with visitor.events() as events:
        assert len(await events.rows()) == 40
        assert await events.next() == ("over", "The run is over: 1 failed.")
        with pytest.raises(asyncio.IncompleteReadError):
            await events.next()


async def test_the_last_change_is_never_lost(at: Shown, visitor: Visitor) -> None:
    """However soon after another event the run ends, what changed before the end is told before it."""
    for pause in (0, 0.001, 0.02, 0.049, 0.06):
        async with served(waiting(2)) as other:
            watching = Visitor(other)
            await watching.enter()
            async with watching.events() as events:
                await events.rows()
                other.rows.change(other.rows[0], state="done")
                await events.rows()
                await asyncio.sleep(pause)
                other.rows.change(other.rows[1], state="done")
                other.board.finish("over")
                assert [row["number"] for row in await events.rows(1)] == [1]
                assert (await events.next(1))[0] == "over"


async def test_whether_somebody_watches(at: Shown, visitor: Visitor) -> None:
    """A sign of life comes every other second, and who has left is noticed by then."""
    assert [at.board.is_watched] == [False]
    async with visitor.events() as events:
        await events.rows()
        assert [at.board.is_watched] == [True]
        began = time.monotonic()
        assert (await events.next())[0] == "still here"
        assert 1.5 < time.monotonic() - began < 3
    async with asyncio.timeout(5):
        while at.board.is_watched:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)


async def test_the_newest_watch(at: Shown, visitor: Visitor) -> None:
    """Four tabs watch at once; the oldest goes for a fifth, and is told why, so that it does not come again."""
    async with AsyncExitStack() as open_tabs:
        tabs = []
        for _ in range(5):
            tabs.append(await open_tabs.enter_async_context(visitor.events()))
            await tabs[-1].rows()
        assert (await tabs[0].next())[0] == "elsewhere"
        with pytest.raises(asyncio.IncompleteReadError):
            await tabs[0].next()
        at.rows.change(at.rows[0], message="now")
        for tab in tabs[1:]:
            assert [row["number"] for row in await tab.rows()] == [0]
