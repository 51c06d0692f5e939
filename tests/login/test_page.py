"""The page after the redirect tells the truth, and nothing of the code stays in the browser."""

from __future__ import annotations

import asyncio
import fcntl
import re
from urllib.parse import urljoin

from .program import Program
from .strict import StrictServer
from .wire import Exchange, arrive, ask, send, to_redirect


async def still_waits(exchange: Exchange) -> bool:
    try:
        await exchange.answer(within=0.4)
    except TimeoutError:
        return True
    return False


async def test_held_during_the_exchange(program: Program, server: StrictServer) -> None:
    """While the token endpoint thinks, the browser waits; it hears that it worked when the tokens are stored."""
    server.may_answer.clear()
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        browser = await send(redirect)
        await server.asked.wait()
        assert await still_waits(browser)
        server.may_answer.set()
        sent_on = await browser.answer()
        assert sent_on.status == 303
        assert program.tokens().access_token == "s3kr1t-access-2"
        page = await ask(urljoin(redirect, sent_on.location))
        assert (page.status, page.title) == (200, "You are logged in")
        assert (await running.end()).status == 0


async def test_held_until_it_is_stored(program: Program, server: StrictServer) -> None:
    """The token endpoint's answer alone is no success: while another process holds the account, the browser waits."""
    async with program.start("login", *server.flags, "-v") as running:
        redirect = await to_redirect(await running.start_url())
        with (program.home / "accounts" / "default" / "lock").open("w") as lock:
            (program.home / "accounts" / "default" / "lock").chmod(0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            browser = await send(redirect)
            await running.says("when the answer came")
            assert await still_waits(browser)
            assert not (program.home / "accounts" / "default" / "tokens").exists()
        sent_on = await browser.answer()
        assert (await ask(urljoin(redirect, sent_on.location))).title == "You are logged in"
        assert (await running.end()).status == 0


async def test_not_stored(program: Program, server: StrictServer) -> None:
    """Tokens that came and could not be stored are no success: exit 8, and the page says that it failed."""
    account = program.home / "accounts" / "default"
    server.may_answer.clear()
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        arriving = asyncio.create_task(arrive(redirect))
        await server.asked.wait()
        for path in account.iterdir():
            path.unlink()
        account.rmdir()
        account.touch()
        server.may_answer.set()
        page = await arriving
        ended = await running.end()
    assert (page.status, page.title) == (502, "The login did not work")
    assert (ended.status, len(ended.errors)) == (8, 1)


async def test_clean_address(program: Program, server: StrictServer) -> None:
    """The browser is sent on to an address of the same origin with nothing of the redirect in it, and stays there."""
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        sent_on = await ask(redirect)
        assert (sent_on.status, sent_on.body) == (303, b"")
        address = sent_on.location
        assert address.startswith("/")
        assert not address.startswith("//")
        assert not {"?", "#", "="} & set(address)
        assert not any(secret in address for secret in (*server.secrets, "s3kr1t"))
        page = await ask(urljoin(redirect, address))
        assert (page.status, "location" in page.headers) == (200, False)
        assert (await running.end()).status == 0


async def test_double_click(program: Program, server: StrictServer) -> None:
    """The same redirect again, during and after the exchange, gets the same page and spends nothing more."""
    server.may_answer.clear()
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        first, second = await send(redirect), await send(redirect)
        await server.asked.wait()
        assert await still_waits(first)
        assert await still_waits(second)
        server.may_answer.set()
        answers = [await first.answer(), await second.answer(), await ask(redirect)]
        assert [(answer.status, answer.location) for answer in answers] == [(303, answers[0].location)] * 3
        assert (await ask(urljoin(redirect, answers[0].location))).title == "You are logged in"
        assert (await running.end()).status == 0
    assert len(server.token_requests) == 1


async def test_second_code(program: Program, server: StrictServer) -> None:
    """Another code with the right state, while the first is being exchanged, is not sent anywhere."""
    server.may_answer.clear()
    async with program.start("login", *server.flags) as running:
        redirect = await to_redirect(await running.start_url())
        first, second = await send(redirect), await send(redirect.replace("code-1", "code-other"))
        await server.asked.wait()
        server.may_answer.set()
        assert (await first.answer()).location == (await second.answer()).location
        assert (await running.end()).status == 0
    assert len(server.token_requests) == 1


async def test_closed_tab(program: Program, server: StrictServer) -> None:
    """A browser tab that is closed in mid-exchange changes nothing: the tokens are stored."""
    server.may_answer.clear()
    async with program.start("login", *server.flags) as running:
        browser = await send(await to_redirect(await running.start_url()))
        await server.asked.wait()
        await browser.close()
        await asyncio.sleep(0.2)
        server.may_answer.set()
        assert (await running.end()).status == 0
    assert program.tokens().access_token == "s3kr1t-access-2"


async def test_start_page(program: Program, server: StrictServer) -> None:
    """The start page leads to the authorization endpoint once; the second time it says that it was used."""
    async with program.start("login", *server.flags) as running:
        url = await running.start_url()
        redirect = await to_redirect(url)
        for _ in range(2):
            again = await ask(url)
            assert (again.status, again.title, "location" in again.headers) == (
                410,
                "This start page was used already",
                False,
            )
        assert (await arrive(redirect)).status == 200
        assert (await running.end()).status == 0
    assert len(server.authorization_requests) == 1


async def test_cookie(program: Program, server: StrictServer) -> None:
    """The start page marks the browser with a cookie of this login that no script sees; the last page takes it back."""
    values = set()
    for account in ("a", "b"):
        async with program.start("login", account, *server.flags) as running:
            started = await ask(await running.start_url())
            name, value, rest = re.findall(r"(loopback-auth-\w+)=([\w-]{43})(.*)", started.headers["set-cookie"])[0]
            assert rest == "; Path=/; HttpOnly; SameSite=Lax"
            page = await arrive((await ask(started.location)).location)
            assert re.fullmatch(rf"{name}=\w*; Path=/; HttpOnly; SameSite=Lax; Max-Age=0", page.headers["set-cookie"])
            assert (await running.end()).status == 0
            values |= {name, value}
    assert len(values) == 4


async def test_start_address(program: Program, server: StrictServer) -> None:
    """What the browser opens is on the redirect URI's own origin, cannot be guessed, and is another one each time."""
    seen = set()
    for account in ("a", "b"):
        async with program.start(
            "login", account, *server.flags, "--redirect-uri", "http://localhost:0/some/path"
        ) as running:
            url = await running.start_url()
            redirect = await to_redirect(url)
            assert urljoin(url, "/some/path") == redirect.partition("?")[0]
            assert (await ask(url[:-1])).status == 404
            seen.add(url.rpartition("/")[2])
    assert len(seen) == 2
    assert all(len(nonce) >= 22 for nonce in seen)


async def test_last_page_of_another_login(program: Program, server: StrictServer) -> None:
    """The address of a last page is of one login alone: it leads nowhere in the next one on the same port."""
    flags = (*server.flags, "--force", "--redirect-uri", f"http://127.0.0.1:{program.free_port()}/")
    async with program.start("login", *flags) as running:
        redirect = await to_redirect(await running.start_url())
        last = urljoin(redirect, (await ask(redirect)).location)
        assert (await ask(last)).status == 200
        assert (await running.end()).status == 0
    async with program.start("login", *flags) as running:
        await running.start_url()
        assert (await ask(last)).status == 404
