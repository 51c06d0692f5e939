"""Faults on request: what a client must survive, seen from outside."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import json
import socket
import sys
import time
import tracemalloc
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, get_args

import aiohttp
import pytest

from loopback_auth.sandbox import FAULTS, Fault

from .conftest import Start
from .visitor import Log, Visitor, Wire, answered, bearer, refresh_request, refused

QUICK = {"slow_seconds": 0.05, "trickle_seconds": 0}
PROCESSED = [name for name, fault in FAULTS.items() if fault.processed]
REFUSED = [name for name, fault in FAULTS.items() if not fault.processed]


async def hurt(start: Start, fault: str, **changes: Any) -> tuple[Visitor, str]:
    """A visitor, and a refresh token whose first use will go wrong."""
    visitor = await start(faults=fault, fault_grant="refresh_token", fault_count=1, **{**QUICK, **changes})
    return visitor, (await visitor.tokens())["refresh_token"]


async def begin(visitor: Visitor, token: str, log: Log) -> asyncio.StreamWriter:
    """Refresh until the log says so, without reading the answer."""
    seen = len(log)
    _, writer = await visitor.connect(token)
    await until(lambda: len(log) > seen)
    return writer


async def until(so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 0.5
    while not so():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.005)


def test_every_fault_has_its_row() -> None:
    """Every fault that can be set is in the table, and nothing else is."""
    assert ("none", *FAULTS) == get_args(Fault)


@pytest.mark.parametrize("fault", [name for name in PROCESSED if name != "no-refresh-token"])
async def test_processed(start: Start, log: Log, fault: str) -> None:
    """These faults come when the refresh token is spent already, which the log says."""
    visitor, token = await hurt(start, fault)
    writer = await begin(visitor, token, log)
    assert "tokens of Cafe Roma refreshed; the old refresh token is spent" in log[-1].words
    assert "as asked for" in log[-1].words
    assert log[-1].ok == FAULTS[fault].arrives  # type: ignore[index]
    writer.close()
    refused(await visitor.refresh(token), 400, "invalid_grant")
    assert log[-1].words.endswith("; presented for the 2nd time")
    assert visitor.sandbox.presented() == [2, 0]


@pytest.mark.parametrize("fault", REFUSED)
async def test_not_processed(start: Start, log: Log, fault: str) -> None:
    """These faults come instead of looking at the request, so the refresh token is as good as before."""
    visitor, token = await hurt(start, fault)
    writer = await begin(visitor, token, log)
    assert log[-1].words.endswith("as asked for; nothing is spent")
    assert not log[-1].ok
    writer.close()
    assert visitor.sandbox.presented() == [0]
    answered(await visitor.refresh(token))
    assert "presented" not in log[-1].words
    assert visitor.sandbox.token_requests["refresh_token"] == 2


# -- how often -------------------------------------------------------------------------------------------------


async def test_always(start: Start) -> None:
    """Without a count the fault never ends."""
    visitor = await start(faults="500")
    for _ in range(3):
        assert (await visitor.refresh("x")).status == 500


async def test_count(start: Start) -> None:
    """A count of two ends after two token requests; pages do not count."""
    visitor = await start(faults="500", fault_count=2)
    await visitor.code()
    assert [(await visitor.refresh("x")).status for _ in range(3)] == [500, 500, 400]


async def test_grant(start: Start) -> None:
    """A fault for one grant hurts and counts the token requests of that grant alone."""
    visitor = await start(faults="500", fault_grant="refresh_token", fault_count=1)
    tokens = await visitor.tokens()
    assert (await visitor.refresh(tokens["refresh_token"])).status == 500
    answered(await visitor.refresh(tokens["refresh_token"]))


async def test_other_grant(start: Start) -> None:
    """A fault for codes leaves a refresh alone."""
    visitor = await start(faults="500", fault_grant="authorization_code", fault_count=2)
    code = await visitor.code()
    assert (await visitor.exchange(code)).status == 500
    assert (await visitor.refresh("x")).status == 400
    assert [(await visitor.exchange(code)).status for _ in range(2)] == [500, 200]


# -- processed, and the answer arrives in an unusual form ------------------------------------------------------


async def test_slow(start: Start, log: Log) -> None:
    """With `slow` the answer is good and comes late, while other requests are answered meanwhile."""
    visitor = await start(faults="slow", slow_seconds=0.4, fault_count=1)
    code = await visitor.code()
    begun = time.monotonic()
    exchange = asyncio.create_task(visitor.exchange(code))
    await asyncio.sleep(0.05)
    assert log[-1].words.endswith("held back for 0.4 s as asked for")
    assert (await visitor.company()).status == 401
    assert time.monotonic() - begun < 0.3
    tokens = answered(await exchange)
    assert time.monotonic() - begun >= 0.4
    begun = time.monotonic()
    answered(await visitor.refresh(tokens["refresh_token"]))
    assert time.monotonic() - begun < 0.3


async def test_slow_has_spent_already(start: Start) -> None:
    """A client that gives up on a slow answer has lost the code."""
    visitor = await start(faults="slow", slow_seconds=30, fault_count=1)
    code = await visitor.code()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(visitor.exchange(code), 0.2)
    refused(await visitor.exchange(code), 400, "invalid_grant")


async def test_trickle(start: Start) -> None:
    """With `trickle` the right answer comes byte by byte, each after its pause."""
    visitor, token = await hurt(start, "trickle", trickle_seconds=0.001)
    reader, writer = await visitor.connect(token)
    begun = time.monotonic()
    pieces = [await reader.readuntil(b"\r\n\r\n")]
    while piece := await reader.read(4096):
        pieces.append(piece)
    writer.close()
    wire = Wire(b"".join(pieces))
    assert len(pieces) > len(wire.body) / 2
    assert time.monotonic() - begun >= len(wire.body) * 0.001
    assert int(wire.headers["Content-Length"]) == len(wire.body)
    assert (await visitor.company(bearer(json.loads(wire.body)))).status == 200


async def test_gzip(start: Start) -> None:
    """With `gzip` the right answer comes compressed to a client that did not ask for it."""
    visitor, token = await hurt(start, "gzip")
    wire = await visitor.wire(token)
    assert wire.headers["Content-Encoding"] == "gzip"
    assert int(wire.headers["Content-Length"]) == len(wire.body)
    answered(await visitor.refresh(json.loads(gzip.decompress(wire.body))["refresh_token"]))


async def test_no_refresh_token(start: Start, log: Log) -> None:
    """With `no-refresh-token` a refresh brings an access token alone, and the old refresh token stays good."""
    visitor, token = await hurt(start, "no-refresh-token")
    tokens = answered(await visitor.refresh(token))
    assert sorted(tokens) == ["access_token", "expires_in"]
    assert log[-1].words == (
        "tokens of Cafe Roma refreshed; the old refresh token stays good; sent without a refresh token as asked for"
    )
    assert visitor.sandbox.presented() == [1]
    assert (await visitor.company(bearer(tokens))).status == 200
    assert "refresh_token" in answered(await visitor.refresh(token))
    refused(await visitor.refresh(token), 400, "invalid_grant")


async def test_no_refresh_token_at_login(start: Start) -> None:
    """With `no-refresh-token` a code brings an access token alone, and is spent."""
    visitor = await start(faults="no-refresh-token")
    code = await visitor.code()
    assert sorted(answered(await visitor.exchange(code))) == ["access_token", "expires_in"]
    refused(await visitor.exchange(code), 400, "invalid_grant")


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ("expires-null", "null"),
        ("expires-0", "0"),
        ("expires-negative", "-5"),
        ("expires-text", '"3600"'),
        ("expires-fraction", "3600.7"),
        ("expires-huge", "1000000000000"),
    ],
)
async def test_expires(start: Start, fault: str, sent: str) -> None:
    """The faults of `expires_in` change it in the answer, and nothing else."""
    visitor, token = await hurt(start, fault)
    page = await visitor.refresh(token)
    tokens = answered(page)
    assert f'"expires_in": {sent}' in page.body
    assert (await visitor.company(bearer(tokens))).status == 200
    answered(await visitor.refresh(tokens["refresh_token"]))


async def test_expires_missing(start: Start) -> None:
    """With `expires-missing` the answer does not say how long the access token lives."""
    visitor, token = await hurt(start, "expires-missing")
    assert sorted(answered(await visitor.refresh(token))) == ["access_token", "refresh_token"]


@pytest.mark.parametrize("fault", [name for name, fault in FAULTS.items() if fault.tokens])
async def test_no_tokens_to_hurt(start: Start, log: Log, fault: str) -> None:
    """A fault that is about the tokens in an answer leaves a refusal as it is."""
    visitor = await start(faults=fault)
    refused(await visitor.refresh("x"), 400, "invalid_grant")
    assert "as asked for" not in log[-1].words


# -- processed, and the answer is lost -------------------------------------------------------------------------


async def test_drop_spends(start: Start, log: Log) -> None:
    """With `drop` the code is spent and no answer comes."""
    visitor = await start(faults="drop", fault_count=1)
    code = await visitor.code()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await visitor.exchange(code)
    assert log[-1].status == 0
    assert log[-1].words.startswith("no answer was sent, as asked for; what was lost: code exchanged")
    refused(await visitor.exchange(code), 400, "invalid_grant")


@pytest.mark.parametrize("fault", ["drop", "refuse-drop"])
async def test_closed(start: Start, log: Log, fault: str) -> None:
    """With `drop` and `refuse-drop` the connection is closed in order, without a byte."""
    visitor, token = await hurt(start, fault)
    assert (await visitor.wire(token)).content == b""
    assert log[-1].status == 0


async def test_reset(start: Start, log: Log) -> None:
    """With `reset` the connection is reset, without a byte."""
    visitor, token = await hurt(start, "reset")
    with pytest.raises(ConnectionResetError):
        await visitor.wire(token)
    assert log[-1].status == 0


async def test_hang(start: Start, log: Log) -> None:
    """With `hang` neither an answer comes nor an end."""
    visitor, token = await hurt(start, "hang")
    reader, writer = await visitor.connect(token)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.3)
    assert log[-1].status == 0
    writer.close()


async def test_truncate(start: Start) -> None:
    """With `truncate` the answer ends after the first half of what its Content-Length says."""
    visitor, token = await hurt(start, "truncate")
    wire = await visitor.wire(token)
    assert (wire.status, wire.headers["Content-Type"]) == (200, "application/json")
    assert len(wire.body) == int(wire.headers["Content-Length"]) // 2
    assert wire.body.startswith(b'{"access_token": "')


async def test_cut(start: Start) -> None:
    """With `cut` the answer ends right behind its refresh token, which is whole and good."""
    visitor, token = await hurt(start, "cut")
    wire = await visitor.wire(token)
    assert wire.status == 200
    assert wire.body.endswith(b'"')
    assert len(wire.body) < int(wire.headers["Content-Length"])
    tokens = json.loads(wire.body + b"}")
    assert sorted(tokens) == ["access_token", "refresh_token"]
    answered(await visitor.refresh(tokens["refresh_token"]))


async def test_html(start: Start) -> None:
    """With `html` a page comes instead of the tokens."""
    visitor, token = await hurt(start, "html")
    page = await visitor.refresh(token)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.body.startswith("<!DOCTYPE html>")


async def test_empty(start: Start) -> None:
    """With `empty` the answer has no body."""
    visitor, token = await hurt(start, "empty")
    wire = await visitor.wire(token)
    assert (wire.status, wire.headers["Content-Length"], wire.body) == (200, "0", b"")


async def test_garbage(start: Start) -> None:
    """With `garbage` 200 bytes come that are neither text nor JSON."""
    visitor, token = await hurt(start, "garbage")
    wire = await visitor.wire(token)
    assert (wire.status, wire.headers["Content-Type"], len(wire.body)) == (200, "application/json", 200)
    with pytest.raises(UnicodeDecodeError):
        wire.body.decode()


# -- statuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    ["late-500", "late-502", "late-503", "late-504", "500", "502", "503", "504", "404", "408", "429"],
)
async def test_status(start: Start, log: Log, fault: str) -> None:
    """A fault that is called after a status answers with it, as text, without saying when to come again."""
    visitor, token = await hurt(start, fault)
    status = HTTPStatus(int(fault.removeprefix("late-")))
    page = await visitor.refresh(token)
    assert (page.status, page.body) == (status, f"{status.phrase}\n")
    assert "Retry-After" not in page.headers
    assert log[-1].status == status


@pytest.mark.parametrize("fault", ["429-retry-after", "503-retry-after"])
async def test_retry_after(start: Start, fault: str) -> None:
    """A status may come with the seconds to wait."""
    visitor, token = await hurt(start, fault, retry_after=40)
    page = await visitor.refresh(token)
    assert (page.status, page.headers["Retry-After"]) == (int(fault[:3]), "40")


async def test_retry_date(start: Start) -> None:
    """A status may come with the date to wait for."""
    visitor, token = await hurt(start, "503-retry-date", retry_after=40)
    before = int(time.time())
    page = await visitor.refresh(token)
    assert page.status == 503
    assert page.headers["Retry-After"].endswith(" GMT")
    when = email.utils.parsedate_to_datetime(page.headers["Retry-After"]).timestamp()
    assert before + 40 <= when <= time.time() + 40


async def test_500_spends_nothing(start: Start, log: Log) -> None:
    """With `500` the first token request fails and the code is still good for the second."""
    visitor = await start(faults="500", fault_count=1)
    code = await visitor.code()
    assert (await visitor.exchange(code)).status == 500
    assert log[-1].words == "answered 500 as asked for; nothing is spent"
    answered(await visitor.exchange(code))


@pytest.mark.parametrize(
    "fault", [name for name in REFUSED if name.split("-")[0] in {"invalid", "unauthorized", "unsupported"}]
)
async def test_error(start: Start, fault: str) -> None:
    """A fault that is called after an error of OAuth answers with it (RFC 6749 §5.2)."""
    visitor, token = await hurt(start, fault)
    page = await visitor.refresh(token)
    refused(page, 401 if fault == "invalid-client" else 400, fault.replace("-", "_"))
    assert ("WWW-Authenticate" in page.headers) == (fault == "invalid-client")


async def test_redirect(start: Start, log: Log) -> None:
    """With `redirect` the client is sent elsewhere on the sandbox, and the log shows one that goes there."""
    visitor, token = await hurt(start, "redirect")
    page = await visitor.refresh(token)
    assert page.status == 307
    assert str(page.location) == f"http://127.0.0.1:{visitor.sandbox.port}/elsewhere"
    assert (await visitor.request("POST", page.location, data={"x": "y"})).status == 404
    assert log[-1].path == "/elsewhere"


# -- too much --------------------------------------------------------------------------------------------------


async def test_endless(start: Start) -> None:
    """With `endless` the answer comes in chunks, quickly, and goes on."""
    visitor, token = await hurt(start, "endless")
    reader, writer = await visitor.connect(token)
    head = Wire(await reader.readuntil(b"\r\n\r\n"))
    assert (head.status, head.headers["Transfer-Encoding"]) == (200, "chunked")
    async with asyncio.timeout(1):
        await reader.readexactly(20_000_000)
    writer.close()


async def test_big(start: Start) -> None:
    """With `big` exactly the 200 MB come that were announced."""
    visitor, token = await hurt(start, "big")
    head, length = await asyncio.to_thread(_read, visitor.sandbox.port, refresh_request(token))
    assert (head.status, head.headers["Content-Length"]) == (200, "200000000")
    assert length == len(head.content) + 200_000_000


async def test_quick_reader(start: Start) -> None:
    """However quickly a client reads, others are answered meanwhile."""
    visitor, token = await hurt(start, "endless")
    program = """if True:
        import socket, sys, time
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
            sock.sendall(bytes.fromhex(sys.argv[2]))
            buffer = bytearray(1 << 20)
            print(sock.recv_into(buffer), flush=True)
            give_up = time.monotonic() + 0.5
            while time.monotonic() < give_up:
                sock.recv_into(buffer)
        """
    arguments = (str(visitor.sandbox.port), refresh_request(token).hex())
    reading = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert reading.stdout
    await reading.stdout.readline()
    ended = asyncio.create_task(reading.wait())
    answers = 0
    while not ended.done():
        assert (await visitor.company()).status == 401
        answers += 1
    assert answers > 200


def _read(port: int, request: bytes) -> tuple[Wire, int]:
    """The head of an answer, and how many bytes came in all."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(request)
        head, buffer, length = b"", bytearray(1 << 20), 0
        while got := sock.recv_into(buffer):
            head = head or bytes(buffer[: buffer.index(b"\r\n\r\n") + 4])
            length += got
    return Wire(head), length


@pytest.mark.parametrize("fault", ["endless", "big"])
async def test_little_memory(start: Start, log: Log, fault: str) -> None:
    """A client that does not read costs the sandbox less than 2 MB."""
    visitor, token = await hurt(start, fault)
    tracemalloc.start()
    try:
        writer = await begin(visitor, token, log)
        await asyncio.sleep(0.2)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    writer.close()


@pytest.mark.parametrize("fault", ["hang", "trickle", "endless", "big"])
async def test_client_goes_away(start: Start, log: Log, fault: str) -> None:
    """An answer under way ends when its client goes away."""
    visitor, token = await hurt(start, fault, trickle_seconds=0.05)
    before = len(asyncio.all_tasks())
    writer = await begin(visitor, token, log)
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) > before
    writer.transport.abort()
    await until(lambda: len(asyncio.all_tasks()) <= before)
